# SPDX-License-Identifier: BSD-3-Clause
"""convert -b: the target holds what its backing file does not."""

import json

MIB = 1 << 20


def make_chain(platter, qemu_io):
    """base <- mid <- top, with data, zeros, and the same bytes again."""
    platter.good("create -q -f qcow2 base.qcow2 8M")
    qemu_io.good(["-c", "write -P 1 0 4M", "base.qcow2"])
    platter.good("create -q -f qcow2 -b base.qcow2 -F qcow2 mid.qcow2")
    qemu_io.good(["-c", "write -P 2 1M 64k", "-c", "write -z 2M 128k",
                  "mid.qcow2"])
    platter.good("create -q -f qcow2 -b mid.qcow2 -F qcow2 top.qcow2")
    qemu_io.good(["-c", "write -P 3 5M 100k", "-c", "write -P 0 3M 64k",
                  "top.qcow2"])


def allocated(qemu_img, name):
    parts = json.loads(qemu_img.good(f"map --output=json {name}"))
    return sum(p["length"] for p in parts
               if p["depth"] == 0 and p["present"])


def check(platter, qemu_img, base, base_format, more=""):
    platter.good(f"convert -O qcow2 -b {base} -F {base_format} {more} "
                 "top.qcow2 out.qcow2")
    qemu_img.good("check -q out.qcow2")
    qemu_img.good("compare -q top.qcow2 out.qcow2")
    return allocated(qemu_img, "out.qcow2")


def test_copies_what_is_above_the_shared_base(platter, qemu_img, qemu_io):
    make_chain(platter, qemu_io)
    assert check(platter, qemu_img, "mid.qcow2", "qcow2") <= 256 * 1024
    # QEMU takes the top layer alone here, and loses what mid holds.
    assert check(platter, qemu_img, "base.qcow2", "qcow2") <= 512 * 1024
    assert check(platter, qemu_img, "base.qcow2", "qcow2", "-c") <= 512 * 1024


def test_copies_what_differs_from_another_base(platter, qemu_img, qemu_io):
    make_chain(platter, qemu_io)
    platter.good("convert -O raw mid.qcow2 copy.raw")
    assert check(platter, qemu_img, "copy.raw", "raw") <= 256 * 1024
    platter.good("create -q -f raw small.raw 3M")
    check(platter, qemu_img, "small.raw", "raw")
    platter.good("create -q -f raw large.raw 10M")
    qemu_io.good(["-f", "raw", "-c", "write -P 9 0 10M", "large.raw"])
    check(platter, qemu_img, "large.raw", "raw")
    check(platter, qemu_img, "large.raw", "raw", "-c")


def test_hides_what_a_short_middle_layer_hid(platter, qemu_img, qemu_io):
    platter.good("create -q -f qcow2 base.qcow2 8M")
    qemu_io.good(["-c", "write -P 1 0 8M", "base.qcow2"])
    platter.good("create -q -f qcow2 -b base.qcow2 -F qcow2 mid.qcow2 2M")
    platter.good("create -q -f qcow2 -b mid.qcow2 -F qcow2 top.qcow2 8M")
    check(platter, qemu_img, "base.qcow2", "qcow2")


def test_same_bytes_whatever_the_threads(platter, qemu_io, tmp_path):
    make_chain(platter, qemu_io)
    outs = set()
    for threads in (1, 2, 6):
        platter.good("convert -O qcow2 -b base.qcow2 -F qcow2 "
                     f"-m {threads} top.qcow2 out.qcow2")
        outs.add((tmp_path / "out.qcow2").read_bytes())
    assert len(outs) == 1
