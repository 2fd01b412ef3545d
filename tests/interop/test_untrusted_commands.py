# SPDX-License-Identifier: BSD-3-Clause
"""Every command works under --untrusted, where a forbidden call would kill it.

Images come from qemu-img, in all shapes; what is written is read back by it.
"""

import os
import re
import shutil
import struct
import subprocess

import pytest

from tools import Tool

pytestmark = pytest.mark.skipif(
    os.environ.get("PLATTER_VARIANT", "release") != "release",
    reason="builds with a sanitizer have no sandbox")

SHAPES = {
    "plain": "-f qcow2",
    "v2": "-f qcow2 -o compat=0.10",
    "small clusters": "-f qcow2 -o cluster_size=512",
    "large clusters": "-f qcow2 -o cluster_size=2M",
    "zstd": "-f qcow2 -o compression_type=zstd",
    "lazy": "-f qcow2 -o lazy_refcounts=on",
    "wide counts": "-f qcow2 -o refcount_bits=64",
    "raw": "-f raw",
}
DISK = 24 << 20


def good(program, *args, cwd):
    """A tool of QEMU's, which has to succeed."""
    return Tool(program, cwd).good(*([word] for word in args))


def make(folder, shape):
    """Data in two places, some of it packed where there is packing."""
    words = SHAPES[shape].split()
    good("qemu-img", "create", "-q", *words, "x", str(DISK), cwd=folder)
    packed = [] if shape == "raw" else ["-c", "write -c -P 9 16M 2M"]
    good("qemu-io", "-f", words[1], "-c", "write -P 3 1M 5M", *packed, "-c",
         "write -z 20M 1M", "x", cwd=folder)
    return words[1]


@pytest.fixture
def guarded(platter_path, tmp_path):
    def run(*args, status=0, **more):
        done = subprocess.run([platter_path, "--untrusted", *args],
                              cwd=tmp_path, capture_output=True, check=False,
                              timeout=120, **more)
        assert done.returncode == status, (args, done)
        return (done.stdout + done.stderr).decode(errors="replace")
    return run


@pytest.mark.parametrize("shape", SHAPES)
def test_reading(guarded, tmp_path, shape):
    kind = make(tmp_path, shape)
    guarded("info", "x")
    guarded("info", "--output=json", "-f", kind, "x")
    guarded("map", "--output=json", "x")
    guarded("measure", "-O", "qcow2", "x")
    guarded("measure", "--output=json", "-O", "raw", "x")
    guarded("compare", "-p", "x", "x")
    guarded("bench", "-c", "200", "x")
    guarded("bench", "-d", "1024", "-c", "2000", "x")
    guarded("io", "-r", "-c", "read -P 3 1M 5M", "-c", "map", "-c",
            "aio_read 0 1M", "x")
    guarded("io", "-r", "x", input=b"read 0 512\nquit\n")
    if kind == "qcow2":
        guarded("check", "x")
        guarded("check", "--output=json", "--dry-run", "x")


OPTIONS = [
    "-O raw", "-O qcow2", "-m 16 -c -O qcow2", "-O qcow2 --hash", "-S 0 -O raw",
    "-m 16 -c -o compression_type=zstd -O qcow2", "-p -O qcow2 --hash=tree",
    "-o preallocation=full -O qcow2", "-o preallocation=falloc -O raw",
    "-t none -T none -O raw", "--progress=json -O raw", "--salvage -O raw",
    "-W -t unsafe -O qcow2", "--no-trust-holes -O raw"]


# Each option on a common image, and the richest of them on each shape.
@pytest.mark.parametrize("shape,options", [
    *(("zstd", options) for options in OPTIONS),
    *((shape, "-m 16 -c -O qcow2") for shape in SHAPES)])
