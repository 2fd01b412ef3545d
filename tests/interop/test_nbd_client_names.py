# SPDX-License-Identifier: BSD-3-Clause
"""All names of an export, in all commands, and where none is allowed."""

import json
import os
import socket

import pytest
from nbd_peers import URI, find, random_disk, uri

M = 1 << 20
VSOCK_LOCAL = 1  # the machine itself
WORDS = "driver=raw,file.driver=nbd,file.server.type=unix,file.server.path=s"
JSON = "json:" + json.dumps({
    "driver": "raw",
    "file": {"driver": "nbd", "export": "",
             "server": {"type": "unix", "path": "s"}}})


@pytest.fixture
def disk(servers, tmp_path):
    disk = random_disk(tmp_path / "disk", 4 * M, [(M, M)])
    servers.nbdkit("file disk")
    return disk


@pytest.mark.parametrize("name", [
    URI, "nbd+unix://?socket=%73", "nbd:unix:s", JSON,
    'json:{"driver":"nbd","path":"s"}'])
def test_each_name_leads_to_the_disk(disk, platter, qemu_img, name):
    platter.good("compare -F raw -f raw", [name], "disk")
    if "path\":\"s\"}" not in name:  # they disagree on what is deprecated
        qemu_img.good("compare -F raw -f raw", [name], "disk")


@pytest.mark.parametrize("words", [WORDS, "driver=nbd,server.type=unix,"
                                   "server.path=s,export="])
def test_words_of_options_lead_to_the_disk(disk, tmp_path, platter, words):
    platter.good("convert -O raw --image-opts", [words], "out")
    assert (tmp_path / "out").read_bytes() == disk.read_bytes()


def test_a_host_and_a_port(servers, tmp_path, platter):
    """Also with an export name; nbdkit's info plugin serves the name."""
    servers.start(["nbdkit", "-f", "-i", "::1", "-p", "0", "-P", "t.pid",
                   "--filter=log", "info", "mode=exportname", "logfile=log"],
                  "t")
    pid = (tmp_path / "t.pid").read_text().strip()
    port = port_of(pid)
    for name in (f"nbd://[::1]:{port}/some%20name",
                 f"nbd:[::1]:{port}:exportname=some name"):
        out = platter.good("convert -f raw -O raw", [name], "out")
        assert not out
        assert (tmp_path / "out").read_bytes()[:9] == b"some name"


def port_of(pid):
    """The port on which a process listens, on IPv6."""
    with open(f"/proc/{pid}/net/tcp6", encoding="ascii") as table:
        rows = [line.split() for line in table][1:]
    mine = {os.readlink(f"/proc/{pid}/fd/{fd}")
            for fd in os.listdir(f"/proc/{pid}/fd")}
    ports = [int(row[1].rsplit(":", 1)[1], 16) for row in rows
             if row[3] == "0A" and f"socket:[{row[9]}]" in mine]
    assert ports, "it does not listen"
    return ports[0]


def test_every_command_reads_it(servers, tmp_path, platter, platter_io,
                                qemu_img, qemu_io):
    qemu_img.good("create -q -f qcow2 disk.qcow2 4M")
    qemu_io.good(["-c", "write -q -P 3 1M 1M"], "disk.qcow2")
    # An export does not grow: there is room behind the image.
    os.truncate(tmp_path / "disk.qcow2", 16 * M)
    servers.nbdkit("file disk.qcow2")
    info = json.loads(platter.good("info --output=json", [URI]))
    assert info["format"] == "qcow2" and info["virtual-size"] == 4 * M
    assert platter.good("check", [URI]).startswith("No errors were found")
    ours = json.loads(platter.good("map --output=json", [URI]))
    theirs = json.loads(qemu_img.good("map --output=json", [URI]))
    assert ours == theirs
    assert platter.good("measure -O raw", [URI]) == qemu_img.good(
        "measure -O raw", [URI])
    # As qemu-img has it, the count includes what is skipped.
    platter.good("dd bs=1M skip=1 count=2", [f"if={URI}"], "of=part")
    assert (tmp_path / "part").read_bytes() == b"\3" * M
    platter.good("compare", [URI], "disk.qcow2")
    assert "Run completed" in platter.good("bench -c 10", [URI])
    platter_io.good(["-c", "write -q -P 4 0 3M"], [URI])
    platter.good("check -q", [URI])
    qemu_io.good(["-c", "read -q -P 4 0 3M"], "disk.qcow2")
    platter.good("check -q -r all", [URI])
    platter.good("check -q -r all --dry-run", [URI])


