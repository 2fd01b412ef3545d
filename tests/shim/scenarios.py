# SPDX-License-Identifier: BSD-3-Clause
"""The commands into which faults are put, and how their results are judged.

Each scenario has some of the files of files.py to start from, and one command
line. A judge returns what is wrong, or nothing.
"""

import dataclasses
import random
import re
import subprocess

KIB = 1024
MIB = 1024 * KIB
SIZE = 640 * KIB + 3 * 512
OLD = b"older image" * 1000
BLOCK = 512
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
PIECE = random.Random(3).randbytes(5000)


# What the io command says of its speed, which is never the same.
SPEED = re.compile(rb"(read|wrote) \d+/\d+ bytes .*\n.* ops; .*\n|"
                   rb"Run completed in .*\n|aio_\w+ .*\n.*ops.*\n")


@dataclasses.dataclass
class Run:
    """A command that has ended, and where."""

    folder: object
    status: int
    out: bytes
    err: bytes


def run(program, line, folder, stdin=None, env=None):
    """Runs it; "|" before the name of `stdin`: through a pipe. Raises
    subprocess.TimeoutExpired if it hangs."""
    args = line.split() if isinstance(line, str) else line
    piped = stdin and stdin.startswith("|")
    name = folder / stdin.lstrip("|") if stdin else "/dev/null"
    with open(name, "rb") as source:
        how = {"input": source.read()} if piped else {"stdin": source}
        done = subprocess.run([program, *args], cwd=folder,
                              capture_output=True, check=False, env=env,
                              timeout=TIMEOUT_SECONDS, **how)
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
    # What it works on may have been damaged, or marked dirty, and still be so.
    damaged: bool = False
    # Requests that run beside others: the status says nothing of them.
    async_requests: bool = False
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
        if scenario.async_requests and b" failed: " in done.out:
            return self.half_changed(done.folder) if scenario.target else None
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


HOLE = DISK[:64 * KIB] + bytes(192 * KIB)
RAW_WRITTEN = bytearray(DISK)
RAW_WRITTEN[4 * KIB:12 * KIB] = bytes(8 * KIB)
RAW_WRITTEN[16 * KIB:24 * KIB] = bytes(8 * KIB)
RAW_WRITTEN[32 * KIB:40 * KIB] = b"\5" * (8 * KIB)
OVERWRITTEN = bytearray(over_disk())
OVERWRITTEN[4 * KIB:104 * KIB] = b"\5" * (100 * KIB)
LAZY = bytearray(SIZE)
LAZY[4 * KIB:104 * KIB] = b"\5" * (100 * KIB)
REWRITTEN = bytearray(DISK)
REWRITTEN[4 * KIB:104 * KIB] = b"\5" * (100 * KIB)
# Data out of a file, packed clusters, requests that run beside others.
MANY = bytearray(DISK)
MANY[8 * KIB:12 * KIB] = PIECE[:4 * KIB]
MANY[84 * KIB:88 * KIB] = b"\3" * (4 * KIB)
MANY[100 * KIB:108 * KIB] = b"\4" * (8 * KIB)
MANY_STEPS = ("write -q -s piece 8k 4k", "discard -q 84k 4k",
              "write -q -c -P 3 84k 4k", "aio_write -q -P 4 100k 8k",
              "aio_flush", "reopen -o l2-cache-size=64k", "flush")


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
        copy("gzip", "-O qcow2 src.raw.gz out.img", ("src.raw.gz",)),
        copy("zst", "-O qcow2 src.raw.zst out.img", ("src.raw.zst",)),
        copy("lz4", "-O raw src.raw.lz4 out.img", ("src.raw.lz4",), "raw"),
        copy("unzstd", "-f raw.zst -O qcow2 - out.img", ("src.raw.zst",),
             stdin="src.raw.zst"),
        copy("hash", "--hash -O raw src.qcow2 out.img", ("src.qcow2",),
             "raw", same_output=True),
        copy("threads", "-m 4 -f qcow2 -O qcow2 -o cluster_size=4k "
             "snap.qcow2 out.img", ("snap.qcow2",)),
        copy("packed-stream", "-f raw -O qcow2 -c - out.img", ("src.raw",),
             stdin="src.raw"),
        copy("unpack-zstd", "-f qcow2 -O raw packed-zstd.qcow2 out.img",
             ("packed-zstd.qcow2",), "raw"),
        copy("changed-base", "-f raw -O qcow2 -B src.raw -F raw other.raw "
             "out.img", ("other.raw", "src.raw"), content=OTHER),
        copy("hole", "-f raw -O qcow2 hole.raw out.img", ("hole.raw",),
             content=HOLE),
        copy("extended", "-O qcow2 extended.qcow2 out.img",
             ("extended.qcow2",)),
        copy("join", "-f raw -O qcow2 src.raw other.raw out.img",
             ("src.raw", "other.raw"), content=DISK + OTHER),
        Scenario("convert-folder", "convert -f raw -O qcow2 ./src.raw "
                 "./out.img", ("src.raw",), target="out.img", content=DISK),
        Scenario("convert-untrusted", "--untrusted convert -f qcow2 -O raw "
                 "src.qcow2 out.img", ("src.qcow2", "old"), target="out.img",
                 content=DISK, target_format="raw"),
        Scenario("convert-new", "convert -f raw -O qcow2 src.raw out.img",
                 ("src.raw",), target="out.img", content=DISK),
        Scenario("convert-into", "convert -n -f raw -O qcow2 src.raw "
                 "full.qcow2", ("src.raw", "full.qcow2"),
                 target="full.qcow2", content=DISK, before=OTHER),
        Scenario("convert-lz4-into", "convert -n -f raw.lz4 -O qcow2 - "
                 "full.qcow2", ("src.raw.lz4", "full.qcow2"),
                 stdin="src.raw.lz4", target="full.qcow2", content=DISK,
                 before=OTHER),
        Scenario("convert-stdout", "convert -f qcow2 -O raw src.qcow2 -",
                 ("src.qcow2",), same_output=True),
    ]


