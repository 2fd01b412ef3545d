# SPDX-License-Identifier: BSD-3-Clause
"""check finds, repairs and reports as qemu-img does."""

import json
import struct

import pytest

from conftest import Runner

CLUSTER = 65536


def u64(path, at):
    with open(path, "rb") as file:
        file.seek(at)
        return struct.unpack(">Q", file.read(8))[0]


def leak_cluster(path):
    """Forgets the L2 entry of the guest's ninth cluster."""
    l2 = u64(path, u64(path, 40)) & 0x00FFFFFFFFFFFE00
    return l2 + 8 * 8, bytes(8)


def drop_count(path):
    """Counts of the first L2 table's cluster fall to zero."""
    block = u64(path, u64(path, 48))
    l2 = u64(path, u64(path, 40)) & 0x00FFFFFFFFFFFE00
    return block + 2 * (l2 // CLUSTER), bytes(2)


def break_copied(path):
    """An entry loses the flag that says that its cluster is its own."""
    l2 = u64(path, u64(path, 40)) & 0x00FFFFFFFFFFFE00
    return l2, struct.pack(">Q", u64(path, l2) & ~(1 << 63))


DAMAGE = {"none": None, "leak": leak_cluster, "count": drop_count,
          "copied": break_copied}


@pytest.fixture
def damaged(twins, request):
    twins.setup("img create -q -f qcow2 x 1M", "io -c 'write 0 128k' x",
                "io -c 'write 512k 64k' x")
    damage = DAMAGE[request.param]
    if damage:
        twins.write("x", *reversed(damage(twins.ours.cwd / "x")))
    return twins


@pytest.mark.parametrize("damaged", DAMAGE, indirect=True)
@pytest.mark.parametrize("args", ["x", "-q x", "-f qcow2 x", "-U x",
                                  "-T none x"])
def test_same_verdict(damaged, args):
    ours, theirs = damaged.both("check " + args)
    assert (ours.status, ours.out) == (theirs.status, theirs.out)
    assert bool(ours.err) == bool(theirs.err)


@pytest.mark.parametrize("damaged", DAMAGE, indirect=True)
def test_same_json(damaged):
    ours, theirs = damaged.both("check --output=json x")
    assert ours.status == theirs.status
    assert json.loads(ours.out) == json.loads(theirs.out)


@pytest.mark.parametrize("damaged", DAMAGE, indirect=True)
def test_repair_of_everything_ends_as_qemus_does(damaged):
    ours, theirs = damaged.both("check -r all x")
    assert ours.status == theirs.status == 0
    assert damaged.theirs("check -q x").status == 0
    assert Runner(damaged.theirs.program, damaged.ours.cwd)(
        "check -q x").status == 0


@pytest.mark.parametrize("damaged", ["none", "leak", "copied"], indirect=True)
def test_repair_of_leaks_ends_as_qemus_does(damaged):
    ours, theirs = damaged.both("check -r leaks x")
    assert (ours.status, ours.out) == (theirs.status, theirs.out)


@pytest.mark.parametrize("damaged", ["count"], indirect=True)
def test_repair_of_leaks_leaves_errors_alone(damaged):
    path = damaged.ours.cwd / "x"
    before = path.read_bytes()
    assert damaged.ours("check -r leaks x").status == 2
    assert path.read_bytes() == before


@pytest.mark.parametrize("damaged", ["leak", "count", "copied"], indirect=True)
def test_dry_run_tells_and_changes_nothing(damaged):
    path = damaged.ours.cwd / "x"
    before = path.read_bytes()
    told = damaged.ours("check --dry-run -r all x")
    assert path.read_bytes() == before
    assert "were found and repaired" in told.out
    assert "nothing was written" in told.out
    done = damaged.ours("check -r all x")
    assert path.read_bytes() != before
    assert told.status == done.status == 0
    assert told.out.startswith(done.out)


@pytest.mark.parametrize("args", ["-f raw r", "r", "-r all -f raw r"])
def test_formats_without_checks(twins, args):
    twins.truncate("r", 65536)
    assert twins.same("check " + args).status == 63


@pytest.mark.parametrize("damaged", ["leak"], indirect=True)
def test_json_progress(damaged):
    result = damaged.ours("check -q --progress=json x")
    lines = [json.loads(line) for line in result.err.splitlines()
             if line.startswith("{")]
    assert lines[-1]["percent"] == 100
    assert set(lines[-1]) == {"done", "total", "percent", "elapsed"}
