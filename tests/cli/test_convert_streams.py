# SPDX-License-Identifier: BSD-3-Clause
"""convert from and to pipes, and from files that are packed as a whole."""

import gzip
import os
import subprocess

import pytest
from conftest import require
from test_convert_copies_disks import make_disk

PACKERS = {"gz": ["gzip"], "zst": ["zstd", "-q"], "lz4": ["lz4", "-q"]}


def pack(suffix, data):
    """Two frames behind each other, as parallel packers write them."""
    require(PACKERS[suffix][0])
    half = len(data) // 2
    return b"".join(subprocess.run([*PACKERS[suffix], "-c"], input=part,
                                   capture_output=True, check=True).stdout
                    for part in (data[:half], data[half:]))


def pipe(platter, args, data):
    return subprocess.run([platter.program, *args.split()], input=data,
                          cwd=platter.cwd, capture_output=True, check=False)


@pytest.mark.parametrize("form", ("raw", "qcow2"))
@pytest.mark.parametrize("size", ("", "--source-size 12M"))
def test_reads_standard_input(platter, tmp_path, form, size):
    disk = make_disk(tmp_path / "in.raw")
    done = pipe(platter, f"convert -O {form} {size} - out", disk)
    assert done.returncode == 0, done.stderr
    platter.good(f"compare -f raw -F {form} in.raw out")
    assert sorted(os.listdir(tmp_path)) == ["in.raw", "out"]


@pytest.mark.parametrize("size", ("11M", "13M"))
def test_holds_a_stream_to_its_size(platter, tmp_path, size):
    disk = make_disk(tmp_path / "in.raw")
    done = pipe(platter, f"convert -O qcow2 --source-size {size} - out", disk)
    assert done.returncode == 1
    assert not (tmp_path / "out").exists()


def test_writes_standard_output(platter, tmp_path):
    disk = make_disk(tmp_path / "in.raw")
    platter.good("convert -f raw -O qcow2 -c in.raw in.qcow2")
    done = pipe(platter, "convert in.qcow2 -", None)
    assert done.returncode == 0
    assert done.stdout == disk


def test_reports_a_pipe_that_breaks(platter, tmp_path):
    make_disk(tmp_path / "in.raw")
    with open("/dev/full", "wb") as full:
        done = subprocess.run([platter.program, "convert", "in.raw", "-"],
                              cwd=tmp_path, stdout=full, check=False,
                              stderr=subprocess.PIPE)
    assert done.returncode == 1
    assert b"error while writing at byte 0" in done.stderr


@pytest.mark.parametrize("suffix", PACKERS)
@pytest.mark.parametrize("form", ("raw", "qcow2"))
def test_unpacks_by_name_and_by_format(platter, tmp_path, suffix, form):
    disk = make_disk(tmp_path / "in.raw")
    packed = pack(suffix, disk)
    (tmp_path / f"disk.{suffix}").write_bytes(packed)
    platter.good(f"convert -O {form} disk.{suffix} out")
    platter.good(f"compare -f raw -F {form} in.raw out")
    done = pipe(platter, f"convert -f raw.{suffix} -O {form} - out2", packed)
    assert done.returncode == 0, done.stderr
    platter.good(f"compare -f raw -F {form} in.raw out2")


@pytest.mark.parametrize("suffix", PACKERS)
def test_refuses_streams_that_are_cut_or_broken(platter, tmp_path, suffix):
    packed = bytearray(pack(suffix, make_disk(tmp_path / "in.raw")))
    for name, content in (("cut", packed[:len(packed) * 3 // 4]),
                          ("cut-late", packed[:-3])):
        (tmp_path / f"{name}.{suffix}").write_bytes(content)
        for form in ("raw", "qcow2"):
            result = platter(f"convert -O {form} {name}.{suffix} out")
            assert result.status == 1
            assert not (tmp_path / "out").exists()


def test_takes_raw_bytes_as_they_are_with_f_raw(platter, tmp_path):
    packed = gzip.compress(b"x" * 5000) + bytes(512)
    packed = packed[:len(packed) // 512 * 512]
    (tmp_path / "disk.gz").write_bytes(packed)
    platter.good("convert -f raw -O raw disk.gz out.raw")
    assert (tmp_path / "out.raw").read_bytes() == packed
