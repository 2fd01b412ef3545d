# SPDX-License-Identifier: BSD-3-Clause
"""Random commands: one list of lines for platter, one for qemu-io."""

# QEMU goes on packing where a cluster was freed meanwhile, into whatever took
# its place. A new session begins elsewhere.
NEW_SESSION = ["close", "open driver=qcow2,file.filename=qemu.img"]


def beside(rng, model, edge):
    """An edge of a cluster, or a little before or behind it."""
    off = min(edge * model.shape.cluster, len(model))
    off += rng.choice([0, 0, 0, -512, -1, 1, 512])
    return min(max(0, off), len(model))


def range_between_edges(rng, model):
    """A few clusters, or all up to the end; about whole."""
    count = -(-len(model) // model.shape.cluster)
    first = rng.randrange(count)
    last = rng.choice([count, min(count, first + rng.randint(1, 4))])
    start, end = sorted(beside(rng, model, edge) for edge in (first, last))
    return start, end - start


def random_range(rng, model, aligned=False):
    """Bytes, sectors or clusters; mostly short; sometimes to the very end."""
    cluster = model.shape.cluster
    if not aligned and rng.random() < 0.3:
        return range_between_edges(rng, model)
    unit = cluster if aligned else rng.choice([1, 512, cluster, cluster])
    last = len(model) // unit
    start = rng.randrange(last + 1) * unit
    span = rng.choice([1, 2, 3, max(1, last // 4)])
    length = min(rng.randint(1, span) * unit, len(model) - start)
    if rng.random() < 0.1:
        length = len(model) - start
    return start, length


def disjoint_ranges(rng, size, count):
    """Neighbours that share clusters, in any order."""
    edges = sorted(rng.sample(range(size), min(count * 2, size // 2 * 2)))
    ranges = list(zip(edges[::2], edges[1::2]))
    rng.shuffle(ranges)
    return ranges


def side_by_side(rng, model):
    """Requests in flight together; zeros in whole clusters only, since what
    becomes of a part depends on its neighbours."""
    lines = []
    for off, end in disjoint_ranges(rng, len(model), rng.randint(2, 30)):
        cluster = model.shape.cluster
        start, stop = -(-off // cluster) * cluster, end // cluster * cluster
        if start < stop and rng.random() < 0.3:
            line = model.zero(start, stop - start, rng.random() < 0.5)
        else:
            line = model.write(off, end - off, rng.randrange(1, 256))
        lines.append("aio_" + line)
        if rng.random() < 0.1:
            lines.append("flush")
    return lines + ["aio_flush"]


def verified_write(rng, model):
    """Two commands: what was written is read back in the same session."""
    off, length = random_range(rng, model)
    pattern = rng.randrange(1, 256)
    return [model.write(off, length, pattern),
            f"read -q -P {pattern} {off} {length}"]


def verified_zeros(rng, model):
    off, length = random_range(rng, model)
    return [model.zero(off, length, rng.random() < 0.5),
            f"read -q -P 0 {off} {length}"]


def verified_discard(rng, model):
    """Of a raw image whole sectors: what is freed of less is not said."""
    off, length = random_range(rng, model, model.shape.format == "raw")
    lines = [model.discard(off, length)]
    if not any(model.bytes[off:off + length]):
        lines.append(f"read -q -P 0 {off} {length}")
    return lines


def written_vector(rng, model):
    """One request out of several buffers; durable when it is answered."""
    off, length = random_range(rng, model)
    pattern = rng.randrange(1, 256)
    model.write(off, length, pattern)
    cut = rng.randint(0, length)
    return [f"writev -q -f -P {pattern} {off} {cut} {length - cut}"]


def plain_command(rng, model):
    kind = rng.random()
    if kind < 0.05:
        return written_vector(rng, model)
    if kind < 0.45:
        off, length = random_range(rng, model)
        return [model.write(off, length, rng.randrange(1, 256))]
    if kind < 0.75:
        return [model.zero(*random_range(rng, model), rng.random() < 0.5)]
    if kind < 0.85:
        return ["read -q {} {}".format(*random_range(rng, model))]
    if kind < 0.93:
        return ["flush"]
    return ["reopen"]


def packed_write(rng, model):
    free = model.free_clusters()
    if not free:
        return [], []
    line, freed = model.pack(rng.choice(free), rng.randrange(1, 256))
    return [line], (NEW_SESSION if freed else []) + [line]


def resize(rng, model):
    """Whole sectors; between half and one and a half of the first size."""
    units = model.shape.size // 512
    size = rng.randint(max(1, units // 2), units * 3 // 2) * 512
    line, qemus = model.resize(size)
    return [line], qemus


def next_commands(rng, model):
    """(lines for platter, lines for qemu-io) of one step."""
    kind = rng.random()
    shape = model.shape
    if shape.packs and kind < 0.15:
        return packed_write(rng, model)
    if shape.resizes and kind < 0.2:
        return resize(rng, model)
    if kind < 0.3:
        lines = verified_discard(rng, model)
    elif kind < 0.4:
        lines = verified_write(rng, model)
    elif kind < 0.5:
        lines = verified_zeros(rng, model)
    elif kind < 0.56:
        lines = side_by_side(rng, model)
    else:
        lines = plain_command(rng, model)
    return lines, list(lines)


def change_snapshots(rng, model, number):
    """Words for `qemu-img snapshot`, and the model after them; or None."""
    names = sorted(model.snapshots)
    kind = rng.random()
    if names and kind < 0.15:
        name = rng.choice(names)
        model.delete_snapshot(name)
        return f"-d {name}"
    if names and kind < 0.3:
        name = rng.choice(names)
        model.apply_snapshot(name)
        return f"-a {name}"
    name = f"s{number}"
    model.take_snapshot(name)
    return f"-c {name}"
