# SPDX-License-Identifier: BSD-3-Clause
"""Every hostile qcow2 image gets the answer that it has to get.

The images and their answers are data: tests/images/qcow2_hostile*.py. Each is
shown, mapped, read whole, checked, written to and repaired; reading changes
nothing, nothing but the image is opened, no table is overwritten by a guest's
data, and a repair loses none.
"""

import subprocess

import pytest
import qcow2_hostile as hostile
import qcow2_image as q
import runner
from conftest import SUMMARY, selected
from hostile_case import GOOD, IGNORED, LEAKED, NO_BASE

GUEST = q.contents()
# What a guest writes: over data, over a packed cluster, and where nothing is.
WRITTEN = (0, 2 * q.CLUSTER, 6 * q.CLUSTER)
MARK = b"\xa5" * q.CLUSTER
WRITE = [word for at in WRITTEN
         for word in ("-c", f"write -P 0xa5 {at} {q.CLUSTER}")]
GROW_BY = 512 << 10

IMAGE = "t.qcow2"
# Beside the image and what convert makes, with the folder that it syncs.
OURS = ("open t.qcow2", "open out.raw", "open .", "openat .")
# The sandbox has libraries read their configuration before the image is seen.
LIBRARIES = "/openssl.cnf"


def written_over(guest):
    data = bytearray(guest)
    for at in WRITTEN:
        data[at:at + q.CLUSTER] = MARK
    return bytes(data)


def same_disk(data, wanted):
    """The disk may be shorter or longer; what is longer is zero."""
    return data == wanted.ljust(len(data), b"\0")[:len(data)]


def be(raw, at, length):
    return int.from_bytes(raw[at:at + length], "big")


def tables_of(raw):
    """Offsets of the clusters that hold tables, as the header has it."""
    def entries(at, count):
        return [be(raw, at + n * 8, 8) & q.OFFSETS for n in range(count)]

    l1, l1_size, reftable = be(raw, 40, 8), be(raw, 36, 4), be(raw, 48, 8)
    places = {0, reftable, *range(l1, l1 + min(l1_size, 4096) * 8, q.CLUSTER),
              *entries(l1, min(l1_size, 1)), *entries(reftable, 8)}
    return {place for place in places if place % q.CLUSTER == 0}


class Examination:
    """One image in the hands of one worker."""

    def __init__(self, worker, case):
        self.work = worker
        self.case = case
        self.answer = case.answer
        self.guest = case.guest or GUEST
        self.image = case.build()
        self.trust = ["--untrusted"] if self.answer is NO_BASE else []
        self.put()

    def put(self):
        self.work.put(IMAGE, self.image)

    def expect(self, allowed, what, command, *args):
        # These two look at the image alone, whoever made it.
        trust = [] if command in ("info", "check") else self.trust
        return self.work.expect(allowed, what, *trust, command, "-f", "qcow2",
                                *args)

    def check_words(self, what, status, said):
        if status == 1 and self.case.words and self.case.words not in said:
            self.work.problem(f"{what} does not say \"{self.case.words}\": "
                              f"{said}")

    def convert(self, allowed, what, wanted):
        """Reads the whole disk; `wanted` is what it holds, or None."""
        status, said = self.expect(allowed, what, "convert", "-O", "raw",
                                   IMAGE, "out.raw")
        try:
            data = self.work.get("out.raw")
        except FileNotFoundError:
            data = None
        else:
            runner.os.unlink("out.raw")
        if (data is None) != (status != 0):
            self.work.problem(f"{what}: status {status}, target "
                              f"{'missing' if data is None else 'left'}")
        if data is not None and wanted and not same_disk(data, wanted):
            self.work.problem(f"{what}: the disk has other content")
        return status, said

    def look(self):
        answer = self.answer
        status, said = self.expect(answer.info, "info", "info", IMAGE)
        self.check_words("info", status, said)
        self.expect(answer.map, "map", "map", "--output=json", IMAGE)
        status, said = self.convert(answer.read, "convert",
                                    answer.same and self.guest)
        if answer.info != GOOD or answer.name == "NO_IO":
            self.check_words("convert", status, said)
        self.expect(answer.check, "check", "check", IMAGE)
        if self.work.get(IMAGE) != self.image:
            self.work.problem("reading changed the image")
        others = [line for line in self.work.opened()
                  if line not in OURS and ".out.raw.partial-" not in line
                  and not line.endswith(LIBRARIES)]
        if others:
            self.work.problem(f"other files were opened: {others}")

    def write_allowed(self):
        """Nobody can write what lies behind the end of the disk."""
        short = be(self.image, 24, 8) < WRITTEN[-1] + q.CLUSTER
        corrupt = be(self.image, 4, 4) > 2 and be(self.image, 72, 8) & 2
        if short and self.answer.write == GOOD or corrupt:
            return {1}
        return self.answer.write

    def check_tables(self):
        after = self.work.get(IMAGE)
        for place in tables_of(self.image):
            if after[place:place + 512] == MARK[:512]:
                self.work.problem(f"the table at {place:#x} was overwritten")

    def check_features(self):
        """Whoever writes clears the bits that vouch for what it does not
        know, keeps those that need not be known, and sets none."""
        after = self.work.get(IMAGE)
        if be(self.image, 4, 4) < 3:
            return
        if be(after, 88, 8) & ~3:
            self.work.problem("unknown autoclear bits are left")
        if after[80:88] != self.image[80:88]:
            self.work.problem("compatible bits have changed")

    def write(self):
        status, _ = self.expect(self.write_allowed(), "write", "io", *WRITE,
                                IMAGE)
        if self.answer.write == {1}:
            if self.work.get(IMAGE) != self.image:
                self.work.problem("a refused write changed the image")
            return
        self.check_tables()
        if status == 0:
            self.check_features()
        self.expect({0, 1}, "resize", "resize", "-q", IMAGE, f"+{GROW_BY}")
        self.work.check_growth(IMAGE)
        if status == 0 and self.answer.keeps:
            self.convert(GOOD, "convert of what was written",
                         written_over(self.guest))
        if status == 0 and self.answer in (IGNORED, LEAKED):
            self.expect({0, 3} if self.answer is LEAKED else GOOD,
                        "check of what was written", "check", IMAGE)
        self.put()

    def repair(self):
        status, _ = self.expect({0, 1, 2, 3}, "repair", "check", "-q", "-r",
                                "all", IMAGE)
        self.work.check_growth(IMAGE)
        if self.answer.name == "REFUSE" and self.work.get(IMAGE) != self.image:
            self.work.problem("a refused repair changed the image")
        if self.answer.same:
            self.convert(GOOD, "convert of what was repaired", self.guest)
        if status == 0 and self.answer.name != "IGNORED":
            self.expect(GOOD, "check of what was repaired", "check", IMAGE)


