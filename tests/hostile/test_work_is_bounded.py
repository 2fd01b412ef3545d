# SPDX-License-Identifier: BSD-3-Clause
"""What a file claims makes no work: what it holds does, and not much.

Larger images than those of the catalogue, each made to cost as much as its
bytes can: at most 2 seconds of CPU and 128 MiB for each command, and a repair
grows the file by no more than new counts for what is there.
"""

import array
import random
import struct

import pytest
import qcow2_image as q
import runner
from conftest import SUMMARY

MIB = 1 << 20
COMMANDS = [["info"], ["info", "--output=json"], ["check"],
            ["check", "-r", "leaks"], ["check", "-r", "all"]]


def check_bounds(tools, folder, data, steps, limit):
    source = folder / "source"
    source.write_bytes(data)
    found = runner.examine_all(tools, runner.run_steps,
                               [((source, steps, limit), "it")], folder,
                               SUMMARY)
    if found["it"]:  # without the data among the values that are shown
        pytest.fail("\n".join(found["it"]), pytrace=False)


def header(cluster_bits, **fields):
    raw = bytearray(112)
    values = {"magic": 0x514649FB, "version": 3, "cluster_bits": cluster_bits,
              "refcount_order": 4, "header_len": 112, **fields}
    for name, value in values.items():
        at, fmt = q.FIELDS[name]
        struct.pack_into(fmt, raw, at, value)
    return raw


def pointers(random_of, clusters, cluster_bits, count):
    """Random places of clusters in the file, as entries of tables."""
    words = array.array("Q", (random_of.randrange(1, clusters) << cluster_bits
                              | q.COPIED for _ in range(count)))
    words.byteswap()
    return words.tobytes()


