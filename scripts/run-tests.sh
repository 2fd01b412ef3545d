#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Runs test suites one step after the other, and all of them even if some fail:
#
#	run-tests.sh [--variant asan|tsan|release|coverage] [--long] SUITE...
#
#	tidy         the source rules
#	unit         tests/unit/test_*.c, each a program
#	crash fault  tests/crash/*.c and tests/fault/*.c, each a program
#	shim         tests/shim/inject.py: the shipped program with failing calls
#	peer         tests/crash-peer: crash states of platter and qemu-io
#	fuzz         tests/fuzz/fuzz_*.c: see scripts/fuzz.sh; for FUZZ_SECONDS
#	replay       their seeds only, without libFuzzer: for --variant coverage
#	cli interop  tests/cli and tests/interop, with pytest
#	differential tests/differential: random operations, as QEMU does them
#	hostile      tests/hostile: hostile images, by all programs that there are
#
# A step is one program, or one pytest folder. Its full output is kept in
# BUILD/test-logs; the screen shows its closing lines, or everything if it
# failed. The last line says how many steps passed and how many failed.
#
# From the environment: MAKE, BUILD, PYTHON, V=1 (show all output), T (regular
# expression: only the steps whose path matches), FUZZ_SECONDS, FUZZ_SEED,
# STEP_SECONDS (when to give up on a step that hangs).
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."

MAKE=${MAKE:-make}
BUILD=${BUILD:-build}
PYTHON=${PYTHON:-/usr/bin/python3}
V=${V:-0}
T=${T:-}

variant=
short=(--short)
fuzz_seconds=5
passed=0
failed=()

die() {
	printf 'run-tests: %s\n' "$*" >&2
	exit 2
}

# --- building ----------------------------------------------------------------

# Under a make with a job server its limit holds; alone, one job a processor.
jobs=()
case ${MAKEFLAGS:-} in
*jobserver*) ;;
*) jobs=(-j"$(nproc)") ;;
esac

# build VARIANT TARGET...
build() {
	"$MAKE" "${jobs[@]}" BUILD="$BUILD" VARIANT="$1" "${@:2}"
}

out_dir() {
	case $1 in
	release) printf '%s' "$BUILD" ;;
	*) printf '%s/%s' "$BUILD" "$1" ;;
	esac
}

# --- steps -------------------------------------------------------------------

wanted() {
	[[ -z $T || $1 =~ $T ]]
}

# The files that match both the glob patterns and T, into the array `found`.
find_tests() {
	local path
	found=()
	for path; do
		if [ -e "$path" ] && wanted "$path"; then
			found+=("$path")
		fi
	done
}

nothing_in() {
	if [ -z "$T" ]; then
		printf 'none  %s: no tests yet, not counted\n' "$1"
	fi
}

count_pass() {
	passed=$((passed + 1))
	printf 'ok    %s\n' "$1"
}

count_fail() {
	failed+=("$1")
	printf 'FAIL  %s (%s)\n' "$1" "$2"
}

# What a runner says about itself at its end: the last lines of cmocka; of
# pytest and everybody else the last line.
closing_lines() {
	grep -E '^\[(==========|  PASSED  |  SKIPPED )\] [0-9]+ test' "$1" |
		grep -v Running || tail -n 1 "$1"
}

