# SPDX-License-Identifier: BSD-3-Clause
"""resize changes an image as qemu-img does, and refuses what it refuses."""

import pytest

CASES = [
    "-f qcow2 x 2M", "-f qcow2 x +1M", "-f qcow2 x +0", "-f qcow2 x 1M",
    "-f qcow2 --shrink x 512k", "-f qcow2 --shrink x -512k", "x 5000001",
    "-q -f qcow2 x 3M", "-f qcow2 x ' 5M'", "-f qcow2 x 1G",
    "-f qcow2 x 900k", "-f qcow2 x -512k", "-f qcow2 x -2M", "x 0",
    "-f qcow2 --preallocation=metadata x 8M",
    "-f qcow2 --preallocation=full x 8M",
    "-f qcow2 --preallocation=off x 8M",
    "--image-opts driver=qcow2,file.filename=x 2M",
    "-f raw r 2M", "-f raw r +512", "-f raw --shrink r 4k", "r 2M",
    "-f raw --preallocation=falloc r 2M", "-f raw --preallocation=full r 2M",
]


def virtual_size(text):
    return [line for line in text.splitlines() if "virtual size" in line]


@pytest.mark.parametrize("args", CASES)
def test_same_result(twins, args):
    twins.setup("img create -q -f qcow2 x 1M", "io -c 'write 0 1M' x",
                "img create -q -f raw r 1M")
    twins.same("resize " + args)
    for name in ("x", "r"):
        twins.same_files("info " + name, virtual_size)
    twins.same_files("check -f qcow2 x",
                     lambda text: text.splitlines()[0])
    for form, name in (("qcow2", "x"), ("raw", "r")):
        twins.theirs.good(["compare", "-f", form, "-F", form, name,
                           str(twins.ours.cwd / name)])


def test_options_may_follow_the_size(platter, qemu_img):
    qemu_img.good("create -q -f raw x 1M")
    platter.good("resize x 2M -f raw")
    platter.good("resize x -512k --shrink --format raw")
    assert (platter.cwd / "x").stat().st_size == 1536 * 1024
