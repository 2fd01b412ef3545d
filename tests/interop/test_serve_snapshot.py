# SPDX-License-Identifier: BSD-3-Clause
"""serve --snapshot, and qemu-nbd's -s beside the real one: what clients write
is theirs until the server ends, and the image never changes."""

import contextlib
import os
import pathlib
import random
import signal

import nbd_server as wire
import pytest
from conftest import find
from nbd_server import NamedServer, Server
from tools import Tool

SIZE = 4 << 20
WROTE = [(0, 512), (100000, 70000), (SIZE - 4096, 4096)]
ZEROED = (1 << 20, 300000)


class Program:
    """How to start one of the three: its path, and what kind of server it is."""

    def __init__(self, kind, path):
        self.kind, self.path = kind, path

    def start(self, folder, *words, **more):
        words = ["-e", "4", *words]
        if self.kind is NamedServer:
            words.append("-t")
        return self.kind(self.path, folder, *words, **more)


@pytest.fixture(params=["platter_path", "ours", "real"])
def program(request):
    kind = Server if request.param == "platter_path" else NamedServer
    return Program(kind, request.getfixturevalue(request.param))


@pytest.fixture
def content():
    return random.Random(11).randbytes(SIZE // 2) + bytes(SIZE // 2)


@pytest.fixture(params=["raw", "qcow2", "chain"])
def image(request, content, qemu_img, tmp_path):
    """Its name and format."""
    (tmp_path / "disk.raw").write_bytes(content)
    if request.param == "raw":
        return "disk.raw", "raw"
    qemu_img.good("convert -f raw -O qcow2 disk.raw a.qcow2")
    if request.param == "qcow2":
        return "a.qcow2", "qcow2"
    qemu_img.good("create -q -f qcow2 -F qcow2 -b a.qcow2 b.qcow2")
    return "b.qcow2", "qcow2"


def write_all(client, model):
    for offset, length in WROTE:
        data = bytes([length & 0xff | 1]) * length
        assert client.error_of(wire.WRITE, offset, length, wire.FUA,
                               data) == 0
        model[offset:offset + length] = data
    assert client.error_of(wire.ZEROES, *ZEROED) == 0
    model[ZEROED[0]:sum(ZEROED)] = bytes(ZEROED[1])
    assert client.error_of(wire.FLUSH, 0, 0) == 0


def files(folder):
    """What is in it, and when it was last changed."""
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns)
            for path in folder.iterdir() if path.is_file()
            and path.suffix in (".raw", ".qcow2")}


def open_files(pid):
    """Where its descriptors lead, and whether they may write."""
    found = []
    for link in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        flags = pathlib.Path(f"/proc/{pid}/fdinfo/{link.name}")
        with contextlib.suppress(FileNotFoundError):  # a client has left
            path = os.readlink(link)
            mode = int(flags.read_text().split("flags:")[1].split()[0], 8)
            found.append((path, mode & os.O_ACCMODE != os.O_RDONLY))
    return found


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL],
                         ids=lambda how: how.name)
def test_writes_last_as_long_as_the_server(program, image, content, tmp_path,
                                           how):
    name, form = image
    before = files(tmp_path)
    for _ in range(2):
        server = program.start(tmp_path, "-s", "-f", form, name)
        try:
            client = server.connect().start(wire.STRUCTURED)
            # Nothing is left of the server before.
            assert client.read(0, SIZE) == content
            model = bytearray(content)
            write_all(client, model)
            other = server.connect().start(wire.STRUCTURED)
            assert other.read(0, SIZE) == model
            other.close()
            client.close()
            for path, writable in open_files(server.process.pid):
                if path.endswith((".raw", ".qcow2")):
                    assert not writable, path
        finally:
            status, _ = server.stop(how)
        assert status == (0 if how == signal.SIGTERM else -how)
    assert files(tmp_path) == before


