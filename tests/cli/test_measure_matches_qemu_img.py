# SPDX-License-Identifier: BSD-3-Clause
"""measure computes the sizes that qemu-img computes."""

import json

import pytest

CASES = [
    "--size 1G", "--size 0", "--size 1000", "--size 1G -O qcow2",
    "--size 1T -O qcow2", "--size 1G -O qcow2 -o cluster_size=4k",
    "--size 64P -O qcow2 -o cluster_size=2M",
    "--size 1G -O qcow2 -o refcount_bits=64",
    "--size 1G -O qcow2 -o compat=0.10",
    "--size 1G -O qcow2 -o preallocation=full",
    "--size 1G -O qcow2 -o preallocation=metadata", "-U --size 1",
    "-O qcow2 x", "-O raw x", "x", "-O qcow2 base", "-f raw -O qcow2 base",
    "-O qcow2 -o cluster_size=512 x", "-O qcow2 -o preallocation=falloc x",
    "--image-opts -O qcow2 driver=qcow2,file.filename=x",
]


@pytest.mark.parametrize("args", CASES)
def test_same_sizes(twins, args):
    twins.setup("img create -q -f raw base 1M",
                "io -f raw -c 'write 0 128k' base",
                "img create -q -f qcow2 -b base -F raw x 3M",
                "io -c 'write 64k 512k' x", "io -c 'write -z 0 64k' x")
    twins.same("measure " + args)
    ours, theirs = twins.both("measure --output=json " + args)
    assert json.loads(ours.out) == json.loads(theirs.out)


def test_bitmaps_are_measured_for_images_that_can_have_them(platter, qemu_img):
    """Their sizes by their granularities; none for version 2."""
    qemu_img.good("create -q -f qcow2 x 100M")
    for bits, name in ((16, "one"), (20, "another")):
        qemu_img.good(f"bitmap --add -g {1 << bits} x {name}")
    for args in ("x", "-o cluster_size=4k x", "-o compat=0.10 x"):
        line = f"measure --output=json -O qcow2 {args}"
        theirs = json.loads(qemu_img.good(line))
        assert json.loads(platter.good(line)) == theirs
        assert ("bitmaps" in theirs) == ("compat" not in args)


@pytest.mark.parametrize("version", ["0.10", "1.1"])
def test_bitmaps_only_of_versions_that_have_them(twins, version):
    twins.setup(f"img create -q -f qcow2 -o compat={version} x 1M")
    twins.same("measure -O qcow2 x")
    ours, theirs = twins.both("measure --output=json -O qcow2 x")
    assert json.loads(ours.out) == json.loads(theirs.out)
