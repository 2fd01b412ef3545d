# SPDX-License-Identifier: BSD-3-Clause
"""Chains of images: names, lengths, depth, and what is wrong with them."""

import json
import os

import pytest
from tools import commands

K = 1024


def make_chain(folder, qemu_img, count):
    """disk0 is the base; disk0.. each state one more cluster."""
    qemu_img.good("create -q -f qcow2 disk0 16M")
    for number in range(1, count):
        qemu_img.good("create -q -u -f qcow2 -F qcow2 -b", f"disk{number - 1}",
                      f"disk{number} 16M")
    assert (folder / f"disk{count - 1}").exists()


def test_each_layer_shows_through(tmp_path, platter_io, qemu_img, qemu_io):
    make_chain(tmp_path, qemu_img, 5)
    for number in range(5):
        platter_io.good(commands([f"write -P {number + 1} {number * 64}k "
                                  "320k"]), f"disk{number}")
    lines = [f"read -P {number + 1} {number * 64}k 64k" for number in range(5)]
    lines.append("read -P 5 320k 256k")
    lines.append("read -P 0 576k 1M")
    platter_io.good(commands(lines), "disk4")
    qemu_io.good(commands(lines), "disk4")
    for number in range(5):
        qemu_img.good("check -q", f"disk{number}")


def test_partial_write_copies_from_below(tmp_path, platter, platter_io,
                                         qemu_io):
    (tmp_path / "base.raw").write_bytes(b"\xbb" * (150 * K))
    platter.good("create -q -f qcow2 -b base.raw -F raw disk.qcow2 512k")
    # The base ends inside the cluster that is written.
    platter_io.good(commands(["write -P 1 140k 1k", "write -P 2 180k 1k",
                              "write -P 3 10k 1k"]), "disk.qcow2")
    lines = ["read -P 0xbb 0 10k", "read -P 3 10k 1k", "read -P 0xbb 11k 129k",
             "read -P 1 140k 1k", "read -P 0xbb 141k 9k", "read -P 0 150k 30k",
             "read -P 2 180k 1k", "read -P 0 181k 331k"]
    platter_io.good(commands(lines), "disk.qcow2")
    qemu_io.good(commands(lines), "disk.qcow2")
    assert (tmp_path / "base.raw").read_bytes() == b"\xbb" * (150 * K)


def test_names_are_relative_to_the_image(tmp_path, platter, platter_io,
                                         qemu_io):
    for name in ("sub", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "sub" / "base.raw").write_bytes(b"\x01" * (64 * K))
    (tmp_path / "base.raw").write_bytes(b"\x02" * (64 * K))
    platter.good("create -q -f qcow2 -b base.raw -F raw sub/disk.qcow2")
    platter.good("create -q -f qcow2 -b ../base.raw -F raw "
                 "other/disk.qcow2")
    for tool in (platter_io, qemu_io):
        tool.good(commands(["read -P 1 0 64k"]), "sub/disk.qcow2")
        tool.good(commands(["read -P 2 0 64k"]), "other/disk.qcow2")
    tool.cwd = tmp_path / "other"
    tool.good(commands(["read -P 1 0 64k"]), "../sub/disk.qcow2")


def test_missing_base_is_named(tmp_path, platter, platter_io, qemu_img):
    make_chain(tmp_path, qemu_img, 2)
    (tmp_path / "disk0").unlink()
    message = platter_io.bad(commands(["read 0 1k"]), "disk1")
    assert "disk1" in message and "disk0" in message
    assert "No such file or directory" in message
    # What needs no base works without it.
    platter.good("info disk1")
    platter.good("check -q disk1")


@pytest.mark.parametrize("length", [1, 2, 3])
def test_loops_are_found(length, tmp_path, platter, platter_io, qemu_img):
    make_chain(tmp_path, qemu_img, length)
    qemu_img.good("rebase -u -F qcow2 -b", f"disk{length - 1}", "disk0")
    for tool, words in ((platter_io, commands(["read 0 1k"])),
                        (platter, ["info", "--backing-chain"])):
        assert "loop" in tool.bad(words, f"disk{length - 1}")


def test_loop_by_another_name_is_found(tmp_path, platter_io, qemu_img):
    make_chain(tmp_path, qemu_img, 1)
    os.link(tmp_path / "disk0", tmp_path / "again")
    qemu_img.good("rebase -u -F qcow2 -b again disk0")
    assert "loop" in platter_io.bad(commands(["read 0 1k"]), "disk0")


