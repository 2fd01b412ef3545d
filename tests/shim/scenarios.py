# SPDX-License-Identifier: BSD-3-Clause
"""The commands into which faults are put, and how their results are judged.

Each scenario has a folder of files to start from, which is made once, and one
command line. A judge returns what is wrong, or nothing.
"""

import dataclasses
import random
import re
import shutil
import struct
import subprocess

KIB = 1024
SIZE = 640 * KIB + 3 * 512
OLD = b"older image" * 1000
BLOCK = 4 * KIB
TIMEOUT_SECONDS = 60


def make_disk(seed):
    """Noise, text and zeros, in runs of 16 KiB."""
    rng = random.Random(seed)
    disk = bytearray()
    while len(disk) < SIZE:
        kind = rng.randrange(3)
        if kind == 0:
            disk += rng.randbytes(16 * KIB)
        elif kind == 1:
            disk += b"the same text " * 1200
        else:
            disk += bytes(16 * KIB)
    return bytes(disk[:SIZE])


DISK = make_disk(1)
OTHER = make_disk(2)


# What the io command says of its speed, which is never the same.
SPEED = re.compile(rb"read \d+/\d+ bytes .*\n.* ops; .*\n")


@dataclasses.dataclass
class Run:
    """A command that has ended, and where."""

    folder: object
    status: int
    out: bytes
    err: bytes


def run(program, line, folder, stdin=None, env=None):
    """Runs it. Raises subprocess.TimeoutExpired if it hangs."""
    args = line.split() if isinstance(line, str) else line
    with open(folder / stdin if stdin else "/dev/null", "rb") as source:
        done = subprocess.run([program, *args], cwd=folder, stdin=source,
                              capture_output=True, check=False, env=env,
                              timeout=TIMEOUT_SECONDS)
    return Run(folder, done.returncode, SPEED.sub(b"", done.stdout),
               done.stderr)


@dataclasses.dataclass
class Scenario:
    """`args`: the command; `needs`: names of the files that it starts from."""

    name: str
    args: object
    needs: tuple = ()
    stdin: str = None
    # What it makes or changes: a file, its format, and what it then holds.
    target: str = None
    target_format: str = "qcow2"
    content: bytes = None
    # In place: blocks of the old content may be left when it fails.
    before: bytes = None
    # A repair: what it works on may have been damaged, and still be so.
    damaged: bool = False
    # Statuses that say something about the image, not about a failure.
    wrong: tuple = ()
    # Its output has to be the same whenever it succeeds, unless calls of
    # these kinds have failed, which may make it less exact.
    same_output: bool = False
    inexact: tuple = ()


class Judge:
    """Looks at what a run has left behind; its own commands see no faults."""

    def __init__(self, program, scenario, expected_out):
        self.program = program
        self.scenario = scenario
        self.expected_out = expected_out

    def tool(self, folder, line):
        return run(self.program, line, folder)

    def check(self, folder, allowed):
        """Statuses of check: 0 clean, 2 corrupt, 3 leaks."""
        name = self.scenario.target
        if self.scenario.target_format != "qcow2":
            return None
        done = self.tool(folder, f"check -f qcow2 {name}")
        if done.status in allowed:
            return None
        return f"check says {done.status}: {done.out + done.err}"

    def disk(self, folder):
        """All of the target's disk; None if it cannot be read."""
        path = folder / self.scenario.target
        if self.scenario.target_format == "raw":
            return path.read_bytes()
        done = self.tool(folder, f"convert -f qcow2 -O raw {path} judged")
        if done.status:
            return None
        content = (folder / "judged").read_bytes()
        (folder / "judged").unlink()
        return content

    def whole(self, folder, leaks=False):
        """Is the target what the command is to make of it?"""
        if not self.scenario.target:
            return None
        wrong = self.check(folder, (0, 3) if leaks else (0,))
        if wrong:
            return wrong
        if self.disk(folder) != self.scenario.content:
            return "the target holds something else"
        return None

    def succeeded(self, done, kind):
        scenario = self.scenario
        if (scenario.same_output and kind not in scenario.inexact and
                done.out != self.expected_out):
            return f"success, but it says {done.out[:300]}"
        # Who cannot read a count frees nothing: a leak, which is harmless.
        return self.whole(done.folder, leaks=kind in ("read", "malloc"))

    def failed(self, done):
        """An error must say so, and leave nothing half."""
        scenario = self.scenario
        said = done.err or (done.out if "io" in scenario.args[:2] else b"")
        if not said.strip():
            return "fails without a word"
        if done.status in scenario.wrong:
            return f"status {done.status} says what is not true"
        if not scenario.target:
            return None
        if scenario.before is not None:
            return self.half_changed(done.folder)
        path = done.folder / scenario.target
        old = OLD if "old" in scenario.needs else None
        if (path.read_bytes() if path.exists() else None) == old:
            return None
        wrong = self.whole(done.folder)
        if wrong or b"complete" in said:
            return wrong
        return "failed, but the target was replaced"

    def half_changed(self, folder):
        """Every block is old or new, and no metadata is broken."""
        scenario = self.scenario
        if not scenario.damaged:
            wrong = self.check(folder, (0, 3))
            if wrong:
                return wrong
        disk = self.disk(folder)
        if disk is None:
            return "the image cannot be read any more"
        for at in range(0, len(disk), BLOCK):
            block = disk[at:at + BLOCK]
            if not any((side[at:at + len(block)].ljust(len(block), b"\0")) ==
                       block for side in (scenario.before,
                                          scenario.content)):
                return f"the block at {at} is neither old nor new"
        return None


