# SPDX-License-Identifier: BSD-3-Clause
"""What has to agree after each round, asked of both programs.

Both images are looked at by both programs: their answers about one image are
equal to the last field; each image holds the model's bytes, its map is what
the rules of the program that made it say, and `check` counts the same.
"""

import json
import os
from collections import Counter

from layers import DATA, PACKED, ZERO_KEPT
from shapes import letter_of, map_runs, same_but_for_holes

OURS, QEMUS = "platter.img", "qemu.img"
NEW_CLUSTER = 65536  # of an image that is made without options


class Difference(Exception):
    """Two answers that should have been one."""


def require(condition, *words):
    if not condition:
        raise Difference(" ".join(map(str, words)))


def first_difference(one, other):
    """For messages: where two sequences part."""
    for at, (a, b) in enumerate(zip(one, other)):
        if a != b:
            return f"at {at}: {a} and {b}"
    return f"lengths {len(one)} and {len(other)}"


def require_equal(found, expected, *words):
    """The place where they part is looked for only if they do."""
    if found != expected:
        raise Difference(" ".join(map(str, words)) + ": found and expected "
                         + first_difference(found, expected))


class Judge:
    """Compares the two images in one folder with the model."""

    def __init__(self, shape, folder, tools):
        self.shape = shape
        self.folder = folder
        self.tools = tools
        self.explained = Counter()

    def _source(self, name):
        if self.shape.format == "raw":
            return f"--image-opts {self.shape.image_opts(name)}"
        return f"-f qcow2 {name}"

    def both(self, words, name):
        """Equal answers of both programs about one image."""
        ours = self.tools.platter.good(words, self._source(name))
        qemus = self.tools.qemu_img.good(words, self._source(name))
        if "json" in words:
            ours, qemus = json.loads(ours), json.loads(qemus)
        require(ours == qemus, f"{words} {name}:\nplatter:  {ours}\n"
                               f"qemu-img: {qemus}")
        return ours

    def contents(self, expected, snapshots):
        for name in (OURS, QEMUS):
            for tool in (self.tools.platter, self.tools.qemu_img):
                self._content(tool, name, expected)
        for name, (content, _) in snapshots.items():
            self._snapshot(name, content, len(expected))

    def _snapshot(self, name, content, size):
        """qemu-img reads one as if it were as long as the disk is now."""
        self.tools.qemu_img.good("convert -O raw -l", name,
                                 self._source(OURS), "out.raw")
        found = (self.folder / "out.raw").read_bytes()
        require(len(found) == size, f"length of snapshot {name}: {len(found)}")
        require_equal(found[:len(content)], content[:size], "snapshot", name)

    def _content(self, tool, name, expected):
        tool.good("convert -O raw", self._source(name), "out.raw")
        found = (self.folder / "out.raw").read_bytes()
        require_equal(found, expected, name, "read by", *tool.argv)

    def compared(self):
        words = "compare -f qcow2 -F qcow2", OURS, QEMUS
        for tool in (self.tools.platter, self.tools.qemu_img):
            require("identical" in tool.good(*words), tool.argv, words)

    def _maps(self, name, content):
        """
        The map of one image. Of a hole inside allocated clusters platter
        always tells, qemu-img only where it takes the image for preallocated:
        whichever does has to be right.
        """
        words = "map --output=json", self._source(name)
        ours = json.loads(self.tools.platter.good(*words))
        qemus = json.loads(self.tools.qemu_img.good(*words))
        for entry in ours:  # newer versions of qemu-img tell it as well
            packed = entry.pop("compressed", False)
            require(packed == (letter_of(entry) == PACKED), "packed:", entry)
        if ours != qemus:
            self._holes_are_zeros(ours + qemus, content)
            self.explained["hole in allocated clusters"] += 1
            require_equal(*map(same_but_for_holes, (ours, qemus)),
                          "map of", name, "by platter and qemu-img")
        return map_runs(qemus)

    def _holes_are_zeros(self, entries, content):
        for entry in entries:
            end = entry["start"] + entry["length"]
            require(not entry["zero"] or not any(content[entry["start"]:end]),
                    "map says zeros where there are none:", entry)

    def map(self, model):
        for name, layer in ((OURS, model.ours), (QEMUS, model.qemus)):
            found = self._maps(name, model.bytes)
            require_equal(found, model.expected_map(layer), "map of", name)
        self.explained.update(model.reasons.values())

    def check(self, model):
        for name, layer in ((OURS, model.ours), (QEMUS, model.qemus)):
            found = self.both("check --output=json", name)
            found.pop("image-end-offset")
            kinds = Counter(layer.kinds())
            packed = kinds[PACKED]
            used = packed + kinds[DATA] + kinds[ZERO_KEPT]
            expected = {"check-errors": 0, "filename": name,
                        "format": "qcow2", "total-clusters":
                        -(-layer.size // layer.cluster)}
            if used:
                expected["allocated-clusters"] = used
            if packed:
                expected["compressed-clusters"] = packed
            found.pop("fragmented-clusters", None)
            require(found == expected, f"check of {name}: found {found},",
                    f"expected {expected}")

    def information(self):
        for name in (OURS, QEMUS):
            self.both("info --output=json", name)
            self.both("measure --output=json -O raw", name)
            self._measured(name)

    def _measured(self, name):
        """Holes inside allocated clusters are not copied, so not counted."""
        words = "measure --output=json -O qcow2", self._source(name)
        ours = json.loads(self.tools.platter.good(*words))
        qemus = json.loads(self.tools.qemu_img.good(*words))
        less = qemus["required"] - ours["required"]
        if less > 0 and less % NEW_CLUSTER == 0 and self._has_holes(name):
            self.explained["hole in allocated clusters"] += 1
            ours["required"] += less
        require(ours == qemus, f"measure {name}: {ours}, {qemus}")

    def _has_holes(self, name):
        with open(self.folder / name, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            return os.lseek(file.fileno(), 0, os.SEEK_HOLE) < size

    def runs(self, model, rng):
        """`alloc` and `map` of platter io and qemu-io."""
        lines = ["map", "length"]
        for _ in range(3):
            off = rng.randrange(len(model) // 512) * 512
            length = rng.randint(0, len(model) - off)
            lines.append(f"alloc {off} {length // 512 * 512}")
        words = [word for line in lines for word in ("-c", line)]
        for name in (OURS, QEMUS):
            ours = self.tools.platter.good("io -r", words, self._source(name))
            qemus = self.tools.qemu_io.good("-r", words, self._source(name))
            require(ours == qemus, f"{words} {name}:\nplatter: {ours}\n"
                                   f"qemu-io: {qemus}")
