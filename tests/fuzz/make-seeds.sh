#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Makes the seeds of the qcow2 fuzz targets with qemu-img and qemu-io. The
# results are in the tree; run this only to make other ones.
#
#	tests/fuzz/make-seeds.sh [FOLDER]     default: tests/fuzz/corpus
set -euo pipefail

corpus=$(realpath -m "${1:-$(dirname "${BASH_SOURCE[0]}")/corpus}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
mkdir -p "$corpus"/qcow2_{header,snapshot,image} "$corpus/inspect"

img() { # img NAME SIZE OPTION,...
	qemu-img create -q -f qcow2 -u -o "$3" "$1" "$2"
}

io() { # io NAME COMMAND...
	local name=$1 args=() c
	shift
	for c in "$@"; do args+=(-c "$c"); done
	qemu-io -f qcow2 "${args[@]}" "$name" >/dev/null
}

# --- whole images, with clusters so small that tables have neighbours ---------

img empty.qcow2 64K cluster_size=512
img v2.qcow2 64K cluster_size=512,compat=0.10
io v2.qcow2 'write -P 1 0 4k' 'write -c -P 2 8k 512' 'write -c -P 3 8704 512'
img data.qcow2 256K cluster_size=512
io data.qcow2 'write -P 1 0 6k' 'write -P 2 100k 3k' 'write -z 2k 1k' \
	'write -z -u 101k 512'
img packed.qcow2 64K cluster_size=4k
io packed.qcow2 'write -c -P 1 0 4k' 'write -c -P 2 4k 4k' 'write -P 3 8k 4k'
img zstd.qcow2 64K cluster_size=4k,compression_type=zstd
io zstd.qcow2 'write -c -P 1 0 4k' 'write -c -P 2 12k 4k'
for bits in 1 2 8 64; do
	img "width$bits.qcow2" 64K "cluster_size=512,refcount_bits=$bits"
	io "width$bits.qcow2" 'write -P 1 0 3k'
done
img lazy.qcow2 64K cluster_size=512,lazy_refcounts=on
io lazy.qcow2 'write -P 1 0 2k'
img snap.qcow2 64K cluster_size=512
io snap.qcow2 'write -P 1 0 2k'
qemu-img snapshot -c first snap.qcow2
io snap.qcow2 'write -P 2 1k 2k'
qemu-img snapshot -c second snap.qcow2
img bitmap.qcow2 64K cluster_size=512
qemu-img bitmap --add -g 512 bitmap.qcow2 b0
qemu-img bitmap --add bitmap.qcow2 second
img backing.qcow2 64K cluster_size=512,backing_file=base.raw,backing_fmt=raw
img ext-l2.qcow2 64K cluster_size=16k,extended_l2=on
cp -- *.qcow2 "$corpus/qcow2_image/"

# --- headers: the first 4 KiB of more kinds ------------------------------------

img default.qcow2 1G cluster_size=64k,backing_file=base.qcow2,backing_fmt=qcow2
img default-v2.qcow2 1G compat=0.10,backing_file=base.qcow2,backing_fmt=qcow2
img big.qcow2 1T cluster_size=2M
: >data.raw
img data-file.qcow2 64K cluster_size=4k,data_file=data.raw,data_file_raw=on
qemu-img create -q -f qcow2 --object secret,id=s,data=seed \
	-o encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10 \
	luks.qcow2 64K
for name in *.qcow2; do
	head -c 4096 "$name" >"$corpus/qcow2_header/${name%.qcow2}"
done

# --- tables: one byte for the kind, then the table -----------------------------

# field FILE OFFSET BYTES: a big endian number
field() {
	printf '%d' "0x$(od -An -v -tx1 -j "$2" -N "$3" "$1" | tr -d ' \n')"
}

# table KIND FILE HOST_OFFSET LENGTH NAME
table() {
	{
		printf '%s' "$1"
		tail -c "+$(($3 + 1))" "$2" | head -c "$4"
	} >"$corpus/qcow2_snapshot/$5"
}

table 3 snap.qcow2 "$(field snap.qcow2 64 8)" 152 two-snapshots
table 2 snap.qcow2 "$(field snap.qcow2 64 8)" 152 two-snapshots-v2
# The bitmaps extension is the first behind a header with clusters of 512.
table b bitmap.qcow2 "$(field bitmap.qcow2 136 8)" \
	"$(field bitmap.qcow2 128 8)" two-bitmaps

# --- one file of each format for the judge -------------------------------------

img plain.qcow2 64K cluster_size=512
img backing.qcow2 64K cluster_size=512,backing_file=b.raw,backing_fmt=raw
img data-file.qcow2 64K cluster_size=512,data_file=data.raw
cp plain.qcow2 backing.qcow2 data-file.qcow2 "$corpus/inspect/"
truncate -s 64K zeros.raw
for subformat in monolithicSparse streamOptimized; do
	qemu-img convert -f raw -O vmdk -o "subformat=$subformat" zeros.raw \
		"$subformat.vmdk"
	head -c 12K "$subformat.vmdk" >"$corpus/inspect/$subformat"
done
qemu-img create -q -f vmdk -o subformat=monolithicFlat flat.vmdk 64K
cp flat.vmdk "$corpus/inspect/descriptor"
for format in vdi vpc qed parallels; do
	qemu-img create -q -f "$format" "disk.$format" 64K
	head -c 4K "disk.$format" >"$corpus/inspect/$format"
done
qemu-img create -q -f vpc -o subformat=fixed fixed.vpc 64K
tail -c 512 fixed.vpc >"$corpus/inspect/vpc-fixed"
qemu-img create -q -f luks --object secret,id=s,data=seed \
	-o key-secret=s,iter-time=10 disk.luks 1M
head -c 592 disk.luks >"$corpus/inspect/luks"

# mbr TYPE: an MBR with a protective entry, and a second one of this type
mbr() {
	head -c 446 /dev/zero
	printf '\0\0\2\0\356\377\377\377\1\0\0\0\377\0\0\0'
	printf '\0\0\0\0%b' "\\0$1"
	head -c 43 /dev/zero
	printf '\125\252EFI PART'
	head -c 504 /dev/zero
}

mbr 000 >"$corpus/inspect/gpt"
mbr 203 >"$corpus/inspect/gpt-hybrid"