def damage(path, counts):
    """Sets 16-bit counts of clusters in the first refcount block."""
    with open(path, "r+b") as file:
        file.seek(48)
        table = struct.unpack(">Q", file.read(8))[0]
        file.seek(table)
        block = struct.unpack(">Q", file.read(8))[0]
        for cluster, count in counts.items():
            file.seek(block + 2 * cluster)
            file.write(struct.pack(">H", count))


def make_files(program, folder):
    """Everything that scenarios start from."""
    def good(line):
        done = run(program, line, folder)
        assert done.status == 0, (line, done)

    small = "-O qcow2 -o cluster_size=4k"
    (folder / "src.raw").write_bytes(DISK)
    (folder / "other.raw").write_bytes(OTHER)
    (folder / "old").write_bytes(OLD)
    good(f"convert -f raw {small} src.raw src.qcow2")
    good(f"convert -f raw {small} other.raw full.qcow2")
    good(f"convert -f raw -c {small} src.raw packed.qcow2")
    good("create -q -f qcow2 -b src.raw -F raw over.qcow2")
    good(["io", "-f", "qcow2", "-c", "write -q -P 7 100k 50k", "over.qcow2"])
    end = len((folder / "src.qcow2").read_bytes()) // (4 * KIB)
    for name, counts in (("leaky", {end + 3: 1, end + 9: 2, 20: 2}),
                         ("broken", {end + 3: 1, 20: 0, 30: 0, 33: 5})):
        path = folder / f"{name}.qcow2"
        shutil.copy(folder / "src.qcow2", path)
        with open(path, "ab") as file:
            file.write(bytes(64 * KIB))
        damage(path, counts)


def over_disk():
    disk = bytearray(DISK)
    disk[100 * KIB:150 * KIB] = b"\7" * (50 * KIB)
    return bytes(disk)


WRITTEN = bytearray(DISK)
WRITTEN[4 * KIB:104 * KIB] = b"\5" * (100 * KIB)
WRITTEN[200 * KIB:300 * KIB] = bytes(100 * KIB)
WRITTEN[400 * KIB:404 * KIB] = b"\6" * (4 * KIB)
IO_STEPS = ("write -q -P 5 4k 100k", "flush", "write -q -z -u 200k 100k",
            "write -q -P 6 400k 4k", "flush")


def io_line(*steps):
    line = ["io", "-f", "qcow2"]
    for step in steps:
        line += ["-c", step]
    return line