def test_copying(guarded, tmp_path, shape, options):
    make(tmp_path, shape)
    guarded("convert", *options.split(), "x", "out")
    good("qemu-img", "compare", "x", "out", cwd=tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["out", "x"]


@pytest.mark.parametrize("shape", SHAPES)
def test_other_targets(guarded, tmp_path, shape, platter_path):
    make(tmp_path, shape)
    (tmp_path / "old").write_bytes(b"before")
    guarded("convert", "-O", "raw", "x", "old")
    good("qemu-img", "compare", "x", "old", cwd=tmp_path)
    good("qemu-img", "create", "-q", "-f", "qcow2", "there", str(DISK),
         cwd=tmp_path)
    guarded("convert", "-n", "-O", "qcow2", "x", "there")
    good("qemu-img", "compare", "x", "there", cwd=tmp_path)
    guarded("dd", "if=x", "of=part", "bs=1M", "count=3", "skip=1")
    assert (tmp_path / "part").stat().st_size == 2 << 20
    with open(tmp_path / "stdout", "wb") as file:
        subprocess.run([platter_path, "--untrusted", "convert", "-O", "raw",
                        "x", "-"], cwd=tmp_path, stdout=file, check=True)
    good("qemu-img", "compare", "x", "stdout", cwd=tmp_path)
    guarded("convert", "-O", "raw", "x", "x", "twice")
    assert (tmp_path / "twice").stat().st_size == 2 * DISK


def test_a_large_sparse_disk(guarded, tmp_path):
    good("qemu-img", "create", "-q", "-f", "qcow2", "-o", "cluster_size=2M",
         "x", "1P", cwd=tmp_path)
    guarded("map", "--output=json", "x")
    guarded("check", "x")
    guarded("convert", "-O", "qcow2", "-o", "cluster_size=2M", "x", "out")


def test_writing(guarded, tmp_path):
    make(tmp_path, "plain")
    guarded("io", "-c", "write -P 8 0 1M", "-c", "flush", "x")
    guarded("check", "-r", "all", "x")
    guarded("resize", "x", "+1M")
    guarded("bench", "-w", "-c", "100", "x")
    good("qemu-img", "check", "x", cwd=tmp_path)
    (tmp_path / "raw").write_bytes(bytes(1 << 20))
    said = guarded("resize", "raw", "+1M", status=1)
    assert "format has to be given" in said
    guarded("resize", "-f", "raw", "raw", "+1M")


def test_what_is_not_safe_is_refused(guarded, tmp_path):
    """No driver sees it, no file appears, and the old target stays."""
    (tmp_path / "out").write_bytes(b"before")
    good("qemu-img", "create", "-q", "-u", "-f", "qcow2", "-b",
         "/etc/passwd", "-F", "raw", "x", "1M", cwd=tmp_path)
    for args in (["info"], ["check"], ["map"], ["measure", "-O", "raw"],
                 ["bench"], ["io", "-r", "-c", "read 0 512"]):
        said = guarded(*args, "x", status=1)
        assert "unsafe" in said and "/etc/passwd" in said, args
    guarded("compare", "x", "x", status=2)
    for args in (["convert", "x", "out"], ["dd", "if=x", "of=out"],
                 ["convert", "-n", "x", "out"], ["convert", "x", "new"]):
        guarded(*args, status=1)
    assert (tmp_path / "out").read_bytes() == b"before"
    assert sorted(os.listdir(tmp_path)) == ["out", "x"]


def test_a_raw_disk_with_a_header_is_refused(guarded, tmp_path):
    (tmp_path / "x").write_bytes(b"QFI\xfb\0\0\0\3" + bytes(1 << 20))
    assert "declared to be raw" in guarded("convert", "-f", "raw", "x", "out",
                                           status=1)
    assert os.listdir(tmp_path) == ["x"]


def test_an_old_file_that_is_written_in_place_stays(guarded, tmp_path):
    """Nothing takes its place, so until the source is safe it is not touched."""
    (tmp_path / "old").write_bytes(b"before")
    with open(tmp_path / "old", "r+b") as file:
        place = f"/proc/self/fd/{file.fileno()}"
        (tmp_path / "x").write_bytes(b"QED\0" + bytes(1 << 20))
        guarded("convert", "x", place, status=1, pass_fds=[file.fileno()])
        assert (tmp_path / "old").read_bytes() == b"before"
        (tmp_path / "x").write_bytes(b"data" * 1000)
        guarded("convert", "x", place, pass_fds=[file.fileno()])
    assert (tmp_path / "old").read_bytes()[:4000] == b"data" * 1000


def test_what_would_open_more_is_refused(guarded, tmp_path):
    make(tmp_path, "plain")
    good("qemu-img", "create", "-q", "-f", "qcow2", "base", str(DISK),
         cwd=tmp_path)
    for args, word in ((["convert", "-O", "qcow2", "-b", "base", "-F", "qcow2",
                         "x", "out"], "backing file"),
                       (["convert", "-f", "raw.gz", "x", "out"], "unpack"),
                       (["convert", "x", "x"], "source of the copy"),
                       (["io", "-r", "-c", "close", "-c", "open base", "x"],
                        "no file can be opened")):
        assert word in guarded(*args, status=1), args
    assert sorted(os.listdir(tmp_path)) == ["base", "x"]


def test_memory_and_time_have_ends(guarded, tmp_path):
    """Work that would go on is given up, and leaves nothing half."""
    (tmp_path / "x").write_bytes(os.urandom(32 << 20).hex().encode())
    # Half of it is redundant, and zstd at its slowest takes long to see it.
    said = guarded("--max-cpu", "1", "convert", "-c", "-O", "qcow2", "-o",
                   "compression_type=zstd", "--compression-level", "22", "x",
                   "out", status=1)
    assert "More than 1 seconds of CPU time" in said
    said = guarded("--max-memory", "64M", "convert", "-m", "16", "-c", "-O",
                   "qcow2", "x", "out", status=1)
    assert "memory" in said
    assert os.listdir(tmp_path) == ["x"]


def test_a_copy_that_is_stopped_leaves_nothing(platter_path, tmp_path):
    (tmp_path / "x").write_bytes(os.urandom(64 << 20).hex().encode())
    with subprocess.Popen(
            [platter_path, "--untrusted", "convert", "--progress=json", "-c",
             "-O", "qcow2", "-o", "compression_type=zstd",
             "--compression-level", "22", "x", "out"], cwd=tmp_path,
            stderr=subprocess.PIPE) as process:
        process.stderr.readline()
        process.terminate()
        process.communicate(timeout=60)
    assert process.returncode == 1
    assert os.listdir(tmp_path) == ["x"]


def test_no_file_but_the_operands_is_opened(platter_path, tmp_path):
    """Between the sandbox and the end there is no open at all."""
    strace = shutil.which("strace")
    if not strace:
        pytest.skip("strace is not installed")
    make(tmp_path, "zstd")
    for args in (["info", "--output=json", "x"], ["check", "x"],
                 ["inspect", "--output=json", "x"],
                 ["map", "--output=json", "x"], ["compare", "x", "x"],
                 ["convert", "-c", "-m", "8", "-O", "qcow2", "x", "out"]):
        done = subprocess.run(
            [strace, "-f", "-o", "trace", "-e",
             "trace=%file,%network,%process,landlock_restrict_self",
             platter_path, "--untrusted", *args],
            cwd=tmp_path, capture_output=True, check=False, timeout=120)
        trace = (tmp_path / "trace").read_text(errors="replace")
        if b"PTRACE" in done.stderr or not trace:
            pytest.skip("strace may not trace here")
        assert done.returncode == 0, done
        _, inside = trace.split("landlock_restrict_self(")
        calls = set(re.findall(r"^\d+ +(\w+)\(", inside, re.MULTILINE))
        allowed = {"clone", "clone3", "exit", "exit_group", "newfstatat",
                   "renameat2", "tgkill"}
        assert calls <= allowed, calls - allowed
        opened = set(re.findall(r'open(?:at)?\([^"]*"([^"]+)"', trace))
        ours = {name for name in opened if not name.startswith(
            ("/etc/", "/lib", "/usr/", "/dev/urandom", "/proc/"))}
        assert all(name in ("x", ".") or name.startswith(".out.partial-")
                   for name in ours), ours


def test_a_hostile_l1_is_found_before_the_driver(guarded, tmp_path):
    make(tmp_path, "plain")
    with open(tmp_path / "x", "r+b") as file:
        file.seek(36)
        file.write(struct.pack(">I", 2**31))
    assert "malformed" in guarded("check", "x", status=1)
