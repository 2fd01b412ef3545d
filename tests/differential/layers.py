# SPDX-License-Identifier: BSD-3-Clause
"""Where each program keeps the clusters of a disk: the rules of both, exactly.

A cluster is one of UNALLOCATED, DATA, ZERO, ZERO_KEPT (reads as zeros, its
space is kept) and PACKED. `map` of an image has to say what its program's
rules say, so that no difference between two programs is merely tolerated.
"""

import itertools

UNALLOCATED, DATA, ZERO, ZERO_KEPT, PACKED = "UDZAP"
FREE = (UNALLOCATED, ZERO)  # nothing in the file: may be packed
SPACES = itertools.count()  # no two are ever the same


class Base:
    """A backing file: its length, and the runs that its map shows."""

    def __init__(self, format, size, runs):
        self.format = format
        self.size = size
        self.runs = list(runs)  # (start, end, letter, depth)

    def clipped(self, lo, hi):
        for start, end, letter, depth in self.runs:
            if start < hi and end > lo:
                yield max(lo, start), min(hi, end), letter, depth
        if self.size < hi:
            yield max(lo, self.size), hi, UNALLOCATED, 0

    def reads_zeros(self, lo, hi, but=()):
        return all(run[2] not in (DATA, PACKED, *but)
                   for run in self.clipped(lo, hi) if run[0] < run[1])


