#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Random operations on platter's images, on QEMU's, and on an array of bytes.

	run.py [--images N] [--seed S] [--first I] PLATTER

Every image is of a random kind (shapes.py); the same commands (commands.py)
change one that platter made and one that QEMU made, each by its own program.
After each round both programs judge both images (judge.py). Contents, maps
and figures have to agree; the clusters that the programs keep differently
follow from the rules of both (layers.py), and are counted under the name of
the rule. What is not predicted is a difference, and ends with status 1.
"""

import argparse
import collections
import multiprocessing
import os
import pathlib
import random
import shutil
import sys
import tempfile
import traceback

from commands import change_snapshots, next_commands
from judge import OURS, QEMUS, Difference, Judge, require, require_equal
from model import Model
from shapes import make_base, random_shape
from tools import Tools

CACHE_MODES = ("writeback", "writeback", "writethrough", "unsafe")
SHOWN = 10  # differences in full
SPACE = 1 << 30  # more than all workers need together


def work_folder():
    """In memory if there is room: syncs are not what is judged here."""
    shm = "/dev/shm"
    if os.access(shm, os.W_OK) and shutil.disk_usage(shm).free > SPACE:
        return shm
    return None


def words_of(lines):
    return [word for line in lines for word in ("-c", line)]


class Image:
    """One image of each program, from creation to the last look."""

    def __init__(self, rng, shape, folder, tools, say):
        self.rng = rng
        self.shape = shape
        self.folder = folder
        self.tools = tools
        self.say = say
        self.judge = Judge(shape, folder, tools)

    def create(self):
        """Both images; returns the model of what they hold."""
        shape = self.shape
        content, base = make_base(self.rng, shape, self.folder, self.tools)
        words = ["create -q -f qcow2 -o", shape.create_options()]
        if shape.base:
            words += ["-F", shape.base, "-b", f"base.{shape.base}"]
        self.say(*words, shape.size)
        self.tools.platter.good(*words, OURS, str(shape.size))
        self.tools.qemu_img.good(*words, QEMUS, str(shape.size))
        return Model(shape, content, base)

    def change(self, model):
        """One session of each program, from opening to closing."""
        ours, qemus = [], []
        for _ in range(self.rng.choice([5, 15, 40])):
            for lines, more in zip((ours, qemus),
                                   next_commands(self.rng, model)):
                lines += more
        self.say(*ours, sep="\n")
        cache = "-t " + self.rng.choice(CACHE_MODES)
        said = self.tools.platter.good(
            "io", words_of(ours), cache, "--image-opts",
            self.shape.image_opts(OURS) + self.shape.caches)
        require(not said, "platter io said", said)
        said = self.tools.qemu_io.good(words_of(qemus), "--image-opts",
                                       self.shape.image_opts(QEMUS))
        require(not said, "qemu-io said", said)

    def swap(self, model):
        """Each program goes on with the image of the other."""
        self.say("swap")
        for one, other in ((OURS, "swapped"), (QEMUS, OURS),
                           ("swapped", QEMUS)):
            os.rename(self.folder / one, self.folder / other)
        model.ours.swap(model.qemus)

    def change_snapshots(self, model, number):
        words = change_snapshots(self.rng, model, number)
        self.say("snapshot", words)
        for name in (OURS, QEMUS):
            self.tools.qemu_img.good("snapshot", words, name)

    def judge_new(self, model):
        self.judge.map(model)

    def look(self, model):
        self.judge.map(model)
        self.judge.check(model)
        self.judge.contents(bytes(model.bytes), model.snapshots)

    def close(self, model):
        self.judge.information()
        self.judge.runs(model, self.rng)
        self.judge.compared()

    def run(self):
        """Counters: rules that explained a cluster, and defects avoided."""
        model = self.create()
        self.judge_new(model)
        for number in range(self.rng.randint(1, 3)):
            if self.shape.snapshots and number:
                self.change_snapshots(model, number)
            if self.rng.random() < 0.25:
                self.swap(model)
            self.change(model)
            self.look(model)
        self.close(model)
        return self.judge.explained, model.avoided


class RawImage(Image):
    """A window of a file: what lies around it stays as it is."""

    def create(self):
        shape = self.shape
        content = self.rng.randbytes(shape.size)
        self.head = self.rng.randbytes(shape.offset)
        self.tail = self.rng.randbytes(self.rng.choice([0, 512, 5000]))
        for name in (OURS, QEMUS):
            (self.folder / name).write_bytes(self.head + content + self.tail)
        return Model(shape, content, None)

    def judge_new(self, model):
        pass

    def look(self, model):
        self.judge.contents(bytes(model.bytes), {})
        for name in (OURS, QEMUS):
            self.judge.both("map --output=json", name)
            found = (self.folder / name).read_bytes()
            expected = self.head + bytes(model.bytes) + self.tail
            require_equal(found, expected, "the file of", name)

    def close(self, model):
        for name in (OURS, QEMUS):
            self.judge.both("measure --output=json -O qcow2", name)
        self.judge.runs(model, self.rng)


def judge_image(seed, index, platter, say=lambda *_, **__: None):
    """(explained, avoided, what differs or "") of one image."""
    rng = random.Random(f"{seed} {index}")
    folder = pathlib.Path(tempfile.mkdtemp(prefix="differential-",
                                           dir=work_folder()))
    try:
        shape = random_shape(rng)
        say(shape)
        kind = Image if shape.format == "qcow2" else RawImage
        image = kind(rng, shape, folder, Tools(platter, folder), say)
        return *image.run(), ""
    except Exception as reason:  # also a mistake of ours is a failure
        text = str(reason) if isinstance(reason, Difference) else (
            traceback.format_exc())
        return {}, {}, f"{shape}\n{text}"
    finally:
        shutil.rmtree(folder)


def judge_one(job):
    seed, index, platter = job
    return index, *judge_image(seed, index, platter)


def judge_all(args, jobs):
    """Prints what differs; returns (differences, explained, avoided)."""
    totals = 0, collections.Counter(), collections.Counter()
    differences, explained, avoided = totals
    with multiprocessing.Pool(os.cpu_count()) as pool:
        for index, names, defects, text in pool.imap_unordered(
                judge_one, jobs, chunksize=4):
            explained.update(names)
            avoided.update(defects)
            if not text:
                continue
            differences += 1
            if differences <= SHOWN:
                print(f"DIFFERENCE in image {index}: {text}")
            print(f"replay: make differential SEED={args.seed} "
                  f"FIRST={index} IMAGES=1", flush=True)
    return differences, explained, avoided


def parse_arguments():
    parser = argparse.ArgumentParser(description="Compares with QEMU.")
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--seed", default="1")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("platter", type=pathlib.Path)
    return parser.parse_args()


def main():
    args = parse_arguments()
    platter = args.platter.resolve(strict=True)
    print(f"seed {args.seed}, images {args.first} to "
          f"{args.first + args.images - 1}", flush=True)
    if args.images == 1:  # a replay tells its commands
        explained, avoided, text = judge_image(args.seed, args.first, platter,
                                               print)
        print(text, end="\n" if text else "")
        differences = int(bool(text))
    else:
        differences, explained, avoided = judge_all(args, [
            (args.seed, args.first + i, platter) for i in range(args.images)])
    for what, names in ("explained", explained), ("QEMU spared", avoided):
        for name, count in sorted(names.items()):
            print(f"  {what}: {name}: {count} times")
    print(f"{args.images} images, {differences} differences, "
          f"{sum(explained.values())} explained")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
