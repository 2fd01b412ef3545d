# SPDX-License-Identifier: BSD-3-Clause
"""Disks go to NBD servers and come back, whatever a server can or cannot."""

import json
import os

import pytest
from nbd_peers import URI, allocated, random_disk, uri

K, M = 1 << 10, 1 << 20
SIZE = 10 * M
PIECES = [(0, 2 * M), (4 * M + 512, 70 * K), (7 * M, 1), (9 * M, 1 * M)]

# What a server lacks is made up for by the client.
KINDS = {
    "memory": "memory 10M",
    "file": "file disk",
    "one connection": "--filter=multi-conn file disk multi-conn-mode=disable",
    "no extents": "--filter=noextents file disk",
    "no zeroes": "--filter=nozero file disk",
    "slow zeroes": "--filter=nozero file disk zeromode=notrim "
                   "fastzeromode=slow",
    "blocks of 4096": "--filter=blocksize-policy file disk "
                      "blocksize-minimum=4096 blocksize-maximum=65536 "
                      "blocksize-preferred=4096 blocksize-error-policy=error",
    "requests of 512": "--filter=blocksize-policy file disk "
                       "blocksize-maximum=512 blocksize-preferred=512 "
                       "blocksize-error-policy=error",
    "no structured replies": "--no-sr file disk",
}


@pytest.fixture
def source(tmp_path):
    return random_disk(tmp_path / "source", SIZE, PIECES)


@pytest.fixture(params=KINDS)
def server(request, servers, tmp_path):
    """With an old disk, so that all of it has to be written."""
    (tmp_path / "disk").write_bytes(b"\xff" * SIZE)
    started = servers.nbdkit(KINDS[request.param])
    started.kind = request.param
    return started


def test_a_disk_goes_in_and_comes_out(server, tmp_path, platter, qemu_img,
                                      source):
    platter.good("convert -n -O raw source", [URI])
    if server.kind != "memory":
        assert (tmp_path / "disk").read_bytes() == source.read_bytes()
    qemu_img.good("compare -f raw -F raw source", [URI])
    platter.good("compare -f raw -F raw source", [URI])
    platter.good("convert -f raw -O raw", [URI], "back")
    assert (tmp_path / "back").read_bytes() == source.read_bytes()
    platter.good("convert -f raw -O qcow2", [URI], "back.qcow2")
    qemu_img.good("compare -F raw back.qcow2 source")


def test_pieces_of_any_alignment(server, tmp_path, platter_io):
    """Zeros written, punched and fallen back to; edges are kept."""
    model = bytearray(b"\xff" * SIZE)
    changes = [("write -q -P 1", 1000, 100 * K, 1),
               ("write -q -z", 3 * M + 1, 2 * M, 0),
               ("write -q -z -u", 7 * M - 1, 9000, 0),
               ("write -q -P 2", SIZE - 1, 1, 2),
               ("write -q -P 3", 6 * M + 4096, 8192, 3),
               ("write -q -z -u", 0, 513, 0)]
    words = [["-c", f"write -q -P 255 0 {SIZE}"]]
    for what, offset, length, byte in changes:
        model[offset:offset + length] = bytes([byte]) * length
        words.append(["-c", f"{what} {offset} {length}"])
    platter_io.good("-f raw", *words, ["-c", "flush"], [URI])
    reads = [(1, 1000, 100 * K), (255, 513, 487), (0, 3 * M + 1, 2 * M),
             (255, 3 * M, 1), (2, SIZE - 1, 1)]
    words = [["-c", f"read -q -P {byte} {offset} {length}"]
             for byte, offset, length in reads]
    platter_io.good("-r -f raw", *words, [URI])
    if server.kind != "memory":
        assert (tmp_path / "disk").read_bytes() == model


@pytest.mark.parametrize("kind", ["memory", "file", "blocks of 4096"])
def test_what_is_discarded_keeps_its_neighbours(servers, tmp_path, platter_io,
                                                kind):
    (tmp_path / "disk").write_bytes(bytes(SIZE))
    servers.nbdkit(KINDS[kind])
    platter_io.good("-f raw", ["-c", "write -q -P 5 0 1M"],
                    ["-c", "discard -q 100000 300001"],
                    ["-c", "read -q -P 5 0 100000"],
                    ["-c", "read -q -P 5 400001 648575"], [URI])


def test_map_says_what_qemu_img_says(server, tmp_path, platter, qemu_img,
                                     source):
    platter.good("convert -n -O raw source", [URI])
    ours = json.loads(platter.good("map -f raw --output=json", [URI]))
    theirs = json.loads(qemu_img.good("map -f raw --output=json", [URI]))
    assert ours == theirs


