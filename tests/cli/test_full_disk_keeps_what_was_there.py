# SPDX-License-Identifier: BSD-3-Clause
"""A disk that is full: an error, and what was written before is still there.

Two kinds of full: files that may not grow beyond a limit, at many limits so
that every step is the one that fails; and a small file system.
"""

import os
import random
import resource
import subprocess

import pytest

KIB = 1024
PATTERN = random.Random(1).randbytes(1536 * KIB)


def limited_to(size):
    """Files of the process stay below `size` bytes."""
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    return limit


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source.raw"
    path.write_bytes(PATTERN)
    return path


LIMITS = [100, 700, 64 * KIB, 200 * KIB, 321 * KIB, 1000 * KIB, 1535 * KIB]


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("how", ["-O raw", "-O qcow2", "-c -O qcow2",
                                 "-O qcow2 -o cluster_size=512",
                                 "-O qcow2 -o preallocation=full"])
def test_convert_leaves_nothing(platter, tmp_path, source, how, limit):
    result = platter(f"convert -f raw {how} source.raw new.img",
                     preexec_fn=limited_to(limit))
    assert result.status == 1 and result.err, result
    assert os.listdir(tmp_path) == [source.name]


def test_convert_keeps_the_old_target(platter, tmp_path, source):
    old = tmp_path / "old.img"
    old.write_bytes(b"precious")
    result = platter(f"convert -f raw -O qcow2 {source} {old}",
                     preexec_fn=limited_to(500 * KIB))
    assert result.status == 1, result
    assert old.read_bytes() == b"precious"
    assert sorted(os.listdir(tmp_path)) == [old.name, source.name]


@pytest.mark.parametrize("options", ["cluster_size=512", "cluster_size=4096",
                                     "cluster_size=65536",
                                     "cluster_size=512,compat=0.10",
                                     "lazy_refcounts=on"])
def test_guest_writes_fail_and_go_on_later(platter, qemu_img, tmp_path,
                                           options):
    image = tmp_path / "guest.qcow2"
    platter.good(f"create -q -f qcow2 -o {options} guest.qcow2 8M")
    platter.good("io -c 'write -q -P 1 0 256k' -c flush guest.qcow2")
    start = image.stat().st_size
    for more in (1, 300, 600, 4096, 5000, 70 * KIB, 200 * KIB):
        result = platter("io -c 'write -q -P 2 1M 2M' -c flush guest.qcow2",
                         preexec_fn=limited_to(start + more))
        assert result.status == 1, (more, result)
        assert image.stat().st_size <= start + more
        platter.good("io -r -c 'read -q -P 1 0 256k' guest.qcow2")
        # 3: clusters were reserved for what could not be written.
        assert qemu_img("check guest.qcow2").status in (0, 3), more
    # There is room again.
    platter.good("io -c 'write -q -P 3 1M 2M' -c flush guest.qcow2")
    platter.good("io -r -c 'read -q -P 1 0 256k' "
                 "-c 'read -q -P 3 1M 2M' guest.qcow2")
    platter.good("check -r leaks guest.qcow2")
    assert qemu_img("check guest.qcow2").status == 0


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 2 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none",
                           folder], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("mounting a file system is not allowed here")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_file_system(platter, tmp_path, qemu_img, small_disk):
    (tmp_path / "large.raw").write_bytes(PATTERN * 2)
    result = platter(f"convert -f raw -O qcow2 large.raw {small_disk}/a")
    assert result.status == 1 and "No space left" in result.err, result
    assert os.listdir(small_disk) == []
    image = small_disk / "guest.qcow2"
    platter.good(f"create -q -f qcow2 {image} 16M")
    platter.good(f"io -c 'write -q -P 1 0 1M' -c flush {image}")
    result = platter(f"io -c 'write -q -P 2 1M 4M' -c flush {image}")
    assert result.status == 1, result
    assert "No space left" in result.out + result.err
    platter.good(f"io -r -c 'read -q -P 1 0 1M' {image}")
    assert qemu_img(f"check {image}").status in (0, 3)
    # What the guest gives back is room for it.
    platter.good(f"io -c 'discard -q 0 1M' -c flush {image}")
    platter.good(f"io -c 'write -q -P 3 2M 512k' -c flush {image}")
    platter.good(f"io -r -c 'read -q -P 3 2M 512k' {image}")
    assert qemu_img(f"check {image}").status in (0, 3)
