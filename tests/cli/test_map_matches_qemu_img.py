# SPDX-License-Identifier: BSD-3-Clause
"""map prints the runs that qemu-img prints, in its own form."""

import pytest

IMAGES = {
    "empty": ["img create -q -f qcow2 x 1M"],
    "data": ["img create -q -f qcow2 x 1M", "io -c 'write 64k 128k' x"],
    "zeros": ["img create -q -f qcow2 x 1M", "io -c 'write 0 256k' x",
              "io -c 'write -z 64k 64k' x", "io -c 'discard 128k 64k' x"],
    "fragments": ["img create -q -f qcow2 x 1M", "io -c 'write 64k 64k' x",
                  "io -c 'write 0 64k' x", "io -c 'write 128k 64k' x"],
    "chain": ["img create -q -f qcow2 base 1M", "io -c 'write 0 128k' base",
              "img create -q -f qcow2 -b base -F qcow2 x",
              "io -c 'write 64k 64k' x", "io -c 'write -z 256k 64k' x"],
    "short-base": ["img create -q -f qcow2 base 512k",
                   "io -c 'write 0 128k' base",
                   "img create -q -f qcow2 -b base -F qcow2 x 1M",
                   "io -c 'write 600k 64k' x"],
    "raw": ["img create -q -f raw x 1M", "io -f raw -c 'write 64k 64k' x"],
    "raw-odd": ["img create -q -f raw x 1000"],
    "raw-empty": ["img create -q -f raw x 0"],
    "small-clusters": ["img create -q -f qcow2 -o cluster_size=512 x 1M",
                       "io -c 'write 1k 100k' x", "io -c 'write 200k 1k' x"],
    "raw-base": ["img create -q -f raw base 1M",
                 "io -f raw -c 'write 0 128k' base",
                 "img create -q -f qcow2 -b base -F raw x",
                 "io -c 'write 192k 64k' x"],
    "packed": ["img create -q -f raw base 1M",
               "io -f raw -c 'write 0 128k' base",
               "img convert -c -f raw -O qcow2 base x"],
}

RANGES = ["", "-s 64k -l 100k", "-s 1023k", "-s 2M", "-l 0", "-s 1M",
          "--start-offset=0x10000 --max-length=64K"]


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize("form", ["human", "json"])
def test_same_runs(twins, name, form):
    twins.setup(*IMAGES[name])
    for part in RANGES:
        ours, theirs = twins.both(f"map --output={form} {part} x")
        # Newer versions say so of packed runs, and so do we.
        ours.out = ours.out.replace(', "compressed": true', "")
        assert ours == theirs, part


def test_a_number_may_have_blanks_in_front(twins):
    twins.setup(*IMAGES["data"])
    twins.same(["map", "-s", " 64k", "x"])
