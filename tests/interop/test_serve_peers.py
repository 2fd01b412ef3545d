# SPDX-License-Identifier: BSD-3-Clause
"""More clients that others wrote: scripts of nbdsh, a mounted export, proxies
in front of us, and tools that split requests in their own way."""

import os
import pathlib
import random
import signal
import socket
import subprocess
import sys

import pytest
from conftest import find
from nbd_peers import wait_until
from nbd_server import serving
from tools import Tool, commands

SIZE = 8 << 20


def random_content():
    rng = random.Random(21)
    pieces = [rng.randbytes(1 << 16) if n % 2 else bytes(1 << 16)
              for n in range(SIZE >> 16)]
    return b"".join(pieces)


@pytest.fixture(params=["raw", "qcow2"])
def image(request, qemu_img, tmp_path):
    """Its name and format; content.raw is what is in it."""
    (tmp_path / "content.raw").write_bytes(random_content())
    form = request.param
    qemu_img.good("convert -f raw -O", form, "content.raw", f"disk.{form}")
    return f"disk.{form}", form


@pytest.fixture
def server(image, platter_path, tmp_path):
    name, form = image
    with serving(platter_path, tmp_path, "-A", "-f", form, name) as running:
        yield running


@pytest.fixture
def expected(image, server, qemu_img, tmp_path):
    """What the image has to hold at the end: bytes for a test to change."""
    name, form = image
    content = bytearray(random_content())
    yield content
    status, text = server.stop()
    assert (status, text) == (0, "")
    if form == "qcow2":
        qemu_img.good("check -q", name)
    qemu_img.good("convert -O raw -f", form, name, "end.raw")
    assert (tmp_path / "end.raw").read_bytes() == content


def tool(name, tmp_path, *first):
    return Tool(find(name), tmp_path, *first)


# --- nbdsh -------------------------------------------------------------------


def nbdsh(tmp_path):
    """By the interpreter that has its library."""
    find("nbdsh")
    return Tool(sys.executable, tmp_path, "-m", "nbd")


SCRIPT = """
import nbd, random
assert h.get_protocol() == "newstyle-fixed"
assert h.get_structured_replies_negotiated()
assert h.can_multi_conn() and h.can_fua() and h.can_df() and h.can_cache()
assert h.can_fast_zero() and h.can_trim() and h.can_zero() and h.can_flush()
assert h.get_size() == len(content)

# Alone and in its own way.
h.pwrite(b"x" * 70001, 12345, nbd.CMD_FLAG_FUA)
content[12345:12345 + 70001] = b"x" * 70001
h.zero(300000, 1 << 20, nbd.CMD_FLAG_NO_HOLE)
content[1 << 20:(1 << 20) + 300000] = bytes(300000)
h.cache(1 << 20, 0)
h.flush()
assert h.pread(len(content), 0) == content

# In pieces as they come.
buf = bytearray(len(content))
def chunk(data, offset, status, error):
    assert not error.value
    if status == nbd.READ_DATA:
        buf[offset:offset + len(data)] = data
h.pread_structured(len(content), 0, chunk)
assert buf == content
whole = []
h.pread_structured(len(content), 0, lambda *args: whole.append(len(args[0])),
                   nbd.CMD_FLAG_DF)
assert whole == [len(content)]

# Many at once, on connections of their own.
rng = random.Random(3)
others = []
for number in range(4):
    one = nbd.NBD()
    one.set_strict_mode(nbd.STRICT_MASK)
    one.connect_uri(uri)
    others.append(one)
started = []
spots = list(range(64))
rng.shuffle(spots)
for n, spot in enumerate(spots):
    data = bytes([n + 1]) * 4099
    at = (2 << 20) + spot * 8192 + n
    buffer = nbd.Buffer.from_bytearray(bytearray(data))
    started.append((others[n % 4], others[n % 4].aio_pwrite(buffer, at)))
    content[at:at + 4099] = data
for one, cookie in started:
    while not one.aio_command_completed(cookie):
        one.poll(-1)
others[0].flush()
for one in others:
    assert one.pread(1 << 20, 2 << 20) == content[2 << 20:3 << 20]
    one.shutdown()

# What is where.
told = {}
def extents(name, offset, entries, error):
    told.setdefault(name, []).append((offset, entries))
h.block_status(len(content), 0, extents)
assert set(told) == {"base:allocation", "qemu:allocation-depth"}
(offset, entries), = told["base:allocation"]
for length, flags in zip(entries[::2], entries[1::2]):
    if flags & 2:
        assert not any(content[offset:offset + length])
    offset += length
assert offset == len(content)

# What the server has to refuse, past the checks of the library.
h.set_strict_mode(0)
for wrong in (lambda: h.pread(1, len(content)),
              lambda: h.pwrite(b"x", len(content)),
              lambda: h.trim(2, len(content) - 1),
              lambda: h.block_status(0, 0, extents)):
    try:
        wrong()
    except nbd.Error:
        continue
    raise SystemExit("nothing was refused")
assert h.pread(512, 0) == content[:512]
open("model", "wb").write(content)
"""