def test_it_can_be_a_backing_file(disk, platter, platter_io, qemu_io,
                                  tmp_path):
    platter.good("create -q -f qcow2 -F raw -b", [URI], "top.qcow2")
    words = ["-c", "write -q -P 9 0 1M"]
    platter_io.good(words, "top.qcow2")
    platter.good("convert -O raw top.qcow2 out")
    assert (tmp_path / "out").read_bytes() == (
        b"\x09" * M + disk.read_bytes()[M:])
    qemu_io.good(["-c", "read -q -P 9 0 1M"], "top.qcow2")
    chain = json.loads(platter.good("info --backing-chain --output=json "
                                    "top.qcow2"))
    assert [link["format"] for link in chain] == ["qcow2", "raw"]
    assert chain[0]["full-backing-filename"] == URI


def test_an_image_reaches_no_server_without_leave(disk, tmp_path, platter):
    platter.good("create -q -f qcow2 -F raw -b", [URI], "top.qcow2")
    assert "unsafe" in platter.bad("--untrusted convert -O raw top.qcow2 out")
    assert "outside" in platter.bad("--trust-dir . convert -O raw top.qcow2 "
                                    "out")
    assert not (tmp_path / "out").exists()


def test_untrusted_takes_files_only(disk, tmp_path, platter):
    for words in (["info"], ["map"], ["check"], ["measure"]):
        assert "only local files" in platter.bad("--untrusted", words,
                                                 "-f raw", [URI])
    assert "only local files" in platter.bad(
        "--untrusted convert -f raw -O raw", [URI], "out")
    assert not (tmp_path / "out").exists()


def test_an_export_is_not_created(disk, platter):
    before = disk.read_bytes()
    for words in ("create -f raw", "create -f qcow2"):
        assert "cannot be created" in platter.bad(words, [URI], "1M")
    assert "convert -n" in platter.bad("convert -O raw disk", [URI])
    assert disk.read_bytes() == before


def test_a_file_of_such_a_name_takes_a_prefix(tmp_path, platter):
    (tmp_path / "nbd:x").write_bytes(b"a" * 512)
    platter.good("compare -f raw -F raw file:nbd:x ./nbd:x")
    platter.bad("info -f raw nbd:x")
    platter.good("create -q -f qcow2 -F raw -b ./nbd:x file:nbd:top")
    platter.good("compare -F raw file:nbd:top ./nbd:x")


def test_a_relative_name_does_not_lead_to_another_export(servers, platter,
                                                         qemu_img, tmp_path):
    random_disk(tmp_path / "base", M, [])
    qemu_img.good("create -q -f qcow2 -F raw -b base top.qcow2")
    servers.nbdkit("file top.qcow2")
    assert "relative to the image" in platter.bad("convert -O raw", [URI],
                                                  "out")


def test_reading_only_is_told_at_once(servers, tmp_path, platter, platter_io):
    random_disk(tmp_path / "disk", M, [])
    servers.nbdkit("-r file disk")
    platter.good("info", [URI])
    assert "can only be read" in platter_io.bad("-f raw", ["-c", "quit"], [URI])
    assert "can only be read" in platter.bad("convert -n -f raw -O raw disk",
                                             [URI])


@pytest.mark.parametrize("name, part", [
    (uri("missing"), "No such file"), ("nbd://[::1]:1/", "refused"),
    (uri("disk"), "refused"), ("nbd+unix:///%00?socket=s", "no byte")])
def test_what_cannot_be_reached(disk, platter, name, part):
    message = platter.bad("info", [name])
    assert part in message and message.count("Could not open") == 1


def test_an_unknown_export_is_refused(servers, tmp_path, platter):
    random_disk(tmp_path / "disk", M, [])
    servers.qemu_nbd("-f raw -x there disk")
    platter.good("info", [uri(export="there")])
    assert "not" in platter.bad("info", [uri(export="gone")])


def vsock_port():
    """One that is free, where this machine can reach itself."""
    with socket.socket(socket.AF_VSOCK) as probe, \
            socket.socket(socket.AF_VSOCK) as client:
        client.settimeout(1)
        try:
            probe.bind((socket.VMADDR_CID_ANY, socket.VMADDR_PORT_ANY))
            probe.listen(1)
            client.connect((VSOCK_LOCAL, probe.getsockname()[1]))
        except OSError as error:
            pytest.skip(f"vsock leads nowhere: {error}")
        return probe.getsockname()[1]


def test_another_machine(servers, tmp_path, platter):
    disk = random_disk(tmp_path / "disk", M, [(0, M)])
    port = vsock_port()
    servers.start([find("nbdkit"), "-f", "--vsock", f"--port={port}", "-P",
                   "v.pid", "file", "disk"], "v")
    platter.good("convert -f raw -O raw",
                 [f"nbd+vsock://{VSOCK_LOCAL}:{port}/"], "out")
    assert (tmp_path / "out").read_bytes() == disk.read_bytes()
