# SPDX-License-Identifier: BSD-3-Clause
"""nbds: the server has to be the right one, or nothing is read."""

import os
import socket

import pytest
from nbd_peers import SOCKET, find, random_disk
from tls_keys import authority, certify

M = 1 << 20
KEY = "4c0ffee5" * 8


@pytest.fixture
def disk(tmp_path):
    return random_disk(tmp_path / "disk", 4 * M, [(M, M)])


def keys(tmp_path, name, user, key):
    path = tmp_path / name
    path.write_text(f"{user}:{key}\n")
    path.chmod(0o600)


@pytest.fixture
def psk_server(servers, tmp_path, disk):
    keys(tmp_path, "keys.psk", "alice", KEY)
    return servers.nbdkit("--tls=require --tls-psk=keys.psk file disk")


def psk_uri(user="alice", file="keys.psk"):
    return f"nbds+unix://{user}@/?socket={SOCKET}&tls-psk-file={file}"


def test_a_shared_key(psk_server, tmp_path, platter, disk):
    platter.good("convert -f raw -O raw", [psk_uri()], "out")
    assert (tmp_path / "out").read_bytes() == disk.read_bytes()
    source = random_disk(tmp_path / "source", 4 * M, [(0, 3 * M)])
    platter.good("convert -n -f raw -O raw source", [psk_uri()])
    assert disk.read_bytes() == source.read_bytes()
    words = ("driver=nbd,server.type=unix,server.path=s,tls=on,"
             "tls-username=alice,tls-psk-file=keys.psk")
    platter.good("convert -O raw --image-opts", [words], "out")
    assert (tmp_path / "out").read_bytes() == source.read_bytes()


def test_a_wrong_key(psk_server, tmp_path, platter):
    keys(tmp_path, "wrong.psk", "alice", KEY[::-1])
    keys(tmp_path, "mallory.psk", "mallory", KEY)
    for name in (psk_uri(file="wrong.psk"), psk_uri("mallory"),
                 psk_uri("mallory", "mallory.psk"), psk_uri(file="missing")):
        platter.bad("convert -f raw -O raw", [name], "out")
        assert not (tmp_path / "out").exists()


def test_no_tls_where_the_server_wants_it(psk_server, platter):
    message = platter.bad("info", [f"nbd+unix:///?socket={SOCKET}"])
    assert "TLS" in message


def test_no_server_without_tls_is_read(servers, tmp_path, platter, disk):
    """CVE-2019-14842: a peer in between leaves TLS out."""
    keys(tmp_path, "keys.psk", "alice", KEY)
    servers.nbdkit("--tls=off --filter=log file disk logfile=log")
    platter.bad("convert -f raw -O raw", [psk_uri()], "out")
    assert not (tmp_path / "out").exists()
    assert " Read id" not in (tmp_path / "log").read_text()


def test_a_killed_server_is_no_signal(servers, tmp_path, platter_io, disk):
    """Writing to a socket that is gone, below TLS."""
    keys(tmp_path, "keys.psk", "alice", KEY)
    server = servers.nbdkit("--tls=require --tls-psk=keys.psk file disk")
    process = platter_io.start("-f raw", [psk_uri()])
    process.stdin.write("write -q 0 512\nread 0 512\n")
    process.stdin.flush()
    assert "read 512/512" in process.stdout.readline()
    server.kill()
    out, _ = process.communicate("write 0 1M\nwrite 0 1M\nread 0 512\n")
    assert process.returncode == 1
    assert out.count("write failed") == 2 and "read failed" in out


def x509_uri(port, host="localhost", ca="ca", more=""):
    return f"nbds://{host}:{port}/?tls-certificates={ca}{more}"


def port_of(process):
    """The port on which it listens, of IPv4 or IPv6."""
    mine = {os.readlink(f"/proc/{process.pid}/fd/{fd}")
            for fd in os.listdir(f"/proc/{process.pid}/fd")}
    for kind in ("tcp", "tcp6"):
        with open(f"/proc/{process.pid}/net/{kind}", encoding="ascii") as table:
            for row in [line.split() for line in table][1:]:
                if row[3] == "0A" and f"socket:[{row[9]}]" in mine:
                    return int(row[1].rsplit(":", 1)[1], 16)
    raise AssertionError("it does not listen")


