# SPDX-License-Identifier: BSD-3-Clause
"""Runs platter and QEMU's tools in one folder, on the same images.

PLATTER in the environment names the program to test.
"""

import os
import pathlib

import pytest
from nbd_peers import Servers, find
from tools import Tool

TOP = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def platter_path():
    path = pathlib.Path(os.environ.get("PLATTER", TOP / "build" / "platter"))
    assert path.exists(), f"{path} is missing: run make, or set PLATTER"
    return path.resolve()


@pytest.fixture
def platter(platter_path, tmp_path):
    return Tool(platter_path, tmp_path)


@pytest.fixture
def platter_io(platter_path, tmp_path):
    return Tool(platter_path, tmp_path, "io")


@pytest.fixture
def qemu_img(tmp_path):
    return Tool(find("qemu-img"), tmp_path)


@pytest.fixture
def qemu_io(tmp_path):
    return Tool(find("qemu-io"), tmp_path)


@pytest.fixture
def servers(tmp_path):
    """Starts NBD servers in the folder, and ends them."""
    found = Servers(tmp_path)
    yield found
    found.stop()


# --- the name qemu-nbd -------------------------------------------------------


@pytest.fixture
def ours(platter_path, tmp_path):
    """Our program under that name."""
    link = tmp_path / "bin" / "qemu-nbd"
    link.parent.mkdir()
    link.symlink_to(platter_path)
    return link


@pytest.fixture
def real():
    return find("qemu-nbd")


@pytest.fixture(params=["ours", "real"])
def program(request):
    return request.getfixturevalue(request.param)
