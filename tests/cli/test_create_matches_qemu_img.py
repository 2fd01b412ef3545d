# SPDX-License-Identifier: BSD-3-Clause
"""create says what qemu-img says, and makes what it makes."""

import pytest

GOOD = [
    "-f raw x 1M", "x 1M", "-f raw x 1000", "-f raw x 0", "-f raw x +1M",
    "-f raw x ' 1M'", "-f raw x 1.5M", "-f raw x 0x200", "-q -f raw x 1M",
    "-f raw -o preallocation=falloc x 1M", "-f raw -o size=2M x",
    "-f raw -o preallocation=full x 1M", "x -f raw 1M",
    "-f qcow2 x 1M", "-f qcow2 x 1000", "-f qcow2 x 0", "-q -f qcow2 x 1M",
    "-f qcow2 x 10T", "-f qcow2 -o cluster_size=512 x 1M",
    "-f qcow2 -o cluster_size=2M x 1M",
    "-f qcow2 -o cluster_size=1M -o refcount_bits=8 x 1M",
    "-f qcow2 -o compat=0.10 x 1M", "-f qcow2 -o compat=v3 x 1M",
    "-f qcow2 -o lazy_refcounts x 1M", "-f qcow2 -o nolazy_refcounts x 1M",
    "-f qcow2 -o compression_type=zstd,refcount_bits=1,lazy_refcounts=on x 1M",
    "-f qcow2 -o preallocation=metadata x 1M",
    "-f qcow2 -o preallocation=falloc x 1M",
    "-f qcow2 -o preallocation=full x 1M", "-f qcow2 -o size=1M x",
    "-f qcow2 -b base.qcow2 -F qcow2 x", "-f qcow2 -b odd -F raw x",
    "-f qcow2 -b base.qcow2 -F qcow2 x 512k",
    "-f qcow2 -b base.qcow2 -F qcow2 x 2M",
    "-f qcow2 -o backing_file=base.qcow2,backing_fmt=qcow2 x 2M",
    "-f qcow2 -o backing_file=base.qcow2,backing_fmt=qcow2 -b odd -F raw x 2M",
    "-f qcow2 -b ../base.qcow2 -F qcow2 d/x",
    "-f qcow2 -u -b gone -F raw x 1M", "-f qcow2 \"a b'c,d\" 1M",
]

REFUSED = [
    "-f qcow2 x 7E", "-f qcow2 -o cluster_size=3 x 1M",
    "-f qcow2 -o cluster_size=4M x 1M", "-f qcow2 -o preallocation=foo x 1M",
    "-f qcow2 -o compat=foo x 1M", "-f qcow2 -o refcount_bits=3 x 1M",
    "-f qcow2 -o compat=0.10,lazy_refcounts=on x 1M",
    "-f qcow2 -o compat=0.10,refcount_bits=8 x 1M",
    "-f qcow2 -o compression_type=foo x 1M", "-f qcow2 gone/x 1M",
    "-f qcow2 d 1M", "-f raw -o preallocation=metadata x 1M",
    "-f qcow2 -F raw x 2M", "-f qcow2 -b base.qcow2 x",
    "-f qcow2 -b base.qcow2 -F qcow2 d/x",
    "-f qcow2 -b gone -F qcow2 x", "-f qcow2 -b odd -F qcow2 x 1M",
]


@pytest.fixture
def prepared(twins):
    twins.setup("img create -q -f qcow2 base.qcow2 1M",
                "img create -q -f raw odd 3000")
    for runner in (twins.ours, twins.theirs):
        (runner.cwd / "d").mkdir()
    return twins


def description(text):
    return [line for line in text.splitlines()
            if not line.startswith("disk size")]


@pytest.mark.parametrize("args", GOOD)
def test_same_image(prepared, args):
    prepared.same("create " + args)
    for runner in (prepared.ours, prepared.theirs):
        made = [path.relative_to(runner.cwd)
                for path in runner.cwd.rglob("*") if path.is_file()
                and path.name not in ("base.qcow2", "odd")]
        assert len(made) == 1
    name = str(made[0])
    prepared.same_files(["info", name], description)
    if "qcow2" in args and "gone" not in args:
        prepared.same_files(["check", name],
                            lambda text: text.splitlines()[0])


@pytest.mark.parametrize("args", REFUSED)
def test_refused_alike(prepared, args):
    before = sorted(prepared.ours.cwd.rglob("*"))
    ours, theirs = prepared.both("create " + args)
    assert (ours.status, ours.out) == (theirs.status, theirs.out)
    assert ours.status == 1 and ours.err.startswith("qemu-img: ")
    assert sorted(prepared.ours.cwd.rglob("*")) == before


def test_texts_that_programs_read(prepared):
    for args in ("-f qcow2 -b gone -F qcow2 x", "-f qcow2 x 7E"):
        prepared.same("create " + args)
    err = prepared.ours("create -f qcow2 -b base.qcow2 x").err
    assert "Backing file specified without backing format" in err
    assert "Detected format of qcow2." in err


def test_a_failure_keeps_the_old_file(platter):
    path = platter.cwd / "x"
    path.write_bytes(b"precious")
    assert platter("create -f qcow2 -o cluster_size=3 x 1M").status == 1
    assert path.read_bytes() == b"precious"
    assert list(platter.cwd.iterdir()) == [path]


@pytest.mark.parametrize("form", ["-o help", "-o '?'", "-o help x",
                                  "-o cluster_size=1M,help"])
def test_option_help_lists_what_qemu_lists(twins, form):
    def names(text):
        return {line.split("=")[0].strip() for line in text.splitlines()
                if "=<" in line} - {"nocow", "extent_size_hint"}

    ours, theirs = twins.both("create -f qcow2 " + form)
    assert ours.status == 0
    assert names(ours.out) == names(theirs.out)
    assert ours.out.splitlines()[0] == theirs.out.splitlines()[0]
    listed = [line for line in ours.out.splitlines() if "=<" in line]
    assert listed == sorted(listed)


def test_newer_spellings(platter, qemu_img):
    qemu_img.good("create -q -f qcow2 base 1M")
    for args in ("create -f qcow2 -b base -B qcow2 x",
                 "create --format qcow2 --backing base --backing-format qcow2 "
                 "--options cluster_size=4k x",
                 "create -f qcow2 --backing-unsafe -b base -B qcow2 --quiet x "
                 "1M"):
        platter.good(args)
        assert "backing file format: qcow2" in qemu_img.good("info x")
