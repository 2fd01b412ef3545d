# SPDX-License-Identifier: BSD-3-Clause
"""platter called qemu-nbd, beside the real one: the same words to both.

Tests that take `program` run twice, so that what they expect is what the real
program does and not what we think it does.
"""

import contextlib
import functools
import json
import os
import pathlib
import random
import select
import signal
import socket
import subprocess

import nbd_server as wire
import pytest
from conftest import find
from nbd_peers import wait_until
from nbd_server import NamedServer
from tools import Tool

SIZE = 1 << 20

serving = functools.partial(wire.serving, kind=NamedServer)


@pytest.fixture
def content():
    return random.Random(7).randbytes(SIZE)


@pytest.fixture
def disk(tmp_path, content):
    path = tmp_path / "disk.raw"
    path.write_bytes(content)
    return path


@pytest.fixture
def qcow2(qemu_img, disk, tmp_path):
    qemu_img.good("convert -f raw -O qcow2", [disk], "disk.qcow2")
    return tmp_path / "disk.qcow2"


def run(words, folder, **more):
    return subprocess.run([*map(str, words)], cwd=folder, check=False,
                          capture_output=True, text=True, timeout=60, **more)


def has_ended(pid):
    """Nobody may be there to take the status of what is not our child."""
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
    except (FileNotFoundError, ProcessLookupError):
        return True
    return stat.rpartition(")")[2].split()[0] == "Z"


@contextlib.contextmanager
def background(program, folder, *words, how=signal.SIGTERM, **more):
    """With --fork; `how` None: its last client ends it."""
    done = run([program, "--fork", "--pid-file=pid", *words], folder, **more)
    assert not done.returncode and not done.stderr, done.stderr
    pid = int((folder / "pid").read_text())
    try:
        yield pid
        if how:
            os.kill(pid, how)
        wait_until(lambda: has_ended(pid), "the end of the server")
    finally:
        if not has_ended(pid):
            os.kill(pid, signal.SIGKILL)


def info(server, export=""):
    done = run([find("nbdinfo"), "--json", server.uri(export)], None)
    assert not done.returncode, done.stderr
    found = json.loads(done.stdout)
    del found["exports"][0]["uri"]
    return found


# --- wrong words --------------------------------------------------------------

WRONG = [
    ("", "Invalid number of arguments"),
    ("disk.raw disk.raw", "Invalid number of arguments"),
    ("none.raw", "Could not open 'none.raw': No such file or directory"),
    ("-f qcow2 disk.raw", "Image is not in qcow2 format"),
    ("-f none disk.raw", "Unknown driver 'none'"),
    ("--image-opts -f raw disk.raw",
     "--image-opts and -f are mutually exclusive"),
    ("-k sock -f raw disk.raw", "socket path must be absolute"),
    ("-k /no/such/folder/s -f raw disk.raw", "No such file or directory"),
    ("-b no.such.host.invalid -f raw disk.raw", "no.such.host.invalid"),
    ("-e x -f raw disk.raw", "Invalid shared device number 'x'"),
    ("-e -1 -f raw disk.raw", "Invalid shared device number '-1'"),
    ("-o 1M -f raw disk.raw", "Invalid offset '1M'"),
    ("-o 2097152 -f raw disk.raw", "size of the containing file (1048576)"),
    ("--cache=no -f raw disk.raw", "Invalid cache mode `no'"),
    ("-n --cache=none -f raw disk.raw",
     "-n and --cache can only be specified once"),
    ("--aio=no -f raw disk.raw", "Invalid aio mode 'no'"),
    ("--aio=native -f raw disk.raw",
     "aio=native was specified, but it requires cache.direct=on"),
    ("--discard=no -f raw disk.raw", "Invalid discard mode `no'"),
    ("--detect-zeroes=no -f raw disk.raw",
     "Failed to parse detect_zeroes mode"),
    ("--detect-zeroes=unmap -f raw disk.raw",
     "setting detect-zeroes to unmap is not allowed"),
    ("--no-such-word", "unrecognized option '--no-such-word'"),
    ("--object none,id=a -f raw disk.raw",
     "'qom-type' does not accept value 'none'"),
    ("-L disk.raw", "List mode is incompatible with a file name"),
    ("-L -x a", "List mode is incompatible with per-device settings"),
    ("-L --discard=unmap",
     "List mode is incompatible with per-device settings"),
    ("-B none -f raw disk.raw", "Bitmap 'none' is not found"),
    ("-l none -f raw disk.raw", "Failed to load snapshot: "),
    ("-l snapshot.number=1 -f raw disk.raw",
     "Invalid parameter 'snapshot.number'"),
    ("-l snapshot.id=1,name=2 -f raw disk.raw",
     "Failed in parsing snapshot param `snapshot.id=1,name=2'"),
    ("-L -B b", "List mode is incompatible with per-device settings"),
    ("-L -l s", "List mode is incompatible with per-device settings"),
    ("-L --fork", "List mode is incompatible with forking"),
    ("-L -k /no/such/s",
     "Failed to connect to '/no/such/s': No such file or directory"),
    ("--pid-file=/no/such/p -k {tmp}/s -f raw disk.raw", "/no/such/p"),
    ("--fork -k {tmp}/s -f raw none.raw", "No such file or directory"),
    ("-D {long} -k {tmp}/s -f raw disk.raw", "too long"),
    ("-x {long} -k {tmp}/s -f raw disk.raw", "too long"),
]


