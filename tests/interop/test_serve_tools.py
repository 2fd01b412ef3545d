# SPDX-License-Identifier: BSD-3-Clause
"""Clients that others wrote find in our exports what is in the images."""

import json
import random

import pytest
from conftest import find
from nbd_server import serving
from tools import Tool

SIZE = 24 << 20


@pytest.fixture
def content():
    """Data, zeros that are written, and holes."""
    rng = random.Random(9)
    pieces = [rng.randbytes(1 << 16) if n % 3 else bytes(1 << 16)
              for n in range(SIZE >> 17)]
    return b"".join(pieces) + bytes(SIZE >> 1)


@pytest.fixture(params=["raw", "qcow2", "packed", "chain"])
def image(request, content, qemu_img, platter_io, tmp_path):
    """Its name and format."""
    (tmp_path / "content.raw").write_bytes(content)
    kind = request.param
    if kind == "raw":
        qemu_img.good("convert -f raw -O raw content.raw a.raw")
        return "a.raw", "raw"
    words = ["-c"] if kind == "packed" else []
    qemu_img.good("convert -f raw -O qcow2", *words, "content.raw a.qcow2")
    if kind == "chain":
        qemu_img.good("create -q -f qcow2 -F qcow2 -b a.qcow2 b.qcow2")
        platter_io.good(["-c", "write -q -z 1M 100k", "-c", "write -q 3M 70k"],
                        "b.qcow2")
        qemu_img.good("convert -O raw b.qcow2 content.raw")
        return "b.qcow2", "qcow2"
    return "a.qcow2", "qcow2"


@pytest.fixture
def server(image, platter_path, tmp_path):
    name, form = image
    with serving(platter_path, tmp_path, "-f", form, name) as running:
        yield running


def tool(name, tmp_path):
    return Tool(find(name), tmp_path)


def expected(tmp_path):
    return (tmp_path / "content.raw").read_bytes()


def test_nbdcopy_takes_all(server, tmp_path):
    tool("nbdcopy", tmp_path).good([server.uri(), "copy.raw"])
    assert (tmp_path / "copy.raw").read_bytes() == expected(tmp_path)
    assert (tmp_path / "copy.raw").stat().st_blocks * 512 < SIZE * 3 // 4


def test_nbdinfo_maps_all(server, tmp_path):
    nbdinfo = tool("nbdinfo", tmp_path)
    content = expected(tmp_path)
    extents = json.loads(nbdinfo.good(["--map", "--json", server.uri()]))
    at = 0
    for extent in extents:
        assert extent["offset"] == at
        if extent["type"] & 2:
            assert not any(content[at:at + extent["length"]])
        at += extent["length"]
    assert at == SIZE
    assert extents[-1]["type"] == 3
    told = json.loads(nbdinfo.good(["--json", server.uri()]))
    assert told["exports"][0]["export-size"] == SIZE
    assert told["exports"][0]["can_multi_conn"]


def test_qemu_img_reads_all(server, qemu_img, tmp_path):
    qemu_img.good("convert -f raw -O qcow2", [server.uri()], "copy.qcow2")
    qemu_img.good("compare -q -f raw -F qcow2 content.raw copy.qcow2")
    told = json.loads(qemu_img.good("map --output=json -f raw",
                                    [server.uri()]))
    assert sum(run["length"] for run in told) == SIZE


def test_qemu_io_writes(server, qemu_io, platter, tmp_path):
    before = bytearray(expected(tmp_path))
    before[12345:12345 + 70000] = b"\xab" * 70000
    before[2 << 20:3 << 20] = bytes(1 << 20)
    qemu_io.good(["-f", "raw", "-c", "write -q -P 0xab 12345 70000", "-c",
                  "write -q -z -u 2M 1M", "-c", "flush", "-c",
                  "read -q -P 0xab 12345 70000", server.uri()])
    tool("nbdcopy", tmp_path).good([server.uri(), "copy.raw"])
    assert (tmp_path / "copy.raw").read_bytes() == before


def test_nbdcopy_fills_a_new_image(content, platter, platter_path, qemu_img,
                                   tmp_path):
    (tmp_path / "content.raw").write_bytes(content)
    platter.good("create -q -f qcow2 new.qcow2", str(SIZE))
    with serving(platter_path, tmp_path, "-f", "qcow2",
                 "new.qcow2") as server:
        tool("nbdcopy", tmp_path).good(["--flush", "content.raw",
                                        server.uri()])
    qemu_img.good("check -q new.qcow2")
    qemu_img.good("compare -q -f raw -F qcow2 content.raw new.qcow2")


def test_fio_reads_back_what_it_wrote(platter, platter_path, qemu_img,
                                      tmp_path):
    platter.good("create -q -f qcow2 -o cluster_size=16k new.qcow2 32M")
    with serving(platter_path, tmp_path, "-f", "qcow2",
                 "new.qcow2") as server:
        tool("fio", tmp_path)(
            ["--name=t", "--ioengine=nbd", f"--uri={server.uri()}",
             "--rw=randwrite", "--bsrange=512-64k", "--iodepth=32",
             "--size=16M", "--verify=crc32c", "--verify_fatal=1",
             "--output=fio.json", "--output-format=json"])
    job = json.loads((tmp_path / "fio.json").read_text())["jobs"][0]
    assert job["error"] == 0
    assert job["write"]["io_bytes"] == 16 << 20
    assert job["read"]["io_bytes"] == 16 << 20
    qemu_img.good("check -q new.qcow2")


def test_nbdkit_passes_it_on(server, platter, tmp_path):
    """Our client, nbdkit in between, our server."""
    tool("nbdkit", tmp_path).good(
        ["-U", "-", "nbd", server.uri(), "--run",
         f"{platter.argv[0]} compare -q -f raw -F raw content.raw $uri"])
