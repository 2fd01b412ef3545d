#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Makes what guests boot from: Debian's cloud kernel, unpacked and not installed,
# and an initial file system of busybox, e2fsprogs and nbd-client that runs the
# script on the first drive.
#
#	make-kit.sh FOLDER
set -euo pipefail

kit=$(realpath -m "$1")
[ ! "$kit/initrd" -nt "$0" ] || exit 0
# Tools that make file systems live there.
export PATH=$PATH:/usr/sbin:/sbin
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$kit"

package=$(apt-cache depends linux-image-cloud-amd64 |
	sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
(cd "$work" && apt-get download -qq "$package")
dpkg-deb -x "$work"/linux-image-*.deb "$work/kernel"
cp "$work"/kernel/boot/vmlinuz-* "$kit/vmlinuz"

root=$work/root
mkdir -p "$root"/{bin,dev,proc,sys,mnt,modules,lib64}
cp "$(command -v busybox)" "$root/bin/busybox"

# with_libraries PROGRAM: it and what it is linked with, in the same places.
with_libraries() {
	local path
	install -D "$(command -v "$1")" "$root/tools/$1"
	for path in $(ldd "$(command -v "$1")" | grep -o '/[^ ]*'); do
		install -D "$path" "$root$path"
	done
}
with_libraries mke2fs
with_libraries e2fsck
with_libraries nbd-client
install -D /etc/mke2fs.conf "$root/etc/mke2fs.conf"

# In the order in which they need each other; the others are loaded by scripts.
drivers="virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev \
virtio_pci virtio_blk failover net_failover virtio_net"
others="nbd vsock vmw_vsock_virtio_transport_common vsock_loopback \
ctr gf128mul ghash-generic gcm tls"
for name in $drivers $others; do
	found=$(find "$work/kernel" -name "$name.ko")
	[ -z "$found" ] || cp "$found" "$root/modules/"
done
echo "$drivers" >"$root/modules/order"

cat >"$root/init" <<'END'
#!/bin/busybox sh
[ $$ = 1 ] || exit 1
/bin/busybox --install -s /bin
export PATH=/bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
for name in $(cat /modules/order); do
	[ ! -e /modules/$name.ko ] || insmod /modules/$name.ko
done
# The first drive is the script, padded with newlines.
sh /dev/vda </dev/null && echo "guest: good" || echo "guest: bad"
sync
poweroff -f
END
chmod +x "$root/init"
(cd "$root" && find . | cpio --quiet -o -H newc | gzip -1) >"$kit/initrd.new"
mv "$kit/initrd.new" "$kit/initrd"