def x509_server(servers, folder, *more):
    server = servers.start([find("nbdkit"), "-f", "-i", "localhost", "-p", "0",
                            "-P", "x.pid", "--tls=require",
                            f"--tls-certificates={folder}", *more, "file",
                            "disk"], "x")
    return port_of(server.process)


def test_certificates(servers, tmp_path, platter, disk):
    """The authority and the host's name are verified, unless told not to."""
    ours = authority(tmp_path / "ca")
    certify(ours, "server", "localhost")
    authority(tmp_path / "stranger")
    other = authority(tmp_path / "other")
    certify(other, "server", "elsewhere")
    port = x509_server(servers, ours)
    platter.good("convert -f raw -O raw", [x509_uri(port)], "out")
    assert (tmp_path / "out").read_bytes() == disk.read_bytes()
    for name in (x509_uri(port, ca="stranger"), x509_uri(port, ca="missing")):
        platter.bad("info", [name])
    platter.good("info", [x509_uri(port, ca="stranger",
                                   more="&tls-verify-peer=0")])
    port = x509_server(servers, other)
    platter.bad("info", [x509_uri(port, ca="other")])


def test_who_cannot_be_verified_is_not_asked(servers, tmp_path, platter, disk):
    """libnbd would connect, and not say that it has verified nothing."""
    folder = authority(tmp_path / "ca")
    certify(folder, "server", "localhost")
    port = x509_server(servers, folder)
    (tmp_path / "empty").mkdir()
    (tmp_path / "junk").mkdir()
    (tmp_path / "junk" / "ca-cert.pem").write_text("junk\n")
    for more in ("", "?tls-certificates=missing", "?tls-certificates=empty",
                 "?tls-certificates=junk"):
        platter.bad("info", [f"nbds://localhost:{port}/{more}"])
    servers.nbdkit("--tls=require --tls-certificates=ca file disk")
    words = f"?socket={SOCKET}&tls-certificates=ca"
    platter.bad("info", [f"nbds+unix:///{words}"])
    platter.good("info", [f"nbds+unix:///{words}&tls-verify-peer=0"])


def test_the_server_may_verify_the_client(servers, tmp_path, platter, disk):
    folder = authority(tmp_path / "ca")
    certify(folder, "server", "localhost")
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "ca-cert.pem").write_bytes((folder / "ca-cert.pem").read_bytes())
    port = x509_server(servers, folder, "--tls-verify-peer")
    platter.bad("info", [x509_uri(port, ca="alone")])
    certify(folder, "client", "us")
    platter.good("info", [x509_uri(port)])


# --- credentials as QEMU's programs take them --------------------------------


def free_port():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def qemu_server(servers, creds, *place):
    return servers.start(
        [find("qemu-nbd"), "-t", "--pid-file=q.pid", "-f", "raw", "--object",
         f"{creds},id=tls0,endpoint=server", "--tls-creds", "tls0", *place,
         "disk"], "q")


def copied(platter, tmp_path, objects, words):
    platter.good("convert -O raw", [f"--object={one}" for one in objects],
                 "--image-opts", [words], "out")
    return (tmp_path / "out").read_bytes()


