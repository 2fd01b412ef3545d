# SPDX-License-Identifier: BSD-3-Clause
"""Guests: a Linux kernel under software emulation that runs a script.

GUEST_KIT is the folder that make-kit.sh filled, PLATTER the program to test.
"""

import os
import pathlib
import subprocess

TOP = pathlib.Path(__file__).resolve().parents[2]
KIT = pathlib.Path(os.environ.get("GUEST_KIT", TOP / "build/guest")).resolve()
PROGRAM = pathlib.Path(os.environ.get("PLATTER",
                                      TOP / "build/platter")).resolve()
BOOT_SECONDS = 900


def machine(tmp_path, script, *words):
    """The command line; the script is the first drive, `words` say the rest."""
    path = tmp_path / "script"
    path.write_text(script + "\n" * (-len(script) % 512))
    return ["qemu-system-x86_64", "-accel", "tcg", "-m", "256", "-smp", "2",
            "-nographic", "-no-reboot", "-nodefaults", "-serial", "stdio",
            "-kernel", str(KIT / "vmlinuz"), "-initrd", str(KIT / "initrd"),
            "-append", "console=ttyS0 quiet panic=-1",
            "-drive", f"file={path},format=raw,if=virtio,readonly=on", *words]


def boot(tmp_path, script, *words):
    """What it said; it has to end well."""
    done = subprocess.run(machine(tmp_path, script, *words), check=False,
                          capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, timeout=BOOT_SECONDS)
    assert "guest: good" in done.stdout, done.stdout[-3000:] + done.stderr
    return done.stdout


def fsck(platter, tmp_path, name, form):
    """The file system in an image is sound; leaves it in look.raw."""
    platter.good("convert -f", form, "-O raw", name, "look.raw")
    done = subprocess.run(["e2fsck", "-f", "-n", "look.raw"], check=False,
                          capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
