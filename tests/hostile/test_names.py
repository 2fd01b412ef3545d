# SPDX-License-Identifier: BSD-3-Clause
"""Files that an image names: opened only if asked for, and only if plain.

What is no regular file is refused at once; nobody waits for a pipe.
"""

import os
import socket
import subprocess

import pytest
import qcow2_hostile_extensions as extensions
import qcow2_image as q

IMAGE = "t.qcow2"


def run(program, folder, *args, **more):
    return subprocess.run([program, *args], cwd=folder, capture_output=True,
                          check=False, timeout=60, stdin=subprocess.DEVNULL,
                          **more)


@pytest.fixture
def traced(platter_path, shim, tmp_path):
    """Runs platter; returns what it answered, and what it opened."""
    def run_traced(*args):
        trace = os.open(tmp_path / "trace", os.O_CREAT | os.O_RDWR
                        | os.O_TRUNC | os.O_APPEND)
        done = run(platter_path, tmp_path, *args, pass_fds=[trace],
                   env={**os.environ, "LD_PRELOAD": str(shim),
                        "TRACE_OPENS_FD": str(trace)})
        lines = os.pread(trace, 1 << 20, 0).decode(errors="replace")
        os.close(trace)
        return done, lines.splitlines()
    return run_traced


def overlay(folder, name, fmt=b"raw", image=IMAGE):
    made = q.Image()
    made.backing(name, fmt=fmt)
    (folder / image).write_bytes(bytes(made.raw))


def make_fifo(path):
    os.mkfifo(path)


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def make_folder(path):
    path.mkdir()


def make_device_link(path):
    path.symlink_to("/dev/zero")


def make_dangling(path):
    path.symlink_to("nowhere")


def make_endless(path):
    path.symlink_to(path.name)


def make_nothing(path):
    assert not path.exists()


KINDS = [make_fifo, make_socket, make_folder, make_device_link, make_dangling,
         make_endless, make_nothing]
READING = [["map"], ["convert", "-O", "raw"], ["io", "-c", "read 0 1M"],
           ["measure"], ["info", "--backing-chain"]]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("command", READING, ids=lambda words: words[0])
def test_only_regular_files_are_read_below(traced, tmp_path, kind, command):
    kind(tmp_path / "thing")
    overlay(tmp_path, b"thing")
    target = ["out.raw"] if command[0] == "convert" else []
    done, _ = traced(*command, "-f", "qcow2", IMAGE, *target)
    assert done.returncode == 1
    assert b"thing" in done.stderr + done.stdout
    assert not (tmp_path / "out.raw").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_info_opens_nothing_that_the_image_names(traced, tmp_path, kind):
    kind(tmp_path / "thing")
    overlay(tmp_path, b"thing")
    for command in ("info", "check"):
        done, opened = traced(command, "-f", "qcow2", IMAGE)
        assert done.returncode == 0
        assert any(IMAGE in line for line in opened)
        assert not [line for line in opened if "thing" in line
                    or "nowhere" in line]


def test_the_trace_sees_what_is_opened(traced, tmp_path):
    """Else the tests that find nothing would prove nothing."""
    (tmp_path / "thing").write_bytes(bytes(q.DISK))
    overlay(tmp_path, b"thing")
    done, opened = traced("convert", "-f", "qcow2", "-O", "raw", IMAGE,
                          "out.raw")
    assert done.returncode == 0
    assert "open thing" in opened and f"open {IMAGE}" in opened


@pytest.mark.parametrize("name", extensions.NAMES,
                         ids=[repr(name[:20]) for name in extensions.NAMES])
def test_no_control_character_is_shown(traced, tmp_path, name):
    """In no form, nor in the message of a refusal. The human form shows bytes
    that are no text as they are, as qemu-img does; the others do not."""
    overlay(tmp_path, name)
    for args in (["info"], ["info", "--output=json"], ["--untrusted", "map"]):
        done, _ = traced(*args, "-f", "qcow2", IMAGE)
        said = done.stdout + done.stderr
        # JSON need not, and does not, escape the last of them.
        allowed = b"\n\t\x7f" if "--output=json" in args else b"\n\t"
        assert not [byte for byte in said
                    if (byte < 32 or byte == 127) and byte not in allowed]
        if args != ["info"]:
            said.decode("utf-8")


def test_an_image_below_itself_is_refused(traced, tmp_path):
    overlay(tmp_path, IMAGE.encode(), fmt=b"qcow2")
    for args in (["map"], ["info", "--backing-chain"]):
        done, _ = traced(*args, "-f", "qcow2", IMAGE)
        assert done.returncode == 1


def test_two_images_below_each_other_are_refused(traced, tmp_path):
    overlay(tmp_path, b"b.qcow2", fmt=b"qcow2", image="a.qcow2")
    overlay(tmp_path, b"a.qcow2", fmt=b"qcow2", image="b.qcow2")
    for args in (["map"], ["info", "--backing-chain"]):
        done, opened = traced(*args, "-f", "qcow2", "a.qcow2")
        assert done.returncode == 1
        assert len(opened) < 10


def test_a_chain_of_three_hundred_is_refused(traced, tmp_path):
    for number in range(300):
        overlay(tmp_path, f"{number + 1}.qcow2".encode(), fmt=b"qcow2",
                image=f"{number}.qcow2")
    for args in (["map"], ["info", "--backing-chain"]):
        done, opened = traced(*args, "-f", "qcow2", "0.qcow2")
        assert done.returncode == 1
        assert len(opened) <= 210