def test_nbdsh(server, expected, tmp_path):
    nbdsh(tmp_path).good(
        ["-c", f"uri = {server.uri()!r}",
         "-c", "content = bytearray(open('content.raw', 'rb').read())",
         "-c", "h.add_meta_context('base:allocation')",
         "-c", "h.add_meta_context('qemu:allocation-depth')",
         "-c", "h.connect_uri(uri)", "-c", SCRIPT, "-c", "h.shutdown()"])
    expected[:] = (tmp_path / "model").read_bytes()
    assert expected != random_content()


def test_nbdsh_lists(platter_path, image, tmp_path):
    name, form = image
    with serving(platter_path, tmp_path, "-r", "-f", form, "-D", "a text",
                 "-E", f"one={name}", "-E", f"two={name}") as running:
        script = """
h.set_opt_mode(True)
h.connect_uri(uri)
names = []
h.opt_list(lambda name, text: names.append((name, text)))
assert names == [("one", "a text"), ("two", "a text")], names
h.set_export_name("two")
h.opt_info()
size = h.get_size()
contexts = []
h.opt_list_meta_context(lambda name: contexts.append(name))
assert contexts == ["base:allocation"], contexts
h.set_export_name("none")
try:
    h.opt_info()
except nbd.Error:
    h.set_export_name("one")
h.opt_go()
assert h.is_read_only() and h.get_size() == size
h.shutdown()
"""
        nbdsh(tmp_path).good(
            ["-c", "import nbd", "-c", f"uri = {running.uri()!r}", "-c",
             script])


def test_nbddump(server, expected, tmp_path):
    text = tool("nbddump", tmp_path).good(["--length=32", server.uri()])
    assert "00" in text and expected


# --- a mounted export --------------------------------------------------------


@pytest.fixture
def mounted(server, tmp_path):
    """The export as a file."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("/dev/fuse is not ours to use")
    folder = tmp_path / "mounted"
    folder.mkdir()
    pid_file = tmp_path / "fuse.pid"
    process = subprocess.Popen(
        [find("nbdfuse"), "--pidfile", str(pid_file), str(folder),
         server.uri()], cwd=tmp_path)
    try:
        wait_until(lambda: pid_file.exists() or process.poll() is not None,
                   "nbdfuse")
        assert process.poll() is None
        yield folder / "nbd"
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
        subprocess.run(["umount", str(folder)], check=False,
                       capture_output=True)


def test_nbdfuse(expected, mounted):
    assert mounted.stat().st_size == SIZE
    assert mounted.read_bytes() == expected
    rng = random.Random(4)
    with open(mounted, "r+b", buffering=0) as file:
        for _ in range(50):
            at, length = rng.randrange(SIZE - 9000), rng.randrange(1, 9000)
            data = rng.randbytes(length)
            file.seek(at)
            assert file.write(data) == length
            expected[at:at + length] = data
        os.fsync(file.fileno())
        file.seek(0)
        assert file.read(SIZE) == expected[:SIZE]


def test_a_file_system_by_nbdfuse(image, server, mounted, tmp_path):
    """Made, filled and checked through the mounted export."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").write_bytes(random_content()[:1 << 20])
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-d",
                    str(tmp_path / "tree"), str(mounted)], check=True,
                   capture_output=True, env=with_sbin())
    done = subprocess.run(["e2fsck", "-f", "-n", str(mounted)], check=False,
                          capture_output=True, text=True, env=with_sbin())
    assert done.returncode == 0, done.stdout
    tool("nbdcopy", tmp_path).good([server.uri(), "copy.raw"])
    subprocess.run(["debugfs", "-R", "dump /file out", "copy.raw"], check=True,
                   capture_output=True, cwd=tmp_path, env=with_sbin())
    assert (tmp_path / "out").read_bytes() == random_content()[:1 << 20]
    assert image


def with_sbin():
    return {**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}


# --- in between --------------------------------------------------------------

FILTERS = {
    "none": [],
    "blocksize": ["--filter=blocksize", "minblock=4096", "maxdata=65536"],
    "cache": ["--filter=cache", "cache=writeback"],
    "retry": ["--filter=retry"],
    "cow": ["--filter=cow"],
}