@pytest.mark.parametrize("tmpdir,folder", [
    ("own", "own"), (None, "/var/tmp"), ("/tmp", "/var/tmp"),
])
def test_the_layer_never_has_a_name(program, content, tmp_path, tmpdir,
                                    folder):
    """It is in TMPDIR, and nobody has to remove it."""
    (tmp_path / "disk.raw").write_bytes(content)
    (tmp_path / "own").mkdir()
    env = {key: text for key, text in os.environ.items() if key != "TMPDIR"}
    if tmpdir:
        env["TMPDIR"] = str(tmp_path / tmpdir)
    server = program.start(tmp_path, "-s", "-f", "raw", "disk.raw", env=env)
    try:
        client = server.connect().start(wire.STRUCTURED)
        write_all(client, bytearray(content))
        client.close()
        found = [pathlib.Path(path) for path, writable
                 in open_files(server.process.pid)
                 if path.endswith(" (deleted)") and writable]
        assert str(tmp_path / folder) in [str(path.parent) for path in found]
        assert not list((tmp_path / "own").iterdir())
    finally:
        server.stop(signal.SIGKILL)
    assert not list((tmp_path / "own").iterdir())


def test_no_folder_no_server(program, content, tmp_path):
    (tmp_path / "disk.raw").write_bytes(content)
    words = ["serve"] if program.kind is Server else []
    done = Tool(program.path, tmp_path, *words)(
        ["-s", "-f", "raw", "-k", tmp_path / "s", "disk.raw"],
        env={**os.environ, "TMPDIR": "/no/such/folder"})
    assert done.returncode == 1
    assert "No such file or directory" in done.stderr


def test_read_only_stays_so(program, content, tmp_path):
    (tmp_path / "disk.raw").write_bytes(content)
    server = program.start(tmp_path, "-s", "-r", "-f", "raw", "disk.raw")
    try:
        client = server.connect().start(wire.STRUCTURED)
        assert client.error_of(wire.WRITE, 0, 512, 0, bytes(512)) != 0
        assert client.read(0, SIZE) == content
        client.close()
    finally:
        status, _ = server.stop()
    assert status == 0


def test_an_odd_file_ends_in_zeros(program, content, tmp_path):
    (tmp_path / "odd.raw").write_bytes(content[:1000])
    server = program.start(tmp_path, "-s", "-f", "raw", "odd.raw")
    try:
        client = server.connect().start(wire.STRUCTURED)
        assert client.error_of(wire.WRITE, 990, 34, 0, b"x" * 34) == 0
        assert client.read(0, 1024) == content[:990] + b"x" * 34
        client.close()
    finally:
        server.stop()
    assert (tmp_path / "odd.raw").read_bytes() == content[:1000]


def test_each_export_has_a_layer_of_its_own(platter_path, content, tmp_path):
    (tmp_path / "disk.raw").write_bytes(content)
    with wire.serving(platter_path, tmp_path, "-s", "-f", "raw", "-E",
                      "one=disk.raw", "-E", "two=disk.raw") as server:
        one = server.connect().start(wire.STRUCTURED, name=b"one")
        two = server.connect().start(wire.STRUCTURED, name=b"two")
        model = bytearray(content)
        write_all(one, model)
        assert one.read(0, SIZE) == model
        assert two.read(0, SIZE) == content
        one.close()
        two.close()


def test_depth_counts_the_layer(program, image, tmp_path):
    """0 is nowhere, 1 the layer, 2 the image, 3 what is below it."""
    name, form = image
    server = program.start(tmp_path, "-s", "-A", "-f", form, name)
    try:
        client = server.connect().start(wire.STRUCTURED)
        assert client.error_of(wire.WRITE, 0, 65536, 0, b"x" * 65536) == 0
        client.close()
        found = Tool(find("nbdinfo"), tmp_path).good(
            ["--map=qemu:allocation-depth", server.uri()])
    finally:
        server.stop()
    depths = [int(line.split()[2]) for line in found.splitlines()]
    assert depths[:2] == [1, 3 if name == "b.qcow2" else 2]
