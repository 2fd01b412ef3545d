#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Runs fuzz targets, as many at once as there are processors: first every seed
# whole, then SECONDS of new inputs.
#
#	fuzz.sh SECONDS WORK-FOLDER LOG-FOLDER PROGRAM...
#
# For each PROGRAM .../fuzz_NAME the seeds are tests/fuzz/corpus/NAME, words
# that help are tests/fuzz/dict/NAME.dict, inputs that are found are kept in
# WORK-FOLDER/fuzz_NAME. FUZZ_RUNS=n stops a target after n executions, should
# that come before SECONDS have passed. Leaves in LOG-FOLDER a file
# tests-fuzz-fuzz_NAME.log, and its exit status in a file .status beside it.
# Fails only if it could not run them.
set -euo pipefail

seconds=$1 work_top=$2 logs=$3
shift 3

# Freed memory need not be kept from reuse for long: executions are short. But it
# stays mapped: to map it anew took a fifth of the time. Deep stacks of what was
# allocated cost more than they tell: an input can be run again with them.
export ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}quarantine_size_mb=2
ASAN_OPTIONS+=:malloc_context_size=2:allocator_release_to_os_interval_ms=-1

fuzz_one() {
	local prog=$1 name work seeds limits counts=()
	name=$(basename "$prog")
	work=$work_top/$name
	seeds=tests/fuzz/corpus/${name#fuzz_}
	limits=(-timeout=10 -rss_limit_mb=1024
		"-artifact_prefix=$work/found-")
	[ -z "${FUZZ_RUNS:-}" ] || counts=("-runs=$FUZZ_RUNS")
	[ -z "${FUZZ_SEED:-}" ] || counts+=("-seed=$FUZZ_SEED")
	[ ! -e "tests/fuzz/dict/${name#fuzz_}.dict" ] ||
		limits+=("-dict=tests/fuzz/dict/${name#fuzz_}.dict")
	if [ ! -d "$seeds" ]; then
		printf 'no seeds in %s\n' "$seeds"
		return 1
	fi
	mkdir -p "$work/corpus"
	find "$seeds" -type f -exec "$prog" "${limits[@]}" {} + &&
		"$prog" "${limits[@]}" -max_total_time="$seconds" "${counts[@]}" \
			-print_final_stats=0 "$work/corpus" "$seeds"
}

# The timeout is for a target that hangs outside of an execution.
run_one() {
	local status=0 log
	log=$logs/tests-fuzz-$(basename "$1").log
	timeout -k 10 $((seconds + 900)) \
		bash -c 'fuzz_one "$@"' fuzz_one "$1" \
		>"$log" 2>&1 </dev/null || status=$?
	printf '%s\n' "$status" >"${log%.log}.status"
}

export -f fuzz_one
export seconds work_top
running=0
for prog; do
	if [ "$running" -ge "$(nproc)" ]; then
		wait -n
		running=$((running - 1))
	fi
	run_one "$prog" &
	running=$((running + 1))
done
wait
