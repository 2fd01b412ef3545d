# SPDX-License-Identifier: BSD-3-Clause
"""A disk as a plain array of bytes, its clusters, and random commands.

Each command changes the model and yields the line that changes an image alike,
in the words of qemu-io. Where a known rule or defect of QEMU parts the two
programs, the cluster remembers the rule's name as long as they differ.
"""

from collections import Counter

from layers import (DATA, FREE, UNALLOCATED, PlatterLayer, QemuLayer)
from shapes import add_run


class Model:
    """What a guest has to read, and where each program has to keep it."""

    def __init__(self, shape, content, base):
        self.shape = shape
        self.bytes = bytearray(shape.size)
        self.bytes[:min(shape.size, len(content))] = content[:shape.size]
        kind = UNALLOCATED if shape.preallocation == "off" else DATA
        words = (shape.cluster, shape.version, shape.size, base, kind)
        self.ours = PlatterLayer(*words)
        self.qemus = QemuLayer(*words)
        self.reasons = {}  # cluster: why the two differ there
        self.snapshots = {}  # name: (content, reasons)
        self.avoided = Counter()  # defects of QEMU
        self.may_have_freed = False  # since QEMU opened its image

    def __len__(self):
        return len(self.bytes)

    def _settle(self, reason):
        """Names what has become different; forgets what is equal again."""
        ours, qemus = self.ours.kinds(), self.qemus.kinds()
        self.reasons = {
            i: self.reasons.get(i, reason)
            for i, (a, b) in enumerate(zip(ours, qemus)) if a != b}
        self.may_have_freed = True
        unnamed = [i for i, name in self.reasons.items() if not name]
        assert not unnamed, f"no rule lets clusters {unnamed} differ"

    def write(self, off, length, pattern):
        self.bytes[off:off + length] = bytes([pattern]) * length
        for layer in (self.ours, self.qemus):
            layer.write(off, length)
        self._settle(None)
        return f"write -q -P {pattern} {off} {length}"

    def _zero_reasons(self, off, length, unmap):
        """The rule under which zeroing may part the two, for each cluster."""
        for index, _, _, whole in self.ours.parts(off, length):
            if not whole:
                yield index, "part of a cluster zeroed"
            elif self.shape.version == 2 and not unmap:
                yield index, "version 2 zeroed, to be kept"
            elif self.ours.kind(index) == UNALLOCATED:
                yield index, "zeros that need no entry"
            elif self.ours.is_shared(index):
                yield index, "zeroed while a snapshot shares it"
            else:
                yield index, None

    def zero(self, off, length, unmap):
        names = dict(self._zero_reasons(off, length, unmap))
        self.bytes[off:off + length] = bytes(length)
        for layer in (self.ours, self.qemus):
            layer.zero(off, length, unmap)
        for index, name in names.items():
            if name:
                self.reasons.setdefault(index, name)
        self._settle(None)
        return f"write -q -z {'-u ' if unmap else ''}{off} {length}"

    def discard(self, off, length):
        for index, lo, hi, whole in self.ours.parts(off, length):
            if whole and (self.shape.version == 3 or not self.shape.base):
                self.bytes[lo:hi] = bytes(hi - lo)
        for layer in (self.ours, self.qemus):
            layer.discard(off, length)
        self._settle(None)
        return f"discard -q {off} {length}"

    def free_clusters(self):
        """Those that both programs agree to pack."""
        return [i for i, kind in enumerate(self.ours.kinds())
                if kind in FREE and self.qemus.kind(i) in FREE]

    def pack(self, index, pattern):
        off = index * self.shape.cluster
        length = min(self.shape.cluster, len(self) - off)
        self.bytes[off:off + length] = bytes([pattern]) * length
        for layer in (self.ours, self.qemus):
            layer.pack(index)
        freed = self.may_have_freed
        self._settle(None)
        self.may_have_freed = False
        if freed:
            self.avoided["packed into what another cluster got"] += 1
        return f"write -q -c -P {pattern} {off} {length}", freed

    def _overwrite_cut_bytes(self, size):
        """Lines for QEMU alone, whose cut bytes would come back."""
        if not self.qemus.shows_cut_bytes(size):
            return []
        self.avoided["cut bytes that come back"] += 1
        cluster = self.shape.cluster
        length = min(len(self), -(-size // cluster) * cluster) - size
        self.qemus.write(size, length)
        return [f"write -q -P 0 {size} {length}"]

    def resize(self, size):
        """What is added reads as zeros, also above a longer base."""
        line = f"truncate {size}"
        qemus = [line]
        if size < len(self):
            qemus = self._overwrite_cut_bytes(size) + qemus
            self.ours.shrink(size)
            self.qemus.shrink(size)
        else:
            self.ours.grow(size)
            self.qemus.grow(size)
        self.bytes[size:] = b""
        self.bytes.extend(bytes(size - len(self.bytes)))
        self._settle("resized above a base")
        return line, qemus

    def take_snapshot(self, name):
        for layer in (self.ours, self.qemus):
            layer.take_snapshot(name)
        self.snapshots[name] = (bytes(self.bytes), dict(self.reasons))

    def apply_snapshot(self, name):
        for layer in (self.ours, self.qemus):
            layer.apply_snapshot(name)
        content, reasons = self.snapshots[name]
        self.bytes, self.reasons = bytearray(content), dict(reasons)

    def delete_snapshot(self, name):
        for layer in (self.ours, self.qemus):
            layer.delete_snapshot(name)
        del self.snapshots[name]

    def expected_map(self, layer):
        """The runs that `map` has to show, as shapes.map_runs() has them."""
        runs = []
        for index, kind in enumerate(layer.kinds()):
            start = index * layer.cluster
            end = min(start + layer.cluster, layer.size)
            if kind != UNALLOCATED or not layer.base:
                add_run(runs, start, end, kind, 0)
                continue
            for lo, hi, letter, depth in layer.base.clipped(start, end):
                add_run(runs, lo, hi, letter, depth + 1)
        return runs