@pytest.mark.parametrize("name", FILTERS)
def test_nbdkit_in_front(server, expected, tmp_path, name):
    """What a client writes through nbdkit, by several connections."""
    words = FILTERS[name]
    filters = [word for word in words if word.startswith("--")]
    rest = [word for word in words if not word.startswith("--")]
    new = bytearray(random.Random(8).randbytes(SIZE // 2) + bytes(SIZE // 2))
    (tmp_path / "new.raw").write_bytes(new)
    tool("nbdkit", tmp_path).good(
        ["-U", "-", *filters, "nbd", f"uri={server.uri()}", "shared=true",
         *rest, "--run",
         "nbdcopy --flush new.raw $uri && nbdcopy $uri back.raw"])
    assert (tmp_path / "back.raw").read_bytes() == new
    if name != "cow":  # which keeps writes to itself
        expected[:] = new


def test_qemu_storage_daemon_in_front(server, expected, tmp_path):
    """QEMU's client with all that a running machine has, and its server."""
    front = tmp_path / "front"
    pid_file = tmp_path / "front.pid"
    process = subprocess.Popen(
        [find("qemu-storage-daemon"), "--pidfile", str(pid_file),
         "--blockdev", "driver=nbd,node-name=n,server.type=unix,"
         f"server.path={server.socket},discard=unmap",
         "--nbd-server", f"addr.type=unix,addr.path={front}",
         "--export", "type=nbd,id=e,node-name=n,name=,writable=on"],
        cwd=tmp_path)
    new = bytearray(random.Random(9).randbytes(SIZE // 2) + bytes(SIZE // 2))
    (tmp_path / "new.raw").write_bytes(new)
    uri = f"nbd+unix:///?socket={front}"
    try:
        wait_until(lambda: pid_file.exists() and front.exists(), "the daemon")
        tool("nbdcopy", tmp_path).good(["--flush", "new.raw", uri])
        tool("nbdcopy", tmp_path).good([uri, "back.raw"])
    finally:
        process.terminate()
        process.wait(timeout=60)
    assert (tmp_path / "back.raw").read_bytes() == new
    expected[:] = new


# --- the others --------------------------------------------------------------


def test_qemu_io_by_blkdebug(server, expected, qemu_io, tmp_path):
    """Requests are cut and aligned in many ways before they come to us."""
    for words in ("align=4096,max-transfer=8192",
                  "align=512,max-transfer=512",
                  "max-write-zero=65536,opt-write-zero=65536,"
                  "max-discard=65536,opt-discard=65536"):
        qemu_io.good(
            commands(["write -q -P 0x5a 123456 70000",
                      "write -q -z -u 1M 700k", "write -q -z 2M 64k",
                      "aio_write -q -P 0x11 3M 64k",
                      "aio_write -q -P 0x22 3136k 64k", "aio_flush",
                      "flush", "read -q -P 0x5a 123456 70000",
                      "read -q -P 0 1M 700k", "read -q -P 0x22 3136k 64k"]),
            ["--image-opts", f"driver=blkdebug,{words},image.driver=nbd,"
             f"image.server.type=unix,image.server.path={server.socket}"])
    expected[123456:193456] = b"\x5a" * 70000
    expected[1 << 20:(1 << 20) + 700 * 1024] = bytes(700 * 1024)
    expected[2 << 20:(2 << 20) + 65536] = bytes(65536)
    expected[3 << 20:(3 << 20) + 65536] = b"\x11" * 65536
    expected[3136 << 10:3200 << 10] = b"\x22" * 65536


def test_qemu_img_bench(server, expected, qemu_img):
    """Depth 64, at places that overlap no other."""
    qemu_img.good("bench -f raw -w --pattern 119 -c 512 -d 64 -s 4096 -S 8192 "
                  "--flush-interval 64", [server.uri()])
    for n in range(512):
        expected[n * 8192:n * 8192 + 4096] = b"\x77" * 4096


def test_nbd_client_lists(platter_path, image, tmp_path):
    name, form = image
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    words = [str(platter_path), "serve", "-r", "-b", "127.0.0.1", "-p", port,
             "-f", form, "-D", "a text", "-E", f"one={name}", "-E",
             f"two={name}", "--fork", "--pid-file", "pid"]
    subprocess.run(words, check=True, cwd=tmp_path)
    try:
        client = Tool(client_path(), tmp_path)
        told = client.good("-l 127.0.0.1", port)
    finally:
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGTERM)
    assert told.splitlines()[1:] == ["one: a text", "two: a text"]


def client_path():
    """Debian has it where only root looks."""
    path = pathlib.Path("/usr/sbin/nbd-client")
    return path if path.exists() else find("nbd-client")
