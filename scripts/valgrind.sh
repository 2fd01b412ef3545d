#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Runs the program in a set of commands under valgrind: sees the use of memory
# from the heap that nobody set, which the sanitizers of gcc do not. Any error
# or definite leak fails.
#
#	valgrind.sh FOLDER [TEST-PROGRAM...]	(PLATTER names the program)
set -euo pipefail

PLATTER=$(realpath "${PLATTER:?PLATTER has to name the program}")
folder=${1:?usage: valgrind.sh FOLDER [TEST-PROGRAM...]}
shift
mkdir -p "$folder"
folder=$(realpath "$folder")
limit_seconds=${STEP_SECONDS:-300}

options=(--quiet --error-exitcode=99 --leak-check=full
	--errors-for-leak-kinds=definite --show-leak-kinds=definite
	--num-callers=20 --fair-sched=yes)
failed=()
passed=0

# report NAME STATUS
report() {
	if [ "$2" = 0 ]; then
		passed=$((passed + 1))
		printf 'ok    %s\n' "$1"
	else
		failed+=("$1")
		cat "$folder/$1.log"
		printf 'FAIL  %s (status %s)\n' "$1" "$2"
	fi
}

# check NAME COMMAND...
check() {
	local name=$1 status=0
	shift
	timeout -k 10 "$limit_seconds" valgrind "${options[@]}" "$@" \
		>"$folder/$name.log" 2>&1 </dev/null || status=$?
	report "$name" "$status"
}

# On images in the folder; a status other than 0 fails.
platter() {
	check "platter-$1" "$PLATTER" "${@:2}"
}

commands() {
	local q=disk.qcow2 z=zstd.qcow2 o=layer.qcow2
	platter create create -q -f qcow2 -o cluster_size=4k $q 8M
	platter io-write io -f qcow2 -c "write -P 7 1000 300000" \
		-c "write -z 64k 64k" -c "discard 1M 128k" \
		-c "aio_write -P 9 2M 64k" -c "aio_read 0 64k" \
		-c "aio_flush" -c "flush" $q
	platter check check -f qcow2 $q
	platter info info --output=json -f qcow2 $q
	platter map map --output=json -f qcow2 $q
	platter convert-raw convert -f qcow2 -O raw $q disk.raw
	platter convert-zlib convert -c -f raw -O qcow2 disk.raw zlib.qcow2
	platter convert-zstd convert -c -f raw -O qcow2 \
		-o compression_type=zstd disk.raw $z
	platter compare compare -f raw -F qcow2 disk.raw $z
	platter measure measure -f raw -O qcow2 disk.raw
	platter layer create -q -f qcow2 -b $q -F qcow2 $o
	platter layer-write io -f qcow2 -c "write -P 3 3M 5000" \
		-c "read -v 3M 16" $o
	platter chain info --backing-chain -f qcow2 $o
	platter grow resize -f qcow2 $z 16M
	platter shrink resize --shrink -f qcow2 $z 4M
	# Two references to cluster 0, and a hole in the counts.
	printf '\xff\xff' | dd of=$q bs=1 seek=8192 conv=notrunc status=none
	platter repair check -q -r all -f qcow2 $q
	platter dd dd -f raw -O raw bs=4k count=9 if=disk.raw of=part.raw
	gzip -k -f disk.raw
	platter stream convert -f raw -O qcow2 disk.raw.gz stream.qcow2
	platter bench bench -f raw -c 100 -d 8 -w part.raw
}

for prog; do
	check "$(basename "$prog")" "$prog"
done
rm -rf "$folder/images"
mkdir "$folder/images"
cd "$folder/images"
commands

if [ ${#failed[@]} -gt 0 ]; then
	printf '\nfailed, with the full output in %s:\n' "$folder"
	printf '  %s\n' "${failed[@]}"
fi
printf '\n%d passed, %d failed\n' "$passed" "${#failed[@]}"
[ ${#failed[@]} -eq 0 ]
