# SPDX-License-Identifier: BSD-3-Clause
"""Every hostile qcow2 image gets the answer that it has to get.

Each command runs with little memory and little time, and may not crash. The
images and their answers are data: tests/images/qcow2_hostile.py.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

from conftest import require

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "images"))

import qcow2_hostile as hostile  # noqa: E402

CPU_SECONDS = 2
MEMORY_BYTES = 1 << 30
GUEST = hostile.contents()

READS, FAILS = {0}, {1}
# What each command may exit with: info, map, convert, check.
STATUS = {
    "REFUSE": (FAILS, FAILS, FAILS, {1}),
    "MENDABLE": (FAILS, FAILS, FAILS, {1, 2}),
    "LOST": (FAILS, FAILS, FAILS, {0, 2}),
    "TOUCHED": (READS, {0, 1}, FAILS, {2}),
    "STREAM": (READS, READS, FAILS, {0}),
    "OLD_ZERO": (READS, FAILS, FAILS, {0, 3}),
    "DAMAGED": (READS, READS, READS, {1, 2}),
    "ODD": (READS, READS, READS, {0, 2, 3}),
    "CUT": (READS, READS, {0, 1}, {0, 2, 3}),
    "LEAKED": (READS, READS, READS, {3}),
    "IGNORED": (READS, READS, READS, {0}),
    "BITMAPS": (READS, READS, READS, {0, 2, 3}),
    "NO_IO": (READS, FAILS, FAILS, {0, 1, 2, 3}),
    "LISTING": (FAILS, READS, READS, {0, 1, 2, 3}),
    "NO_BASE": (READS, FAILS, FAILS, {0}),
}
SAME_CONTENT = {"DAMAGED", "LEAKED", "IGNORED", "LISTING", "BITMAPS"}


@pytest.fixture(scope="session")
def limits(platter_path):
    """The command that limits another. Sanitizers reserve more address space
    than any limit would leave, and are slow."""
    words = [require("prlimit"), "--core=0"]
    tight = [f"--cpu={CPU_SECONDS}", f"--as={MEMORY_BYTES}"]
    done = subprocess.run([*words, *tight, platter_path, "--version"],
                          capture_output=True, check=False)
    if done.returncode == 0:
        return words + tight
    return words + [f"--cpu={10 * CPU_SECONDS}"]


@pytest.fixture
def limited(platter_path, limits, tmp_path):
    """Runs platter with limits; a crash fails the test."""
    def run(*args):
        done = subprocess.run([*limits, platter_path, *args], cwd=tmp_path,
                              capture_output=True, check=False, timeout=60,
                              stdin=subprocess.DEVNULL)
        said = (done.stdout + done.stderr).decode(errors="replace")
        assert 0 <= done.returncode <= 3, f"{args}: {done.returncode}: {said}"
        assert "Sanitizer" not in said and "runtime error" not in said, said
        assert "Assertion" not in said, said
        assert "\x1b" not in said, f"{args}: escape bytes reach the terminal"
        return done.returncode, said
    return run


def check_convert(limited, tmp_path, answer, status, trust=()):
    exit_code, said = limited("convert", *trust, "-f", "qcow2", "-O", "raw",
                              "t.qcow2", "out.raw")
    assert exit_code in status, f"convert: {exit_code}: {said}"
    out = tmp_path / "out.raw"
    if exit_code:
        assert not out.exists(), "a failed convert left a file"
    elif answer in SAME_CONTENT:
        data = out.read_bytes()
        longer = len(data) > len(GUEST)
        assert data == (GUEST + bytes(len(data) - len(GUEST)) if longer
                        else GUEST[:len(data)]), "other content"
    return said


@pytest.mark.parametrize(
    "case", hostile.CASES, ids=[case.name for case in hostile.CASES])
def test_answer(limited, tmp_path, case):
    image = tmp_path / "t.qcow2"
    bytes_before = case.build()
    image.write_bytes(bytes_before)
    info, mapped, converted, checked = STATUS[case.answer]

    status, said = limited("info", "-f", "qcow2", "t.qcow2")
    assert status in info, f"info: {status}: {said}"
    if status == 1 and case.words:
        assert case.words in said
    trust = ["--untrusted"] if case.answer == "NO_BASE" else []
    status, said = limited("map", *trust, "-f", "qcow2", "--output=json",
                           "t.qcow2")
    assert status in mapped, f"map: {status}: {said}"
    said = check_convert(limited, tmp_path, case.answer, converted, trust)
    if case.answer in ("REFUSE", "MENDABLE", "LOST", "NO_IO") and case.words:
        assert case.words in said
    status, said = limited("check", "-f", "qcow2", "t.qcow2")
    assert status in checked, f"check: {status}: {said}"
    assert image.read_bytes() == bytes_before, "reading changed the image"


@pytest.mark.parametrize(
    "case", hostile.CASES, ids=[case.name for case in hostile.CASES])
def test_changing_it_does_not_crash(limited, tmp_path, case):
    (tmp_path / "t.qcow2").write_bytes(case.build())
    limited("resize", "-q", "-f", "qcow2", "t.qcow2", "+512K")
    (tmp_path / "t.qcow2").write_bytes(case.build())
    status, _ = limited("check", "-q", "-f", "qcow2", "-r", "all", "t.qcow2")
    if status == 0:
        status, said = limited("check", "-f", "qcow2", "t.qcow2")
        assert status == 0, f"repaired, but: {said}"


def test_the_untouched_image_is_valid(limited, tmp_path):
    (tmp_path / "t.qcow2").write_bytes(bytes(hostile.Image().raw))
    assert limited("check", "-f", "qcow2", "t.qcow2")[0] == 0
    check_convert(limited, tmp_path, "IGNORED", {0})
    status, said = limited("info", "--output=json", "t.qcow2")
    assert status == 0
    assert json.loads(said)["virtual-size"] == hostile.DISK


def test_qemu_img_finds_the_untouched_image_valid(qemu_img, tmp_path):
    (tmp_path / "t.qcow2").write_bytes(bytes(hostile.Image().raw))
    qemu_img.good("check -f qcow2 t.qcow2")
    qemu_img.good("convert -f qcow2 -O raw t.qcow2 out.raw")
    assert (tmp_path / "out.raw").read_bytes() == GUEST


def test_case_names_are_unique():
    names = [case.name for case in hostile.CASES]
    assert len(names) == len(set(names))
    assert len(names) >= 300


NAMED = [case for case in hostile.CASES
         if case.name.startswith(("backing name", "data file"))]


@pytest.mark.parametrize("case", NAMED, ids=[case.name for case in NAMED])
def test_info_opens_no_file_that_the_image_names(platter_path, tmp_path, case):
    strace = shutil.which("strace")
    if not strace:
        pytest.skip("strace is not installed")
    image = tmp_path / "t.qcow2"
    image.write_bytes(case.build())
    trace = tmp_path / "trace"
    done = subprocess.run(
        [strace, "-f", "-e", "trace=open,openat,openat2,connect,execve",
         "-o", trace, platter_path, "info", "-f", "qcow2", "t.qcow2"],
        cwd=tmp_path, capture_output=True, check=False, timeout=60,
        # The leak check cannot run where a tracer is.
        env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0"})
    if b"PTRACE" in done.stderr or not trace.exists():
        pytest.skip("strace may not trace here")
    calls = trace.read_text(errors="replace")
    # What loader, C library and sanitizers open for every program aside.
    harmless = re.compile(r'"(t\.qcow2"|/dev/urandom"|/lib/|/usr/lib/|'
                          r'/etc/ld\.so|/usr/share/locale/|'
                          r'/proc/self/(maps|cmdline|environ)")')
    opened = [line for line in calls.splitlines()
              if re.search(r"(open|openat|openat2|connect)\(", line)
              and not harmless.search(line)]
    assert not opened, opened
    assert calls.count("execve(") == 1
