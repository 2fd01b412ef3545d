# SPDX-License-Identifier: BSD-3-Clause
"""Runs platter and QEMU's tools in one folder, on the same images.

PLATTER in the environment names the program to test.
"""

import os
import pathlib
import shutil
import subprocess

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
TIMEOUT_SECONDS = 300


class Tool:
    """A program in a folder; words that hold blanks are given as a list."""

    def __init__(self, path, cwd, *first):
        self.argv = [str(path), *first]
        self.cwd = cwd

    def _argv(self, args):
        words = []
        for arg in args:
            words += arg.split() if isinstance(arg, str) else map(str, arg)
        return self.argv + words

    def __call__(self, *args, **more):
        """Whatever it answers."""
        return subprocess.run(self._argv(args), cwd=self.cwd, text=True,
                              capture_output=True, check=False,
                              stdin=subprocess.DEVNULL,
                              timeout=TIMEOUT_SECONDS, **more)

    def good(self, *args, **more):
        """It has to succeed and to be silent on stderr; returns its stdout."""
        done = self(*args, **more)
        assert done.returncode == 0 and not done.stderr, (
            f"{done.args}: status {done.returncode}\n"
            f"{done.stdout}{done.stderr}")
        return done.stdout

    def bad(self, *args, **more):
        """It has to fail with a message, not to crash; returns stderr."""
        done = self(*args, **more)
        assert done.returncode == 1 and done.stderr, (
            f"{done.args}: status {done.returncode}\n"
            f"{done.stdout}{done.stderr}")
        return done.stderr

    def start(self, *args):
        """Runs beside the test, which writes commands into its stdin."""
        return subprocess.Popen(self._argv(args), cwd=self.cwd, text=True,
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def commands(lines):
    """-c for each line."""
    words = []
    for line in lines:
        words += ["-c", line]
    return words


def find(name):
    path = shutil.which(name)
    if not path:
        pytest.skip(f"{name} is not installed")
    return path


@pytest.fixture(scope="session")
def platter_path():
    path = pathlib.Path(os.environ.get("PLATTER", TOP / "build" / "platter"))
    assert path.exists(), f"{path} is missing: run make, or set PLATTER"
    return path.resolve()


@pytest.fixture
def platter(platter_path, tmp_path):
    return Tool(platter_path, tmp_path)


@pytest.fixture
def platter_io(platter_path, tmp_path):
    return Tool(platter_path, tmp_path, "io")


@pytest.fixture
def qemu_img(tmp_path):
    return Tool(find("qemu-img"), tmp_path)


@pytest.fixture
def qemu_io(tmp_path):
    return Tool(find("qemu-io"), tmp_path)