# step NAME SECONDS COMMAND...
step() {
	local name=$1 seconds=$2 log status=0
	shift 2
	log=$logs/${name//\//-}.log
	if [ "$V" = 1 ]; then
		timeout --foreground -k 10 "$seconds" "$@" 2>&1 </dev/null |
			tee "$log" || status=$?
	else
		timeout --foreground -k 10 "$seconds" "$@" \
			>"$log" 2>&1 </dev/null || status=$?
	fi

	if [ "$status" -eq 0 ]; then
		[ "$V" = 1 ] || closing_lines "$log"
		count_pass "$name"
		return
	fi
	[ "$V" = 1 ] || cat "$log"
	if [ "$status" -eq 124 ]; then
		count_fail "$name" "no end after $seconds seconds"
	else
		count_fail "$name" "status $status"
	fi
}

# Address randomisation of newer kernels leaves TSan no room for its shadow.
launcher() {
	if [ "$1" = tsan ] && setarch -R true 2>/dev/null; then
		printf 'setarch -R'
	fi
}

# --- suites ------------------------------------------------------------------

suite_tidy() {
	wanted scripts/tidy || return 0
	step scripts/tidy "$step_seconds" "$PYTHON" scripts/tidy
}

# program_suite FOLDER [ARGUMENT...]: each of `found` is one program.
program_suite() {
	local folder=$1 v=${variant:-asan} src prog launch programs
	shift
	if [ ${#found[@]} -eq 0 ]; then
		nothing_in "$folder"
		return
	fi
	read -r -a launch <<<"$(launcher "$v")"

	# All at once first, for speed; whose build fails is seen below.
	programs=("${found[@]/#/"$(out_dir "$v")/"}")
	build "$v" -k "${programs[@]%.c}" >"$logs/build.log" 2>&1 || true
	for src in "${found[@]}"; do
		prog=$(out_dir "$v")/${src%.c}
		if ! build "$v" "$prog" >"$logs/build.log" 2>&1; then
			cat "$logs/build.log"
			count_fail "${src%.c}" "does not build"
			continue
		fi
		step "${src%.c}" "$step_seconds" "${launch[@]}" \
			"$(realpath "$prog")" "$@"
	done
}

suite_unit() {
	find_tests tests/unit/test_*.c
	program_suite tests/unit
}

suite_crash() {
	find_tests tests/crash/*.c
	program_suite tests/crash "${short[@]}"
	[ -z "$variant" ] || return 0
	crash_mass crash_qcow2 --states 200000
	crash_mass crash_layers --seeds 2
	crash_mass crash_traces --sparse 30
	if wanted tests/crash/crash_qcow2.c; then
		crash_breaks
	fi
}

# The mass of the states is judged without sanitizers, which take most of the
# time; what they find, they find in few states as well.
# crash_mass PROGRAM ARGUMENT...
crash_mass() {
	local name=tests/crash/$1
	wanted "$name.c" || return 0
	shift
	if ! build release "$BUILD/$name" >"$logs/build.log" 2>&1; then
		cat "$logs/build.log"
		count_fail "$name-release" "does not build"
		return
	fi
	step "$name-release" "$step_seconds" \
		"$(realpath "$BUILD/$name")" "$@"
}

# A build that can break the rules of durability, one at a time (breaks.h): the
# test has to notice each, and to pass where none is broken.
crash_breaks() {
	local name=tests/crash/crash_qcow2
	if ! build broken "$BUILD/broken/$name" >"$logs/build.log" 2>&1; then
		cat "$logs/build.log"
		count_fail "$name-broken" "does not build"
		return
	fi
	export -f notices_breaks ends_right
	step "$name-broken" "$step_seconds" bash -c 'notices_breaks "$@"' \
		notices_breaks "$(realpath "$BUILD/broken/$name")"
}

# notices_breaks PROGRAM. W7 shows where the refcount table gets full.
notices_breaks() {
	local full='--geometry 512-full-table --steps 200' wrong=0 rule
	ends_right "$1" 0 --short || wrong=$((wrong + 1))
	# shellcheck disable=SC2086 # several words
	ends_right "$1" 0 $full || wrong=$((wrong + 1))
	for rule in 1 2 3 4 6; do
		ends_right "$1" "$rule" --short || wrong=$((wrong + 1))
	done
	# shellcheck disable=SC2086
	ends_right "$1" 7 $full || wrong=$((wrong + 1))
	printf '8 runs with broken rules or none, %d ended wrong\n' "$wrong"
	[ "$wrong" -eq 0 ]
}

# ends_right PROGRAM RULE ARGUMENT...: 0 violations and status 0 only if no rule
# is broken; otherwise counted violations, and not just any failure.
ends_right() {
	local program=$1 rule=$2 status=0 closing violations='0'
	shift 2
	closing=$("$program" "$@" --break "$rule" 2>/dev/null) || status=$?
	closing=${closing##*$'\n'}
	[ "$rule" -eq 0 ] || violations='[1-9][0-9]*'
	printf 'rule %d broken: %s\n' "$rule" "$closing"
	[[ $closing =~ ^[1-9][0-9]*\ states,\ $violations\ violations$ ]] &&
		[ "$status" -eq $((rule != 0)) ]
}

suite_fault() {
	find_tests tests/fault/*.c
	program_suite tests/fault "${short[@]}"
}

# The program as it ships, with calls that fail; or the one that counts.
suite_shim() {
	local inject=tests/shim/inject.py shim=$BUILD/tests/shim/fault.so
	local v=release
	[ "$variant" != coverage ] || v=coverage
	wanted "$inject" || return 0
	if ! build "$v" all "$shim" >"$logs/build.log" 2>&1; then
		cat "$logs/build.log"
		count_fail "$inject" "does not build"
		return
	fi
	step "$inject" "$step_seconds" "$PYTHON" -B "$inject" "${short[@]}" \
		"$(out_dir "$v")/platter" "$shim"
}

# The programs as they ship, side by side: what a power cut leaves.
suite_peer() {
	local name=tests/crash-peer/crash_peer recorder
	recorder=$BUILD/tests/shim/record.so
	wanted "$name.c" || return 0
	if ! build release all "$recorder" "$BUILD/$name" \
		>"$logs/build.log" 2>&1; then
		cat "$logs/build.log"
		count_fail "$name" "does not build"
		return
	fi
	step "$name" "$step_seconds" "$(realpath "$BUILD/$name")" \
		"${short[@]}" --platter "$(realpath "$BUILD/platter")" \
		--recorder "$(realpath "$recorder")"
}

# How many inputs a target ran, new ones only.
executions() {
	sed -n 's/^Done \([0-9]*\) runs.*/\1/p' "$1" | tail -n 1
}

# fuzz_report NAME: what scripts/fuzz.sh left of a target.
fuzz_report() {
	local log=$logs/tests-fuzz-$1.log status
	status=$(cat "${log%.log}.status")
	if [ "$status" = 0 ]; then
		[ "$V" = 1 ] && cat "$log"
		fuzzed+=("$(printf '%-24s %12s' "$1" "$(executions "$log")")")
		count_pass "tests/fuzz/$1"
	else
		cat "$log"
		count_fail "tests/fuzz/$1" "status $status"
	fi
}

# All targets are built first, then run side by side.
suite_fuzz() {
	local src prog programs=() fuzzed=()
	find_tests tests/fuzz/fuzz_*.c
	if [ ${#found[@]} -eq 0 ]; then
		nothing_in tests/fuzz
		return
	fi
	programs=("${found[@]/#/"$(out_dir fuzz)/"}")
	build fuzz -k "${programs[@]%.c}" >"$logs/build.log" 2>&1 || true
	programs=()
	for src in "${found[@]}"; do
		prog=$(out_dir fuzz)/${src%.c}
		if build fuzz "$prog" >"$logs/build.log" 2>&1; then
			programs+=("$(realpath "$prog")")
		else
			cat "$logs/build.log"
			count_fail "${src%.c}" "does not build"
		fi
	done
	scripts/fuzz.sh "$fuzz_seconds" "$(out_dir fuzz)/work" "$logs" \
		"${programs[@]}"
	for prog in "${programs[@]}"; do
		fuzz_report "$(basename "$prog")"
	done
	if [ ${#fuzzed[@]} -gt 0 ]; then
		printf 'executions in %s s each:\n' "$fuzz_seconds"
		printf '  %s\n' "${fuzzed[@]}"
	fi
}

# What the seeds reach, counted.
suite_replay() {
	local src prog
	find_tests tests/fuzz/fuzz_*.c
	build coverage -k fuzz-programs >"$logs/build.log" 2>&1 || true
	for src in "${found[@]}"; do
		prog=${src##*/}
		prog=${prog%.c}
		step "tests/fuzz/$prog" "$step_seconds" find \
			"tests/fuzz/corpus/${prog#fuzz_}" -type f -exec \
			"$BUILD/coverage/tests/fuzz/$prog" {} +
	done
}

# pytest_suite FOLDER VARIANT
pytest_suite() {
	local folder=$1 v=$2 launch files
	mapfile -t files < <(find "$folder" -name 'test_*.py' 2>/dev/null |
		sort)
	find_tests "${files[@]}"
	if [ ${#found[@]} -eq 0 ]; then
		nothing_in "$folder"
		return
	fi
	if ! build "$v" all >"$logs/build.log" 2>&1; then
		cat "$logs/build.log"
		count_fail "$folder" "the $v program does not build"
		return
	fi
	read -r -a launch <<<"$(launcher "$v")"
	PLATTER=$(realpath "$(out_dir "$v")/platter") PLATTER_VARIANT=$v \
		PYTHONDONTWRITEBYTECODE=1 step "$folder" $((step_seconds * 2)) \
		"${launch[@]}" "$PYTHON" -m pytest -q -p no:cacheprovider \
		"${found[@]}"
}

suite_cli() {
	pytest_suite tests/cli "${variant:-asan}"
}

suite_interop() {
	pytest_suite tests/interop "${variant:-release}"
}

# A part of the images by the program, all of them by the replayed targets; and
# what a guest may write to a disk whose format was guessed.
hostile_coverage() {
	local out=$BUILD/coverage name=tests/hostile
	wanted "$name" || return 0
	build coverage -k all fuzz-programs >"$logs/build.log" 2>&1 || true
	out=$(realpath "$out")
	PLATTER=$out/platter PLATTER_VARIANT=coverage \
		PLATTER_SANITIZED=$out/platter PLATTER_FUZZ=$out \
		PYTHONDONTWRITEBYTECODE=1 step "$name" "$step_seconds" \
		"$PYTHON" -m pytest -q -p no:cacheprovider \
		-k "sanitized or guessed_disk" "$name/test_qcow2_answers.py" \
		"$name/test_raw_answers.py"
}

# All at once on all processors, so it is a program and not a pytest folder.
suite_differential() {
	local run=tests/differential/run.py
	wanted "$run" || return 0
	if ! build release all >"$logs/build.log" 2>&1; then
		cat "$logs/build.log"
		count_fail "$run" "does not build"
		return
	fi
	step "$run" "$step_seconds" "$PYTHON" -B "$run" --images 500 --seed 1 \
		"$BUILD/platter"
}

# Measured with the release program; the others have to be there as well.
suite_hostile() {
	local files
	if [ "$variant" = coverage ]; then
		hostile_coverage
		return
	fi
	mapfile -t files < <(printf '%s\n' tests/hostile/test_*.py)
	find_tests "${files[@]}"
	if [ ${#found[@]} -gt 0 ]; then
		build asan all >"$logs/build.log" 2>&1 || true
		build fuzz -k fuzz-programs >"$logs/build.log" 2>&1 || true
	fi
	HOSTILE_LONG=$((${#short[@]} == 0)) pytest_suite tests/hostile release
}

# --- main --------------------------------------------------------------------

suites=()
while [ $# -gt 0 ]; do
	case $1 in
	--variant)
		variant=${2:?--variant needs a name}
		shift
		;;
	--long)
		short=()
		fuzz_seconds=300
		;;
	tidy | unit | crash | peer | fault | shim | fuzz | replay | cli | \
		interop | differential | hostile)
		suites+=("$1")
		;;
	*) die "unknown suite \"$1\"" ;;
	esac
	shift
done
[ ${#suites[@]} -gt 0 ] || die "no suite named"

fuzz_seconds=${FUZZ_SECONDS:-$fuzz_seconds}
step_seconds=${STEP_SECONDS:-900}
if [ ${#short[@]} -gt 0 ]; then
	# What fails here failed because of a change, not by a new guess.
	export FUZZ_SEED=${FUZZ_SEED:-1}
else
	step_seconds=${STEP_SECONDS:-14400}
fi

# Tools that make file systems and partitions live there.
export PATH=$PATH:/usr/sbin:/sbin
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_stack_use_after_return=1}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}
export TSAN_OPTIONS=${TSAN_OPTIONS:-halt_on_error=1:second_deadlock_stack=1}

logs=$BUILD/test-logs
mkdir -p "$logs"
for suite in "${suites[@]}"; do
	"suite_$suite"
done

if [ $((passed + ${#failed[@]})) -eq 0 ]; then
	echo "run-tests: nothing was run${T:+: no test matches \"$T\"}" >&2
	exit 1
fi
if [ ${#failed[@]} -gt 0 ]; then
	printf '\nfailed, with the full output in %s:\n' "$logs"
	printf '  %s\n' "${failed[@]}"
fi
printf '\n%d passed, %d failed\n' "$passed" "${#failed[@]}"
[ ${#failed[@]} -eq 0 ]
