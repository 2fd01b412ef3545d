#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Prints what logs of fuzz targets say: executions, coverage, and whether the
# run came to its end.
#
#	fuzz-table.sh LOG...
#
# A run that was stopped shows the last count that it had printed.
set -euo pipefail

printf '%-32s %12s %7s  %s\n' log executions cov end
for log; do
	awk -v name="$(basename "$log" .log)" '
		/^#[0-9]+[ \t].* cov: / {
			runs = substr($1, 2)
			for (i = 2; i < NF; i++)
				if ($i == "cov:")
					cov = $(i + 1)
			done = $2 == "DONE"
		}
		/ERROR: |Assertion .* failed/ { bad = 1 }
		END {
			printf "%-32s %12d %7d  %s\n", name, runs, cov,
				bad ? "FOUND" : done ? "done" : "stopped"
		}' "$log"
done
