# SPDX-License-Identifier: BSD-3-Clause
"""The places in the program that call what can fail, and which of them did.

A place is a call instruction, known by the address behind it, together with
the kind of call. All of them are read out of the program; the shim says which
ones were passed and which were made to fail.
"""

import pathlib
import re
import subprocess

# What the shim stands in front of, and what allocates on the program's behalf.
KINDS = {
    "read": ("read", "pread", "preadv"),
    "write": ("write", "pwrite", "pwritev"),
    "sync": ("fsync", "fdatasync"),
    "truncate": ("ftruncate",),
    "fallocate": ("fallocate",),
    "open": ("open", "openat", "fopen", "mkostemp"),
    "rename": ("rename", "renameat2"),
    "seek": ("lseek",),
    "malloc": ("malloc", "calloc", "realloc", "reallocarray", "strdup",
               "strndup", "aligned_alloc", "posix_memalign",
               "__asprintf_chk"),
    "stat": ("stat", "fstat", "fstatat", "statx", "statfs", "fstatfs",
             "readlink", "realpath"),
    "ioctl": ("ioctl",),
    "unlink": ("unlink",),
    "close": ("close",),
    "thread": ("pthread_create",),
    "random": ("getrandom",),
    "map": ("mmap",),
    "sandbox": ("prctl", "syscall", "getrlimit", "setrlimit", "seccomp_load"),
    "owner": ("fchown", "fchmod"),
}
KIND_OF = {name: kind for kind, names in KINDS.items() for name in names}

CALL = re.compile(r"\s*[0-9a-f]+:\s+call\s+[0-9a-f]+ <(\w+)@plt>")
AT = re.compile(r"\s*([0-9a-f]+):\s")
TOP = pathlib.Path(__file__).resolve().parents[2]


def calls_in(program):
    """{(kind, address behind the call): what is called}; fcntl is two kinds."""
    done = subprocess.run(["objdump", "-d", "--no-show-raw-insn", program],
                          capture_output=True, check=True, text=True)
    found, callee = {}, None
    for line in done.stdout.splitlines():
        at = AT.match(line)
        if callee and at:
            found[KIND_OF[callee], int(at[1], 16)] = callee
        call = CALL.match(line)
        callee = call[1] if call and call[1] in KIND_OF else None
    return found


def name_addresses(program, addresses):
    """{address: (functions, "file:line")}, of the call before each address.

    `functions` has the innermost first, then those into which it is inlined;
    the C library's own inline functions are left out.
    """
    if not addresses:
        return {}
    text = subprocess.run(
        ["addr2line", "-a", "-i", "-f", "-e", program,
         *(hex(a - 1) for a in addresses)],
        capture_output=True, check=True, text=True).stdout
    names = {}
    for address, part in zip(addresses, text.split("0x")[1:]):
        lines = part.splitlines()[1:]
        frames = [(function.split(".")[0],
                   place.split(" ")[0].removeprefix(f"{TOP}/"))
                  for function, place in zip(lines[::2], lines[1::2])
                  if not place.startswith("/usr/include/")]
        names[address] = tuple(f for f, _ in frames), frames[0][1]
    return names


class Sites:
    """Adds up what the reports of many runs say."""

    def __init__(self):
        self.ordinary = set()  # passed by runs without faults
        self.passed = set()
        self.failed = set()

    def add(self, report, faultless=False):
        for line in report.splitlines():
            if not line.startswith("site "):
                continue
            _, kind, place, _, failed = line.split()
            site = kind, int(place, 16)
            self.passed.add(site)
            if faultless:
                self.ordinary.add(site)
            if failed != "0":
                self.failed.add(site)

    def rows(self, program):
        """A row for every place: kind, callee, functions, line, what it saw.
        """
        known = calls_in(program)
        every = sorted(known.keys() | self.passed)
        names = name_addresses(program, sorted({at for _, at in every}))
        for kind, at in every:
            seen = ("failed" if (kind, at) in self.failed else
                    "never failed" if (kind, at) in self.ordinary else
                    "passed only after failures" if (kind, at) in self.passed
                    else "never called")
            functions, line = names[at]
            yield kind, known.get((kind, at), ""), functions, line, seen