def copy_chain(folder, qemu_img, count):
    """A long chain out of one image, as fast as files can be copied."""
    qemu_img.good("create -q -f qcow2 -o cluster_size=512 disk000 64k")
    qemu_img.good("create -q -u -f qcow2 -o cluster_size=512 -F qcow2 "
                  "-b disk000 disk001 64k")
    layer = (folder / "disk001").read_bytes()
    for number in range(2, count):
        below = f"disk{number - 1:03}".encode()
        (folder / f"disk{number:03}").write_bytes(
            layer.replace(b"disk000", below))


def test_chain_of_two_hundred_is_read(tmp_path, platter_io, qemu_io, qemu_img):
    copy_chain(tmp_path, qemu_img, 200)
    qemu_io.good(commands(["write -P 7 0 10k"]), "disk000")
    platter_io.good(commands(["read -P 7 0 10k", "write -P 8 5k 1k",
                              "read -P 7 6k 4k"]), "disk199")
    qemu_img.good("check -q disk199")


def test_deeper_chain_is_refused(tmp_path, platter, platter_io, qemu_img):
    copy_chain(tmp_path, qemu_img, 201)
    assert "200" in platter_io.bad(commands(["read 0 1k"]), "disk200")
    assert "200" in platter.bad("info --backing-chain disk200")


@pytest.mark.parametrize("base_size", [100 * K, 2048 * K])
def test_base_of_another_length(base_size, tmp_path, platter, platter_io,
                                qemu_img, qemu_io):
    (tmp_path / "base.raw").write_bytes(b"\xbb" * base_size)
    platter.good("create -q -f qcow2 -b base.raw -F raw disk.qcow2 1M")
    shown = min(base_size, 1024 * K)
    lines = [f"read -P 0xbb 0 {shown}", f"read -P 0 {shown} {1024 * K - shown}"]
    platter_io.good(commands(lines), "disk.qcow2")
    qemu_io.good(commands(lines), "disk.qcow2")
    platter.good("compare -q disk.qcow2 disk.qcow2")
    qemu_img.good("convert -O raw disk.qcow2 theirs.raw")
    platter.good("convert -O raw disk.qcow2 ours.raw")
    assert ((tmp_path / "ours.raw").read_bytes()
            == (tmp_path / "theirs.raw").read_bytes())


def test_no_backing_by_json(tmp_path, platter_io, qemu_img):
    make_chain(tmp_path, qemu_img, 2)
    platter_io.good(commands(["write -P 1 0 128k"]), "disk0")
    (tmp_path / "disk0").unlink()
    alone = {"driver": "qcow2", "backing": None,
             "file": {"driver": "file", "filename": "disk1"}}
    platter_io.good(commands(["read -P 0 0 128k"]),
                    ["json:" + json.dumps(alone)])


def test_json_names_a_chain(tmp_path, platter_io, qemu_img):
    make_chain(tmp_path, qemu_img, 2)
    platter_io.good(commands(["write -P 1 0 128k"]), "disk0")
    chain = {"driver": "qcow2",
             "file": {"driver": "file", "filename": "disk1"}}
    platter_io.good(commands(["read -P 1 0 128k"]),
                    ["json:" + json.dumps(chain)])


@pytest.mark.parametrize("name", ["json:{}", "nbd://localhost/x",
                                  "nbd:unix:/nowhere:exportname=x"])
def test_names_in_images_are_plain_paths(name, tmp_path, platter_io, qemu_img):
    make_chain(tmp_path, qemu_img, 2)
    qemu_img.good("rebase -u -F raw -b", [name], "disk1")
    platter_io.bad(commands(["read 0 1k"]), "disk1")


def test_growing_does_not_show_a_longer_base(tmp_path, platter, platter_io,
                                             qemu_img, qemu_io):
    (tmp_path / "base.raw").write_bytes(b"\xbb" * (2048 * K))
    platter.good("create -q -f qcow2 -b base.raw -F raw disk.qcow2 100k")
    platter.good("resize -q disk.qcow2 1M")
    lines = ["read -P 0xbb 0 100k", "read -P 0 100k 924k"]
    platter_io.good(commands(lines), "disk.qcow2")
    qemu_io.good(commands(lines), "disk.qcow2")
    qemu_img.good("check -q disk.qcow2")