def test_holes_stay_holes(servers, tmp_path, platter, source):
    """Out of an export and into one."""
    random_disk(tmp_path / "disk", SIZE, [])
    servers.nbdkit("file source", socket="from")
    servers.nbdkit("file disk")
    platter.good("convert -f raw -O raw", [uri("from")], "out")
    assert (tmp_path / "out").read_bytes() == source.read_bytes()
    platter.good("convert -n --target-is-zero -f raw -O raw", [uri("from")],
                 [URI])
    assert (tmp_path / "disk").read_bytes() == source.read_bytes()
    for name in ("out", "disk"):
        assert allocated(tmp_path / name) <= allocated(source) + 256 * K


def test_an_old_disk_gets_holes(servers, tmp_path, platter,
                                source):
    (tmp_path / "disk").write_bytes(b"\xff" * SIZE)
    servers.nbdkit("file disk")
    platter.good("convert -n -f raw -O raw source", [URI])
    assert (tmp_path / "disk").read_bytes() == source.read_bytes()
    assert allocated(tmp_path / "disk") <= allocated(source) + 256 * K


@pytest.mark.parametrize("shared", [1, 4])
def test_qemu_nbd_serves_qcow2(servers, tmp_path, platter,
                               qemu_img, source, shared):
    qemu_img.good("create -q -f qcow2 disk.qcow2", [SIZE])
    server = servers.qemu_nbd(f"--shared={shared} --discard=unmap -f qcow2 "
                              "disk.qcow2")
    platter.good("convert -n -O raw source", [URI])
    platter.good("compare -f raw -F raw source", [URI])
    ours = json.loads(platter.good("map -f raw --output=json", [URI]))
    theirs = json.loads(qemu_img.good("map -f raw --output=json", [URI]))
    assert ours == theirs
    platter.good("convert -O raw", [URI], "back")
    assert (tmp_path / "back").read_bytes() == source.read_bytes()
    server.stop()
    qemu_img.good("check -q disk.qcow2")
    qemu_img.good("compare -f raw source disk.qcow2")


@pytest.mark.parametrize("size", [1, 511, 512, 513, 1025, 1000001])
def test_sizes_that_are_no_sectors(servers, tmp_path, platter,
                                   platter_io, size):
    """The rest of the last sector reads as zeros, and holds nothing else."""
    source = tmp_path / "source"
    source.write_bytes(os.urandom(size))
    (tmp_path / "disk").write_bytes(b"\xff" * size)
    servers.nbdkit("file disk")
    platter.good("convert -n -f raw -O raw source", [URI])
    assert (tmp_path / "disk").read_bytes() == source.read_bytes()
    platter.good("convert -f raw -O raw", [URI], "back")
    whole = -(-size // 512) * 512
    assert (tmp_path / "back").read_bytes() == source.read_bytes().ljust(
        whole, b"\0")
    if whole > size:
        last = whole - 512
        done = platter_io("-f raw", ["-c", f"write -P 1 {last} 512"], [URI])
        assert done.returncode == 1 and "No space left" in done.stdout
        platter_io.good("-f raw", ["-c", f"write -q -z {last} 512"], [URI])
        assert len((tmp_path / "disk").read_bytes()) == size


def test_a_sparse_terabyte_takes_no_time(servers, platter,
                                         platter_io):
    """Holes are skipped by the size at which the server tells of them."""
    servers.nbdkit("memory 1T")
    platter_io.good("-f raw", ["-c", "write -q -P 7 700G 64k"], [URI])
    runs = json.loads(platter.good("map -f raw --output=json", [URI]))
    assert [run["data"] for run in runs] == [False, True, False]
    platter.good("convert -f raw -O qcow2", [URI], "out.qcow2")
    platter_io.good("-r", ["-c", "read -q -P 7 700G 64k"], "out.qcow2")


def test_untrusted_holes_are_read(servers, tmp_path, platter,
                                  source):
    """--no-trust-holes asks for no extents, and copies nonetheless."""
    servers.nbdkit("--filter=log file source logfile=log")
    platter.good("--no-trust-holes convert -f raw -O raw", [URI], "out")
    assert (tmp_path / "out").read_bytes() == source.read_bytes()
    assert " Extents" not in (tmp_path / "log").read_text()
    platter.good("convert -f raw -O raw", [URI], "out")
    assert " Extents" in (tmp_path / "log").read_text()
