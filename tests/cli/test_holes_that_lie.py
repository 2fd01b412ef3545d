# SPDX-License-Identifier: BSD-3-Clause
"""A file system's word about holes is not taken for more than it is worth.

Programs are started with a library that answers lseek(SEEK_DATA) and
lseek(SEEK_HOLE) in the place of the file system.
"""

import os
import subprocess

import pytest
from conftest import require
from test_convert_copies_disks import make_disk

SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static off_t fail(int code)
{
	errno = code;
	return -1;
}

static off_t answer(const char *lie, int fd, off_t off, int whence)
{
	int data = whence == SEEK_DATA;
	struct stat st;

	if (fstat(fd, &st))
		return -1;
	if (!strcmp(lie, "all-hole"))
		return data ? fail(ENXIO) : off;
	if (!strcmp(lie, "late-data")) /* the first 4 MiB are a hole */
		return data && off < 4 << 20 && st.st_size > 4 << 20
			       ? 4 << 20
		       : data ? off
			      : st.st_size;
	if (!strcmp(lie, "einval"))
		return fail(EINVAL);
	if (!strcmp(lie, "eio"))
		return fail(EIO);
	if (!strcmp(lie, "past-end"))
		return st.st_size + 12345;
	if (!strcmp(lie, "at-end"))
		return st.st_size;
	if (!strcmp(lie, "before")) /* of what was asked about */
		return off / 2;
	if (!strcmp(lie, "inverted")) /* the hole ends before it starts */
		return data ? off : off ? off - 1 : 0;
	if (!strcmp(lie, "negative"))
		return -7;
	abort();
}

static off_t seek(const char *name, int fd, off_t off, int whence)
{
	off_t (*real)(int, off_t, int) =
		(off_t (*)(int, off_t, int))dlsym(RTLD_NEXT, name);
	const char *log = getenv("LIE_LOG");

	if (whence != SEEK_DATA && whence != SEEK_HOLE)
		return real(fd, off, whence);
	if (log)
		truncate(log, 1);
	return answer(getenv("LIE"), fd, off, whence);
}

off_t lseek(int fd, off_t off, int whence)
{
	return seek("lseek", fd, off, whence);
}

off_t lseek64(int fd, off_t off, int whence)
{
	return seek("lseek64", fd, off, whence);
}
"""

SIZE = 6 << 20

LIES = ("all-hole", "late-data")
ODD = ("einval", "eio", "past-end", "at-end", "before", "inverted",
       "negative")


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shim")
    (folder / "shim.c").write_text(SHIM)
    subprocess.run([require("cc"), "-shared", "-fPIC", "-o", "shim.so",
                    "shim.c", "-ldl"], cwd=folder, check=True)
    return folder / "shim.so"


@pytest.fixture
def lying(platter, shim, tmp_path):
    """Runs platter on a file system that lies; tells whether it was asked."""
    log = tmp_path / "asked"

    def run_with(lie, args):
        log.write_bytes(b"")
        # The shim calls nothing that a sanitizer has to see first.
        options = os.environ.get("ASAN_OPTIONS", "")
        env = dict(os.environ, LD_PRELOAD=str(shim), LIE=lie,
                   LIE_LOG=str(log),
                   ASAN_OPTIONS=f"{options}:verify_asan_link_order=0")
        result = platter(args, env=env)
        return result, log.stat().st_size > 0

    return run_with


def good(answer):
    result, asked = answer
    assert result.status == 0, result
    return result.out, asked


@pytest.mark.parametrize("lie", LIES + ODD)
@pytest.mark.parametrize("target", ("raw", "qcow2"))
def test_distrust_reads_every_byte(platter, lying, tmp_path, lie, target):
    disk = make_disk(tmp_path / "in.raw", size=SIZE)
    _, asked = good(lying(lie, "--no-trust-holes convert -f raw "
                               f"-O {target} in.raw out"))
    assert not asked
    platter.good(f"convert -f {target} -O raw out back.raw")
    assert (tmp_path / "back.raw").read_bytes() == disk


@pytest.mark.parametrize("lie", LIES)
def test_distrust_holds_for_backing_files(platter, lying, qemu_img, tmp_path,
                                          lie):
    disk = make_disk(tmp_path / "base.raw", size=SIZE)
    qemu_img.good("create -q -f qcow2 -b base.raw -F raw top.qcow2")
    _, asked = good(lying(lie, "convert --no-trust-holes -f qcow2 -O raw "
                               "top.qcow2 out.raw"))
    assert not asked
    assert (tmp_path / "out.raw").read_bytes() == disk


@pytest.mark.parametrize("lie", LIES)
def test_distrust_holds_for_the_backing_file_of_the_target(
        platter, lying, tmp_path, lie):
    disk = make_disk(tmp_path / "in.raw", size=SIZE)
    make_disk(tmp_path / "base.raw", seed=2, size=SIZE)
    _, asked = good(lying(lie, "convert --no-trust-holes -f raw -O qcow2 "
                               "-b base.raw -F raw in.raw out.qcow2"))
    assert not asked
    platter.good("convert -f qcow2 -O raw out.qcow2 back.raw")
    assert (tmp_path / "back.raw").read_bytes() == disk


def test_distrust_holds_for_other_commands(platter, lying, tmp_path):
    make_disk(tmp_path / "in.raw", size=SIZE)
    (tmp_path / "zero.raw").touch()
    os.truncate(tmp_path / "zero.raw", SIZE)
    args = "compare --no-trust-holes -f raw -F raw in.raw zero.raw"
    result, asked = lying("all-hole", args)
    assert (result.status, asked) == (1, False)
    out, asked = good(lying("all-hole", "map --no-trust-holes --output=json "
                                        "-f raw in.raw"))
    assert '"data": true' in out and '"data": false' not in out
    assert not asked


def test_a_believed_lie_loses_data(lying, tmp_path):
    """That the library does lie: else this file proves nothing."""
    disk = make_disk(tmp_path / "in.raw", size=SIZE)
    _, asked = good(lying("all-hole", "convert -f raw -O raw in.raw out.raw"))
    assert asked
    assert (tmp_path / "out.raw").read_bytes() == bytes(len(disk))


@pytest.mark.parametrize("lie", ODD)
@pytest.mark.parametrize("args", ("-O raw", "-O qcow2", "-O qcow2 -c",
                                  "-O raw -m 8", "-O raw -p"))
def test_odd_answers_are_taken_for_data(platter, lying, tmp_path, lie, args):
    disk = make_disk(tmp_path / "in.raw", size=SIZE)
    _, asked = good(lying(lie, f"convert -f raw {args} in.raw out"))
    assert asked
    target = args.split()[1]
    platter.good(f"convert -f {target} -O raw out back.raw")
    assert (tmp_path / "back.raw").read_bytes() == disk


@pytest.mark.parametrize("lie", ODD)
def test_odd_answers_do_not_mislead_a_comparison(lying, tmp_path, lie):
    make_disk(tmp_path / "in.raw", size=SIZE)
    (tmp_path / "zero.raw").touch()
    os.truncate(tmp_path / "zero.raw", SIZE)
    result, asked = lying(lie, "compare -f raw -F raw in.raw zero.raw")
    assert (result.status, asked) == (1, True)