class Layer:
    """What both programs do alike; a cell is (kind, identity of its space)."""

    def __init__(self, cluster, version, size, base, kind=UNALLOCATED):
        self.cluster = cluster
        self.version = version
        self.size = size
        self.base = base
        self.cells = []
        self.snapshots = {}
        self._fit(kind)

    def _fit(self, kind=UNALLOCATED):
        """As many cells as the disk has clusters."""
        count = -(-self.size // self.cluster)
        del self.cells[count:]
        while len(self.cells) < count:
            self.cells.append((kind, next(SPACES)))

    def kind(self, index):
        return self.cells[index][0]

    def kinds(self):
        return "".join(kind for kind, _ in self.cells)

    def above_base(self):
        return self.base is not None

    def is_shared(self, index):
        return any(self.cells[index][1] in ids
                   for _, _, ids in self.snapshots.values())

    def reads_zeros(self, index, lo, hi):
        if self.kind(index) == UNALLOCATED:
            return not self.base or self.base_reads_zeros(lo, hi)
        return self.kind(index) in (ZERO, ZERO_KEPT)

    def base_reads_zeros(self, lo, hi):
        return self.base.reads_zeros(lo, hi)

    def parts(self, off, length):
        """(index, lo, hi, whole) of each cluster; the last may be short."""
        while length:
            index = off // self.cluster
            start = index * self.cluster
            hi = min(off + length, start + self.cluster)
            whole = off == start and hi in (start + self.cluster, self.size)
            yield index, off, hi, whole
            length -= hi - off
            off = hi

    def put(self, index, kind):
        self.cells[index] = (kind, next(SPACES))

    def keep(self, index, kind):
        self.cells[index] = (kind, self.cells[index][1])

    def write(self, off, length):
        for index, _, _, _ in self.parts(off, length):
            if self.kind(index) in (DATA, ZERO_KEPT) and not (
                    self.is_shared(index)):
                self.keep(index, DATA)
            else:
                self.put(index, DATA)

    def pack(self, index):
        self.put(index, PACKED)

    def discard(self, off, length):
        if self.version == 2 and self.above_base():
            return
        for index, _, _, whole in self.parts(off, length):
            if not whole:
                continue
            if self.kind(index) == UNALLOCATED and not self.above_base():
                continue
            self.put(index, UNALLOCATED if self.version == 2 else ZERO)

    def take_snapshot(self, name):
        ids = {ident for kind, ident in self.cells if kind not in FREE}
        self.snapshots[name] = (self.size, list(self.cells), ids)

    def apply_snapshot(self, name):
        self.size, cells, _ = self.snapshots[name]
        self.cells = list(cells)

    def delete_snapshot(self, name):
        del self.snapshots[name]

    def swap(self, other):
        """Each goes on with what the other made."""
        self.cells, other.cells = other.cells, self.cells
        self.snapshots, other.snapshots = other.snapshots, self.snapshots


class PlatterLayer(Layer):
    """Our rules: block/image-io.c, formats/qcow2/zero.c and resize.c."""

    def base_reads_zeros(self, lo, hi):
        """Without asking the file system for holes."""
        holes = (ZERO_KEPT,) if self.base.format == "raw" else ()
        return self.base.reads_zeros(lo, hi, holes)

    def zero(self, off, length, unmap):
        for index, lo, hi, whole in self.parts(off, length):
            if whole and self._has_zero_entry(unmap):
                self._zero_cluster(index, unmap)
            elif not self.reads_zeros(index, lo, hi) or (
                    whole and self.above_base()):
                self.write(lo, hi - lo)

    def _has_zero_entry(self, unmap):
        """Version 2 has the empty one only, which gives up the space."""
        return self.version == 3 or (unmap and not self.above_base())

    def _zero_cluster(self, index, unmap):
        kind = self.kind(index)
        empty = not self.above_base()
        if kind == UNALLOCATED and empty:
            pass
        elif self.version == 2:
            self.put(index, UNALLOCATED)
        elif not unmap and kind == ZERO_KEPT:
            pass
        elif not unmap and kind == DATA and not self.is_shared(index):
            self.keep(index, ZERO_KEPT)
        else:
            self.put(index, ZERO)

    def shrink(self, size):
        kept = min(-(-size // self.cluster) * self.cluster, self.size)
        self.zero(size, kept - size, False)
        self.size = size
        self._fit()

    def grow(self, size):
        """Zeros as far as a base shows; behind it there is nothing to hide."""
        old = self.size
        end = -(-old // self.cluster) * self.cluster
        if self.base:
            end = max(end, self.base.size)
        self.size = size
        self._fit()
        end = min(end, size)
        self.zero(old, end - old, False)


class QemuLayer(Layer):
    """QEMU 7.2's rules, found by watching it."""

    def zero(self, off, length, unmap):
        for index, lo, hi, whole in self.parts(off, length):
            if self.version == 2 and self.above_base():
                self.write(lo, hi - lo)
            elif whole or self._rest_reads_zeros(index, lo, hi):
                self._zero_cluster(index, unmap)
            else:
                self.write(lo, hi - lo)

    def _rest_reads_zeros(self, index, lo, hi):
        """Then it makes the whole cluster zero instead of writing a part."""
        start = index * self.cluster
        end = min(start + self.cluster, self.size)
        return (self.kind(index) in (UNALLOCATED, ZERO, ZERO_KEPT) and
                self.reads_zeros(index, start, lo) and
                self.reads_zeros(index, hi, end))

    def _zero_cluster(self, index, unmap):
        if self.version == 2:
            self.put(index, UNALLOCATED)
        elif not unmap and self.kind(index) in (DATA, ZERO_KEPT):
            self.keep(index, ZERO_KEPT)
        else:
            self.put(index, ZERO)

    def shows_cut_bytes(self, size):
        """Whether growing again would bring back what is cut off here."""
        cut = size % self.cluster and self.kind(size // self.cluster) in (
            DATA, PACKED)
        return bool(cut) and not (self.base and self.base.size > size)

    def shrink(self, size):
        self.size = size
        self._fit()

    def grow(self, size):
        """All that is added is made zero, if any of it lies above a base."""
        old = self.size
        edge = min(-(-old // self.cluster) * self.cluster, size)
        self.size = size
        self._fit()
        if self.base and self.base.size > old:
            self.write(old, edge - old)
            self.zero(edge, size - edge, False)
