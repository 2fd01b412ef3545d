# SPDX-License-Identifier: BSD-3-Clause
"""Whatever ends a program, a name leads to a whole image or to none.

Killed at any moment, it may leave a file of a temporary name beside the target;
interrupted, or out of space, nothing at all.
"""

import os
import random
import re
import resource
import signal
import subprocess
import time

import pytest
from conftest import require
from test_convert_copies_disks import make_disk

MIB = 1 << 20
SIZE = 6 * MIB
# The manual promises this pattern.
TEMPORARY = re.compile(r"\.out\.img\.partial-[a-z2-7]{6}")

# What makes out.img, and in which format.
COMMANDS = {
    "qcow2": ("convert -f raw -O qcow2 in.raw out.img", "qcow2"),
    "packed": ("convert -f raw -O qcow2 -c in.raw out.img", "qcow2"),
    "raw": ("convert -f raw -O raw -S 0 in.raw out.img", "raw"),
    "create": ("create -q -f qcow2 -o preallocation=metadata,"
               "cluster_size=512 out.img 96M", "qcow2"),
}


@pytest.fixture(params=COMMANDS)
def job(request, platter, tmp_path):
    """A command line, and how to judge what it has made."""
    line, target_format = COMMANDS[request.param]
    if request.param == "create":
        content = bytes(96 * MIB)
    else:
        content = make_disk(tmp_path / "in.raw", size=SIZE)

    def check_new():
        if target_format == "qcow2":
            platter.good("check -q -f qcow2 out.img")
        platter.good(f"convert -f {target_format} -O raw out.img back")
        assert (tmp_path / "back").read_bytes() == content
        (tmp_path / "back").unlink()

    check_new.line = line
    return check_new


def start(platter, line, **more):
    return subprocess.Popen([platter.program, *line.split()],
                            cwd=platter.cwd, stdout=subprocess.DEVNULL,
                            stderr=subprocess.PIPE, **more)


def clear(tmp_path):
    for name in os.listdir(tmp_path):
        if name.startswith((".out.img", "out.img")):
            (tmp_path / name).unlink()


def is_old(tmp_path, old):
    """Is the name as it was before?"""
    path = tmp_path / "out.img"
    return (path.read_bytes() if path.exists() else None) == old


def put_old(tmp_path, old):
    clear(tmp_path)
    if old is not None:
        (tmp_path / "out.img").write_bytes(old)


def moments(platter, tmp_path, line, count):
    """Random times from its start to a little after its end."""
    began = time.monotonic()
    platter.good(line)
    took = time.monotonic() - began
    clear(tmp_path)
    rng = random.Random(line)
    return [rng.uniform(0, 1.1 * took) for _ in range(count)]


@pytest.mark.parametrize("old", (None, b"older image"))
def test_killed_at_any_moment(platter, tmp_path, job, old):
    for moment in moments(platter, tmp_path, job.line, 6):
        put_old(tmp_path, old)
        with start(platter, job.line) as process:
            time.sleep(moment)
            process.kill()
        assert process.returncode in (0, -signal.SIGKILL)
        if process.returncode == 0 or not is_old(tmp_path, old):
            job()
        left = set(os.listdir(tmp_path)) - {"in.raw", "out.img"}
        assert all(TEMPORARY.fullmatch(name) for name in left), left
        # What is left over is in nobody's way.
        platter.good(job.line)
        job()


@pytest.mark.parametrize("number", (signal.SIGINT, signal.SIGTERM,
                                    signal.SIGHUP))
@pytest.mark.parametrize("old", (None, b"older image"))
def test_interrupted_at_any_moment(platter, tmp_path, job, old, number):
    for moment in moments(platter, tmp_path, job.line, 4):
        put_old(tmp_path, old)
        with start(platter, job.line) as process:
            time.sleep(moment)
            process.send_signal(number)
            process.stderr.read()
        assert process.returncode in (0, 1, -number)
        if process.returncode == 1:
            assert is_old(tmp_path, old)
        elif process.returncode == 0 or not is_old(tmp_path, old):
            job()
        assert set(os.listdir(tmp_path)) <= {"in.raw", "out.img"}


