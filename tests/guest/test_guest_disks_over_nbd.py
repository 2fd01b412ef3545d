# SPDX-License-Identifier: BSD-3-Clause
"""Guests keep a file system on disks that we serve: `make test-guest`.

The guest is a Linux kernel under software emulation. It makes a file system,
fills it, deletes, and checks; another boot finds all of it, and so does fsck on
the host, in the image as the server left it. Here QEMU is the client; that of
the guest's kernel is in test_kernel_is_a_client.py.
"""

import signal
import subprocess

import pytest
from guests import PROGRAM, boot, fsck, machine
from nbd_server import Server, serving
from tools import Tool

SIZE = "256M"

FILL = """
/tools/mke2fs -q -t ext4 /dev/vdb && mount -t ext4 -o discard /dev/vdb /mnt || exit 1
cd /mnt
for n in $(seq 40); do
	dd if=/dev/urandom of=file$n bs=64k count=$((n % 7 + 1)) 2>/dev/null
done
cp -r /lib /bin /tools /mnt/
for n in $(seq 3 3 40); do rm file$n; done
sync
md5sum $(find . -type f ! -name sums | sort) >sums
cd / && sync && umount /mnt
/tools/e2fsck -f -n /dev/vdb
"""

LOOK = """
/tools/e2fsck -f -n /dev/vdb && mount -t ext4 /dev/vdb /mnt && cd /mnt || exit 1
md5sum -c sums >/out || { grep -v OK /out; exit 1; }
[ "$(wc -l <sums)" -gt 30 ]
"""

# Writes and flushes until it is cut off; each mark says what is on the disk.
WORK = """
/tools/mke2fs -q -t ext4 /dev/vdb && mount -t ext4 /dev/vdb /mnt || exit 1
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
/tools/e2fsck -f -y /dev/vdb >/dev/null
[ $? -le 1 ] && mount -t ext4 /dev/vdb /mnt || exit 1
n=0
while [ $n -lt LAST ]; do
	n=$((n + 1))
	size=$(stat -c %s /mnt/f$n) || exit 1
	[ "$size" = $((4096 * (n % 9 + 1))) ] || { echo "f$n: $size"; exit 1; }
done
"""


def drive(server):
    """The guest's /dev/vdb is an export."""
    return ["-drive", f"file={server.uri()},format=raw,if=virtio,"
                      "discard=unmap,cache=none,aio=threads"]


@pytest.fixture
def platter(tmp_path):
    return Tool(PROGRAM, tmp_path)


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
            boot(tmp_path, script, *drive(server))
    if form == "qcow2":
        platter.good("check -q disk.img")
    fsck(platter, tmp_path, "disk.img", form)


@pytest.mark.parametrize("options", ["-o cluster_size=64k",
                                     "-o cluster_size=4k,lazy_refcounts=on"])
def test_what_a_guest_made_durable_outlives_a_kill(options, platter, tmp_path):
    """The server is killed in the midst of a guest's work."""
    platter.good("create -q -f qcow2", options, "disk.img", SIZE)
    server = Server(PROGRAM, tmp_path, "-f", "qcow2", "disk.img")
    guest = subprocess.Popen(machine(tmp_path, WORK, *drive(server)), text=True,
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
        boot(tmp_path, AFTER.replace("LAST", str(last)), *drive(again))
    platter.good("check -q disk.img")
