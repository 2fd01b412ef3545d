# SPDX-License-Identifier: BSD-3-Clause
"""Nothing gets out of the sandbox of --untrusted, and what it needs stays.

Each forbidden system call is made by a program of its own (tests/sandbox), which
enters the sandbox as a command does. With a sanitizer there is no sandbox, so
this needs the program as it is installed.
"""

import os
import pathlib
import shutil
import signal
import subprocess

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
BUILD = os.environ.get("BUILD", "build")
PROGRAM = "tests/sandbox/escape"

pytestmark = pytest.mark.skipif(
    os.environ.get("PLATTER_VARIANT", "release") != "release",
    reason="builds with a sanitizer have no sandbox")


def build():
    """The program's path."""
    subprocess.run([os.environ.get("MAKE", "make"), "-s", "VARIANT=release",
                    f"BUILD={BUILD}", f"{BUILD}/{PROGRAM}"], cwd=TOP, check=True,
                   stdout=subprocess.DEVNULL,
                   env={name: value for name, value in os.environ.items()
                        if name not in ("MAKEFLAGS", "MFLAGS", "VARIANT")})
    return (TOP / BUILD / PROGRAM).resolve()


@pytest.fixture(scope="session")
def escape():
    return build()


def attempt(escape, folder, *args):
    return subprocess.run([escape, *args], cwd=folder, capture_output=True,
                          stdin=subprocess.DEVNULL, check=False, timeout=60,
                          text=True)


def killers(escape):
    return attempt(escape, TOP, "--list").stdout.split()


def test_each_forbidden_call_kills(escape, tmp_path):
    names = killers(escape)
    assert len(names) >= 40
    (tmp_path / "victim").touch()
    for name in names:
        done = attempt(escape, tmp_path, name)
        assert done.returncode == -signal.SIGSYS, f"{name}: {done}"
        assert sorted(os.listdir(tmp_path)) == ["victim"], name


@pytest.mark.parametrize("name", ["thread", "memory", "memory_bomb"])
def test_what_commands_need_goes_on(escape, tmp_path, name):
    done = attempt(escape, tmp_path, name, ".")
    assert done.stdout == "alive 0 \n", done


def test_endless_work_ends_with_a_message(escape, tmp_path):
    done = attempt(escape, tmp_path, "cpu_bomb", ".")
    assert done.returncode == 1
    assert "More than 1 seconds of CPU time" in done.stderr


def test_names_change_in_the_folder_only(escape, tmp_path):
    (tmp_path / "folder").mkdir()
    for name in ("victim", "folder/victim"):
        (tmp_path / name).touch()
    done = attempt(escape, tmp_path, "rename", "folder")
    assert done.stdout == "alive 0 \n", done
    assert (tmp_path / "folder" / "other").exists()
    for name in ("rename_out", "unlink_out"):
        done = attempt(escape, tmp_path, name, "folder")
        assert done.stdout.startswith("alive -1 E"), done
    assert (tmp_path / "victim").exists()


def test_descriptors_that_are_not_kept_are_closed(escape, tmp_path):
    assert attempt(escape, tmp_path, "closed",
                   ".").stdout == "alive -1 EBADF\n"


def test_a_missing_layer_ends_it_unless_told_otherwise(escape, tmp_path,
                                                       platter_path):
    """strace makes the kernel look as if it had no Landlock."""
    strace = shutil.which("strace")
    if not strace:
        pytest.skip("strace is not installed")
    (tmp_path / "x").write_bytes(bytes(1 << 20))
    del escape
    for word, status in [("--untrusted", 1), ("--untrusted=best-effort", 0)]:
        done = subprocess.run(
            [strace, "-f", "-o", "/dev/null", "-e",
             "inject=landlock_create_ruleset:error=ENOSYS", platter_path,
             word, "info", "-f", "raw", "x"], cwd=tmp_path, check=False,
            capture_output=True, text=True, timeout=60)
        if "PTRACE" in done.stderr:
            pytest.skip("strace may not trace here")
        assert done.returncode == status, done
        assert "Landlock" in done.stderr, done