def changes():
    """What makes or changes images otherwise."""
    def in_place(name, args, content, image="src.qcow2", old=DISK,
                 more_needs=(), **more):
        return Scenario(name, args, (image, *more_needs), target=image,
                        content=content, before=old, **more)

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
        create("options", "-o cluster_size=4k,lazy_refcounts"),
        create("raw-hint", "-o extent_size_hint=1M,nocow=on", "raw"),
        Scenario("create-over", "create -q -f qcow2 -b src.raw -F raw "
                 "out.img", ("src.raw", "old"), target="out.img",
                 content=DISK),
        Scenario("dd", "dd -f raw -O qcow2 bs=64k if=src.raw of=out.img",
                 ("src.raw", "old"), target="out.img", content=DISK),
        in_place("resize-grow", "resize -q -f qcow2 src.qcow2 40M",
                 DISK + bytes(40 * KIB * KIB - SIZE)),
        in_place("resize-shrink",
                 "resize -q -f qcow2 --shrink src.qcow2 300k",
                 DISK[:300 * KIB]),
        in_place("io-write", io_line(*IO_STEPS) + ["src.qcow2"],
                 bytes(WRITTEN)),
        in_place("io-lazy", io_line("write -q -P 5 4k 100k", "flush") +
                 ["lazy.qcow2"], bytes(LAZY), "lazy.qcow2",
                 old=bytes(SIZE), damaged=True),
        in_place("io-dense", io_line("write -q -P 5 0 3M", "flush") +
                 ["dense.qcow2"], b"\5" * (3 * MIB) + bytes(MIB),
                 "dense.qcow2", old=bytes(4 * MIB)),
        in_place("io-snapshot", io_line("write -q -P 5 4k 100k", "flush") +
                 ["snap.qcow2"], bytes(REWRITTEN), "snap.qcow2"),
        in_place("io-base", io_line("write -q -P 5 4k 100k", "flush") +
                 ["over.qcow2"], bytes(OVERWRITTEN), "over.qcow2",
                 old=over_disk(), more_needs=("src.raw",)),
        in_place("io-raw", ["io", "-f", "raw", "-c", "write -q -z 4k 8k",
                            "-c", "write -q -z -u 16k 8k", "-c",
                            "write -q -P 5 32k 8k", "src.raw"],
                 bytes(RAW_WRITTEN), "src.raw", target_format="raw"),
        in_place("io-guessed", ["io", "-c", "write -q -P 5 0 4k", "src.raw"],
                 b"\5" * (4 * KIB) + DISK[4 * KIB:], "src.raw",
                 target_format="raw"),
        in_place("io-many", io_line(*MANY_STEPS) + ["src.qcow2"],
                 bytes(MANY), more_needs=("piece",),
                 async_requests=True),
        in_place("bench-write", "bench -q -c 12 -d 3 -f qcow2 -w --pattern=5 "
                 "-s 4096 --flush-interval=3 src.qcow2",
                 b"\5" * (48 * KIB) + DISK[48 * KIB:]),
        in_place("repair-snapshot", "check -q -f qcow2 -r all snap.qcow2",
                 DISK, "snap.qcow2"),
        in_place("repair-shared", "check -q -f qcow2 -r all shared.qcow2",
                 DISK, "shared.qcow2", damaged=True),
        in_place("repair-lost", "check -q -f qcow2 -r all lost.qcow2", DISK,
                 "lost.qcow2", damaged=True),
        in_place("repair-leaks", "check -q -f qcow2 -r leaks leaky.qcow2",
                 DISK, "leaky.qcow2", damaged=True),
        in_place("repair-all", "check -q -f qcow2 -r all broken.qcow2", DISK,
                 "broken.qcow2", damaged=True),
    ]


