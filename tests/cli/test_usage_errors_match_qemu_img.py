# SPDX-License-Identifier: BSD-3-Clause
"""Wrong command lines get the answers that scripts know, to the byte."""

import pytest

CASES = """
-Z
--foo
foo
-T
info
info a b
info -f
info -Z x
info --zork x
info --output=foo x
info --image-opts -f raw driver=raw,file.filename=x
info --object foo x
info --object secret x
info --object secret,id=x x
info --object secret,id=x,data=abc,foo=3 x
info --object id=x x
info nonexistent
info -f raw nonexistent
info -f foo small.raw
check
check -r some small.raw
check -T foo small.raw
check nonexistent
check --output=foo small.raw
map
map -s x small.raw
map -l 1KB small.raw
map -s -1 small.raw
map --output=xml small.raw
compare
compare small.raw
compare -T foo small.raw small.raw
compare nonexistent small.raw
compare small.raw nonexistent
compare -f foo small.raw small.raw
compare --output=json small.raw small.raw
create
create -f foo x 1M
create -f foo -o help
create -f raw x
create -f raw x 1KB
create -f raw x 1e3
create -f raw x 1.1b
create -f raw x 8E
create -f raw x -- -1
create -f raw x -1
create -f raw x ''
create -f raw -o '' x 1M
create -f raw -o , x 1M
create -f raw -o size=1M, x
create -f qcow2 -o foo=1 x 1M
create -f qcow2 -o size=1M x 1M
create -f raw -b small.raw -F raw x 1M
create -f raw -F raw x 1M
create -f qcow2 -b nonexistent -F raw x
create -f qcow2 -b nonexistent -F raw x 1M
create -f qcow2 -u -b small.raw x 1M
create -f qcow2 -u -b small.raw -F raw x
create -f qcow2 -b x -F raw x
create -f qcow2 -b '' -F raw x 1M
measure
measure -O qcow2
measure -O foo --size 1
measure --size 1G small.raw
measure small.raw b
measure --size 1KB
measure --size 8E
measure -f raw --size 1G
measure --image-opts --size 1G
measure -l foo --size 1
measure -O qcow2 --size 1G -o foo=1
measure -O qcow2 nonexistent
resize
resize -f raw small.raw
resize small.raw 1 2
resize nonexistent 1M
resize -f raw small.raw 0
resize -f raw small.raw 4k
resize -f raw small.raw -4k
resize -f raw --shrink small.raw -100M
resize -f raw --preallocation=foo small.raw 1M
resize -f raw --preallocation=metadata small.raw 1M
resize -f raw --preallocation=falloc --shrink small.raw 4k
""".strip().splitlines()

# Where our text says more: the name of the file, the value, the way out.
LONGER = {
    "create -f qcow2 -o lazy_refcounts=maybe x 1M":
        "Parameter 'lazy_refcounts' expects 'on' or 'off'",
    "create -f qcow2 -o refcount_bits=abc x 1M":
        "Parameter 'refcount_bits' expects a number",
    "create -f qcow2 -b small.raw -F foo x": "Unknown driver 'foo'",
    "create -f qcow2 -b small.raw -F qcow2 x": "Image is not in qcow2 format",
    "create -f qcow2 foo:bar 1M": "Unknown protocol 'foo'",
    "create -f raw -o preallocation=metadata x 1M":
        "Unsupported preallocation mode",
    "create -f qcow2 -b small.raw x":
        "Backing file specified without backing format",
}


@pytest.mark.parametrize("line", CASES)
def test_same_answer(twins, line):
    twins.truncate("small.raw", 65536)
    twins.same(line)


@pytest.mark.parametrize("line", LONGER)
def test_same_answer_with_more_detail(twins, line):
    twins.truncate("small.raw", 65536)
    ours, theirs = twins.both(line)
    assert (ours.status, ours.out) == (theirs.status, theirs.out)
    assert LONGER[line] in ours.err and LONGER[line] in theirs.err


def test_no_command(twins):
    twins.same("")


def test_nothing_is_left_behind(twins):
    for line in [*CASES, *LONGER]:
        if line.startswith("create"):
            twins.ours(line)
    assert list(twins.ours.cwd.iterdir()) == []


def test_messages_name_the_program_as_it_was_called(platter, as_qemu_img):
    assert platter("info nonexistent").err.startswith("platter: Could not")
    assert as_qemu_img("info nonexistent").err.startswith("qemu-img: Could not")
