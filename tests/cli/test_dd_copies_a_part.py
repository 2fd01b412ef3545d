# SPDX-License-Identifier: BSD-3-Clause
"""dd copies blocks into a new image, counted as qemu-img counts them."""

import os

import pytest

PARTS = ("", "bs=1k", "bs=1k count=10", "bs=1k skip=10",
         "bs=1k count=10 skip=4", "bs=1k count=4 skip=10", "bs=1M skip=4000",
         "bs=777 count=900", "bs=64k skip=1 count=0x3")


@pytest.mark.parametrize("part", PARTS)
def test_copies_what_qemu_img_copies(twins, part):
    content = os.urandom(1 << 20)
    twins.write("in.raw", content)
    for form in ("raw", "qcow2"):
        twins.same(f"dd -f raw -O {form} if=in.raw of=out.{form} {part}")
        twins.theirs.good(
            f"compare -f {form} -F {form} out.{form} "
            f"{twins.ours.cwd}/out.{form}")


@pytest.mark.parametrize("args", (
    "if=a.raw", "of=x", "if=a.raw of=x foo=1", "if=a.raw of=x bs=0",
    "if=a.raw of=x count=-1", "if=a.raw of=x bs=x", "if=a.raw of=x zz",
))
def test_refuses_as_qemu_img_does(twins, args):
    twins.truncate("a.raw", 1 << 20)
    assert twins.same(f"dd -f raw {args}").status == 1


def test_refuses_its_input_as_output(platter, tmp_path):
    (tmp_path / "a.raw").write_bytes(b"x" * 1024)
    assert platter("dd -f raw if=a.raw of=./a.raw").status == 1
    assert (tmp_path / "a.raw").read_bytes() == b"x" * 1024
