# SPDX-License-Identifier: BSD-3-Clause
"""What was flushed is there after the program was killed; leaks may be."""

import pytest
from tools import commands


@pytest.mark.parametrize("options", ["lazy_refcounts=on",
                                     "lazy_refcounts=off", "compat=0.10"])
def test_flushed_data_outlives_a_kill(options, platter, platter_io, qemu_img,
                                      qemu_io):
    platter.good("create -q -f qcow2 -o", options, "disk.qcow2 1M")
    done = platter_io(commands(["write -P 1 0 300k", "flush",
                                "write -P 2 512k 100k", "sigraise 9"]),
                      "disk.qcow2")
    assert done.returncode == -9
    # Leaks are fine, errors are not.
    done = qemu_img("check -r all disk.qcow2")
    assert done.returncode == 0
    qemu_io.good(commands(["read -P 1 0 300k"]), "disk.qcow2")
    platter.good("check -q disk.qcow2")
