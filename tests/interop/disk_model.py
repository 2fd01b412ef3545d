# SPDX-License-Identifier: BSD-3-Clause
"""A disk as a plain array of bytes, and random commands that change it.

Commands are in the words of qemu-io, so that both programs can run them.
"""


class Disk:
    """What a guest has to read, and the layer's clusters that it touched."""

    def __init__(self, size, cluster, base=b""):
        self.cluster = cluster
        self.bytes = bytearray(size)
        self.bytes[:min(size, len(base))] = base[:size]
        self.touched = set()

    def __len__(self):
        return len(self.bytes)

    def _touch(self, off, length):
        if length:
            self.touched.update(range(off // self.cluster,
                                      (off + length - 1) // self.cluster + 1))

    def write(self, off, length, pattern):
        self.bytes[off:off + length] = bytes([pattern]) * length
        self._touch(off, length)
        return f"write -q -P {pattern} {off} {length}"

    def zero(self, off, length, unmap):
        self.bytes[off:off + length] = bytes(length)
        self._touch(off, length)
        return f"write -q -z {'-u ' if unmap else ''}{off} {length}"

    def pack(self, index, pattern):
        """One whole cluster, compressed; the caller saw to it being free."""
        off = index * self.cluster
        length = min(self.cluster, len(self) - off)
        self.bytes[off:off + length] = bytes([pattern]) * length
        self.touched.add(index)
        return f"write -q -c -P {pattern} {off} {length}"

    def count(self):
        return (len(self) + self.cluster - 1) // self.cluster


def random_range(rng, disk, aligned=False):
    """Bytes, sectors or clusters; mostly short; sometimes to the very end."""
    unit = disk.cluster if aligned else rng.choice([1, 512, disk.cluster])
    last = len(disk) // unit
    start = rng.randrange(last + 1) * unit
    span = rng.choice([1, 2, 3, max(1, last // 4)])
    length = min(rng.randint(1, span) * unit, len(disk) - start)
    if rng.random() < 0.1:
        length = len(disk) - start
    return start, length


def random_pack(rng, disk, pattern):
    free = [i for i in range(disk.count()) if i not in disk.touched]
    return disk.pack(rng.choice(free), pattern) if free else None


def random_command(rng, disk, packs=True):
    """Changes `disk` and returns the command that changes an image alike."""
    kind = rng.random()
    pattern = rng.randrange(1, 256)

    if packs and kind < 0.2:
        command = random_pack(rng, disk, pattern)
        if command:
            return command
    if kind < 0.65:
        return disk.write(*random_range(rng, disk), pattern)
    if kind < 0.9:
        return disk.zero(*random_range(rng, disk), rng.random() < 0.5)
    if kind < 0.95:
        off, length = random_range(rng, disk)
        return f"read -q {off} {length}"
    return "flush"


def first_difference(one, other):
    """For messages: where two arrays of bytes part, or None."""
    if one == other:
        return None
    if len(one) != len(other):
        return f"lengths {len(one)} and {len(other)}"
    for off, (a, b) in enumerate(zip(one, other)):
        if a != b:
            return f"offset {off}: {a:#x} and {b:#x}"
    return None
