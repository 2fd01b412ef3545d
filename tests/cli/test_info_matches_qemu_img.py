# SPDX-License-Identifier: BSD-3-Clause
"""info says what qemu-img says: to the byte for people, in value for JSON."""

import json
import struct

import pytest

IMAGES = {
    "plain": ["img create -q -f qcow2 x 1G"],
    "small-clusters": ["img create -q -f qcow2 -o cluster_size=4k x 1000"],
    "version-2": ["img create -q -f qcow2 -o compat=0.10 x 12345678"],
    "zstd-lazy": ["img create -q -f qcow2 -o compression_type=zstd,"
                  "lazy_refcounts=on,refcount_bits=1 x 3T"],
    "data": ["img create -q -f qcow2 x 100M", "io -c 'write 5M 3M' x"],
    "snapshots": ["img create -q -f qcow2 x 1M", "img snapshot -c one x",
                  "img snapshot -c 'two words' x"],
    "bitmaps": ["img create -q -f qcow2 x 1M", "img bitmap --add x b0",
                "img bitmap --add --disable x b1"],
    "backing": ["img create -q -f raw base 1M",
                "img create -q -f qcow2 -b base -F raw x"],
    "backing-gone": ["img create -q -u -f qcow2 -b gone -F qcow2 x 1M"],
    "raw": ["img create -q -f raw x 5G"],
    "raw-empty": ["img create -q -f raw x 0"],
    "raw-odd": ["img create -q -f raw x 1000"],
}


def without_dates(text):
    """Snapshots of the two sides are not made in the same second."""
    return [line[:35] + line[55:] if line[:1].isdigit() else line
            for line in text.splitlines()]


def drop_dates(value):
    for snapshot in value.get("snapshots", []):
        del snapshot["date-sec"], snapshot["date-nsec"]
    return value


@pytest.mark.parametrize("name", IMAGES)
def test_text(twins, name):
    twins.setup(*IMAGES[name])
    ours, theirs = twins.both("info x")
    assert (ours.status, ours.err) == (theirs.status, theirs.err)
    order = sorted if name == "bitmaps" else list
    assert order(without_dates(ours.out)) == order(without_dates(theirs.out))


@pytest.mark.parametrize("name", IMAGES)
def test_json(twins, name):
    twins.setup(*IMAGES[name])
    ours, theirs = twins.both("info --output=json x")
    assert drop_dates(json.loads(ours.out)) == drop_dates(
        json.loads(theirs.out))


@pytest.mark.parametrize("args", [
    "info --output json x", "info --outp=json x", "info x --output=json",
    "info -- x", "info -U x", "info -f qcow2 x",
    "info --object secret,id=s,data=abc x",
    "info --image-opts driver=qcow2,file.filename=x",
    "info --image-opts driver=qcow2,file.driver=file,file.filename=x",
    """info 'json:{"driver":"qcow2","file":{"driver":"file","filename":"x"}}'
    """,
    "info file:x", "info ./x",
])
def test_ways_to_name_an_image(twins, args):
    twins.setup(*IMAGES["plain"])
    twins.same(args)


def test_chain(twins):
    for runner in (twins.ours, twins.theirs):
        (runner.cwd / "d").mkdir()
    twins.setup("img create -q -f qcow2 base 1M",
                "img create -q -f qcow2 -b ../base -F qcow2 d/mid",
                "img create -q -f qcow2 -b d/mid -F qcow2 x")
    twins.same("info --backing-chain x")
    twins.same("info d/mid")
    ours, theirs = twins.both("info --backing-chain --output=json x")
    assert json.loads(ours.out) == json.loads(theirs.out)


def test_chain_that_is_broken(twins):
    twins.setup(*IMAGES["backing-gone"])
    twins.same("info --backing-chain x")


def test_loop_is_found(platter, qemu_img):
    qemu_img.good("create -q -u -f qcow2 -b b -F qcow2 a 1M")
    qemu_img.good("create -q -u -f qcow2 -b ./a -F qcow2 b 1M")
    result = platter("info --backing-chain a")
    assert result.status == 1
    assert "creates an infinite loop" in result.err


def test_only_the_chain_option_opens_what_the_image_names(platter, qemu_img):
    qemu_img.good("create -q -u -f qcow2 -b secret -F raw x 1M")
    (platter.cwd / "secret").write_bytes(bytes(512))
    assert platter("info x").status == 0
    for args in ("--untrusted info x", "info --untrusted --backing-chain x"):
        refused = platter(args)
        assert refused.status == 1 and "secret" in refused.err
    assert platter("info --backing-chain x").status == 0
    elsewhere = platter.cwd / "elsewhere"
    elsewhere.mkdir()
    assert platter(["info", "--trust-dir", str(elsewhere), "--backing-chain",
                    "x"]).status == 1
    assert platter(["info", "--trust-dir", str(platter.cwd),
                    "--backing-chain", "x"]).status == 0


@pytest.mark.parametrize("bit,key", [(1, "dirty-flag"), (2, "corrupt")])
def test_feature_bits(twins, bit, key):
    twins.setup(*IMAGES["plain"])
    twins.write("x", struct.pack(">Q", bit), at=72)
    twins.same("info x")
    ours, theirs = twins.both("info --output=json x")
    assert json.loads(ours.out) == json.loads(theirs.out)
    assert f'"{key}": true' in ours.out


def test_names_that_are_no_utf8(platter, qemu_img):
    qemu_img.good(["create", "-q", "-f", "qcow2", b"a\xff", "1M"])
    out = platter.good(["info", "--output=json", b"a\xff"])
    assert json.loads(out)["filename"] == "a\ufffd"


def test_newer_options_are_known(platter, qemu_img):
    qemu_img.good("create -q -f qcow2 x 1M")
    for args in ("info --limits x", "info -t none x", "info --cache=none x",
                 "info --format qcow2 x", "info --force-share x"):
        assert "virtual size: 1 MiB" in platter.good(args)
