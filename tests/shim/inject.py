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
import shutil
import subprocess
import sys
import tempfile

from scenarios import SCENARIOS, Judge, make_files, run

# For each kind of call, the ways in which it fails. Interrupted for ever is no
# failure but a hang of the kernel, so that comes once only.
WAYS = {
    "read": (errno.EIO, errno.EINVAL, errno.EINTR, "short"),
    "write": (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EINTR, "short"),
    "sync": (errno.EIO, errno.ENOSPC, errno.EINTR),
    "truncate": (errno.EIO, errno.ENOSPC, errno.EINVAL, errno.EINTR),
    "fallocate": (errno.EIO, errno.ENOSPC, errno.EOPNOTSUPP, errno.EINVAL,
                  errno.EINTR),
    "lock": (errno.EIO, errno.EAGAIN, errno.EINVAL, errno.EINTR),
    "open": (errno.EIO, errno.EMFILE, errno.EINTR),
    "rename": (errno.EIO, errno.ENOSPC, errno.EINVAL),
    "seek": (errno.EIO, errno.EINVAL),
    "malloc": (errno.ENOMEM,),
}
# Of many calls of one kind the short form takes this many, evenly spread.
SHORT_CALLS = 9


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
            shutil.copyfile(self.files / name, self.folder / to)

    def run(self, scenario, fault=None):
        env = dict(os.environ)
        if fault:
            env.update(PLATTER_FAULT=fault, LD_PRELOAD=str(self.shim),
                       PLATTER_FAULT_REPORT=str(self.report))
        return run(self.program, scenario.args, self.folder, scenario.stdin,
                   env)

    def counts(self):
        """For each kind: calls, failed ones, and the place of the first."""
        lines = self.report.read_text().splitlines()
        return {name: (int(calls), int(failed), place) for
                name, calls, failed, place in map(str.split, lines)}

    def left_over(self, scenario):
        """Files that are not expected, or sources that have changed."""
        names = {scenario.target if name == "old" else name
                 for name in scenario.needs}
        extra = set(os.listdir(self.folder)) - names - {scenario.target}
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
    """Without a fault: what it says, and how many calls of each kind."""
    scenario = SCENARIOS[index]
    BENCH.lay_out(scenario)
    done = BENCH.run(scenario, "read:0:0:0")
    judge = Judge(BENCH.program, scenario, done.out)
    wrong = judge.succeeded(done, None) or BENCH.left_over(scenario)
    if done.status or wrong:
        raise RuntimeError(f"{scenario.name} without faults: {wrong} {done}")
    return done.out, {kind: entry[0] for kind, entry in BENCH.counts().items()}


def judge_run(scenario, judge, done, kind):
    if done.status < 0:
        return f"killed by signal {-done.status}: {done.err[-300:]}"
    if done.status == 0:
        wrong = judge.succeeded(done, kind)
    else:
        wrong = judge.failed(done)
    return wrong or BENCH.left_over(scenario)


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
    """Returns what is wrong or None, whether it came, and its place."""
    index, expected_out, kind, fault = task
    scenario = SCENARIOS[index]
    judge = Judge(BENCH.program, scenario, expected_out)
    BENCH.lay_out(scenario)
    BENCH.report.write_text("")
    try:
        done = BENCH.run(scenario, fault)
        wrong = judge_run(scenario, judge, done, kind)
        if not wrong and done.status:
            wrong = again(scenario, judge)
    except subprocess.TimeoutExpired:
        return f"{scenario.name} {fault}: hangs", True, None
    _, failed, place = BENCH.counts().get(kind, (0, 1, None))
    if wrong:
        wrong = (f"{scenario.name} {fault}: status {done.status} "
                 f"{done.err[:200]}: {wrong}")
    return wrong, failed > 0, place


def tasks(index, expected_out, counts, short):
    for kind, ways in WAYS.items():
        count = counts[kind]
        # A repair reads everything more than once: each time counts.
        every = not short or (kind == "read" and SCENARIOS[index].damaged)
        step = 1 if every else -(-count // SHORT_CALLS)
        for nth in range(1, count + 1, step or 1):
            for way in ways:
                for lasting in (0, 1):
                    if way != errno.EINTR or not lasting:
                        yield (index, expected_out, kind,
                               f"{kind}:{nth}:{way}:{lasting}")


def name_places(program, places):
    """Source lines for offsets in the program."""
    done = subprocess.run(["addr2line", "-e", program, *sorted(places)],
                          capture_output=True, check=False, text=True)
    top = str(pathlib.Path(__file__).resolve().parents[2]) + "/"
    lines = {line.split(" ")[0].removeprefix(top)
             for line in done.stdout.splitlines()}
    return sorted(line for line in lines if not line.startswith("?"))


def run_all(pool, args):
    wanted = [index for index, scenario in enumerate(SCENARIOS)
              if args.scenario in (None, scenario.name)]
    work = []
    for index, (out, counts) in zip(wanted, pool.map(survey, wanted, 1)):
        work += tasks(index, out, counts, args.short)
    injections, violations, places = 0, 0, set()
    for wrong, came, place in pool.imap_unordered(inject, work, 8):
        injections += came
        if place and place != "0":
            places.add(place)
        if wrong:
            violations += 1
            print(wrong, flush=True)
    return injections, violations, places


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--scenario")
    parser.add_argument("--sites", action="store_true",
                        help="list where the calls came from that failed")
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("shim", type=pathlib.Path)
    args = parser.parse_args()
    program, shim = args.program.resolve(), args.shim.resolve()
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=base) as top:
        files = pathlib.Path(top) / "files"
        files.mkdir()
        make_files(program, files)
        with multiprocessing.Pool(args.jobs, start_worker,
                                  (program, shim, files)) as pool:
            injections, violations, places = run_all(pool, args)
    lines = name_places(program, places)
    if args.sites:
        print("\n".join(lines))
    print(f"{len(lines)} places in the program whose calls failed")
    print(f"{injections} injections, {violations} violations")
    sys.exit(violations > 0 or injections == 0)


if __name__ == "__main__":
    main()
