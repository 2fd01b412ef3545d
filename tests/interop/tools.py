# SPDX-License-Identifier: BSD-3-Clause
"""Running programs in a folder, and commands for them."""

import subprocess

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
