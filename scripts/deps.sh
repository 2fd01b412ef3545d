#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Installs the packages of the named groups of deps.list, if any is missing.
# Asks dpkg only, and touches nothing, when all of them are there.
set -euo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
list=$top/deps.list

die() {
	printf 'deps: %s\n' "$*" >&2
	exit 1
}

# The packages of the groups given, one a line.
packages_of() {
	local group
	for group; do
		awk -v group="$group" '$1 == group { print $2; found = 1 }
			END { exit !found }' "$list" ||
			die "no group \"$group\" in $list"
	done
}

# Of the packages given, those that are not installed.
missing_of() {
	local installed
	# dpkg-query also fails when it knows only some of the names.
	installed=$(dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' \
		"$@" 2>/dev/null | awk '$1 == "ii" { print $2 }') || true
	comm -23 <(printf '%s\n' "$@" | sort -u) \
		<(printf '%s\n' "$installed" | sort -u)
}

as_root() {
	if [ "$(id -u)" -eq 0 ]; then
		"$@"
	else
		sudo "$@"
	fi
}

install_packages() {
	as_root env DEBIAN_FRONTEND=noninteractive \
		apt-get install -y -q --no-install-recommends "$@"
}

[ $# -gt 0 ] || die "usage: deps.sh GROUP... (see $list)"
wanted=$(packages_of "$@")

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
	die "this is no Debian system. Install what corresponds to:" \
		"$(tr '\n' ' ' <<<"$wanted")- then run make with DEPS=0."
fi

mapfile -t wanted <<<"$wanted"
mapfile -t missing < <(missing_of "${wanted[@]}")
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" -ne 0 ] && ! command -v sudo >/dev/null; then
	die "missing: ${missing[*]}. Neither root nor sudo is at hand;" \
		"run as root: apt-get install ${missing[*]}"
fi

printf 'deps: installing %s\n' "${missing[*]}"
# The package index may be missing or too old: fetch it and try once more.
if ! install_packages "${missing[@]}"; then
	as_root apt-get update -q || die "apt-get update failed"
	install_packages "${missing[@]}" ||
		die "apt-get could not install: ${missing[*]}"
fi
