# SPDX-License-Identifier: BSD-3-Clause
"""Judges samples against their targets and writes the results down.

A ratio is the peer's best figure over our best: more than one means that ours
is better.
"""

import dataclasses
import json
import os
import platform
import re
import subprocess

MET, MISSED, NO_TARGET = "met", "NOT MET", "-"


@dataclasses.dataclass
class Verdict:
    """One figure beside its target."""

    figure: str
    value: float
    target: float
    is_met: bool
    is_bound: bool = False

    def text(self):
        more = ">" if self.is_bound else ""
        if self.target is None:
            return f"{more}{number(self.value)}"
        sign = "" if self.is_met else " (!)"
        return f"{more}{number(self.value)} / {number(self.target)}{sign}"


@dataclasses.dataclass
class Row:
    """Ours against one peer in one workload."""

    workload: str
    peer: str
    ours: list
    theirs: list
    verdicts: list

    def state(self):
        judged = [verdict for verdict in self.verdicts
                  if verdict.target is not None]
        if not judged:
            return NO_TARGET
        return MET if all(verdict.is_met for verdict in judged) else MISSED

    def verdict(self, figure):
        return next((verdict for verdict in self.verdicts
                     if verdict.figure == figure), None)


@dataclasses.dataclass
class Result:
    """All that one workload gave."""

    workload: object
    samples: dict
    sizes: dict
    checks: list
    commands: dict
    load: tuple
    rows: list = dataclasses.field(default_factory=list)


def number(value):
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def best(samples, field):
    """Whatever disturbs a command adds to its cost: the least is the truest."""
    return min(getattr(sample, field) for sample in samples)


def ratio(ours, theirs, field):
    return best(theirs, field) / max(best(ours, field), 1e-6)


def at_least(figure, value, target, is_bound):
    return Verdict(figure, value, target, target is None or value >= target,
                   is_bound)


def at_most(figure, value, target):
    return Verdict(figure, value, target, target is None or value <= target)


def judge(workload, peer, samples, sizes):
    ours, theirs = samples["platter"], samples[peer.label]
    is_bound = any(sample.cut_off for sample in theirs)
    is_judged = dataclasses.astuple(peer.target) != (None,) * 3
    verdicts = [
        at_least("wall", ratio(ours, theirs, "wall"), peer.target.wall,
                 is_bound),
        at_least("cpu", ratio(ours, theirs, "cpu"), peer.target.cpu,
                 is_bound),
        at_most("peak", max(sample.peak_kib for sample in ours) / 1024,
                workload.peak_mib if is_judged else None),
    ]
    if sizes.get(peer.label):
        verdicts.append(at_most("size", sizes["platter"] / sizes[peer.label],
                                peer.target.size))
    return Row(workload.name, peer.label, ours, theirs, verdicts)


# --- where it ran ------------------------------------------------------------


def output_of(*argv, default="unknown"):
    try:
        return subprocess.run(argv, check=True, text=True,
                              capture_output=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return default


def cpu_model():
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
        found = re.search(r"^model name\s*:\s*(.*)$", file.read(), re.M)
    return found.group(1) if found else platform.machine()


def is_virtual():
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
        return bool(re.search(r"^flags.*\bhypervisor\b", file.read(), re.M))


def commit_of(top):
    """The commit, and whether the sources differ from it."""
    name = output_of("git", "-C", top, "rev-parse", "--short=10", "HEAD",
                     default="release")
    changed = output_of("git", "-C", top, "status", "--porcelain", "-uno",
                        "--", "block", "formats", "cli", "Makefile",
                        default="")
    return name + ("-changed" if changed else "")


def first_line(*argv):
    return (output_of(*argv).splitlines() or ["unknown"])[0]


def machine(folder, top, ours, theirs):
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": cpu_model(),
        "cpus": os.cpu_count(),
        "virtual": is_virtual(),
        "memory_gib": round(memory / (1 << 30), 1),
        "kernel": platform.release(),
        "distribution": platform.freedesktop_os_release()["PRETTY_NAME"],
        "file_system": output_of("findmnt", "-n", "-o", "FSTYPE", "-T", folder),
        "commit": commit_of(top),
        "platter": first_line(ours, "--version"),
        "qemu-img": first_line(theirs, "--version"),
    }


def host_kind(facts):
    kind = "vm" if facts["virtual"] else "metal"
    return f"{kind}-{facts['cpus']}cpu-{platform.machine()}"


# --- writing -----------------------------------------------------------------

COLUMNS = ("workload", "against", "", "faster", "less CPU", "size",
           "wall ours", "theirs", "CPU ours", "theirs", "peak MiB ours",
           "theirs")


def cells(row):
    size = row.verdict("size")
    peak_theirs = max(sample.peak_kib for sample in row.theirs) / 1024
    return (row.workload, row.peer, row.state(),
            row.verdict("wall").text(), row.verdict("cpu").text(),
            size.text() if size else "",
            *(number(best(samples, field))
              for field in ("wall", "cpu")
              for samples in (row.ours, row.theirs)),
            row.verdict("peak").text(), number(peak_theirs))


def table(rows):
    yield "| " + " | ".join(COLUMNS) + " |"
    yield "|" + "---|" * len(COLUMNS)
    for row in rows:
        yield "| " + " | ".join(cells(row)) + " |"


def summary(rows):
    counts = {state: sum(row.state() == state for row in rows)
              for state in (MET, MISSED, NO_TARGET)}
    return (f"{counts[MET]} met, {counts[MISSED]} not met, "
            f"{counts[NO_TARGET]} without a target")


def markdown(facts, settings, results, skipped):
    rows = [row for result in results for row in result.rows]
    yield "# Side by side"
    yield ""
    yield summary(rows) + f", {len(skipped)} skipped. How to read this: " \
        "bench/README.md."
    yield ""
    for name, value in {**facts, **settings}.items():
        yield f"- {name}: {value}"
    yield ""
    yield from table(rows)
    if skipped:
        yield ""
        yield "Skipped:"
        yield ""
        for name, reason in skipped:
            yield f"- {name}: {reason}"
    yield ""
    yield "Commands, and what was checked besides:"
    yield ""
    for result in results:
        yield f"- {result.workload.name} (load {result.load[0]:.1f} to " \
            f"{result.load[1]:.1f})"
        for who, command in result.commands.items():
            yield f"  - {who}: `{command}`"
        for check in result.checks:
            yield f"  - {check}"


def as_json(facts, settings, results, skipped):
    return {
        "machine": facts,
        "settings": settings,
        "skipped": dict(skipped),
        "workloads": [{
            "name": result.workload.name,
            "commands": result.commands,
            "repeat": result.workload.repeat,
            "load": result.load,
            "samples": {who: [dataclasses.asdict(sample) for sample in some]
                        for who, some in result.samples.items()},
            "bytes": result.sizes,
            "checks": result.checks,
            "verdicts": [{"against": row.peer, "state": row.state(),
                          **{verdict.figure: dataclasses.asdict(verdict)
                             for verdict in row.verdicts}}
                         for row in result.rows],
        } for result in results],
    }


def write(folder, name, facts, settings, results, skipped):
    os.makedirs(folder, exist_ok=True)
    base = os.path.join(folder, name)
    with open(base + ".md", "w", encoding="utf-8") as file:
        for line in markdown(facts, settings, results, skipped):
            print(line, file=file)
    with open(base + ".json", "w", encoding="utf-8") as file:
        json.dump(as_json(facts, settings, results, skipped), file, indent=1)
        print(file=file)
    return base + ".md"