def examine(worker, number):
    one = Examination(worker, hostile.CASES[number])
    one.look()
    one.write()
    one.repair()
    worker.opened()


@pytest.fixture(scope="session")
def answers(request, release_tools, tmp_path_factory):
    return runner.examine_all(release_tools, examine,
                              selected(request, "test_answer"),
                              tmp_path_factory.mktemp("answers"), SUMMARY)


@pytest.fixture(scope="session")
def sanitized_answers(request, asan_tools, tmp_path_factory):
    cases = selected(request, "test_answer_of_the_sanitized_program")
    return runner.examine_all(asan_tools, examine, cases,
                              tmp_path_factory.mktemp("sanitized"),
                              runner.Summary())


NUMBERS = range(len(hostile.CASES))
NAMES = [case.name for case in hostile.CASES]
# A prime, so that no list of values is always met at the same place.
STEP = 31


@pytest.mark.parametrize("number", NUMBERS, ids=NAMES)
def test_answer(answers, request, number):
    problems = answers[request.node.callspec.id]
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("number", NUMBERS[::STEP], ids=NAMES[::STEP])
def test_answer_of_the_sanitized_program(sanitized_answers, request, number):
    problems = sanitized_answers[request.node.callspec.id]
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("target", ["fuzz_qcow2_image", "fuzz_qcow2_check"])
@pytest.mark.parametrize("part", hostile.PARTS)
def test_sanitized_code_takes_every_image(fuzz_folder, tmp_path, target,
                                          part):
    """All images, in one process for each part, as fuzzing takes them."""
    from conftest import built
    program = built(fuzz_folder / target, "make VARIANT=fuzz fuzz-programs")
    for number, case in enumerate(hostile.PARTS[part]):
        (tmp_path / str(number)).write_bytes(case.build())
    files = sorted(tmp_path.iterdir())
    done = subprocess.run([program, "-timeout=20", "-rss_limit_mb=1024",
                           "-artifact_prefix=found-", *files], cwd=tmp_path,
                          capture_output=True, check=False)
    said = done.stderr.decode(errors="replace")
    assert done.returncode == 0, said[-3000:]
    assert said.count("Executed ") == len(hostile.PARTS[part])


def test_names_are_unique_and_many():
    assert len(NAMES) == len(set(NAMES))
    assert len(NAMES) >= 2000


def test_every_answer_is_met():
    assert {case.answer.name for case in hostile.CASES} >= {
        "REFUSE", "MENDABLE", "LOST", "TOUCHED", "STREAM", "OLD_ZERO",
        "DAMAGED", "MISCOUNTED", "UNCOUNTED", "LEAKED", "ODD", "BEYOND",
        "CUT", "IGNORED", "SEALED", "NO_IO",
        "BITMAPS", "LISTING", "NO_BASE"}
