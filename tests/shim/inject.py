#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Lets the calls of the shipped program fail, one after the other.

    inject.py [--short] [--jobs N] [--scenario NAME] PROGRAM SHIM

For each scenario and each kind of call: the first, the second, ... call fails,
in each way, once or from then on. Whatever happens, the program neither dies of
a signal nor hangs; it succeeds with the right result, or says what is wrong and
leaves everything as it was or could be; and without the fault it then succeeds.

The last line: N injections, V violations.
"""

import argparse
import errno
import multiprocessing
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

from files import make_files
from scenarios import SCENARIOS, Judge, run
from sites import Sites
from unreached import why_unreached

# For each kind of call, the ways in which it fails. Interrupted for ever is no
# failure but a hang of the kernel, so that comes once only.
WAYS = {
    "read": (errno.EIO, errno.EINVAL, errno.EINTR, "half", "less1",
             "512"),
    "write": (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EINTR, "half",
              "less1", "512"),
    "sync": (errno.EIO, errno.ENOSPC, errno.EINTR),
    "truncate": (errno.EIO, errno.ENOSPC, errno.EINVAL, errno.EINTR),
    "fallocate": (errno.EIO, errno.ENOSPC, errno.EOPNOTSUPP, errno.EINVAL,
                  errno.EBUSY, errno.EINTR),
    "lock": (errno.EIO, errno.EAGAIN, errno.EINVAL, errno.EINTR),
    "open": (errno.EIO, errno.EMFILE, errno.EINTR),
    "rename": (errno.EIO, errno.ENOSPC, errno.EINVAL),
    "seek": (errno.EIO, errno.EINVAL),
    "malloc": (errno.ENOMEM,),
    "stat": (errno.EIO, errno.ENOMEM),
    "ioctl": (errno.EIO, errno.EINVAL, errno.EINTR),
    "unlink": (errno.EIO,),
    "close": (errno.EIO, errno.EINTR),
    "thread": (errno.EAGAIN,),
    "random": (errno.EINTR, errno.ENOSYS),
    "map": (errno.ENOMEM,),
    "sandbox": (errno.EPERM, errno.ENOSYS, errno.EINVAL),
    "flags": (errno.EIO, errno.EINVAL),
    "owner": (errno.EPERM, errno.EIO),
}
# Of many calls of one kind the short form takes this many, evenly spread.
SHORT_CALLS = 3


def copy_sparse(source, target):
    """Holes of whole pages at the end stay holes."""
    content = source.read_bytes()
    with open(target, "wb") as file:
        file.write(content.rstrip(b"\0"))
        file.truncate(len(content))


class Bench:
    """One process's folder, in which it runs one command after the other."""

    def __init__(self, program, shim, files):
        self.program = program
        self.shim = shim
        self.files = files
        self.folder = pathlib.Path(tempfile.mkdtemp(dir=files.parent))
        self.report = files.parent / f"report-{self.folder.name}"

    def lay_out(self, scenario):
        shutil.rmtree(self.folder)
        self.folder.mkdir()
        for name in scenario.needs:
            to = scenario.target if name == "old" else name
            (self.folder / to).parent.mkdir(exist_ok=True)
            copy_sparse(self.files / name, self.folder / to)

    def run(self, scenario, fault=None):
        env = dict(os.environ)
        if fault:
            env.update(PLATTER_FAULT=fault, LD_PRELOAD=str(self.shim),
                       PLATTER_FAULT_REPORT=str(self.report))
        return run(self.program, scenario.args, self.folder, scenario.stdin,
                   env)

    def read_report(self):
        return self.report.read_text().rstrip("\0")

    def counts(self):
        """For each kind: calls, and failed ones."""
        lines = map(str.split, self.read_report().splitlines())
        return {words[0]: (int(words[1]), int(words[2]))
                for words in lines if len(words) == 3}

    def places(self):
        """All that were passed: kind and offset in the program."""
        lines = map(str.split, self.read_report().splitlines())
        return {(words[1], words[2]) for words in lines if words[0] == "site"}

    def left_open(self):
        """What is wrong if descriptors were open at the end."""
        count = re.search(r"^open (\d+)$", self.read_report(), re.M)
        return f"{count[1]} descriptors left" if count and int(
            count[1]) else None

    def left_over(self, scenario):
        """Files that are not expected, or sources that have changed."""
        names = {scenario.target if name == "old" else name
                 for name in scenario.needs}
        extra = {str(path.relative_to(self.folder))
                 for path in self.folder.rglob("*") if not path.is_dir()}
        extra -= names | {scenario.target}
        if extra:
            return f"left over: {sorted(extra)}"
        for name in names - {scenario.target}:
            if ((self.folder / name).read_bytes() !=
                    (self.files / name).read_bytes()):
                return f"{name} has changed"
        return None


BENCH = None  # of this process


def start_worker(*args):
    global BENCH
    BENCH = Bench(*args)


def survey(index):
    """Without a fault: what it says, its calls of each kind, the places that it
    passes, and the report."""
    scenario = SCENARIOS[index]
    BENCH.lay_out(scenario)
    done = BENCH.run(scenario, "read:0:0:0")
    judge = Judge(BENCH.program, scenario, done.out)
    wrong = (judge.succeeded(done, None) or BENCH.left_over(scenario) or
             BENCH.left_open())
    if done.status or wrong:
        raise RuntimeError(f"{scenario.name} without faults: {wrong} {done}")
    return (done.out,
            {kind: entry[0] for kind, entry in BENCH.counts().items()},
            BENCH.places(), BENCH.read_report())


