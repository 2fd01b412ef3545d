# SPDX-License-Identifier: BSD-3-Clause
"""Bugs that other image tools had, and that no test elsewhere is about.

Which row of the list of such bugs is held by which test is data:
tests/images/bugs_that_happened.py; the tests at the end of this file see that
they exist.
"""

import os
import pathlib
import re
import struct
import sys
import tempfile

import pytest
from conftest import TOP

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "images"))

import bugs_that_happened as bugs  # noqa: E402
import qcow2_hostile  # noqa: E402
import qcow2_image as q  # noqa: E402
import raw_hostile  # noqa: E402

K, M, G, T = 1 << 10, 1 << 20, 1 << 30, 1 << 40
CORRUPT_BIT, DIRTY_BIT = 2, 1


def io(*lines):
    return ["io", *(word for line in lines for word in ("-c", line))]


def incompatible(path):
    return path.read_bytes()[79]


def image(tmp_path, change=lambda image: None, name="t.qcow2"):
    made = q.Image()
    change(made)
    path = tmp_path / name
    path.write_bytes(bytes(made.raw))
    return path


# --- hostile images and hostile requests -------------------------------------


@pytest.mark.parametrize("fmt", ["raw", "qcow2"])
@pytest.mark.parametrize("at", [M, M + 1, M - 512 + 1, (1 << 62) - 512,
                                (1 << 63) - 512])
def test_nothing_behind_the_end_is_reached(platter, tmp_path, fmt, at):
    """Refused by every kind of request, and nothing is changed or grown."""
    platter.good(f"create -q -f {fmt} disk 1M")
    platter.good([*io("write -P 7 0 1M"), "-f", fmt, "disk"])
    before = (tmp_path / "disk").read_bytes()
    for line in ("read {} 512", "write {} 512", "write -z {} 512",
                 "write -z -u {} 512", "discard {} 512", "writev {} 512",
                 "readv {} 512"):
        result = platter([*io(line.format(at)), "-f", fmt, "disk"])
        assert result.status == 1, (line, result)
    assert (tmp_path / "disk").read_bytes() == before


@pytest.mark.parametrize("far", [1 << 32, 1 << 40, 1 << 55,
                                 (1 << 56) - q.CLUSTER])
def test_freeing_beyond_the_counts_is_an_error(platter, tmp_path, far):
    """What is written replaces an entry whose cluster no count describes."""
    path = image(tmp_path, lambda i: i.entry(0, far))
    result = platter([*io("write -P 9 0 4k", "flush"), "-f", "qcow2", path])
    assert result.status in (0, 1)
    after = path.read_bytes()
    assert len(after) < M, "the file has grown to reach the count"
    if result.status:
        assert incompatible(path) & CORRUPT_BIT
    platter.good([*io("read -P 9 0 4k"), "-r", "-f", "qcow2", path])
    assert after[q.DATA1:q.DATA1 + q.CLUSTER] == q.CLUSTER1


@pytest.mark.parametrize("table", range(5))
@pytest.mark.parametrize("line", ["write -P 0xa5 24k 4k",
                                  "write -c -P 0xa5 24k 4k",
                                  "write -P 0xa5 8k 4k"])
def test_a_table_with_count_zero_is_not_handed_out(platter, tmp_path, table,
                                                   line):
    path = image(tmp_path, lambda i: i.refcount(table, 0))
    before = path.read_bytes()
    result = platter([*io(line), "-f", "qcow2", path])
    assert result.status == 1, result
    assert incompatible(path) & CORRUPT_BIT
    after = path.read_bytes()
    assert after[80:q.DATA0] == before[80:q.DATA0]
    again = platter([*io("write 0 512"), "-f", "qcow2", path])
    assert again.status == 1 and "corrupt" in again.err
    platter.good(["check", "-q", "-r", "all", path])
    platter.good([*io("write 0 512"), "-f", "qcow2", path])