def snapshot_image(cluster_bits, size, count, choose):
    """A file that is nothing but tables: `choose` says where the L1 table of
    the n-th snapshot starts, in clusters, and how many entries it has."""
    random_of = random.Random(cluster_bits)
    cluster = 1 << cluster_bits
    clusters = size // cluster
    block = pointers(random_of, clusters, cluster_bits, 1 << 16)
    raw = bytearray(block * (size // len(block) + 1))[:size]
    entries = bytearray()
    for number in range(count):
        start, length = choose(random_of, number, clusters)
        entry = struct.pack(">QIHHIIQIIQQ", start * cluster, length, 0, 0, 0,
                            0, 0, 0, 16, 0, MIB)
        entries += entry
    raw[:cluster] = header(
        cluster_bits, size=MIB, l1_size=1 << 12, l1_off=2 * cluster,
        reftable_off=cluster, reftable_clusters=1, snapshot_count=count,
        snapshots_off=128 << cluster_bits).ljust(cluster, b"\0")
    raw[128 * cluster:128 * cluster + len(entries)] = entries
    return bytes(raw)


def whole_file(random_of, number, clusters):
    return 1, 1 << 22


def anywhere(random_of, number, clusters):
    return random_of.randrange(1, clusters), random_of.randrange(1 << 22)


def single(random_of, number, clusters):
    return random_of.randrange(1, clusters), 1


def one_behind_another(random_of, number, clusters):
    return number % (clusters - 1) + 1, 1 << 16


@pytest.mark.parametrize("choose", [whole_file, anywhere, single,
                                    one_behind_another])
@pytest.mark.parametrize("cluster_bits", [9, 12, 16])
@pytest.mark.parametrize("count", [1, 65536])
def test_many_hostile_snapshots_are_checked_fast(
        release_tools, tmp_path, choose, cluster_bits, count):
    """32 MiB of tables that all lead to each other."""
    data = snapshot_image(cluster_bits, 32 * MIB, count, choose)
    check_bounds(release_tools, tmp_path, data, COMMANDS,
                 4 * len(data))


def test_long_snapshot_names_are_bounded(release_tools, tmp_path):
    """As much text as a snapshot table may hold."""
    entry = struct.pack(">QIHHIIQIIQQ", 0, 0, 65535, 65535, 0, 0, 0, 0, 16, 0,
                        MIB) + b"n" * (2 * 65535)
    entry = entry.ljust((len(entry) + 7) // 8 * 8, b"\0")
    count = 64 * MIB // len(entry)
    made = q.Image()
    made.set(snapshot_count=count, snapshots_off=q.FILE_SIZE)
    data = bytes(made.raw) + entry * count
    check_bounds(release_tools, tmp_path, data, COMMANDS,
                 2 * len(data))


@pytest.mark.parametrize("id_len, name_len", [(0, 0), (127, 255)])
def test_a_long_list_of_snapshots_is_bounded(release_tools, tmp_path, id_len,
                                             name_len):
    """As many as there may be, with as much text as is shown of each."""
    entry = struct.pack(">QIHHIIQIIQQ", 0, 0, id_len, name_len, 0, 0, 0, 0,
                        16, 0, MIB) + b"7" * id_len + b"n" * name_len
    entry = entry.ljust((len(entry) + 7) // 8 * 8, b"\0")
    made = q.Image()
    made.set(snapshot_count=65536, snapshots_off=q.FILE_SIZE)
    data = bytes(made.raw) + entry * 65536
    check_bounds(release_tools, tmp_path, data, COMMANDS, 2 * len(data))


def huge(cluster_bits):
    """An empty disk of the largest size, whose L1 table is not in the file."""
    cluster = 1 << cluster_bits
    entries = 1 << 22
    raw = bytearray(4 * cluster)
    raw[:112] = header(cluster_bits, size=entries * cluster * cluster // 8,
                       l1_size=entries, l1_off=3 * cluster,
                       reftable_off=cluster, reftable_clusters=1)
    struct.pack_into(">Q", raw, cluster, 2 * cluster)
    struct.pack_into(">4H", raw, 2 * cluster, 1, 1, 1, 1)
    return bytes(raw[:3 * cluster + 8])


@pytest.mark.parametrize("cluster_bits", [9, 12, 16, 20, 21])
def test_a_huge_empty_disk_takes_no_time(release_tools, tmp_path,
                                         cluster_bits):
    check_bounds(
        release_tools, tmp_path, huge(cluster_bits),
        COMMANDS + [["map"], ["map", "--output=json"], ["measure"],
                    ["io", "-c", "write 0 64k", "-c", "write -z 1G 1M"],
                    ["io", "-c", "map", "-c", "alloc 0 1M"]], 128 * MIB)


@pytest.mark.parametrize("cluster_bits", [9, 16, 21])
@pytest.mark.parametrize("order", [0, 4, 6])
def test_a_rebuild_is_no_larger_than_its_file(release_tools, tmp_path,
                                              cluster_bits, order):
    """A refcount table of the largest size that leads behind the end. The new
    one is put behind the 32 MiB that the L1 table claims, for its pointers
    may be right and the file may be what was cut."""
    data = bytearray(huge(cluster_bits))
    struct.pack_into(">I", data, 96, order)
    struct.pack_into(">Q", data, 1 << cluster_bits, 1 << 55)
    clusters = (8 * MIB) >> cluster_bits
    struct.pack_into(">QI", data, 48, 1 << 40, clusters)
    check_bounds(release_tools, tmp_path, data, COMMANDS,
                 len(data) + 48 * MIB)


@pytest.mark.parametrize("cluster_bits", [9, 12])
def test_entries_that_all_lead_astray_are_reported_fast(
        release_tools, tmp_path, cluster_bits):
    """Every entry of 8 MiB of tables is a finding."""
    cluster, random_of = 1 << cluster_bits, random.Random(3)
    words = array.array("Q", (random_of.getrandbits(64)
                              for _ in range(1 << 16)))
    raw = bytearray(words.tobytes() * (8 * MIB // (8 << 16)))
    raw[:cluster] = header(
        cluster_bits, size=MIB, l1_size=1 << 20, l1_off=2 * cluster,
        reftable_off=cluster, reftable_clusters=1).ljust(cluster, b"\0")
    check_bounds(release_tools, tmp_path, raw,
                 COMMANDS + [["map"], ["measure"]], 4 * len(raw))