def converts():
    """Copies of whole disks."""
    def copy(name, args, needs, target_format="qcow2", content=DISK, **more):
        return Scenario(f"convert-{name}", f"convert {args}",
                        needs + ("old",), target="out.img", content=content,
                        target_format=target_format, **more)

    return [
        copy("to-qcow2", "-f raw -O qcow2 src.raw out.img", ("src.raw",)),
        copy("to-raw", "-f qcow2 -O raw src.qcow2 out.img", ("src.qcow2",),
             "raw"),
        copy("deflate", "-f raw -O qcow2 -c src.raw out.img", ("src.raw",)),
        copy("zstd", "-f raw -O qcow2 -c -o compression_type=zstd,"
             "cluster_size=16k src.raw out.img", ("src.raw",)),
        copy("unpack", "-f qcow2 -O raw packed.qcow2 out.img",
             ("packed.qcow2",), "raw"),
        copy("chain", "-f qcow2 -O qcow2 over.qcow2 out.img",
             ("over.qcow2", "src.raw"), content=over_disk()),
        copy("onto-base", "-f qcow2 -O qcow2 -B src.raw -F raw over.qcow2 "
             "out.img", ("over.qcow2", "src.raw"), content=over_disk()),
        copy("stdin", "-f raw -O qcow2 - out.img", ("src.raw",),
             stdin="src.raw"),
        Scenario("convert-new", "convert -f raw -O qcow2 src.raw out.img",
                 ("src.raw",), target="out.img", content=DISK),
        Scenario("convert-into", "convert -n -f raw -O qcow2 src.raw "
                 "full.qcow2", ("src.raw", "full.qcow2"),
                 target="full.qcow2", content=DISK, before=OTHER),
        Scenario("convert-stdout", "convert -f qcow2 -O raw src.qcow2 -",
                 ("src.qcow2",), same_output=True),
    ]


def changes():
    """What makes or changes images otherwise."""
    def in_place(name, args, content, image="src.qcow2", **more):
        return Scenario(name, args, (image,), target=image, content=content,
                        before=DISK, **more)

    def create(name, options, target_format="qcow2"):
        return Scenario(f"create-{name}", f"create -q -f {target_format} "
                        f"{options} out.img 640k", ("old",),
                        target="out.img", target_format=target_format,
                        content=bytes(640 * KIB))

    return [
        create("qcow2", ""),
        create("metadata", "-o preallocation=metadata,cluster_size=512"),
        create("falloc", "-o preallocation=falloc"),
        create("full", "-o preallocation=full"),
        create("raw-full", "-o preallocation=full", "raw"),
        Scenario("dd", "dd -f raw -O qcow2 bs=64k if=src.raw of=out.img",
                 ("src.raw", "old"), target="out.img", content=DISK),
        in_place("resize-grow", "resize -q -f qcow2 src.qcow2 40M",
                 DISK + bytes(40 * KIB * KIB - SIZE)),
        in_place("resize-shrink",
                 "resize -q -f qcow2 --shrink src.qcow2 300k",
                 DISK[:300 * KIB]),
        in_place("io-write", io_line(*IO_STEPS) + ["src.qcow2"],
                 bytes(WRITTEN)),
        in_place("repair-leaks", "check -q -f qcow2 -r leaks leaky.qcow2",
                 DISK, "leaky.qcow2", damaged=True),
        in_place("repair-all", "check -q -f qcow2 -r all broken.qcow2", DISK,
                 "broken.qcow2", damaged=True),
    ]


def questions():
    """Commands that only read."""
    def ask(name, args, *needs, **more):
        return Scenario(name, args, needs, same_output=True, **more)

    return [
        ask("info", "info -f qcow2 src.qcow2", "src.qcow2"),
        ask("info-chain", "info -f qcow2 --backing-chain --output=json "
            "over.qcow2", "over.qcow2", "src.raw"),
        ask("check", "check -f qcow2 packed.qcow2", "packed.qcow2",
            wrong=(2, 3)),
        ask("compare", "compare -f raw -F qcow2 src.raw src.qcow2", "src.raw",
            "src.qcow2", wrong=(1,)),
        ask("map", "map -f qcow2 --output=json over.qcow2", "over.qcow2",
            "src.raw", inexact=("seek",)),
        ask("measure", "measure -f qcow2 -O qcow2 src.qcow2", "src.qcow2",
            inexact=("seek",)),
        ask("io-read", io_line("read -q -P 7 100k 50k", "read -v 0 1k") +
            ["over.qcow2"], "over.qcow2", "src.raw"),
    ]


SCENARIOS = converts() + changes() + questions()