@pytest.fixture
def vast_folder(tmp_path):
    """Where files may be longer than 512 TiB, if there is such a place."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield pathlib.Path(folder)


def test_packed_clusters_do_not_outgrow_their_descriptor(platter,
                                                         vast_folder):
    """Counts of one bit say that the first 512 TiB are in use."""
    size, blocks = 2 * M, 17
    path = vast_folder / "t.qcow2"
    with open(path, "wb") as file:
        header = bytearray(112)
        for name, value in (
                ("magic", 0x514649FB), ("version", 3), ("cluster_bits", 21),
                ("size", 64 * M), ("l1_size", 1), ("l1_off", 2 * size),
                ("reftable_off", size), ("reftable_clusters", 1),
                ("header_len", 112)):
            struct.pack_into(q.FIELDS[name][1], header, q.FIELDS[name][0],
                             value)
        file.write(header)
        file.seek(size)
        file.write(b"".join(struct.pack(">Q", (4 + n) * size)
                            for n in range(blocks)))
        file.seek(2 * size)
        file.write(struct.pack(">Q", 3 * size | q.COPIED))
        for n in range(blocks - 1):
            file.seek((4 + n) * size)
            file.write(b"\xff" * size)
        file.truncate((4 + blocks) * size)
    result = platter([*io("write -c -P 1 0 2M"), "-f", "qcow2", path])
    assert result.status == 1 and "too large" in result.out.lower(), result
    assert path.stat().st_size == (4 + blocks) * size
    platter.good([*io("read -P 0 0 64M"), "-r", "-f", "qcow2", path])


def test_a_base_without_format_is_not_guessed_below_a_folder(platter,
                                                             tmp_path):
    (tmp_path / "base").write_bytes(b"\x11" * M)
    path = image(tmp_path, lambda i: (i.put(200, b"base"),
                                      i.set(backing_off=200, backing_len=4)))
    result = platter(f"--trust-dir {tmp_path} map -f qcow2 {path}")
    assert result.status == 1 and "No format is recorded" in result.err
    path = image(tmp_path, lambda i: i.backing(b"base"))
    platter.good(f"--trust-dir {tmp_path} convert -f qcow2 -O raw {path} out")
    assert (tmp_path / "out").read_bytes()[-4 * K:] == b"\x11" * 4 * K


def test_a_given_format_is_never_probed(platter, tmp_path):
    """A raw disk whose guest wrote a qcow2 header that names a host file."""
    path = image(tmp_path, lambda i: i.backing(b"/etc/passwd"))
    before = path.read_bytes()
    assert '"format": "raw"' in platter.good(
        f"info -f raw --output=json {path}")
    platter.good(f"resize -q -f raw {path} +1M")
    assert path.read_bytes() == before + bytes(M)
    platter.good(f"convert -f raw -O raw {path} out")
    assert (tmp_path / "out").read_bytes() == before + bytes(M)


def test_nothing_is_kept_in_a_folder_for_temporary_files(platter, tmp_path):
    """The folder of TMPDIR is not there: whoever used it would fail."""
    disk = os.urandom(64 * K) + bytes(64 * K)
    env = {**os.environ, "TMPDIR": str(tmp_path / "nowhere")}
    platter.good("convert -f raw -O qcow2 - out.qcow2", env=env, input=disk)
    platter.good("convert -f qcow2 -O raw out.qcow2 out.raw", env=env)
    assert (tmp_path / "out.raw").read_bytes() == disk
    platter.good("check -q --dry-run -f qcow2 out.qcow2", env=env)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "out.qcow2", "out.raw"]


# --- damage without an attacker ----------------------------------------------


@pytest.mark.parametrize("round_number", range(20))
def test_what_was_just_written_is_copied(platter, tmp_path, round_number):
    """Data that no file system had the time to place yet is no hole."""
    disk = bytearray(4 * M)
    path = tmp_path / "in.raw"
    with open(path, "wb", buffering=0) as file:
        file.truncate(len(disk))
        for part in range(8):
            at = (part * 512 + round_number * 12) * K % (4 * M - 8 * K)
            data = os.urandom(8 * K)
            disk[at:at + len(data)] = data
            file.seek(at)
            file.write(data)
    platter.good("convert -f raw -O raw in.raw out.raw")
    assert (tmp_path / "out.raw").read_bytes() == disk


def sources(*folders):
    for folder in folders:
        for path in sorted((TOP / folder).rglob("*.[ch]")):
            code = re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.DOTALL)
            yield path.relative_to(TOP), code


def test_extents_are_never_asked_for_by_fiemap():
    found = [path for path, code in sources("block", "formats", "cli")
             if "FIEMAP" in code.upper()]
    assert not found


def test_files_are_read_and_written_at_positions_only():
    """No cursor is shared: lseek() only asks for data, holes or the end."""
    seeks = 0
    for path, code in sources("block/storage"):
        for whence in re.findall(r"\blseek(?:64)?\([^;]*?,\s*([^,;]*?)\)",
                                 code):
            seeks += 1
            assert whence in ("SEEK_DATA", "SEEK_HOLE", "SEEK_END"), path
        if path.name != "pipe.c":  # which has no positions
            assert not re.search(r"(?<![\w.>])(read|write|readv|writev)\(",
                                 code), path
    assert seeks


@pytest.mark.parametrize("cluster", [512, 4 * K, 64 * K])
@pytest.mark.parametrize("length", [1, 512])
def test_first_write_lands_where_it_belongs(platter, tmp_path, cluster,
                                            length):
    """At 64 places inside clusters that were not there."""
    platter.good(f"create -q -f qcow2 -o cluster_size={cluster} disk 8M")
    steps = [step * (cluster - length) // 63 for step in range(64)]
    places = [(n * cluster, at) for n, at in enumerate(steps)]
    platter.good([*io(*(f"write -q -P {n + 1} {start + at} {length}"
                        for n, (start, at) in enumerate(places))), "disk"])
    platter.good([*io(*(f"read -q -P {n + 1} {start + at} {length}"
                        for n, (start, at) in enumerate(places))), "disk"])
    platter.good("convert -f qcow2 -O raw disk out.raw")
    disk = bytearray(8 * M)
    for n, (start, at) in enumerate(places):
        disk[start + at:start + at + length] = bytes([n + 1]) * length
    assert (tmp_path / "out.raw").read_bytes() == disk


@pytest.mark.parametrize("options", ["cluster_size=512,refcount_bits=64",
                                     "cluster_size=4k", "cluster_size=64k"])
def test_rewriting_does_not_grow_the_file(platter, tmp_path, options):
    """Space that is given back is used again, refcount blocks included."""
    platter.good(f"create -q -f qcow2 -o {options} disk 4M")
    round_of = ["write -q -P 3 0 1M", "flush", "discard -q 0 1M", "flush"]
    platter.good([*io(*round_of), "disk"])
    once = (tmp_path / "disk").stat().st_size
    platter.good([*io(*round_of * 100), "disk"])
    # Half of it is on the way: freed, but not durably yet.
    assert (tmp_path / "disk").stat().st_size <= 2 * once + 128 * K
    platter.good("check -q disk")


@pytest.mark.parametrize("length", [2 * G - 512, 2 * G - 1, 2 * G, 2 * G + 1,
                                    2 * G + 512, 4 * G - 1, 4 * G,
                                    4 * G + 512])
@pytest.mark.parametrize("line", ["write -z -n {} {}", "write -z -u -n {} {}"])
def test_requests_around_two_gib_are_whole(platter, tmp_path, length, line):
    """Nothing is cut to 31 or 32 bits, and nothing behind it is touched."""
    platter.good("create -q -f qcow2 -o cluster_size=2M disk 12G")
    start, after = 2 * M, 2 * M + length
    marks = [(0, 512), (start, 512), (2 * G, 512), (after - 512, 512),
             (after, 512)]
    platter.good([*io(*(f"write -q -P 5 {at} {n}" for at, n in marks)),
                  "disk"])
    platter.good([*io(line.format(start, length)), "disk"])
    inside = [f"read -P 0 {at} 512" for at in (start, 2 * G - 512, 2 * G,
                                               after - 512) if at < after]
    platter.good([*io("read -P 5 0 512", f"read -P 5 {after} 512", *inside),
                  "disk"])


@pytest.mark.parametrize("fmt", ["raw", "qcow2"])
@pytest.mark.parametrize("size", ["1M", "-1M", "0", "3145727"])
def test_nothing_shrinks_by_accident(platter, tmp_path, fmt, size):
    platter.good(f"create -q -f {fmt} disk 3M")
    platter.good([*io("write -P 4 0 3M"), "-f", fmt, "disk"])
    before = (tmp_path / "disk").read_bytes()
    result = platter(["resize", "-f", fmt, "disk", size])
    assert result.status == 1, result
    assert (tmp_path / "disk").read_bytes() == before


def test_lazy_counts_are_dirty_only_after_a_kill(platter, tmp_path):
    path = tmp_path / "disk"
    platter.good("create -q -f qcow2 -o lazy_refcounts=on disk 4M")
    assert not incompatible(path) & DIRTY_BIT
    platter.good([*io("write -P 1 0 64k"), "disk"])
    assert not incompatible(path) & DIRTY_BIT
    killed = platter([*io("write -P 2 64k 64k", "flush", "sigraise 9"),
                      "disk"])
    assert killed.status == -9
    assert incompatible(path) & DIRTY_BIT
    platter.good([*io("read -P 1 0 64k", "read -P 2 64k 64k"), "-r", "disk"])
    assert incompatible(path) & DIRTY_BIT, "reading has changed it"
    platter.good([*io("read -P 2 64k 64k"), "disk"])
    assert not incompatible(path) & DIRTY_BIT
    platter.good("check -q disk")


# --- the list ----------------------------------------------------------------


def has_test(path, name):
    text = (TOP / path).read_text()
    if path.endswith(".py"):
        return re.search(rf"^def {name}\(", text, re.MULTILINE)
    return re.search(rf"^(static )?[\w ]+ \**{name}\(", text, re.MULTILINE)


@pytest.mark.parametrize("row", bugs.ROWS)
def test_every_row_has_tests_that_exist(row):
    entries = bugs.ROWS[row]
    assert entries
    names = [case.name for case in qcow2_hostile.CASES]
    for entry in entries:
        if entry.startswith("waits: "):
            continue
        if entry.startswith("hostile: "):
            start = entry.removeprefix("hostile: ")
            assert any(name.startswith(start) for name in names), entry
            continue
        path, name = entry.split("::")
        assert (TOP / path).exists(), entry
        assert has_test(path, name), entry


def test_no_row_is_left_out():
    for part, (rows, count) in bugs.COUNTS.items():
        assert len(rows) == count, part
    assert len(bugs.ROWS) == sum(count for _, count in bugs.COUNTS.values())


def test_rows_that_only_wait_are_few():
    """And each of them for a driver or a command that is not there."""
    waiting = [row for row, entries in bugs.ROWS.items()
               if all(entry.startswith("waits: ") for entry in entries)]
    assert waiting == ["13c4941c", "07ee2ab4",
                       "c3b6658c, 93e32b3e, iotest 244/289",
                       "b1649fae, 61f0ed1d, 5e82a31e, a77672ea, bedb8bb4"]


def test_containers_without_driver_are_the_ones_that_wait():
    """When a driver comes, its rows have to get tests."""
    assert {"vmdk", "vdi", "luks"} <= {head[3] for head in raw_hostile.HEADS}
