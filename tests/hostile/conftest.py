# SPDX-License-Identifier: BSD-3-Clause
"""Programs to run on hostile files, and the workers that run them.

PLATTER in the environment names the release program; its sanitized twin and
the fuzz programs are looked for where make puts them, below its folder, unless
PLATTER_SANITIZED and PLATTER_FUZZ name others.
PLATTER_VARIANT is set by `make test`, where nothing may be missing.
"""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parents[1]
sys.path.insert(0, str(HERE.parent / "images"))

import runner  # noqa: E402

SUMMARY = runner.Summary()


def built(path, how):
    if path.exists():
        return path.resolve()
    if "PLATTER_VARIANT" in os.environ:
        pytest.fail(f"{path} is missing: {how}")
    pytest.skip(f"{path} is missing: {how}")


@pytest.fixture(scope="session")
def platter_path():
    path = os.environ.get("PLATTER", TOP / "build" / "platter")
    return built(pathlib.Path(path), "make")


@pytest.fixture(scope="session")
def asan_path(platter_path):
    path = os.environ.get("PLATTER_SANITIZED",
                          platter_path.parent / "asan" / "platter")
    return built(pathlib.Path(path), "make VARIANT=asan")


@pytest.fixture(scope="session")
def fuzz_folder(platter_path):
    """Where make puts the fuzz programs."""
    folder = os.environ.get("PLATTER_FUZZ", platter_path.parent / "fuzz")
    return pathlib.Path(folder) / "tests" / "fuzz"


@pytest.fixture(scope="session")
def shim(tmp_path_factory):
    """The library that tells what a program opens."""
    compiler = shutil.which("cc")
    if not compiler:
        pytest.skip("there is no compiler")
    library = tmp_path_factory.mktemp("shim") / "trace-opens.so"
    subprocess.run([compiler, "-D_GNU_SOURCE", "-shared", "-fPIC", "-O1",
                    "-o", library, HERE / "trace-opens.c", "-ldl"], check=True)
    return library


@pytest.fixture(scope="session")
def release_tools(platter_path, shim):
    return runner.Tools(platter_path, shim)


@pytest.fixture(scope="session")
def asan_tools(asan_path):
    return runner.Tools(asan_path, bounded=False)


def selected(request, function):
    """The cases that will be asked for, so that -k picks among them."""
    cases = {}
    for item in request.session.items:
        if getattr(item, "originalname", None) == function:
            cases[item.callspec.params["number"]] = item.callspec.id
    return list(cases.items())


def pytest_terminal_summary(terminalreporter):
    if SUMMARY.cases:
        terminalreporter.write_line(f"hostile: {SUMMARY}")
