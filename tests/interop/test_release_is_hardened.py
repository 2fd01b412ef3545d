# SPDX-License-Identifier: BSD-3-Clause
"""What the released program is built with, read from the program itself."""

import os
import platform
import re
import shutil
import subprocess

import pytest


@pytest.fixture(scope="module")
def readelf(platter_path):
    if os.environ.get("PLATTER_VARIANT", "release") != "release":
        pytest.skip("looks at the release program")
    program = shutil.which("readelf") or pytest.skip("readelf is missing")

    def run(*args):
        return subprocess.run([program, "--wide", *args, platter_path],
                              check=True, capture_output=True,
                              text=True).stdout
    return run


def disassembled(path):
    program = shutil.which("objdump") or pytest.skip("objdump is missing")
    return subprocess.run([program, "-d", "--disassemble=main", path],
                          check=True, capture_output=True, text=True).stdout


def test_code_has_no_fixed_address(readelf):
    assert re.search(r"Type:\s+DYN \(Position-Independent Exec", readelf("-h"))


def test_tables_of_the_linker_are_read_only(readelf):
    """Full RELRO: bound at the start, then protected."""
    dynamic = readelf("-d")
    assert "GNU_RELRO" in readelf("-l")
    assert re.search(r"\(FLAGS_1\)\s.*\bNOW\b.*\bPIE\b", dynamic)
    assert re.search(r"\(FLAGS\)\s.*\bBIND_NOW\b", dynamic)


def test_stack_is_not_executable(readelf):
    stack = re.search(r"GNU_STACK\s+(?:0x\w+\s+){5}(\S+)", readelf("-l"))
    assert stack, readelf("-l")
    assert stack.group(1) == "RW"


def test_no_segment_is_writable_and_executable(readelf):
    for line in readelf("-l").splitlines():
        if line.split()[:1] == ["LOAD"]:
            flags = "".join(line.split()[6:-1])
            assert flags in ("R", "RE", "RW"), line


def test_libraries_come_from_the_system_alone(readelf):
    dynamic = readelf("-d")
    assert "RPATH" not in dynamic
    assert "RUNPATH" not in dynamic


def test_code_is_not_patched_when_loaded(readelf):
    assert "TEXTREL" not in readelf("-d")


def test_stacks_are_guarded(readelf):
    assert "UND __stack_chk_fail@" in readelf("--dyn-syms")


def test_calls_are_fortified(readelf):
    """Level 3: fread() here writes to memory whose size is known at run time
    only."""
    symbols = set(re.findall(r"UND (\w+)@GLIBC", readelf("--dyn-syms")))
    for name in ("__snprintf_chk", "__memcpy_chk", "__fread_chk"):
        assert name in symbols, sorted(symbols)


@pytest.mark.usefixtures("readelf")
def test_functions_begin_with_landing_pads(platter_path):
    """The linker leaves no note of it: not all start files of Debian's C
    library have them."""
    if platform.machine() != "x86_64":
        pytest.skip("of x86-64 only")
    code = disassembled(platter_path).split("<main>:\n")[1]
    assert code.splitlines()[0].split()[-1] == "endbr64"