@pytest.mark.parametrize("kind", ["nbdkit", "qemu-nbd"])
def test_an_object_with_a_shared_key(servers, tmp_path, platter, disk, kind):
    """As source and as target; "qemu" is who has no name."""
    (tmp_path / "keys.psk").write_text(f"alice:{KEY}\nqemu:{KEY}\n")
    (tmp_path / "keys.psk").chmod(0o600)
    if kind == "nbdkit":
        servers.nbdkit("--tls=require --tls-psk=keys.psk file disk")
        path = SOCKET
    else:
        # It reads the keys once it has left the folder.
        qemu_server(servers, f"tls-creds-psk,dir={tmp_path}", "-k",
                    str(tmp_path / "q"))
        path = "q"
    words = f"driver=nbd,server.type=unix,server.path={path},tls-creds=t"
    for more in ("", ",username=alice"):
        creds = f"tls-creds-psk,id=t,dir=.{more}"
        assert copied(platter, tmp_path, [creds], words) == disk.read_bytes()
    source = random_disk(tmp_path / "source", 4 * M, [(M, 2 * M)])
    platter.good("convert -n -O raw -f raw --object", [creds],
                 "--target-image-opts source", [words])
    assert disk.read_bytes() == source.read_bytes()
    wrong = tmp_path / "wrong"
    wrong.mkdir()
    (wrong / "keys.psk").write_text(f"qemu:{KEY[::-1]}\n")
    platter.bad("info --object tls-creds-psk,id=t,dir=wrong --image-opts",
                [words])


def test_every_command_takes_objects(servers, tmp_path, platter, platter_io,
                                     disk):
    (tmp_path / "keys.psk").write_text(f"qemu:{KEY}\n")
    servers.nbdkit("--tls=require --tls-psk=keys.psk file disk")
    creds = ["--object", "tls-creds-psk,id=t,dir=."]
    words = f"driver=nbd,path={SOCKET},tls-creds=t"
    json = ('json:{"driver":"raw","file":{"driver":"nbd","path":"%s",'
            '"tls-creds":"t"}}' % SOCKET)
    for command in ("info", "map", "bench -c 4", "measure -O qcow2"):
        platter.good(command, creds, "--image-opts", [words])
        platter.good(command, creds, [json])
    platter.good("compare", creds, "--image-opts", [words, words])
    done = platter_io(creds, "--image-opts -c", ["read 0 512", words])
    assert done.returncode == 0 and "read 512/512" in done.stdout


@pytest.mark.parametrize("kind", ["nbdkit", "qemu-nbd"])
def test_an_object_with_certificates(servers, tmp_path, platter, disk, kind):
    folder = authority(tmp_path / "ca")
    certify(folder, "server", "localhost")
    certify(folder, "client", "us")
    authority(tmp_path / "stranger")
    if kind == "nbdkit":
        port = x509_server(servers, folder, "--tls-verify-peer")
    else:
        port = free_port()
        qemu_server(servers, "tls-creds-x509,dir=ca,verify-peer=on", "-b",
                    "localhost", "-p", str(port))
    words = (f"driver=nbd,server.type=inet,server.host=localhost,"
             f"server.port={port},tls-creds=t")
    ours = "tls-creds-x509,id=t,dir=ca,endpoint=client"
    assert copied(platter, tmp_path, [ours], words) == disk.read_bytes()
    assert copied(platter, tmp_path, [ours], f"{words},tls-hostname=localhost"
                  ) == disk.read_bytes()
    # Another name than the one in the certificate: whatever libnbd can do.
    platter.bad("info --object", [ours], "--image-opts",
                [f"{words},tls-hostname=elsewhere"])
    platter.bad("info --object tls-creds-x509,id=t,dir=stranger --image-opts",
                [words])


def test_a_server_that_need_not_be_the_right_one(servers, tmp_path, platter,
                                                 disk):
    """Only if the object says so."""
    folder = authority(tmp_path / "ca")
    certify(folder, "server", "elsewhere")
    port = x509_server(servers, folder)
    authority(tmp_path / "stranger")
    words = f"driver=nbd,host=localhost,port={port},tls-creds=t"
    creds = "tls-creds-x509,id=t,dir=stranger"
    platter.bad("info --object", [creds], "--image-opts", [words])
    platter.good("info --object", [f"{creds},verify-peer=off"], "--image-opts",
                 [words])
    platter.good("info --object", ['{"qom-type":"tls-creds-x509","id":"t",'
                                   '"dir":"stranger","verify-peer":false}'],
                 "--image-opts", [words])