@pytest.mark.parametrize("words,text", WRONG)
def test_wrong_words(program, disk, words, text):
    assert disk.exists()
    words = words.format(tmp=disk.parent, long="x" * 5000)
    # The real one listens before it looks at the rest: never at its port.
    if not {"-k", "-b", "-L"} & set(words.split()):
        words += f" -k {disk.parent}/s"
    assert text in Tool(program, disk.parent).bad(words)


def test_a_failure_leaves_no_socket(ours, disk):
    Tool(ours, disk.parent).bad("-f raw --pid-file=/no/such/p -k",
                                [disk.parent / "s", disk])
    assert not (disk.parent / "s").exists()


@pytest.mark.parametrize("words,text", [
    ("-c /dev/nbd0 disk.raw", "use nbd-client"),
    ("-d /dev/nbd0", "use nbd-client"),
    ("-B b -f raw disk.raw", "the format 'raw' of 'disk.raw' offers no "
     "bitmaps"),
    ("-l s -f raw disk.raw", "Failed to load snapshot: the format 'raw' of "
     "'disk.raw' offers no internal snapshots"),
    ("-l snapshot.name=s -f raw disk.raw", "Failed to load snapshot: "),
    ("-l snapshot.id=1,snapshot.name=s -f raw disk.raw",
     "Failed to load snapshot: "),
    ("--untrusted -r -f raw disk.raw", "cannot be served"),
    ("-o 512 disk.raw", "only with the format raw"),
    ("-o 512 -f qcow2 disk.raw", "only with the format raw"),
    ("--image-opts -o 512 driver=raw,offset=512,file.filename=disk.raw",
     "The offset is given twice"),
])
def test_what_is_not_there_says_so(ours, disk, words, text):
    assert text in Tool(ours, disk.parent).bad(words)


def test_help_and_version(program, tmp_path):
    tool = Tool(program, tmp_path)
    assert "qemu-nbd [OPTIONS] FILE\n" in tool.good("--help")
    assert tool.good("-V -f raw none").partition(" ")[0].endswith("qemu-nbd")


def test_a_guessed_format_draws_the_same_warning(ours, real, disk):
    texts = []
    for program in ours, real:
        server = NamedServer(program, disk.parent, disk)
        status, text = server.stop()
        assert status == 0
        texts.append(text)
    assert texts[0] == texts[1] and "probing guessed raw" in texts[0]
    for program in ours, real:
        with serving(program, disk.parent, "-r", disk):
            pass


# --- a server's life ----------------------------------------------------------


def test_fork_and_pid_file(program, disk, tmp_path):
    sock = tmp_path / "s"
    with background(program, tmp_path, "-t", "-k", sock, "-f", "raw",
                    disk) as pid:
        done = run([find("nbdinfo"), "--size", f"nbd+unix://?socket={sock}"],
                   tmp_path)
        assert done.stdout == f"{SIZE}\n", done.stderr
        assert os.readlink(f"/proc/{pid}/fd/2") == "/dev/null"
    assert not sock.exists()


