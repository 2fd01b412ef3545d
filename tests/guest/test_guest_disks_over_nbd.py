# SPDX-License-Identifier: BSD-3-Clause
"""Guests keep a file system on disks that we serve: `make test-guest`.

The guest is a Linux kernel under software emulation. It makes a file system,
fills it, deletes, and checks; another boot finds all of it, and so does fsck on
the host, in the image as the server left it. GUEST_KIT is the folder that
make-kit.sh filled.
"""

import os
import pathlib
import signal
import subprocess
import sys

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests/interop"))

from nbd_server import Server, serving
from tools import Tool

KIT = pathlib.Path(os.environ.get("GUEST_KIT", TOP / "build/guest")).resolve()
PROGRAM = pathlib.Path(os.environ.get("PLATTER",
                                      TOP / "build/platter")).resolve()
BOOT_SECONDS = 300
SIZE = "256M"

FILL = """
/e2fs/mke2fs -q -t ext4 /dev/vda && mount -t ext4 -o discard /dev/vda /mnt || exit 1
cd /mnt
for n in $(seq 40); do
	dd if=/dev/urandom of=file$n bs=64k count=$((n % 7 + 1)) 2>/dev/null
done
cp -r /lib /bin /e2fs /mnt/
for n in $(seq 3 3 40); do rm file$n; done
sync
md5sum $(find . -type f ! -name sums | sort) >sums
cd / && sync && umount /mnt
/e2fs/e2fsck -f -n /dev/vda
"""

LOOK = """
/e2fs/e2fsck -f -n /dev/vda && mount -t ext4 /dev/vda /mnt && cd /mnt || exit 1
md5sum -c sums >/out || { grep -v OK /out; exit 1; }
[ "$(wc -l <sums)" -gt 30 ]
"""

# Writes and flushes until it is cut off; each mark says what is on the disk.
WORK = """
/e2fs/mke2fs -q -t ext4 /dev/vda && mount -t ext4 /dev/vda /mnt || exit 1
n=0
while [ $n -lt 4000 ]; do
	n=$((n + 1))
	dd if=/dev/urandom of=/mnt/f$n bs=4k count=$((n % 9 + 1)) 2>/dev/null
	if [ $((n % 10)) = 0 ]; then
		sync
		echo "durable $n"
	fi
done
"""

AFTER = """
/e2fs/e2fsck -f -y /dev/vda >/dev/null
[ $? -le 1 ] && mount -t ext4 /dev/vda /mnt || exit 1
n=0
while [ $n -lt LAST ]; do
	n=$((n + 1))
	size=$(stat -c %s /mnt/f$n) || exit 1
	[ "$size" = $((4096 * (n % 9 + 1))) ] || { echo "f$n: $size"; exit 1; }
done
"""


def machine(tmp_path, script, uri):
    """The command line; the script is the second drive."""
    path = tmp_path / "script"
    path.write_text(script + "\n" * (-len(script) % 512))
    return ["qemu-system-x86_64", "-accel", "tcg", "-m", "256", "-smp", "2",
            "-nographic", "-no-reboot", "-nodefaults", "-serial", "stdio",
            "-kernel", str(KIT / "vmlinuz"), "-initrd", str(KIT / "initrd"),
            "-append", "console=ttyS0 quiet panic=-1",
            "-drive", f"file={uri},format=raw,if=virtio,discard=unmap,"
                      "cache=none,aio=threads",
            "-drive", f"file={path},format=raw,if=virtio,readonly=on"]


def boot(tmp_path, script, uri):
    done = subprocess.run(machine(tmp_path, script, uri), check=False,
                          capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, timeout=BOOT_SECONDS)
    assert "guest: good" in done.stdout, done.stdout[-3000:] + done.stderr
    return done.stdout


@pytest.fixture
def platter(tmp_path):
    return Tool(PROGRAM, tmp_path)


def fsck(platter, tmp_path, name, form):
    platter.good("convert -f", form, "-O raw", name, "look.raw")
    done = subprocess.run(["e2fsck", "-f", "-n", "look.raw"], check=False,
                          capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout


IMAGES = {
    "raw": ("raw", ""),
    "qcow2": ("qcow2", ""),
    "small clusters": ("qcow2", "-o cluster_size=4k,lazy_refcounts=on"),
    "old": ("qcow2", "-o compat=0.10"),
}


@pytest.mark.parametrize("form,options", IMAGES.values(), ids=IMAGES)
def test_a_file_system_stays_whole(form, options, platter, tmp_path):
    platter.good("create -q -f", form, options, "disk.img", SIZE)
    for script in (FILL, LOOK):
        with serving(PROGRAM, tmp_path, "-f", form, "disk.img") as server:
            boot(tmp_path, script, server.uri())
    if form == "qcow2":
        platter.good("check -q disk.img")
    fsck(platter, tmp_path, "disk.img", form)


@pytest.mark.parametrize("options", ["-o cluster_size=64k",
                                     "-o cluster_size=4k,lazy_refcounts=on"])
def test_what_a_guest_made_durable_outlives_a_kill(options, platter, tmp_path):
    """The server is killed in the midst of a guest's work."""
    platter.good("create -q -f qcow2", options, "disk.img", SIZE)
    server = Server(PROGRAM, tmp_path, "-f", "qcow2", "disk.img")
    guest = subprocess.Popen(machine(tmp_path, WORK, server.uri()), text=True,
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT)
    last = 0
    for line in guest.stdout:
        if line.startswith("durable "):
            last = int(line.split()[1])
            if last >= 300:
                break
    server.stop(signal.SIGKILL)
    guest.kill()
    guest.communicate(timeout=60)
    assert last >= 300
    check = platter("check -r all disk.img")
    assert check.returncode == 0, check.stdout
    with serving(PROGRAM, tmp_path, "-f", "qcow2", "disk.img") as again:
        boot(tmp_path, AFTER.replace("LAST", str(last)), again.uri())
    platter.good("check -q disk.img")