def test_an_ignored_interrupt_stays_ignored(platter, tmp_path):
    """As in the background of a shell script."""
    disk = make_disk(tmp_path / "in.raw", size=SIZE)

    def ignore():
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    with subprocess.Popen(
            [platter.program, "convert", "-p", "-r", "10M", "-S", "0", "-f",
             "raw", "-O", "raw", "in.raw", "out.img"], cwd=tmp_path,
            stdout=subprocess.PIPE, preexec_fn=ignore) as process:
        process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        process.stdout.read()
    assert process.returncode == 0
    assert (tmp_path / "out.img").read_bytes() == disk


def test_nobody_reads_the_progress(platter, tmp_path):
    """The program may well die of it, once the copy is complete."""
    disk = make_disk(tmp_path / "in.raw", size=SIZE)
    with subprocess.Popen(
            [platter.program, "convert", "-p", "-r", "10M", "-S", "0", "-f",
             "raw", "-O", "raw", "in.raw", "out.img"], cwd=tmp_path,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        process.stdout.read(1)
        process.stdout.close()
    assert process.returncode in (1, -signal.SIGPIPE)
    assert sorted(os.listdir(tmp_path)) == ["in.raw", "out.img"]
    assert (tmp_path / "out.img").read_bytes() == disk


# ---- no space ----

FULL = {
    "qcow2": "convert -f raw -O qcow2 {0}/in.raw out.img",
    "packed": "convert -f raw -O qcow2 -c {0}/in.raw out.img",
    "raw": "convert -f raw -O raw {0}/in.raw out.img",
    "stream": "convert -f raw -O raw - out.img",
    "dd": "dd -f raw -O raw if={0}/in.raw of=out.img",
    "metadata": "create -q -f qcow2 -o preallocation=metadata,"
                "cluster_size=512 out.img 3G",
    "full": "create -q -f raw -o preallocation=full out.img 64M",
    "falloc": "create -q -f qcow2 -o preallocation=falloc out.img 64M",
}


def no_space(platter_path, folder, source, name, old, **more):
    """Runs what cannot succeed in `folder`; returns what it says."""
    if old is not None:
        (folder / "out.img").write_bytes(old)
    before = sorted(os.listdir(folder))
    with open(source / "in.raw", "rb") as stdin:
        done = subprocess.run(
            [platter_path, *FULL[name].format(source).split()], cwd=folder,
            stdin=stdin, capture_output=True, check=False, **more)
    assert done.returncode == 1
    assert sorted(os.listdir(folder)) == before
    assert is_old(folder, old)
    return done.stderr.decode()


def make_noise(folder):
    """What cannot be packed."""
    folder.mkdir()
    (folder / "in.raw").write_bytes(random.Random(1).randbytes(48 * MIB))
    return folder


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    return make_noise(tmp_path_factory.mktemp("noise") / "files")


@pytest.mark.parametrize("old", (None, b"older image"))
@pytest.mark.parametrize("name", FULL)
def test_a_limit_of_file_sizes(platter_path, noise, tmp_path, name, old):
    def limit():
        # Python ignores the signal, which a shell's children do not.
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, MIB))

    said = no_space(platter_path, tmp_path, noise, name, old,
                    preexec_fn=limit)
    assert "out.img" in said or "error while writing" in said
    assert "too large" in said or "allowed" in said, said


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 32 MiB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a file system")
    folder = tmp_path / "small"
    folder.mkdir()
    done = subprocess.run([require("mount"), "-t", "tmpfs", "-o", "size=32m",
                           "tmpfs", folder], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"cannot mount: {done.stderr.decode().strip()}")
    yield folder
    subprocess.run([require("umount"), folder], check=True)


@pytest.mark.parametrize("old", (None, b"older image"))
@pytest.mark.parametrize("name", FULL)
def test_a_full_file_system(platter_path, noise, small_disk, name, old):
    said = no_space(platter_path, small_disk, noise, name, old)
    assert "No space left on device" in said
