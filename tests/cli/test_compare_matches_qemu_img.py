# SPDX-License-Identifier: BSD-3-Clause
"""compare answers, and exits, as qemu-img does."""

import pytest

SETUP = [
    "img create -q -f qcow2 data 1M", "io -c 'write 0 128k' data",
    "img create -q -f qcow2 -b data -F qcow2 over",
    "io -c 'write 64k 64k' over", "io -c 'write -z 256k 64k' over",
    "img create -q -f qcow2 empty 1M",
    "img create -q -f raw raw 1M", "io -f raw -c 'write 500k 1k' raw",
    "img create -q -f raw odd 3000", "img create -q -f raw none 0",
    "img convert -c -f qcow2 -O qcow2 data packed",
    "img create -q -f qcow2 longer 2M", "io -c 'write 0 128k' longer",
]

PAIRS = ["data data", "data over", "over data", "data packed", "data empty",
         "empty data", "empty raw", "raw empty", "odd none", "none odd",
         "odd raw", "data longer", "longer data", "longer empty"]

# Strictly, qemu-img also minds how far a run goes, and whether it is packed.
TOO_STRICT = ["data over", "over data", "data packed"]

CASES = [(option, pair)
         for option in ("", "-s", "-q", "-q -s", "-U", "-T writeback")
         for pair in PAIRS
         if not ("-s" in option and pair in TOO_STRICT)]


@pytest.mark.parametrize("option,pair", CASES)
def test_same_answer(twins, option, pair):
    twins.setup(*SETUP)
    twins.same(f"compare {option} {pair}")


def test_strictness_is_about_what_is_allocated(twins):
    twins.setup(*SETUP)
    assert twins.ours("compare -s data packed").status == 0
    result = twins.ours("compare -s data over")
    assert result.status == 1
    assert result.out == ("Strict mode: Offset 262144 block status "
                          "mismatch!\n")


def test_formats_can_be_told(twins):
    twins.setup(*SETUP)
    twins.same("compare -f raw data data")
    twins.same("compare -f qcow2 -F raw data raw")
    assert twins.ours("compare --a-format qcow2 --b-format raw data raw"
                      ).status == 1


def test_progress_ends_at_a_hundred_percent(as_qemu_img, qemu_img):
    qemu_img.good("create -q -f raw x 16M")
    out = as_qemu_img.good("compare -p -f raw -F raw x x")
    assert out.startswith("    (0.00/100%)\r")
    assert "    (100.00/100%)\r\n" in out
    assert out.endswith("Images are identical.\n")
    assert as_qemu_img.good("compare -p -q -f raw -F raw x x") == ""
