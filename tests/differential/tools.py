# SPDX-License-Identifier: BSD-3-Clause
"""The three programs, run in one image's folder."""

import subprocess

from judge import Difference

TIMEOUT_SECONDS = 120


class Tool:
    """A program in a folder; words that hold blanks are given as a list."""

    def __init__(self, path, folder):
        self.argv = [str(path)]
        self.folder = folder

    def good(self, *args):
        """It has to succeed and to be silent on stderr; returns its stdout."""
        words = list(self.argv)
        for arg in args:
            words += arg.split() if isinstance(arg, str) else arg
        done = subprocess.run(words, cwd=self.folder, text=True, check=False,
                              stdin=subprocess.DEVNULL, capture_output=True,
                              timeout=TIMEOUT_SECONDS)
        if done.returncode or done.stderr:
            raise Difference(f"{words}: status {done.returncode}\n"
                             f"{done.stdout}{done.stderr}")
        return done.stdout


class Tools:
    """All that an image needs."""

    def __init__(self, platter, folder):
        self.platter = Tool(platter, folder)
        self.qemu_img = Tool("qemu-img", folder)
        self.qemu_io = Tool("qemu-io", folder)
