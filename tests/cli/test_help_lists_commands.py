# SPDX-License-Identifier: BSD-3-Clause
"""Callers search the help text to learn what the program can do."""

import re

import pytest

COMMANDS = ["check", "compare", "create", "info", "inspect", "map", "measure", "resize"]


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_each_command_has_one_line(as_qemu_img, option):
    out = as_qemu_img.good(option)
    assert "\nCommand syntax:\n" in out
    for name in COMMANDS:
        assert re.search(rf"^  {name} .*", out, re.MULTILINE)
    assert re.search(r"\binfo\b.*-U\b", out)


def test_formats_are_listed(as_qemu_img):
    found = re.search(r"^Supported formats:(.*)$", as_qemu_img.good("--help"),
                      re.MULTILINE)
    assert {"raw", "qcow2"} <= set(found.group(1).split())


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_explains_itself(platter, name):
    out = platter.good(f"{name} --help")
    assert out.startswith(f"usage: platter {name} ")


@pytest.mark.parametrize("option", ["-V", "--version"])
def test_version(as_qemu_img, platter, option):
    assert re.match(r"qemu-img version \d+\.\d+", as_qemu_img.good(option))
    assert re.match(r"platter version \d+\.\d+", platter.good(option))


def test_a_full_disk_below_stdout_is_an_error(platter):
    with open("/dev/full", "w", encoding="ascii") as full:
        import subprocess
        done = subprocess.run([platter.program, "--help"], stdout=full,
                              stderr=subprocess.PIPE, check=False)
    assert done.returncode == 1
    assert b"standard output" in done.stderr