def judge_run(scenario, judge, done, kind):
    if done.status < 0:
        return f"killed by signal {-done.status}: {done.err[-300:]}"
    if done.status == 0:
        wrong = judge.succeeded(done, kind)
    else:
        wrong = judge.failed(done)
    return wrong or BENCH.left_over(scenario) or BENCH.left_open()


def again(scenario, judge):
    """The same without a fault, over what the failure has left."""
    done = BENCH.run(scenario)
    wrong = None
    if done.status == 0:
        # In place a failure may have cost clusters that a retry cannot know.
        wrong = judge.whole(BENCH.folder, leaks=scenario.before is not None)
    if done.status or wrong:
        return f"the retry: status {done.status} {done.err[-300:]} {wrong}"
    return BENCH.left_over(scenario)


def inject(task):
    """Returns what is wrong or None, whether it came, and the report."""
    index, expected_out, kind, fault = task
    scenario = SCENARIOS[index]
    judge = Judge(BENCH.program, scenario, expected_out)
    BENCH.lay_out(scenario)
    BENCH.report.write_text("")
    try:
        done = BENCH.run(scenario, fault)
        report = BENCH.read_report()
        wrong = judge_run(scenario, judge, done, kind)
        if not wrong and done.status:
            wrong = again(scenario, judge)
    except subprocess.TimeoutExpired:
        return f"{scenario.name} {fault}: hangs", True, ""
    _, failed = BENCH.counts().get(kind, (0, 1))
    if wrong:
        wrong = (f"{scenario.name} {fault}: status {done.status} "
                 f"{done.err[:200]}: {wrong}")
    return wrong, failed > 0, report


def numbers(count, kind, scenario, short):
    """Which calls are to fail: of many, the short form takes a few."""
    # A repair reads everything more than once: each time counts.
    if not short or (kind == "read" and scenario.damaged):
        return set(range(1, count + 1))
    return set(range(1, count + 1, -(-count // SHORT_CALLS) or 1))


def tasks(index, expected_out, counts, new_places, short):
    """`new_places`: of these the first call has to fail as well."""
    for kind, ways in WAYS.items():
        chosen = [str(number) for number in sorted(
            numbers(counts[kind], kind, SCENARIOS[index], short))]
        chosen += [f"1@{place}" for k, place in sorted(new_places)
                   if k == kind]
        for nth in chosen:
            for way in ways:
                for lasting in (0, 1):
                    if way != errno.EINTR or not lasting:
                        yield (index, expected_out, kind,
                               f"{kind}:{nth}:{way}:{lasting}")


def plan(pool, args, sites):
    """All tasks. In every form each place that is passed fails once at least:
    in the first command that comes along there."""
    wanted = [index for index, scenario in enumerate(SCENARIOS)
              if args.scenario in (None, scenario.name)]
    work, met = [], set()
    for index, (out, counts, places, report) in zip(
            wanted, pool.map(survey, wanted, 1)):
        sites.add(report, faultless=True)
        work += tasks(index, out, counts, places - met, args.short)
        met |= places
    return work


def run_all(pool, work, sites):
    injections, violations = 0, 0
    for wrong, came, report in pool.imap_unordered(inject, work, 8):
        injections += came
        sites.add(report)
        if wrong:
            violations += 1
            print(wrong, flush=True)
    return injections, violations


def print_sites(program, sites, every):
    """How far the places were reached; returns how many lack a reason."""
    rows = list(sites.rows(program))
    unexplained = 0
    for kind, callee, functions, line, seen in rows:
        reason = None
        missed = callee and seen in ("never called", "never failed")
        if missed:
            reason = why_unreached(functions, callee, line)
            unexplained += reason is None
        if every or (missed and not reason):
            print(f"{line} {' < '.join(functions)}: {callee or kind}: {seen}"
                  f"{' (' + reason + ')' if reason else ''}")
    direct = [row[4] for row in rows if row[1]]
    print(f"{len(direct)} places of the program call what can fail: "
          f"{direct.count('failed')} failed, "
          f"{direct.count('passed only after failures')} are passed only "
          f"after failures, {direct.count('never called')} never called, "
          f"{unexplained} of them for no known reason; "
          f"{len(rows) - len(direct)} more call libraries that can fail")
    return unexplained


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--scenario")
    parser.add_argument("--sites", action="store_true",
                        help="list every place and what it saw")
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("shim", type=pathlib.Path)
    args = parser.parse_args()
    program, shim = args.program.resolve(), args.shim.resolve()
    sites = Sites()
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=base) as top:
        files = pathlib.Path(top) / "files"
        files.mkdir()
        make_files(program, files)
        with multiprocessing.Pool(args.jobs, start_worker,
                                  (program, shim, files)) as pool:
            work = plan(pool, args, sites)
            injections, violations = run_all(pool, work, sites)
    unexplained = print_sites(program, sites, args.sites)
    print(f"{injections} injections, {violations} violations")
    sys.exit(violations > 0 or injections == 0 or
             (args.scenario is None and unexplained > 0))


if __name__ == "__main__":
    main()
