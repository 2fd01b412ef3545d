# SPDX-License-Identifier: BSD-3-Clause
"""Runs a program on hostile files: bounded, measured, and traced.

Most of the time goes into starting programs, so they are started as cheaply
as possible, by one worker for each processor.
"""

import multiprocessing
import os
import re
import resource
import shutil
import signal

CPU_SECONDS = 2
RSS_BYTES = 128 << 20
ADDRESS_SPACE = 1 << 30
# Nothing waits for anything here: what takes so long hangs.
HANG_SECONDS = 60
GROWTH_MAX = 64 << 20
READ_BYTES = 4 << 20
SAID_CHARS = 1 << 16

# What loader and C library open for every program; the rest is ours.
HARMLESS = re.compile(
    r"\w+ (/dev/urandom|/sys/devices/system/cpu/.*|/proc/(self|cpuinfo).*)$")


class Tools:
    """The program, what to preload, and whether it keeps to the bounds."""

    def __init__(self, program, shim=None, bounded=True):
        self.program = str(program)
        self.shim = shim
        self.bounded = bounded


class Worker:
    """A folder with one program to run in it; lives in its own process."""

    def __init__(self, tools, folder):
        self.tools = tools
        self.folder = folder
        os.makedirs(folder, exist_ok=True)
        os.chdir(folder)
        self.environment = dict(os.environ)
        if tools.shim:
            self.environment.update(LD_PRELOAD=str(tools.shim),
                                    TRACE_OPENS_FD="9")
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if tools.bounded:
            hard = resource.getrlimit(resource.RLIMIT_AS)[1]
            resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, hard))
        self.problems = []
        self.runs = 0
        self.cpu = self.rss = 0

    def problem(self, text):
        self.problems.append(text)

    def spawn(self, args):
        files = [(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                 (os.POSIX_SPAWN_OPEN, 1, "said",
                  os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644),
                 (os.POSIX_SPAWN_DUP2, 1, 2)]
        if self.tools.shim:
            files.append((os.POSIX_SPAWN_OPEN, 9, "opened", os.O_WRONLY
                          | os.O_CREAT | os.O_APPEND, 0o644))
        return os.posix_spawn(self.tools.program, ["platter", *args],
                              self.environment, file_actions=files)

    def run(self, *args):
        """The exit status, and what was said; notes whatever is wrong."""
        pid = self.spawn(args)
        signal.signal(signal.SIGALRM,
                      lambda *_: os.kill(pid, signal.SIGKILL))
        signal.alarm(HANG_SECONDS)
        _, status, usage = os.wait4(pid, 0)
        signal.alarm(0)
        with open("said", encoding="utf-8", errors="replace") as file:
            said = file.read(SAID_CHARS)
        self.judge(args, os.waitstatus_to_exitcode(status), usage, said)
        return os.waitstatus_to_exitcode(status), said

    def judge(self, args, status, usage, said):
        name = " ".join(map(str, args))
        cpu = usage.ru_utime + usage.ru_stime
        self.runs += 1
        self.cpu = max(self.cpu, cpu)
        self.rss = max(self.rss, usage.ru_maxrss << 10)
        if status < 0 or status not in (0, 1, 2, 3, 63):
            self.problem(f"{name}: status {status}: {said}")
        if re.search("Sanitizer|runtime error|Assertion", said):
            self.problem(f"{name}: {said}")
        if "\x1b" in said:
            self.problem(f"{name}: escape bytes reach the terminal")
        if self.tools.bounded and cpu > CPU_SECONDS:
            self.problem(f"{name}: {cpu:.1f} s of CPU")
        if self.tools.bounded and usage.ru_maxrss << 10 > RSS_BYTES:
            self.problem(f"{name}: {usage.ru_maxrss >> 10} MiB")

    def expect(self, allowed, what, *args):
        """As run(); the exit status is one of those allowed."""
        status, said = self.run(*args)
        if status not in allowed:
            self.problem(f"{what}: status {status}, not {allowed}: {said}")
        return status, said

    def opened(self):
        """What the programs opened since the last time, without the image."""
        if not os.path.exists("opened"):
            return []
        with open("opened", encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
        os.unlink("opened")
        return sorted({line for line in lines if not HARMLESS.match(line)})

    def put(self, name, data):
        with open(name, "wb") as file:
            file.write(data)

    def get(self, name):
        """The start of a file: whole, unless it has grown far. A worker stays
        small, since what it has counts for the programs that it starts."""
        with open(name, "rb") as file:
            return file.read(READ_BYTES)

    def check_growth(self, name):
        if os.stat(name).st_blocks * 512 > GROWTH_MAX:
            self.problem(f"{name} takes {os.stat(name).st_blocks >> 11} MiB")


class Summary:
    """What all runs of all workers took."""

    def __init__(self):
        self.cases = self.runs = self.cpu = self.rss = 0

    def add(self, runs, cpu, rss):
        self.cases += 1
        self.runs += runs
        self.cpu = max(self.cpu, cpu)
        self.rss = max(self.rss, rss)

    def __str__(self):
        return (f"{self.cases} cases, {self.runs} runs, at most "
                f"{self.cpu:.2f} s of CPU and {self.rss / (1 << 20):.0f} MiB")


WORKER = None


def start_worker(tools, folder):
    global WORKER
    number = multiprocessing.current_process().name.rpartition("-")[2]
    WORKER = Worker(tools, f"{folder}/{number}")


def examine_one(job):
    examine, key, case = job
    WORKER.problems, WORKER.runs, WORKER.cpu, WORKER.rss = [], 0, 0, 0
    try:
        examine(WORKER, case)
    except Exception as err:  # a worker's trouble is the case's trouble
        WORKER.problem(f"the test itself failed: {err!r}")
    return key, WORKER.problems, WORKER.runs, WORKER.cpu, WORKER.rss


def run_steps(worker, job):
    """Each command on a copy; the file may not grow beyond the limit."""
    source, steps, limit = job
    for step in steps:
        shutil.copyfile(source, "t.qcow2")
        worker.run(step[0], "-f", "qcow2", *step[1:], "t.qcow2")
        if os.stat("t.qcow2").st_size > limit:
            worker.problem(f"{step}: the file has grown to "
                           f"{os.stat('t.qcow2').st_size} bytes")
        worker.check_growth("t.qcow2")


def examine_all(tools, examine, cases, folder, summary):
    """Problems of each case by its name; `cases` is a list of pairs: what to
    give to examine(), and the name. Workers are new processes, not forked
    ones: what those have of the caller's memory would count as that of the
    programs that they start."""
    found = {}
    context = multiprocessing.get_context("spawn")
    workers = min(os.cpu_count(), len(cases) or 1)
    with context.Pool(workers, start_worker,
                      (tools, str(folder))) as pool:
        jobs = ((examine, name, number) for number, name in cases)
        for name, problems, *used in pool.imap_unordered(examine_one, jobs,
                                                         chunksize=16):
            found[name] = problems
            summary.add(*used)
    return found
