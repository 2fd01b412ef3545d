#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Static analysis: clang's analyser and cppcheck, any finding fails.
#
#	analyze.sh COMPILER-FLAG... -- FILE...
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."

flags=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
	flags+=("$1")
	shift
done
shift

defines=()
for flag in "${flags[@]}"; do
	case $flag in
	-D* | -I*) defines+=("$flag") ;;
	esac
done

status=0
for file; do
	"${CLANG:-clang}" --analyze --analyzer-output text -std=gnu11 \
		-Xclang -analyzer-werror "${flags[@]}" "$file" || status=1
done

cppcheck --quiet --error-exitcode=1 --inline-suppr --std=c11 \
	--enable=warning,performance,portability \
	--suppress=missingIncludeSystem "${defines[@]}" "$@" || status=1
exit $status
