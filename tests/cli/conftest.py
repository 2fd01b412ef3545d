# SPDX-License-Identifier: BSD-3-Clause
"""Runs platter, under its own name or as qemu-img, beside the real qemu-img.

PLATTER in the environment names the program to test.
"""

import os
import pathlib
import re
import shlex
import shutil
import subprocess

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
TIMEOUT_SECONDS = 120


# qemu-img says twice that a file cannot be opened; once is enough.
TWICE = re.compile(r"(Could not open '[^']*': )\1")


def text(output):
    """As it is: carriage returns of progress lines stay."""
    return TWICE.sub(r"\1", output.decode(errors="surrogateescape"))


class Result:
    """What a program answered."""

    def __init__(self, done):
        self.status = done.returncode
        self.out = text(done.stdout)
        self.err = text(done.stderr)

    def __eq__(self, other):
        return vars(self) == vars(other)

    def __repr__(self):
        return f"status {self.status}\n--- out\n{self.out}--- err\n{self.err}"


def run(program, args, cwd, **more):
    """Runs it; `args` is a list, or one text as a shell would take it apart."""
    if isinstance(args, str):
        args = shlex.split(args)
    done = subprocess.run([program, *args], cwd=cwd, capture_output=True,
                          check=False, timeout=TIMEOUT_SECONDS, **more)
    return Result(done)


def require(name):
    """The path of a tool that the tests need."""
    path = shutil.which(name)
    if not path:
        pytest.skip(f"{name} is not installed")
    return path


class Runner:
    """One program, run in one folder."""

    def __init__(self, program, cwd):
        self.program = str(program)
        self.cwd = cwd

    def __call__(self, args, **more):
        return run(self.program, args, self.cwd, **more)

    def good(self, args, **more):
        """The same, and it has to succeed; returns its stdout."""
        result = self(args, **more)
        assert result.status == 0, f"{args}: {result}"
        return result.out


class Twins:
    """Two folders of like content: our program in one, QEMU's in the other."""

    def __init__(self, root, our_img, their_img, their_io):
        for name in ("ours", "theirs"):
            (root / name).mkdir()
        self.ours = Runner(our_img, root / "ours")
        self.theirs = Runner(their_img, root / "theirs")
        self.their_io = their_io

    def setup(self, *lines):
        """Runs "img ..." and "io ..." of QEMU's tools in both folders."""
        for line in lines:
            tool, _, args = line.partition(" ")
            program = self.theirs.program if tool == "img" else self.their_io
            for runner in (self.ours, self.theirs):
                Runner(program, runner.cwd).good(args)

    def write(self, name, content, at=0):
        """Puts bytes into a file of both folders."""
        for runner in (self.ours, self.theirs):
            path = runner.cwd / name
            path.touch()
            with open(path, "r+b") as file:
                file.seek(at)
                file.write(content)

    def truncate(self, name, size):
        for runner in (self.ours, self.theirs):
            (runner.cwd / name).touch()
            os.truncate(runner.cwd / name, size)

    def both(self, args, **more):
        return self.ours(args, **more), self.theirs(args, **more)

    def same(self, args, **more):
        """Both answer alike, to the byte. Returns our answer."""
        ours, theirs = self.both(args, **more)
        if ours != theirs:
            pytest.fail(f"{args}\nours: {ours}theirs: {theirs}",
                        pytrace=False)
        return ours

    def same_files(self, args, normal=lambda text: text):
        """Both make or change files that QEMU describes alike."""
        ours = Runner(self.theirs.program, self.ours.cwd).good(args)
        theirs = self.theirs.good(args)
        assert normal(ours) == normal(theirs), args


@pytest.fixture(scope="session")
def platter_path():
    path = pathlib.Path(os.environ.get("PLATTER", TOP / "build" / "platter"))
    assert path.exists(), f"{path} is missing: run make, or set PLATTER"
    return path.resolve()


@pytest.fixture(scope="session")
def links(platter_path, tmp_path_factory):
    """A folder with links by which platter is qemu-img and qemu-io."""
    folder = tmp_path_factory.mktemp("links")
    for name in ("qemu-img", "qemu-io"):
        (folder / name).symlink_to(platter_path)
    return folder


@pytest.fixture
def platter(platter_path, tmp_path):
    return Runner(platter_path, tmp_path)


@pytest.fixture
def as_qemu_img(links, tmp_path):
    return Runner(links / "qemu-img", tmp_path)


@pytest.fixture
def qemu_img(tmp_path):
    return Runner(require("qemu-img"), tmp_path)


@pytest.fixture
def qemu_io(tmp_path):
    return Runner(require("qemu-io"), tmp_path)


@pytest.fixture
def twins(links, tmp_path):
    return Twins(tmp_path, links / "qemu-img", require("qemu-img"),
                 require("qemu-io"))
