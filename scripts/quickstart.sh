#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Makes a real disk from this machine's own files, without root: a GPT, an ext4
# partition, 150 MiB of files. Then converts it there and back with platter
# and shows every command line before it runs.
#
#	quickstart.sh FOLDER	(PLATTER names the program)
set -Eeuo pipefail

export PATH=$PATH:/usr/sbin:/sbin
PLATTER=${PLATTER:?PLATTER has to name the program}
folder=${1:?usage: quickstart.sh FOLDER}

tree_mib=150
disk_mib=1024
first_mib=1
part_mib=$((disk_mib - 2))

stage=starting
trap 'printf "\nquickstart: failed while %s\n" "$stage" >&2' ERR

say() {
	printf '\n# %s\n' "$*"
}

# Shows a command as one could type it, and runs it.
run() {
	local word
	stage="running: $*"
	printf '$'
	for word; do
		printf ' %q' "$word"
	done
	printf '\n'
	"$@"
}

need() {
	command -v "$1" >/dev/null && return
	printf 'quickstart: %s is missing; run: make deps\n' "$1" >&2
	exit 1
}

# Copies readable files of everyday size until there are tree_mib of them.
make_tree() {
	local tree
	stage="collecting files below $folder/tree"
	mkdir -p "$folder/tree"
	find /usr/share /usr/bin /usr/lib -xdev -type f -readable -size -4M \
		-size +0 -printf '%s %p\n' 2>/dev/null |
		LC_ALL=C sort -k 2 |
		awk -v budget=$((tree_mib << 20)) \
			'(used += $1) <= budget { sub(/^[0-9]+ \//, ""); print }' \
			>"$folder/files"
	tree=$(realpath "$folder/tree")
	(cd / && xargs -d '\n' cp --parents -p -t "$tree") <"$folder/files"
	printf '%d files, %s\n' "$(wc -l <"$folder/files")" \
		"$(du -sh --apparent-size "$folder/tree" | cut -f 1)"
}

# The partition first, as an image of its own, then its place in the disk.
make_disk() {
	local part=$folder/part.img disk=$folder/disk.raw
	stage="making the file system"
	truncate -s "${part_mib}M" "$part"
	mke2fs -q -F -t ext4 -d "$folder/tree" "$part"
	stage="making the partition table"
	truncate -s "${disk_mib}M" "$disk"
	printf 'label: gpt\nstart=%dMiB, size=%dMiB, name=files\n' \
		"$first_mib" "$((part_mib - 1))" | sfdisk -q "$disk"
	stage="putting the partition into the disk"
	dd if="$part" of="$disk" bs=1M seek="$first_mib" \
		conv=sparse,notrunc status=none
	rm "$part"
}

need mke2fs
need sfdisk
[ -x "$PLATTER" ] || need "$PLATTER"

# Paths are shown short, and work from here.
rm -rf "$folder"
mkdir -p "$folder"

say "A disk of $disk_mib MiB with files of this machine: $folder/disk.raw"
make_tree
make_disk

say "Compress it into qcow2, with zstd"
run "$PLATTER" convert -p -f raw -O qcow2 -c -o compression_type=zstd \
	"$folder/disk.raw" "$folder/disk.qcow2"
say "Check the metadata of the new image"
run "$PLATTER" check -f qcow2 "$folder/disk.qcow2"
say "Turn it back into a plain disk"
run "$PLATTER" convert -p -f qcow2 -O raw \
	"$folder/disk.qcow2" "$folder/back.raw"
say "Both disks hold the same bytes"
run "$PLATTER" compare -f raw -F raw "$folder/disk.raw" "$folder/back.raw"
run cmp "$folder/disk.raw" "$folder/back.raw"
say "What it is now"
run "$PLATTER" info -f qcow2 "$folder/disk.qcow2"

cat <<END

It works. What to try next:
  $PLATTER map --output=json -f qcow2 $folder/disk.qcow2 | head
  $PLATTER create -f qcow2 -b disk.qcow2 -F qcow2 $folder/layer.qcow2
  $PLATTER measure -O qcow2 -f raw $folder/disk.raw
  $PLATTER --help
END
