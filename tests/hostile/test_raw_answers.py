# SPDX-License-Identifier: BSD-3-Clause
"""What a raw file looks like decides nothing but what a guess says.

With its format given every file is the disk that it is, byte for byte.
Without it a container is named and refused, and whoever writes to a guessed
disk cannot make it look like another format.
"""

import subprocess

import pytest
import raw_hostile as hostile
import runner
from conftest import SUMMARY, selected

DISK = "t.img"
TEXTS = {"foreign": "is not supported", "two": "two formats at once",
         "qcow2": "Unsupported "}


def read_as_raw(work, case):
    """Info and map say nothing but its size; convert copies every byte."""
    size = -(-len(case.data) // 512) * 512
    status, said = work.expect({0}, "info -f raw", "info", "-f", "raw",
                               "--output=json", DISK)
    if status == 0 and f'"virtual-size": {size}' not in said:
        work.problem(f"the size is not {size}: {said}")
    work.expect({0}, "map -f raw", "map", "-f", "raw", DISK)
    work.expect({0}, "convert -f raw", "convert", "-f", "raw", "-O", "raw",
                DISK, "out.raw")
    if work.get("out.raw").ljust(size, b"\0") != case.data.ljust(size, b"\0"):
        work.problem("the copy differs")
    work.expect({63}, "check -f raw", "check", "-f", "raw", DISK)


def guess(work, case):
    wanted = {0} if case.answer == "raw" else {1}
    for command in (["info"], ["map"], ["convert", "-O", "raw"], ["measure"]):
        target = ["guessed.raw"] if command[0] == "convert" else []
        status, said = work.expect(wanted, command[0], *command, DISK,
                                   *target)
        if status == 1 and (TEXTS[case.answer] not in said
                            or case.words not in said):
            work.problem(f"{command[0]} does not say {TEXTS[case.answer]!r} "
                         f"and {case.words!r}: {said}")


def write(work, case):
    """Of what is no raw disk nothing is changed without its format."""
    if case.answer == "raw":
        return
    work.expect({1}, "resize", "resize", "-q", DISK, "+1M")
    work.expect({1}, "io", "io", "-c", "write 0 512", DISK)
    if work.get(DISK) != case.data:
        work.problem("a refused command changed the file")


def examine(work, number):
    case = hostile.CASES[number]
    work.put(DISK, case.data)
    read_as_raw(work, case)
    guess(work, case)
    write(work, case)
    others = [line for line in work.opened()
              if not line.startswith(("open t.img", "open out.raw",
                                      "open guessed.raw", "open .",
                                      "openat ."))]
    if others:
        work.problem(f"other files were opened: {others}")


@pytest.fixture(scope="session")
def answers(request, release_tools, tmp_path_factory):
    return runner.examine_all(release_tools, examine,
                              selected(request, "test_answer_to_raw_file"),
                              tmp_path_factory.mktemp("raw"), SUMMARY)


@pytest.mark.parametrize("number", range(len(hostile.CASES)),
                         ids=[case.name for case in hostile.CASES])
def test_answer_to_raw_file(answers, request, number):
    problems = answers[request.node.callspec.id]
    assert not problems, "\n".join(problems)


HEADS = hostile.HEADS + hostile.QCOW2


def run_io(platter_path, folder, *args):
    return subprocess.run([platter_path, "io", *args, DISK], cwd=folder,
                          capture_output=True, check=False)


@pytest.mark.parametrize("head", HEADS, ids=[head[0] for head in HEADS])
def test_a_guessed_disk_cannot_turn_into_another_format(platter_path,
                                                        tmp_path, head):
    """A guest's write of a magic fails, by any way, and the rest works."""
    _, at, magic, _ = head
    disk = tmp_path / DISK
    disk.write_bytes(bytes(hostile.FILE))
    (tmp_path / "magic").write_bytes(hostile.with_magics(512, head))
    write = ["-c", "write -s magic 0 512"]
    assert run_io(platter_path, tmp_path, *write).returncode == 1
    assert disk.read_bytes() == bytes(hostile.FILE)
    assert run_io(platter_path, tmp_path, "-c",
                  "write -P 1 512 1024").returncode == 0
    assert run_io(platter_path, tmp_path, "-f", "raw",
                  *write).returncode == 0
    assert disk.read_bytes()[at:at + len(magic)] == magic


# What a disk holds, and the small write that would complete a magic.
COMPLETED = {
    "a byte": (b"\0FI\xfb\0\0\0\3", f"write -P {ord('Q')} 0 1"),
    "the last byte": (b"KDM", f"write -P {ord('V')} 3 1"),
    "a line's end": (b"Xversion=1\n", f"write -P {ord(chr(10))} 0 1"),
    "a zero": (b"QEDx", "write -P 0 3 1"),
    "zeroing": (b"QEDx", "write -z 3 1"),
    "zeroing with holes": (b"QEDx", "write -z -u 3 1"),
    "zeroing the rest": (b"QEDx", "write -z 3 8189"),
}


@pytest.mark.parametrize("how", COMPLETED)
def test_a_guessed_disk_cannot_be_completed(platter_path, tmp_path, how):
    """Not by a part of a sector either, nor by zeros."""
    start, command = COMPLETED[how]
    disk = tmp_path / DISK
    before = start.ljust(hostile.FILE, b"\0")
    disk.write_bytes(before)
    assert run_io(platter_path, tmp_path, "-c", command).returncode == 1
    assert disk.read_bytes() == before
    assert run_io(platter_path, tmp_path, "-f", "raw", "-c",
                  command).returncode == 0
    info = subprocess.run([platter_path, "info", DISK], cwd=tmp_path,
                          capture_output=True, check=False)
    assert info.returncode == 1, "it was not completed: the test is wrong"


def test_discarding_uncovers_nothing(platter_path, tmp_path):
    disk = tmp_path / DISK
    disk.write_bytes(b"QEDx".ljust(hostile.FILE, b"x"))
    for at, length in ((0, 512), (3, 509), (0, 65536), (3, 1)):
        run_io(platter_path, tmp_path, "-c", f"discard {at} {length}")
    info = subprocess.run([platter_path, "info", DISK], cwd=tmp_path,
                          capture_output=True, check=False)
    assert b"file format: raw" in info.stdout
