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


MIB = 1024 * KIB
FILLER = "filler"


def mount(folder, kind):
    """Mounts a file system of 64 MiB; False if that is not allowed here."""
    if kind == "tmpfs":
        command = ["mount", "-t", "tmpfs", "-o", "size=64m", "none", folder]
    else:
        store = folder.with_suffix(".store")
        with open(store, "wb") as file:
            file.truncate(64 * MIB)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", store], check=True)
        command = ["mount", "-o", "loop", store, folder]
    return subprocess.run(command, capture_output=True,
                          check=False).returncode == 0


@pytest.fixture(params=["tmpfs", "ext4"])
def file_system(request, tmp_path):
    folder = tmp_path / "files"
    folder.mkdir()
    if not mount(folder, request.param):
        pytest.skip("mounting a file system is not allowed here")
    yield folder
    subprocess.run(["umount", folder], check=True)


def leave_room(folder, size):
    """A file that takes all of the file system but `size` bytes."""
    facts = os.statvfs(folder)
    path = folder / FILLER
    with open(path, "wb") as file:
        os.posix_fallocate(file.fileno(), 0,
                           facts.f_bavail * facts.f_frsize - size)


def take_all(folder):
    """Not a byte more can be written."""
    step = 64 * KIB
    with open(folder / "rest", "wb", buffering=0) as file:
        while step:
            try:
                file.write(b"r" * step)
            except OSError:
                step //= 2


PIECE = 512 * KIB


def read_steps(count):
    """What was written, a pattern for each piece."""
    return "".join(f" -c 'read -q -P {i + 1} {i * 2 * PIECE} {PIECE}'"
                   for i in range(count))


def write_until_full(platter, image):
    """Pieces that were flushed before the disk was full."""
    for i in range(100):
        result = platter(f"io -c 'write -q -P {i + 1} {i * 2 * PIECE} "
                         f"{PIECE}' -c flush {image}")
        if result.status:
            assert "No space left" in result.out + result.err, result
            return i
    raise AssertionError("the disk is never full")


@pytest.mark.parametrize("options", ["cluster_size=512", "cluster_size=64k",
                                     "cluster_size=4k,lazy_refcounts=on"])
def test_a_guest_fills_the_disk_and_goes_on(platter, qemu_img, file_system,
                                            options):
    image = file_system / "guest.qcow2"
    platter.good(f"create -q -f qcow2 -o {options} {image} 256M")
    leave_room(file_system, 5 * MIB)
    count = write_until_full(platter, image)
    assert count >= 6
    take_all(file_system)
    # More metadata than there is room for: a longer L1 table.
    size = 1 << (36 if "64k" not in options else 44)
    result = platter(f"resize -q {image} {size}")
    # What a write that failed had reserved may be enough for it.
    assert result.status == 0 or "No space left" in result.err, result
    assert (f"({256 * MIB if result.status else size} bytes)" in
            platter.good(f"info {image}"))
    platter.good(f"io -r{read_steps(count)} {image}")
    # 3: clusters were reserved for what could not be written.
    assert qemu_img(f"check {image}").status in (0, 3)
    (file_system / "rest").unlink()
    (file_system / FILLER).unlink()
    more = "".join(f" -c 'write -q -P {i + 1} {i * 2 * PIECE} {PIECE}'"
                   for i in range(count, count + 20))
    platter.good(f"io{more} -c flush {image}")
    platter.good(f"resize -q {image} +300M")
    platter.good(f"io -r{read_steps(count + 20)} {image}")
    platter.good(f"check -q -r leaks {image}")
    assert qemu_img(f"check {image}").status == 0


class Session:
    """One `io` that is given a step at a time, like a guest that goes on."""

    def __init__(self, program, image):
        self.process = subprocess.Popen([program, "io", image],
                                        stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, text=True)

    def write(self, i):
        """Flushed before it returns; what the program says of the write."""
        self.process.stdin.write(f"write -P {i + 1} {i * 2 * PIECE} {PIECE}\n"
                                 "flush\n")
        self.process.stdin.flush()
        while True:
            line = self.process.stdout.readline()
            if "wrote" in line or "failed" in line or not line:
                return line

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.process.communicate("quit\n", timeout=60)


def test_an_open_image_goes_on_when_there_is_room(platter, platter_path,
                                                  qemu_img, file_system):
    image = file_system / "guest.qcow2"
    platter.good(f"create -q -f qcow2 -o cluster_size=4k {image} 256M")
    leave_room(file_system, 3 * MIB)
    with Session(platter_path, image) as session:
        said = [session.write(i) for i in range(10)]
        assert "wrote" in said[0] and "No space left" in said[-1], said
        (file_system / FILLER).unlink()
        for i in range(20):
            assert "wrote" in session.write(i), i
    platter.good(f"io -r{read_steps(20)} {image}")
    platter.good(f"check -q -r leaks {image}")
    assert qemu_img(f"check {image}").status == 0


@pytest.mark.parametrize("how", ["-O raw", "-O qcow2", "-c -O qcow2"])
def test_convert_tries_again_when_there_is_room(platter, tmp_path, qemu_img,
                                                file_system, how):
    (tmp_path / "large.raw").write_bytes(PATTERN * 3)
    leave_room(file_system, 2 * MIB)
    target = file_system / "new.img"
    line = f"convert -f raw {how} large.raw {target}"
    result = platter(line)
    assert result.status == 1 and "No space left" in result.err, result
    assert set(os.listdir(file_system)) <= {FILLER, "lost+found"}
    (file_system / FILLER).unlink()
    platter.good(line)
    assert qemu_img(f"compare -f raw large.raw {target}").status == 0
