# SPDX-License-Identifier: BSD-3-Clause
"""A server does what its configuration file says, or says what is wrong."""

import json
import os
import pathlib
import struct
import subprocess

import nbd_server as wire
import pytest
from conftest import find
from nbd_server import Client, Server, serving

SIZE = 1 << 20


@pytest.fixture(autouse=True)
def disks(tmp_path, platter):
    for name in ("a.raw", "b,c.raw"):
        (tmp_path / name).write_bytes(bytes(SIZE))
    platter.good("create -q -f qcow2 a.qcow2 1M")


def write(tmp_path, settings):
    text = settings if isinstance(settings, str) else json.dumps(settings)
    (tmp_path / "serve.json").write_text(text)
    return "serve.json"


class Configured(Server):
    """Nothing but the file on the command line."""

    def __init__(self, program, folder, *words):
        self.socket = pathlib.Path(folder) / "sock"
        self.process = subprocess.Popen(
            [str(program), "serve", *words], cwd=folder, text=True,
            stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
        self.wait_until_it_listens()


ALL = {
    "listen": [{"socket": "sock"}, {"socket": "other"}],
    "max-clients": 100, "threads": 2, "handshake-timeout": 20,
    "stall-timeout": 30, "stats": "json", "pid-file": "pid",
    "exports": [
        {"name": "one", "file": "a.raw", "format": "raw", "shared": 1,
         "description": "the first", "discard": "ignore"},
        {"name": "two", "image-opts": "driver=raw,file.filename=b,,c.raw",
         "read-only": True, "cache": "writethrough"},
        {"name": "three", "file": "a.qcow2", "format": "qcow2",
         "allocation-depth": True, "detect-zeroes": "unmap"},
    ],
}


def test_all_that_a_file_may_say(platter_path, tmp_path):
    server = Configured(platter_path, tmp_path, "--config",
                        write(tmp_path, ALL))
    assert (tmp_path / "pid").read_text() == f"{server.process.pid}\n"
    told = json.loads(subprocess.run(
        [find("nbdinfo"), "--list", "--json", server.uri()],
        check=True, capture_output=True, timeout=60).stdout)["exports"]
    one, two, three = told
    assert [export["export-name"] for export in told] == ["one", "two",
                                                          "three"]
    assert one["description"] == "the first" and "description" not in two
    assert not one["can_multi_conn"] and two["can_multi_conn"]
    assert two["is_read_only"] and not three["is_read_only"]
    assert three["contexts"] == ["base:allocation", "qemu:allocation-depth"]
    assert one["contexts"] == ["base:allocation"]
    client = Client(tmp_path / "other").start(wire.STRUCTURED, name=b"one")
    assert client.error_of(wire.TRIM, 0, SIZE) == 0
    client.close()
    status, text = server.stop()
    assert status == 0
    assert [json.loads(line)["export"] for line in text.splitlines()] == [
        "one", "two", "three"]
    assert not (tmp_path / "other").exists()


def exports_of(server):
    client = server.connect()
    client.greet()
    names = []
    for kind, data in client.option(wire.LIST)[:-1]:
        assert kind == wire.SERVER
        length = struct.unpack(">I", data[:4])[0]
        names.append(data[4:4 + length])
    client.close()
    return names


def test_exports_of_the_command_line_are_added(platter_path, tmp_path):
    name = write(tmp_path, {"exports": [
        {"name": "one", "file": "a.raw", "format": "raw"}]})
    with serving(platter_path, tmp_path, "--config", name, "-r", "-f", "raw",
                 "-E", "two=b,,c.raw", "-x", "three", "a.qcow2") as server:
        assert exports_of(server) == [b"one", b"three", b"two"]
        # What is said there of exports is said of these alone.
        assert flags_of(server, b"two") & 2
        assert not flags_of(server, b"one") & 2


@pytest.mark.parametrize("word", [
    "--snapshot", "--read-only", "--backing=none", "--cache=none",
    "--discard=ignore", "--detect-zeroes=on", "--shared=1",
    "--load-snapshot=a", "--bitmap=a", "--format=raw", "--image-opts",
    "--force-share", "--export-name=a", "--description=a",
    "--allocation-depth", "--resize"])
def test_no_option_is_about_nothing(platter, tmp_path, word):
    """A file's exports would be writable, and be written to, behind -s."""
    name = write(tmp_path, {"exports": [{"file": "a.raw", "format": "raw"}]})
    assert platter.bad("serve -k sock --config", name, word) == (
        f"platter: {word.split('=')[0]} is about exports of the "
        f"command line, and there are none: those of '{name}' have keys of "
        "their own\n")


def flags_of(server, name):
    client = server.connect()
    client.greet()
    info = [data for kind, data in client.go(name, option=wire.INFO)
            if kind == wire.INFO_REPLY and data[:2] == b"\0\0"]
    client.close()
    return struct.unpack(">HQH", info[0])[2]


def test_the_command_line_wins(platter_path, tmp_path):
    server = Server(platter_path, tmp_path, "--config", write(tmp_path, ALL),
                    "--pid-file", "mine", "--stats=human", "--max-clients", "1")
    try:
        first = server.connect().start(name=b"one")
        second = server.connect()
        for _ in range(100):
            assert first.error_of(wire.FLUSH, 0, 0) == 0
        second.socket.setblocking(False)
        with pytest.raises(BlockingIOError):
            second.socket.recv(1)
        first.close()
        second.close()
        assert (tmp_path / "mine").exists()
        assert not (tmp_path / "pid").exists()
        # Addresses of the file are left alone.
        assert not (tmp_path / "other").exists()
    finally:
        status, text = server.stop()
    assert status == 0 and "clients, at most" in text


def test_settings_of_one_export(platter_path, tmp_path):
    with serving(platter_path, tmp_path, "-f", "raw", "-E",
                 "one=a.raw,read-only,shared=1,description=x,,y", "-E",
                 "two=b,,c.raw,allocation-depth=on,format=raw") as server:
        assert flags_of(server, b"one") & 0x102 == 2
        assert flags_of(server, b"two") & 0x102 == 0x100
        client = server.connect()
        client.greet()
        told = client.option(wire.LIST)[0][1]
        assert told == struct.pack(">I", 3) + b"onex,y"
        client.close()


@pytest.mark.parametrize("policy,opened", [(None, False), ("none", False),
                                           ("beneath", False), ("any", True)])
def test_each_export_says_what_its_image_may_name(platter, platter_path,
                                                  tmp_path, policy, opened):
    (tmp_path / "below").mkdir()
    platter.good("create -q -f qcow2 -F raw -b ../a.raw below/top.qcow2")
    export = {"file": "below/top.qcow2", "format": "qcow2"}
    if policy:
        export["backing"] = policy
    name = write(tmp_path, {"exports": [export]})
    if opened:
        with serving(platter_path, tmp_path, "--config", name) as server:
            assert exports_of(server) == [b""]
    else:
        assert "--backing any" in platter.bad("serve -k sock --config", name)


def test_a_file_in_json_takes_the_rest(platter_path, tmp_path):
    with serving(platter_path, tmp_path, "-E",
                 'one=json:{"driver":"raw","file":{"driver":"file",'
                 '"filename":"a.raw"}}') as server:
        assert exports_of(server) == [b"one"]


def test_names_of_files_need_not_be_utf8(platter_path, tmp_path):
    os.rename(tmp_path / "a.raw", os.fsencode(tmp_path) + b"/\xff.raw")
    with serving(platter_path, tmp_path, "-E",
                 os.fsdecode(b"one=\xff.raw,format=raw")) as server:
        assert exports_of(server) == [b"one"]


def test_keys_of_a_file(platter_path, tmp_path):
    key = "0123456789abcdef" * 4
    (tmp_path / "keys").write_text(f"alice:{key}\nbob:{key}\n")
    (tmp_path / "keys").chmod(0o600)
    name = write(tmp_path, {
        "tls": "require", "tls-psk": "keys", "tls-authz": ["alice"],
        "exports": [{"file": "a.raw", "format": "raw", "snapshot": True}]})

    def size_for(server, user):
        uri = (f"nbds+unix://{user}@/?socket={server.socket}"
               f"&tls-psk-file={tmp_path / 'keys'}")
        done = subprocess.run([find("nbdinfo"), "--size", uri], check=False,
                              capture_output=True, timeout=60)
        return done.stdout.strip()

    server = Server(platter_path, tmp_path, "--config", name)
    try:
        assert size_for(server, "alice") == b"%d" % SIZE
        assert size_for(server, "bob") == b""
        client = server.connect()
        client.greet()
        assert client.go()[-1][0] == wire.TLS_REQD
        client.close()
    finally:
        assert server.stop()[0] == 0
    # The words of the command line come instead, all of them.
    with serving(platter_path, tmp_path, "--config", name, "--tls",
                 "off") as server:
        client = server.connect().start()
        assert client.error_of(wire.WRITE, 0, 512, 0, b"x" * 512) == 0
        client.close()
    assert (tmp_path / "a.raw").read_bytes() == bytes(SIZE)


ONE = '{"file": "a.raw", "format": "raw"}'


@pytest.mark.parametrize("text,told", [
    ("", "line 1, column 0: "),
    ("{\n\"threads\": }", "line 2, column 12: "),
    ('{"threads": 1, "threads": 2}', "duplicate object key"),
    ("[]", "the whole has to be one object"),
    ("{}", "has no exports"),
    ('{"thread": 1}', "the key 'thread' is not known; known are listen, "
     "exports, max-clients, threads"),
    ('{"threads": "many"}', "threads: \"many\" is not allowed, expecting "
     "a number from 0 to 256"),
    ('{"threads": 257}', "threads: 257 is not allowed"),
    ('{"threads": -1}', "threads: -1 is not allowed"),
    ('{"threads": 1.0}', "threads: 1.0 is not allowed"),
    ('{"max-clients": 0}', "expecting a number from 1 to 1024"),
    ('{"stall-timeout": 86401}', "from 1 to 86400"),
    ('{"stats": "few"}', "stats: \"few\" is not allowed, expecting human or "
     "json"),
    ('{"stats": 1}', "stats: 1 is not allowed"),
    ('{"pid-file": null}', "pid-file: null is not allowed, expecting a text"),
    ('{"tls-authz": [1]}', "tls-authz[0]: 1 is not allowed, expecting a text"),
    ('{"exports": ' + ONE + '}', "is not allowed, expecting a list"),
    ('{"exports": [' + ONE + ', 1]}', "exports[1]: 1 is not allowed, "
     "expecting an object"),
    ('{"exports": [{"file": "a", "read-only": "yes"}]}',
     "exports[0].read-only: \"yes\" is not allowed, expecting true or false"),
    ('{"exports": [{"name": "x"}]}', "one of the keys file and image-opts"),
    ('{"exports": [{"file": "x", "image-opts": "y"}]}', "one of the keys"),
    ('{"exports": [{"file": "x", "colour\\u001b": 1}]}',
     "exports[0]: the key 'colour\\x1b' is not known; known are name, file"),
    ('{"exports": [{"file": "x", "cache": "big"}]}', "expecting none, "),
    ('{"exports": [{"file": "x", "shared": 1025}]}', "from 0 to 1024"),
    ('{"exports": [{"file": "a.raw"}]}', "has to be given by -f"),
    ('{"exports": [' + ONE + ', ' + ONE + ']}', "Two exports are called ''"),
    ('{"exports": [' + ', '.join([ONE] * 4097) + ']}', "More than 4096"),
    ('{"exports": [{"file": "a.raw", "format": "raw", "detect-zeroes": '
     '"unmap", "discard": "ignore"}]}', "needs discard=unmap"),
    ('{"listen": [{"socket": "a", "vsock": 1}]}',
     "expecting socket, or bind and port, or vsock"),
    ('{"listen": [{}]}', "listen[0]: {} is not allowed"),
    ('{"listen": [{"port": 65536}]}', "listen[0].port: 65536"),
    ('{"listen": [' + ', '.join(['{"port": 1}'] * 65) + ']}', "More than 64"),
    (" " * (16 << 20) + "{}", "longer than 16777216 bytes"),
    ("[" * 5000, "line 1, column 20"),
], ids=range(34))
def test_what_is_wrong_and_where(platter, tmp_path, text, told):
    name = write(tmp_path, text)
    said = platter.bad("serve --config", name)
    assert told in said
    assert name in said or "has to be" in said or "Two" in said or (
        "needs" in said)
    assert said.count("\n") == 1


def test_no_such_file(platter):
    assert "Could not open 'none.json'" in platter.bad(
        "serve --config none.json")
    assert "Is a directory" in platter.bad("serve --config .")


@pytest.mark.parametrize("text,told", [
    ("one", "is not NAME=FILE"),
    ("one=", "is not NAME=FILE"),
    ("one=,read-only", "is not NAME=FILE"),
    ("one=a.raw,colour=red", "the key 'colour' is not known"),
    ("one=a.raw,file=b", "'file' is given twice"),
    ("one=a.raw,name=b", "'name' is given twice"),
    ("one=a.raw,read-only=maybe", "expecting true or false"),
    ("one=a.raw,shared=x", "expecting a number from 0 to 1024"),
    ("one=a.raw,cache=x", "expecting none, writeback"),
    ("one=a.raw,image-opts=x", "one of the keys file and image-opts"),
])
def test_wrong_words_of_an_export(platter, text, told):
    said = platter.bad("serve -f raw -E", [text])
    assert told in said and f"--export '{text}'" in said