def test_verbose_keeps_stderr(ours, disk, tmp_path):
    with open(tmp_path / "log", "w", encoding="ascii") as log:
        subprocess.run([ours, "-v", "--fork", "--pid-file=pid", "-k",
                        tmp_path / "s", "-f", "raw", disk], check=True,
                       cwd=tmp_path, stderr=log)
    pid = int((tmp_path / "pid").read_text())
    try:
        assert os.readlink(f"/proc/{pid}/fd/2") == str(tmp_path / "log")
    finally:
        os.kill(pid, signal.SIGTERM)
    wait_until(lambda: has_ended(pid), "the end of the server")


def test_one_client_waits_for_the_other(program, disk):
    with serving(program, disk.parent, "-t", "-f", "raw", disk) as server:
        first = server.connect().start()
        second = server.connect()
        # Time enough for a server that would take it.
        for _ in range(200):
            assert first.error_of(wire.FLUSH, 0, 0) == 0
        assert not select.select([second.socket], [], [], 0)[0]
        first.close()
        assert second.start().error_of(wire.FLUSH, 0, 0) == 0
        second.close()


@pytest.mark.parametrize("words", [["-e", "2"], ["-e", " 2"], ["-e", "0"]])
def test_two_clients_share(program, disk, words):
    with serving(program, disk.parent, "-t", "-f", "raw", *words,
                 disk) as server:
        clients = [server.connect().start() for _ in range(2)]
        for client in clients:
            assert client.error_of(wire.FLUSH, 0, 0) == 0
            client.close()


def test_ends_when_the_last_client_has_left(program, disk):
    with serving(program, disk.parent, "-e", "2", "-f", "raw",
                 disk) as server:
        # One that chose no export is none.
        look = server.connect()
        look.greet()
        assert look.last(wire.LIST) == wire.ACK
        look.last(wire.ABORT)
        look.close()
        first, second = (server.connect().start() for _ in range(2))
        first.close()
        assert second.error_of(wire.FLUSH, 0, 0) == 0
        second.close()
        # No signal: it ends by itself.
        server.process.wait(timeout=wire.STOP_SECONDS)
    assert not server.socket.exists()


def test_persistent_goes_on(program, disk):
    with serving(program, disk.parent, "-t", "-f", "raw", disk) as server:
        for _ in range(3):
            server.connect().start().close()
        assert server.process.poll() is None
    assert not server.socket.exists()


