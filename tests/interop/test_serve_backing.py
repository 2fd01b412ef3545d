# SPDX-License-Identifier: BSD-3-Clause
"""Which files a server opens because an image names them: those in the image's
own folder, unless a word says otherwise. By the name qemu-nbd all of them."""

import os
import shutil

import nbd_server as wire
import pytest
from conftest import find
from nbd_server import NamedServer, serving
from tools import Tool

SIZE = 1 << 20
SECRET = b"secret! " * (SIZE // 8)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Images in disks/, and files in and outside of it."""
    top = tmp_path_factory.mktemp("model")
    disks = top / "disks"
    (disks / "sub").mkdir(parents=True)
    (top / "other").mkdir()
    for path in ("other/base.raw", "disks/base.raw", "disks/sub/base.raw"):
        (top / path).write_bytes(SECRET)
    (disks / "link.raw").symlink_to("../other/base.raw")
    (disks / "inward.raw").symlink_to("sub/base.raw")
    for name, backing in BACKINGS.items():
        overlay(top, f"disks/{name}.qcow2", backing)
    overlay(top, "disks/deep.qcow2", "up.qcow2", form="qcow2")
    overlay(top, "other/mine.qcow2", "base.raw")
    # As older programs make them: the name of the format is no more.
    overlay(top, "disks/untold.qcow2", "base.raw", "-o", "compat=0.10")
    image = (disks / "untold.qcow2").read_bytes()
    assert image.count(b"\xe2\x79\x2a\xca") == 1
    (disks / "untold.qcow2").write_bytes(
        image.replace(b"\xe2\x79\x2a\xca", b"\x01\x23\x45\x67"))
    return top


@pytest.fixture
def folders(model, tmp_path):
    """A copy of these, and images that say the whole path."""
    shutil.copytree(model, tmp_path, symlinks=True, dirs_exist_ok=True)
    overlay(tmp_path, "disks/whole.qcow2", tmp_path / "disks/base.raw")
    overlay(tmp_path, "disks/away.qcow2", tmp_path / "other/base.raw")
    return tmp_path


def overlay(cwd, name, backing, *words, form="raw"):
    Tool(find("qemu-img"), cwd).good(
        "create -q -u -f qcow2 -F", form, *words, "-b",
        [backing, name, SIZE])


BACKINGS = {
    "near": "base.raw", "below": "sub/base.raw", "inward": "inward.raw",
    "around": "sub/../base.raw", "up": "../other/base.raw", "link": "link.raw",
}
INSIDE = ["near", "below", "inward", "around", "whole"]
OUTSIDE = ["up", "away", "link", "deep"]


def sees_the_secret(server):
    client = server.connect().start(wire.STRUCTURED)
    found = client.read(0, SIZE)
    client.close()
    return found == SECRET


@pytest.mark.parametrize("name", INSIDE)
@pytest.mark.parametrize("words", ["", "--backing beneath", "--backing=any"])
def test_what_is_in_the_folder_is_opened(platter_path, folders, name, words):
    for cwd, path in ((folders, f"disks/{name}.qcow2"),
                      (folders / "disks", f"{name}.qcow2"),
                      (folders, folders / "disks" / f"{name}.qcow2")):
        with serving(platter_path, cwd, *words.split(), "-f", "qcow2",
                     path) as server:
            assert sees_the_secret(server)


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("words", ["", "-r", "-s", "--backing beneath"])
def test_what_is_elsewhere_is_not(platter, folders, name, words):
    text = platter.bad("serve -k sock -f qcow2", words, f"disks/{name}.qcow2")
    assert "base.raw" in text or "link.raw" in text
    assert "is outside 'disks'" in text
    assert "--backing any" in text
    assert not (folders / "sock").exists()


@pytest.mark.parametrize("name", [*INSIDE, *OUTSIDE, "untold"])
def test_a_word_opens_nothing(platter, folders, name):
    text = platter.bad("serve -k sock --backing none -f qcow2",
                       f"disks/{name}.qcow2")
    assert "not opened here" in text or "not guessed here" in text
    assert "--backing any" in text
    assert not (folders / "sock").exists()


@pytest.mark.parametrize("name", [*OUTSIDE, "untold"])
def test_a_word_opens_all(platter_path, folders, name):
    with serving(platter_path, folders, "--backing", "any", "-f", "qcow2",
                 f"disks/{name}.qcow2") as server:
        assert sees_the_secret(server)


def test_formats_are_not_guessed(platter, folders):
    """What a guest wrote into a raw disk may look like an image."""
    text = platter.bad("serve -k sock -f qcow2 disks/untold.qcow2")
    assert "No format is recorded for the backing file 'base.raw'" in text
    assert "--backing any" in text
    assert not (folders / "sock").exists()


@pytest.mark.parametrize("kind", ["ours", "real"])
@pytest.mark.parametrize("name", [*INSIDE, *OUTSIDE, "untold"])
def test_qemu_nbd_opens_all(platter_path, folders, kind, name):
    program = folders / "qemu-nbd"
    program.symlink_to(platter_path if kind == "ours" else find("qemu-nbd"))
    with serving(program, folders, "-t", "-f", "qcow2",
                 f"disks/{name}.qcow2", kind=NamedServer) as server:
        assert sees_the_secret(server)


def test_each_export_has_its_folder(platter, platter_path, folders):
    with serving(platter_path, folders, "-f", "qcow2", "-E",
                 "one=disks/near.qcow2", "-E",
                 "two=other/mine.qcow2") as server:
        for name in (b"one", b"two"):
            client = server.connect().start(wire.STRUCTURED, name=name)
            assert client.read(0, SIZE) == SECRET
            client.close()
    assert "is outside 'disks'" in platter.bad(
        "serve -k sock -f qcow2 -E two=other/mine.qcow2 -E one=disks/up.qcow2")


def test_a_trusted_folder_takes_its_place(platter, platter_path, folders):
    with serving(platter_path, folders, "--trust-dir", "other", "-f", "qcow2",
                 "disks/up.qcow2") as server:
        assert sees_the_secret(server)
    assert "is outside 'other'" in platter.bad(
        "serve -k sock --trust-dir other -f qcow2 disks/near.qcow2")
    # But whoever says none has said so.
    assert "are not opened here" in platter.bad(
        "serve -k sock --trust-dir other --backing none -f qcow2 "
        "disks/up.qcow2")


def test_no_server_is_asked(platter, platter_path, folders, servers):
    servers.nbdkit(f"memory {SIZE}", socket="n")
    backing = f"nbd+unix:///?socket={folders}/n"
    overlay(folders, "disks/nbd.qcow2", backing)
    text = platter.bad("serve -k sock -f qcow2 disks/nbd.qcow2")
    assert "nbd+unix" in text and "--backing any" in text
    with serving(platter_path, folders, "--backing=any", "-f", "qcow2",
                 "disks/nbd.qcow2") as server:
        client = server.connect().start(wire.STRUCTURED)
        assert client.read(0, SIZE) == bytes(SIZE)
        client.close()


def test_an_image_on_a_server_has_no_folder(platter, platter_path, folders,
                                            servers):
    """A qcow2 whose bytes come over NBD, and that names a file of ours."""
    servers.nbdkit("file", "disks/away.qcow2", socket="n")
    name = f"nbd+unix:///?socket={folders}/n"
    text = platter.bad("serve -k sock -f qcow2", [name])
    assert "other/base.raw" in text and "--backing any" in text
    with serving(platter_path, folders, "--backing=any", "-f", "qcow2",
                 name) as server:
        assert sees_the_secret(server)


def test_the_policy_is_one_of_three(platter, folders):
    assert "allowed are any, beneath and none" in platter.bad(
        "serve --backing all -f qcow2 disks/near.qcow2")
    assert os.listdir(folders / "disks")
