# SPDX-License-Identifier: BSD-3-Clause
"""convert's refusals read as qemu-img's do, and touch no file."""

import os

import pytest

ALIKE = (
    "-C -c -O qcow2 a.raw x",
    "-C -S 4k -O qcow2 a.raw x",
    "-C --salvage -O qcow2 a.raw x",
    "--target-image-opts -O qcow2 a.raw x",
    "-n -o size=1 -O qcow2 a.raw x",
    "--target-is-zero -O qcow2 a.raw x",
    "-c -O raw a.raw x",
    "-c -O qcow2 -o preallocation=full a.raw x",
    "-B a.raw -O qcow2 a.raw x",
    "-B a.raw -F raw -O qcow2 a.raw a.raw x",
    "-B a.raw -F raw -O raw a.raw x",
    "-O foo a.raw x",
    "-S 1 a.raw x",
    "-S 32M a.raw x",
    "-m 0 a.raw x",
    "-m 17 a.raw x",
    "-t foo a.raw x",
    "-T foo a.raw x",
    "-r foo a.raw x",
    "--skip-broken-bitmaps -O qcow2 a.raw x",
)


@pytest.mark.parametrize("args", ALIKE)
def test_says_what_qemu_img_says(twins, args):
    twins.truncate("a.raw", 1 << 20)
    result = twins.same(f"convert {args}")
    assert result.status == 1
    assert os.listdir(twins.ours.cwd) == ["a.raw"]


@pytest.mark.parametrize("args", (
    "-n --target-is-zero -B a.raw -F raw -O qcow2 a.raw x",
    "-l snap -O qcow2 a.raw x", "--bitmaps -O qcow2 a.raw x",
    "-b a.raw -O qcow2 a.raw x", "-F raw -O qcow2 a.raw x",
    "-c --compression-level 0 -O qcow2 a.raw x",
    "-c --compression-level 12 -O qcow2 a.raw x",
    "-c --compression-window 5k -O qcow2 a.raw x",
    "--hash=md5 -O qcow2 a.raw x", "-O qcow2 -o foo=1 a.raw x",
    "-O qcow2 a.raw -", "a.raw", "", "missing x", "- a.raw x",
))
def test_refuses(platter, tmp_path, args):
    (tmp_path / "a.raw").write_bytes(bytes(1 << 20))
    result = platter(f"convert {args}")
    assert result.status == 1
    assert result.err
    assert os.listdir(tmp_path) == ["a.raw"]