def test_tcp_address_and_port(program, disk, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    with background(program, tmp_path, "-t", "-b", "127.0.0.1", "-p", port,
                    "-f", "raw", disk):
        done = run([find("nbdinfo"), "--size", f"nbd://127.0.0.1:{port}"],
                   tmp_path)
        assert done.stdout == f"{SIZE}\n", done.stderr


# --- sockets from others ------------------------------------------------------


def activate(program, folder, fd):
    """A program that starts it as a service manager does, the socket as 3."""
    launcher = folder / "launch"
    launcher.write_text(
        f"#!/bin/bash\nexec 3<&{fd}\n"
        f"LISTEN_FDS=1 LISTEN_PID=$$ exec {program} \"$@\"\n",
        encoding="ascii")
    launcher.chmod(0o755)
    return launcher


def test_activation_in_the_background(program, disk, tmp_path):
    """The socket is handed to the parent, by its process number."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "a"))
        listener.listen()
        fd = listener.fileno()
        with background(activate(program, tmp_path, fd), tmp_path, "-f", "raw", disk, how=None,
                        pass_fds=[fd]):
            listener.close()
            wire.Client(tmp_path / "a").start().close()


@pytest.mark.parametrize("words", ["-p 1 -f raw disk.raw",
                                   "-b 127.0.0.1 -f raw disk.raw",
                                   "-k /none -f raw disk.raw", "-L"])
def test_activation_excludes_addresses(program, disk, words):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(disk.parent / "a"))
        listener.listen()
        fd = listener.fileno()
        done = run([activate(program, disk.parent, fd), *words.split()],
                   disk.parent, pass_fds=[fd])
    assert done.returncode == 1 and done.stderr
    if words == "-L":
        assert "List mode is incompatible with socket act" in done.stderr


def test_libnbd_starts_it(program, qcow2, tmp_path, content):
    bracket = ["[", program, "-r", "-f", "qcow2", qcow2, "]"]
    done = run([find("nbdinfo"), "--size", "--", *bracket], tmp_path)
    assert (done.stdout, done.stderr) == (f"{SIZE}\n", "")
    done = run([find("nbdcopy"), "--", *bracket, "copy"], tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "copy").read_bytes() == content


# --- what clients see ---------------------------------------------------------


@pytest.mark.parametrize("words", [
    [], ["-r"], ["-e", "2"], ["-A"], ["-D", "a text, with words"],
    ["-x", "a name"], ["-r", "-e", "0", "-x", "n", "-D", "d", "-A"],
])
def test_both_look_alike(ours, real, qcow2, words):
    name = words[words.index("-x") + 1] if "-x" in words else ""
    seen = []
    for program in ours, real:
        with serving(program, qcow2.parent, "-t", "-f", "qcow2", *words,
                     qcow2) as server:
            seen.append((info(server, name.replace(" ", "%20")),
                         Tool(real, qcow2.parent).good(["-L", "-k",
                                                        server.socket]),
                         Tool(ours, qcow2.parent).good(["-L", "-k",
                                                        server.socket])))
    assert seen[0] == seen[1]
    assert seen[0][1] == seen[0][2]
    assert f"export: '{name}'" in seen[0][1]


def test_read_only(program, disk, content):
    with serving(program, disk.parent, "-t", "-r", "-f", "raw",
                 disk) as server:
        client = server.connect().start()
        assert client.error_of(wire.WRITE, 0, 512, payload=bytes(512))
        client.close()
    assert disk.read_bytes() == content


def test_list_of_many_exports(ours, real, platter_path, disk, tmp_path):
    exports = []
    for name in "", "b", "a":
        exports += ["-E", f"{name}=disk.raw"]
    with wire.serving(platter_path, tmp_path, "-r", "-f", "raw",
                      *exports) as server:
        lists = [Tool(program, tmp_path).good(["-L", "-k", server.socket])
                 for program in (ours, real)]
    assert disk.exists()
    assert lists[0] == lists[1] and "exports available: 3\n" in lists[0]


def test_qemu_works_over_it(ours, qcow2, qemu_img, qemu_io):
    with serving(ours, qcow2.parent, "-t", "-f", "qcow2", qcow2) as server:
        qemu_io.good(["-f", "raw", "-c", "write -P 7 64k 128k", "-c",
                      "read -P 7 64k 128k", "-c", "flush", server.uri()])
        qemu_img.good("convert -f raw -O raw", [server.uri()], "copy.raw")
    qemu_io.good(["-f", "qcow2", "-c", "read -P 7 64k 128k", qcow2])
    qemu_img.good("compare -f raw -F qcow2 copy.raw", [qcow2])
    qemu_img.good("check", [qcow2])


# --- the image ----------------------------------------------------------------


@pytest.mark.parametrize("words", [
    ["-f", "raw", "-o", "4096", "disk.raw"],
    ["-f", "raw", "-o", "0x1000", "disk.raw"],
    ["--image-opts", "driver=raw,offset=4096,file.filename=disk.raw"],
])
def test_offset_is_a_window(program, disk, content, words):
    start = 4096
    with serving(program, disk.parent, "-t", *words) as server:
        assert info(server)["exports"][0]["export-size"] == SIZE - start
        client = server.connect().start(wire.STRUCTURED)
        assert client.read(512, 512) == content[start + 512:start + 1024]
        assert client.error_of(wire.WRITE, 0, 512, payload=bytes(512)) == 0
        assert client.error_of(wire.WRITE, SIZE - start, 512,
                               payload=bytes(512))
        client.close()
    assert disk.read_bytes() == (content[:start] + bytes(512)
                                 + content[start + 512:])


@pytest.mark.parametrize("words", [
    "-n", "--cache=none --aio=native", "--cache=off", "--cache=writeback",
    "--cache=writethrough --aio=threads", "--cache=unsafe",
    "--cache=directsync --aio=io_uring",
])
def test_cache_and_aio(program, disk, content, words):
    with serving(program, disk.parent, "-t", "-f", "raw", *words.split(),
                 disk) as server:
        client = server.connect().start(wire.STRUCTURED)
        assert client.error_of(wire.WRITE, 1024, 512, payload=b"x" * 512) == 0
        assert client.read(0, 4096) == (content[:1024] + b"x" * 512
                                        + content[1536:4096])
        client.close()


@pytest.mark.parametrize("words,gives_back", [
    ([], False), (["--discard=ignore"], False), (["--discard=off"], False),
    (["--discard=unmap"], True), (["--discard=on"], True),
])
def test_discard(program, disk, content, words, gives_back):
    before = disk.stat().st_blocks
    with serving(program, disk.parent, "-t", "-f", "raw", *words,
                 disk) as server:
        client = server.connect().start(wire.STRUCTURED)
        assert client.error_of(wire.TRIM, 0, SIZE) == 0
        assert client.error_of(wire.FLUSH, 0, 0) == 0
        client.close()
    if gives_back:
        assert disk.stat().st_blocks < before // 2
    else:
        assert disk.stat().st_blocks == before
        assert disk.read_bytes() == content


@pytest.mark.parametrize("words,data", [
    ([], True), (["--detect-zeroes=off"], True),
    (["--detect-zeroes=on"], False),
    (["--discard=unmap", "--detect-zeroes=unmap"], False),
])
@pytest.mark.parametrize("last", [b"\0", b"x"])
def test_detect_zeroes(program, tmp_path, qemu_img, words, data, last):
    """Zeros that are written take no space; anything else does."""
    length = 4 << 16
    qemu_img.good("create -q -f qcow2 e.qcow2 1M")
    with serving(program, tmp_path, "-t", "-f", "qcow2", *words,
                 "e.qcow2") as server:
        client = server.connect().start(wire.STRUCTURED)
        payload = bytes(length - 1) + last
        assert client.error_of(wire.WRITE, 0, length, payload=payload) == 0
        assert client.read(0, length) == payload
        client.close()
    first = json.loads(qemu_img.good("map --output=json e.qcow2"))[0]
    assert first["data"] == (data or last != b"\0")
    qemu_img.good("check e.qcow2")


def test_zeros_give_space_back_only_with_unmap(program, disk):
    def blocks_after(*words):
        with serving(program, disk.parent, "-t", "-f", "raw", *words,
                     disk) as server:
            client = server.connect().start(wire.STRUCTURED)
            assert client.error_of(wire.WRITE, 0, SIZE,
                                   payload=bytes(SIZE)) == 0
            client.close()
        assert disk.read_bytes() == bytes(SIZE)
        return disk.stat().st_blocks

    before = disk.stat().st_blocks
    assert blocks_after("--discard=unmap", "--detect-zeroes=on") == before
    assert blocks_after("--discard=unmap", "--detect-zeroes=unmap") < before


# --- as callers start it ------------------------------------------------------


def test_ovirt_imageio(program, qcow2, tmp_path, content):
    operand = json.dumps({
        "driver": "qcow2", "backing": None,
        "file": {"driver": "file", "filename": str(qcow2)}})
    with serving(program, tmp_path, "--export-name=sda", "--persistent",
                 "--shared=8", "--cache=none", "--aio=native",
                 "--discard=unmap", "--detect-zeroes=unmap",
                 "--allocation-depth", "json:" + operand) as server:
        clients = [server.connect().start(wire.STRUCTURED, name=b"sda")
                   for _ in range(8)]
        for client in clients:
            assert client.read(4096, 4096) == content[4096:8192]
            client.close()
        contexts = info(server, "sda")["exports"][0]["contexts"]
        assert contexts == ["base:allocation", "qemu:allocation-depth"]


def test_virtnbdbackup(program, qcow2, tmp_path, content):
    """Restores into an image, and maps one."""
    sock = tmp_path / "s"
    for words, how in ((["--discard=unmap", "--detect-zeroes=on"], None),
                       (["-r", "-t"], signal.SIGTERM)):
        with background(program, tmp_path, "-k", sock, "-e 2", "-x", "sda",
                        "--format=qcow2", *words, qcow2, how=how):
            client = wire.Client(sock).start(wire.STRUCTURED, name=b"sda")
            assert client.read(0, 4096) == content[:4096]
            client.close()
        assert not sock.exists()