JSON_NAME = ('json:{"driver": "qcow2", "file": {"driver": "file", '
             '"filename": "src.qcow2"}}')

OBJECT = ('{"qom-type": "authz-list", "id": "a", "rules": [{"match": "x", '
          '"policy": "deny"}]}')


def questions():
    """Commands that only read."""
    def ask(name, args, *needs, **more):
        return Scenario(name, args, needs, same_output=True, **more)

    return [
        ask("info", "info -f qcow2 src.qcow2", "src.qcow2",
            inexact=("stat",)),
        ask("info-chain", "info -f qcow2 --backing-chain --output=json "
            "over.qcow2", "over.qcow2", "src.raw", inexact=("stat",)),
        ask("check", "check -f qcow2 packed.qcow2", "packed.qcow2",
            wrong=(2, 3)),
        ask("compare", "compare -f raw -F qcow2 src.raw src.qcow2", "src.raw",
            "src.qcow2", wrong=(1,)),
        ask("map", "map -f qcow2 --output=json over.qcow2", "over.qcow2",
            "src.raw", inexact=("seek",)),
        ask("measure", "measure -f qcow2 -O qcow2 src.qcow2", "src.qcow2",
            inexact=("seek",)),
        ask("info-probed", "info src.qcow2", "src.qcow2", inexact=("stat",)),
        ask("info-options", "info --image-opts driver=qcow2,"
            "file.filename=src.qcow2", "src.qcow2", inexact=("stat",)),
        ask("info-object", "info --object tls-creds-psk,id=t,dir=. -f qcow2 "
            "src.qcow2", "src.qcow2", "keys.psk", inexact=("stat",)),
        ask("info-json", ["info", JSON_NAME], "src.qcow2",
            inexact=("stat",)),
        ask("info-objects", ["info", "--object", "secret,id=s,data=x",
                             "--object", OBJECT, "--object",
                             "tls-creds-psk,id=t,dir=.", "src.qcow2"],
            "src.qcow2", "keys.psk", inexact=("stat",)),
        ask("info-snapshots", "info --output=json snap.qcow2", "snap.qcow2",
            inexact=("stat",)),
        ask("info-bitmaps", "info --output=json marked.qcow2",
            "marked.qcow2", inexact=("stat",)),
        ask("info-trusted", "--trust-dir . info --backing-chain over.qcow2",
            "over.qcow2", "src.raw", inexact=("stat",)),
        ask("info-untrusted", "--untrusted --max-cpu 5 --max-memory 512M "
            "info src.qcow2", "src.qcow2", inexact=("stat",)),
        Scenario("inspect-stdin", "inspect -", ("src.qcow2",),
                 stdin="src.qcow2", same_output=True, wrong=(2, 3)),
        Scenario("inspect-pipe", "inspect -", ("snap.qcow2",),
                 stdin="|snap.qcow2", same_output=True, wrong=(2, 3)),
        ask("check-wide", "check -f qcow2 wide.qcow2", "wide.qcow2",
            wrong=(2, 3)),
        ask("info-trusted-deep", "--trust-dir . info --backing-chain "
            "deep.qcow2", "deep.qcow2", "folder/src.raw", inexact=("stat",)),
        ask("inspect", "inspect src.qcow2", "src.qcow2", wrong=(2, 3)),
        ask("check-snapshot", "check -f qcow2 snap.qcow2", "snap.qcow2",
            wrong=(2, 3)),
        ask("check-bitmaps", "check -f qcow2 marked.qcow2", "marked.qcow2",
            wrong=(2, 3)),
        ask("check-dry", "check -q --dry-run -f qcow2 -r all broken.qcow2",
            "broken.qcow2"),
        ask("map-hole", "map -f raw --output=json hole.raw", "hole.raw",
            inexact=("seek", "stat")),
        ask("map-zeros", "map -f raw --output=json src.raw", "src.raw",
            inexact=("seek", "stat")),
        ask("bench-read", "bench -q -c 12 -d 3 -f qcow2 src.qcow2",
            "src.qcow2"),
        ask("io-aio", io_line("aio_read -q 0 64k", "aio_flush", "info",
                              "map", "alloc 0 64k", "close",
                              "open -o driver=qcow2 full.qcow2",
                              "read -q 0 4k") +
            ["src.qcow2"], "src.qcow2", "full.qcow2", inexact=("stat",),
            async_requests=True),
        ask("io-read", io_line("read -q -P 7 100k 50k", "read -v 0 1k") +
            ["over.qcow2"], "over.qcow2", "src.raw"),
    ]


SCENARIOS = converts() + changes() + questions()
