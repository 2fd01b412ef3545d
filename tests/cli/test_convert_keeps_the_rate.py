# SPDX-License-Identifier: BSD-3-Clause
"""-r holds a copy back.

Nothing here depends on how fast the machine is: without the limit the copy
would be over before its progress is shown for the first time, and a slow
machine only makes it later.
"""

import json
import signal
import subprocess

import pytest

MIB = 1 << 20
SIZE = 16 * MIB


@pytest.mark.parametrize("args", ("-O raw", "-O qcow2", "-O qcow2 -c",
                                  "-O raw -m 8"))
def test_a_copy_goes_on_at_the_given_rate(platter, tmp_path, args):
    with open(tmp_path / "in.raw", "wb") as file:
        file.truncate(SIZE)
    # Holes count as well with -S 0; packing looks at clusters in any case.
    with subprocess.Popen(
            [platter.program, "convert", "--progress=json", "-r", "2M",
             "-S", "0", "-f", "raw", *args.split(), "in.raw", "out"],
            cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        first = json.loads(process.stderr.readline())
        second = json.loads(process.stderr.readline())
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read().splitlines()
    last = json.loads([line for line in rest if line.startswith("{")][-1])
    assert process.returncode == 1
    assert first["total"] == SIZE
    assert 0 < first["done"] < second["done"] <= last["done"] < SIZE
    assert not (tmp_path / "out").exists()


def test_a_limit_changes_nothing_but_the_pace(platter, tmp_path):
    with open(tmp_path / "in.raw", "wb") as file:
        file.write(b"data" * (MIB // 4))
        file.truncate(SIZE)
    platter.good("convert -r 8M -f raw -O qcow2 in.raw slow.qcow2")
    platter.good("convert -f raw -O qcow2 in.raw fast.qcow2")
    assert ((tmp_path / "slow.qcow2").read_bytes()
            == (tmp_path / "fast.qcow2").read_bytes())
