# SPDX-License-Identifier: BSD-3-Clause
"""Linux's own NBD client, in a guest, keeps a file system on our exports.

The guest reaches the server on this host's loopback through QEMU's user
networking, with one connection or several.
"""

import hashlib
import socket
import subprocess

import nbd_server
import pytest
from guests import PROGRAM, boot, fsck
from tools import Tool

SIZE = "192M"
START_SECONDS = 30
HOST = "10.0.2.2"
NETWORK = ["-netdev", "user,id=net", "-device",
           "virtio-net-pci,netdev=net,romfile="]

CONNECT = """
ifconfig lo 127.0.0.1 up
ifconfig eth0 10.0.2.15 netmask 255.255.255.0 up || exit 1
insmod /modules/nbd.ko nbds_max=2 || exit 1
connect() {
	/tools/nbd-client HOST PORT /dev/nbd0 -N disk -C CONNECTIONS >/out 2>&1 &&
		[ "$(cat /sys/block/nbd0/size)" -gt 0 ] || { cat /out; exit 1; }
}
disconnect() {
	/tools/nbd-client -d /dev/nbd0 >/out 2>&1 || { cat /out; exit 1; }
	while [ -e /sys/block/nbd0/pid ]; do sleep 1; done
}
"""

# Data that stays, data that is trimmed, and a second connection that looks.
USE = CONNECT + """
connect
/tools/mke2fs -q -t ext4 /dev/nbd0 && mount -t ext4 /dev/nbd0 /mnt || exit 1
cd /mnt
for n in $(seq 30); do
	dd if=/dev/urandom of=file$n bs=64k count=$((n % 7 + 1)) 2>/dev/null &
	[ $((n % 4)) != 0 ] || wait
done
wait
cp -r /lib64 /bin /tools /mnt/ || exit 1
dd if=/dev/urandom of=big bs=1M count=64 2>/dev/null || exit 1
sync
rm big file3 file7
sync
fstrim -v /mnt || exit 1
md5sum $(find . -type f ! -name sums | sort) >sums
cd / && sync && umount /mnt || exit 1
disconnect
connect
/tools/e2fsck -f -n /dev/nbd0 && mount -t ext4 /dev/nbd0 /mnt || exit 1
cd /mnt
md5sum -c sums >/out || { grep -v OK /out; exit 1; }
cd / && umount /mnt || exit 1
disconnect
"""

# Unaligned for the file system's pages, and all over the disk.
SCATTER = CONNECT + """
connect
n=0
while [ $n -lt 64 ]; do
	printf "block %04d" $n | dd of=/dev/nbd0 bs=1 seek=$((n * 1048573)) \\
		conv=notrunc 2>/dev/null || exit 1
	n=$((n + 1))
done
blkdiscard -o 100663296 -l 33554432 /dev/nbd0 || exit 1
dd if=/dev/zero of=/dev/nbd0 bs=1M seek=128 count=32 conv=notrunc,fsync \
	2>/dev/null || exit 1
sync
disconnect
"""


class TcpServer(nbd_server.Server):
    """platter serve on a port of the loopback, ended by its pid."""

    def __init__(self, folder, *words):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.process = subprocess.Popen(
            [str(PROGRAM), "serve", "-b", "127.0.0.1", "-p", str(self.port),
             "-x", "disk", *words], cwd=folder, stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True)
        self.wait_until_it_listens()

    def listens(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        _, text = self.process.communicate(timeout=START_SECONDS)
        assert (self.process.returncode, text) == (0, "")

    def script(self, text, connections):
        for word, value in (("HOST", HOST), ("PORT", str(self.port)),
                            ("CONNECTIONS", str(connections))):
            text = text.replace(word, value)
        return text


@pytest.fixture
def platter(tmp_path):
    return Tool(PROGRAM, tmp_path)


def verify_files(tmp_path):
    """The guest's sums hold for what is in look.raw."""
    out = tmp_path / "files"
    out.mkdir()
    subprocess.run(["debugfs", "-R", f"rdump / {out}", "look.raw"], check=True,
                   capture_output=True, cwd=tmp_path)
    lines = (out / "sums").read_text().splitlines()
    for line in lines:
        total, _, name = line.partition("  ")
        found = hashlib.md5((out / name).read_bytes()).hexdigest()
        assert found == total, name
    assert len(lines) > 28
    assert not (out / "big").exists()


IMAGES = {
    "raw": ("raw", [], 1),
    "raw, two connections": ("raw", [], 2),
    "qcow2": ("qcow2", [], 1),
    "qcow2, two connections": ("qcow2", ["-o", "cluster_size=4k"], 2),
}


@pytest.mark.parametrize("form,options,connections", IMAGES.values(),
                         ids=IMAGES)
def test_a_file_system_stays_whole(form, options, connections, platter,
                                   tmp_path):
    platter.good("create -q -f", form, options, "disk.img", SIZE)
    with TcpServer(tmp_path, "-f", form, "disk.img") as server:
        said = boot(tmp_path, server.script(USE, connections), *NETWORK)
    if form == "qcow2":
        platter.good("check -q disk.img")
    fsck(platter, tmp_path, "disk.img", form)
    verify_files(tmp_path)
    # What was trimmed is a hole again: 64 MiB were deleted.
    assert "trimmed" in said
    data = (tmp_path / "look.raw").stat().st_blocks * 512
    assert data < 64 << 20


@pytest.mark.parametrize("form", ["raw", "qcow2"])
def test_blocks_are_where_the_guest_put_them(form, platter, tmp_path):
    size = int(SIZE[:-1]) << 20
    pattern = bytes(range(256)) * 4096
    (tmp_path / "source.raw").write_bytes(pattern * (size // len(pattern)))
    platter.good("convert -f raw -O", form, "source.raw disk.img")
    expected = bytearray((tmp_path / "source.raw").read_bytes())
    for number in range(64):
        text = b"block %04d" % number
        at = number * 1048573
        expected[at:at + len(text)] = text
    expected[96 << 20:160 << 20] = bytes(64 << 20)
    with TcpServer(tmp_path, "-f", form, "disk.img") as server:
        boot(tmp_path, server.script(SCATTER, 2), *NETWORK)
    if form == "qcow2":
        platter.good("check -q disk.img")
    platter.good("convert -f", form, "-O raw disk.img look.raw")
    assert (tmp_path / "look.raw").read_bytes() == expected
