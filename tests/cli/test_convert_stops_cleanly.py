# SPDX-License-Identifier: BSD-3-Clause
"""A copy that is stopped or fails leaves nothing, and never looks finished."""

import os
import signal
import subprocess

import pytest
from test_convert_copies_disks import make_disk


@pytest.mark.parametrize("number", (signal.SIGINT, signal.SIGTERM))
@pytest.mark.parametrize("args", ("", "-c", "-m 8", "--hash=tree"))
def test_leaves_nothing_when_interrupted(platter, tmp_path, number, args):
    make_disk(tmp_path / "in.raw")
    (tmp_path / "out.qcow2").write_bytes(b"old")
    # At this rate it would take an hour.
    with subprocess.Popen(
            [platter.program, "convert", "-p", "-r", "3000", "-f", "raw",
             "-O", "qcow2", *args.split(), "in.raw", "out.qcow2"],
            cwd=tmp_path, stdout=subprocess.PIPE) as process:
        process.stdout.read(1)  # progress: the signals are taken care of
        process.send_signal(number)
        process.stdout.read()
    assert process.returncode == 1
    assert (tmp_path / "out.qcow2").read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == ["in.raw", "out.qcow2"]


def break_cluster(path):
    """Points a guest cluster to where the file has long ended."""
    with open(path, "r+b") as file:
        file.seek(40)
        l1 = int.from_bytes(file.read(8), "big")
        file.seek(l1)
        l2 = int.from_bytes(file.read(8), "big") & ((1 << 56) - 1) & ~511
        file.seek(l2)
        file.write(((1 << 63) | (1 << 40) + 512).to_bytes(8, "big"))


def make_broken(platter, tmp_path):
    disk = make_disk(tmp_path / "in.raw")
    platter.good("convert -f raw -O qcow2 -S 0 in.raw broken.qcow2")
    break_cluster(tmp_path / "broken.qcow2")
    return disk


@pytest.mark.parametrize("threads", (1, 2, 8))
@pytest.mark.parametrize("target", ("-O raw", "-O qcow2", "-O qcow2 -c"))
def test_reports_read_errors(platter, tmp_path, threads, target):
    make_broken(platter, tmp_path)
    result = platter(f"convert {target} -m {threads} broken.qcow2 out")
    assert result.status == 1
    assert "error while reading at byte 0" in result.err
    assert not (tmp_path / "out").exists()


def test_salvages_what_can_be_read(platter, tmp_path):
    disk = make_broken(platter, tmp_path)
    result = platter("convert --salvage -O raw broken.qcow2 out.raw")
    assert result.status == 0
    assert "error while reading at byte 0" in result.err
    out = (tmp_path / "out.raw").read_bytes()
    assert out == bytes(65536) + disk[65536:]


def test_reports_a_full_disk(platter, tmp_path):
    make_disk(tmp_path / "in.raw")

    def limit():
        import resource
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))

    for target in ("-O qcow2", "-O qcow2 -c", "-O raw"):
        done = subprocess.run(
            [platter.program, "convert", "-f", "raw", *target.split(),
             "in.raw", "out"], cwd=tmp_path, preexec_fn=limit,
            capture_output=True, check=False)
        assert done.returncode == 1
        assert sorted(os.listdir(tmp_path)) == ["in.raw"]
