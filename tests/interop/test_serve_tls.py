# SPDX-License-Identifier: BSD-3-Clause
"""serve over TLS: what the clear may not do, who is let in, and the data."""

import os
import random
import signal
import socket
import ssl
import struct
import subprocess
import time

import nbd_server as wire
import pytest
from conftest import find
from nbd_server import Server, serving
from tls_keys import authority, certify, revoke

SIZE = 4 << 20
KEY = "0123456789abcdef" * 4


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """Folders: all is right, another authority, and what has run out."""
    top = tmp_path_factory.mktemp("keys")
    for name in ("good", "other", "late"):
        certify(authority(top / name), "server", "localhost")
        certify(top / name, "client", "alice")
    late = top / "late"
    for file in ("ca-cert.pem", "ca-key.pem"):
        (late / file).write_bytes((top / "good" / file).read_bytes())
    # Run out the moment it is made: the clock has gone on by then.
    certify(late, "server", "localhost", days="0")
    certify(late, "client", "alice", days="0")
    return top


@pytest.fixture
def disk(tmp_path):
    path = tmp_path / "disk.raw"
    path.write_bytes(random.Random(1).randbytes(1 << 16) * (SIZE >> 16))
    return path


@pytest.fixture
def psk(tmp_path):
    def write(name, text, mode=0o600):
        path = tmp_path / name
        path.write_text(text)
        path.chmod(mode)
        return path
    return write


def wrap(client, keys, name=None, version=None):
    """TLS from here on, as a client who trusts `good`."""
    context = ssl.create_default_context(cafile=keys / "good/ca-cert.pem")
    if name:
        context.load_cert_chain(keys / name / "client-cert.pem",
                                keys / name / "client-key.pem")
    if version:
        context.maximum_version = version
    client.socket = context.wrap_socket(client.socket,
                                        server_hostname="localhost")
    return client


def said(text):
    """A line about this very process."""
    return f"platter: client pid {os.getpid()}, uid {os.geteuid()}, gid {os.getegid()}: {text}\n"


def failed(reason):
    return said(f"TLS handshake failed: {reason}")


NOT_AUTHORISED = "'CN=alice' is not authorised"


def refused(reason):
    return said(reason) if reason == NOT_AUTHORISED else failed(reason)


def connect(server, flags=3):
    client = server.connect()
    client.greet(flags)
    return client


def secured(server, keys, name=None, version=None):
    client = connect(server)
    assert client.last(wire.STARTTLS) == wire.ACK
    return wrap(client, keys, name, version)


def can_use(client):
    """The exports are shown, and the disk is read."""
    assert [kind for kind, _ in client.option(wire.LIST)] == [wire.SERVER,
                                                             wire.ACK]
    assert client.last(wire.STRUCTURED) == wire.ACK
    assert client.go()[-1][0] == wire.ACK
    return client.read(0, 4096)


# --- what the clear may do ---------------------------------------------------


def test_without_tls_there_is_nothing(platter_path, tmp_path, disk, keys):
    with serving(platter_path, tmp_path, "--tls-certificates", keys / "good",
                 "-f", "raw", disk) as server:
        client = connect(server)
        for option in (wire.LIST, wire.STRUCTURED, wire.EXTENDED, 77):
            assert client.last(option) == wire.TLS_REQD
        for option in (wire.GO, wire.INFO):
            assert client.go(option=option)[-1][0] == wire.TLS_REQD
        for option in (wire.LIST_META, wire.SET_META):
            assert client.meta(option, b"")[-1][0] == wire.TLS_REQD
        assert client.last(wire.STARTTLS, b"x") == wire.INVALID
        assert client.last(wire.ABORT) == wire.ACK
        assert client.at_end()
        client = connect(server)
        client.send_option(wire.EXPORT_NAME)
        assert client.at_end()
        client = secured(server, keys)
        assert client.last(wire.STARTTLS) == wire.INVALID
        assert can_use(client) == disk.read_bytes()[:4096]


def test_both_ways_if_told_so(platter_path, tmp_path, disk, keys):
    with serving(platter_path, tmp_path, "--tls", "on", "--tls-certificates",
                 keys / "good", "-f", "raw", disk) as server:
        for client in (connect(server), secured(server, keys)):
            assert can_use(client) == disk.read_bytes()[:4096]


def test_old_clients_never_get_tls(platter_path, tmp_path, disk, keys):
    with serving(platter_path, tmp_path, "--tls", "on", "--tls-certificates",
                 keys / "good", "-f", "raw", disk) as server:
        client = connect(server, flags=0)
        client.send_option(wire.STARTTLS)
        assert client.at_end()


@pytest.mark.parametrize("mode", [wire.STRUCTURED, wire.EXTENDED])
def test_what_the_clear_agreed_on_is_forgotten(platter_path, tmp_path, disk,
                                               keys, mode):
    """CVE-2021-3716: replies, and a selection, that the client never made."""
    with serving(platter_path, tmp_path, "--tls", "on", "--tls-certificates",
                 keys / "good", "-f", "raw", disk) as server:
        client = connect(server)
        assert client.last(mode) == wire.ACK
        assert client.meta(wire.SET_META, b"",
                           b"base:allocation")[-1][0] == wire.ACK
        assert client.last(wire.STARTTLS) == wire.ACK
        wrap(client, keys)
        assert client.go()[-1][0] == wire.ACK
        client.send_request(wire.READ, 0, 512)
        assert client.simple_reply(512)[2] == disk.read_bytes()[:512]
        assert client.error_of(wire.STATUS, 0, 512) == 22


def test_selection_of_the_clear_is_forgotten(platter_path, tmp_path, disk,
                                             keys):
    with serving(platter_path, tmp_path, "--tls", "on", "--tls-certificates",
                 keys / "good", "-f", "raw", disk) as server:
        client = connect(server)
        assert client.last(wire.STRUCTURED) == wire.ACK
        client.meta(wire.SET_META, b"", b"base:allocation")
        assert client.last(wire.STARTTLS) == wire.ACK
        wrap(client, keys)
        assert client.last(wire.STRUCTURED) == wire.ACK
        assert client.go()[-1][0] == wire.ACK
        assert client.error_of(wire.STATUS, 0, 512) == 22


def test_bytes_behind_starttls_are_not_executed(platter_path, tmp_path, disk,
                                                keys):
    with serving(platter_path, tmp_path, "--tls-certificates", keys / "good",
                 "-f", "raw", disk,
                 says=failed("wrong version number")) as server:
        client = connect(server)
        head = struct.pack(">QII", wire.IHAVEOPT, wire.STARTTLS, 0)
        client.send(head + struct.pack(">QII", wire.IHAVEOPT, wire.LIST, 0))
        assert client.option_reply()[1] == wire.ACK
        with pytest.raises(OSError):
            wrap(client, keys)
        assert can_use(secured(server, keys))


def test_off_refuses_tls(platter_path, tmp_path, disk):
    with serving(platter_path, tmp_path, "-f", "raw", disk) as server:
        assert connect(server).last(wire.STARTTLS) == wire.POLICY


# --- who is let in -----------------------------------------------------------


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2,
                                     ssl.TLSVersion.TLSv1_3])
def test_versions(platter_path, tmp_path, disk, keys, version):
    with serving(platter_path, tmp_path, "--tls-certificates", keys / "good",
                 "-f", "raw", disk) as server:
        client = secured(server, keys, version=version)
        assert client.socket.version() == version.name.replace("_", ".")
        assert can_use(client)


@pytest.mark.parametrize("server_keys,reason", [
    ("other", "alert unknown ca"), ("late", "alert certificate expired"),
])
def test_clients_see_a_wrong_server(platter_path, tmp_path, disk, keys,
                                    server_keys, reason):
    with serving(platter_path, tmp_path, "--tls-certificates",
                 keys / server_keys, "-f", "raw", disk,
                 says=failed(".*" + reason)) as server:
        time.sleep(1)
        with pytest.raises(ssl.SSLCertVerificationError):
            secured(server, keys)


NO_CERTIFICATE = "peer did not return a certificate"
CLIENTS = [  # words, whose certificate, why it is not let in
    ([], None, None),
    (["--tls-verify-peer"], "good", None),
    (["--tls-verify-peer"], None, NO_CERTIFICATE),
    (["--tls-verify-peer"], "other", "certificate verify failed: .*"),
    (["--tls-verify-peer"], "late",
     "certificate verify failed: certificate has expired"),
    (["--tls-verify-peer", "--tls-authz", "alice"], "good", None),
    (["--tls-verify-peer", "--tls-authz", "CN=alice"], "good", None),
    (["--tls-verify-peer", "--tls-authz", "bob", "--tls-authz", "alice"],
     "good", None),
    (["--tls-verify-peer", "--tls-authz", "bob"], "good", NOT_AUTHORISED),
    (["--tls-verify-peer", "--tls-authz", "alic"], "good", NOT_AUTHORISED),
    (["--tls-verify-peer", "--tls-authz", "*"], "good", NOT_AUTHORISED),
    (["--tls-verify-peer", "--tls-authz", "alice"], None, NO_CERTIFICATE),
]


@pytest.mark.parametrize("words,name,reason", CLIENTS)
def test_only_the_right_clients_come_in(platter_path, tmp_path, disk, keys,
                                        words, name, reason):
    with serving(platter_path, tmp_path, "--tls-certificates", keys / "good",
                 *words, "-f", "raw", disk,
                 says=refused(reason) if reason else "") as server:
        if not reason:
            assert can_use(secured(server, keys, name))
            return
        # With TLS 1.3 the client's side is done before the server judges.
        with pytest.raises((OSError, EOFError)):
            can_use(secured(server, keys, name))


@pytest.fixture(scope="module")
def chained(tmp_path_factory):
    """Clients of an authority that another one vouches for."""
    folder = authority(tmp_path_factory.mktemp("chained") / "good")
    certify(folder, "server", "localhost")
    certify(folder, "middle", "/CN=middle", more="basicConstraints=CA:TRUE")
    certify(folder, "alone", "/CN=alice", ca="middle")
    (folder / "client-key.pem").write_bytes(
        (folder / "alone-key.pem").read_bytes())
    (folder / "client-cert.pem").write_text(
        "".join((folder / f"{role}-cert.pem").read_text()
                for role in ("alone", "middle")))
    return folder


LISTS = [  # what either authority has revoked (None: no list), the reason
    ([], [], None),
    ([], ["alone"], "certificate revoked"),
    (["middle"], [], "certificate revoked"),
    (["server"], [], None),
    ([], None, "unable to get certificate CRL"),
    (None, [], "unable to get certificate CRL"),
]


@pytest.mark.parametrize("top,middle,reason", LISTS)
def test_what_was_revoked_is_refused(platter_path, tmp_path, disk, chained,
                                     top, middle, reason):
    says = failed(f"certificate verify failed: {reason}") if reason else ""
    (chained / "ca-crl.pem").write_text(
        "".join(revoke(chained, ca, *roles)
                for ca, roles in (("ca", top), ("middle", middle))
                if roles is not None))
    with serving(platter_path, tmp_path, "--tls-certificates", chained,
                 "--tls-verify-peer", "-f", "raw", disk,
                 says=says) as server:
        if reason:
            with pytest.raises((OSError, EOFError)):
                can_use(secured(server, chained.parent, "good"))
        else:
            assert can_use(secured(server, chained.parent, "good"))


def test_lists_that_are_none(platter, disk, keys, tmp_path):
    folder = tmp_path / "mixed"
    folder.mkdir()
    for file in ("ca-cert.pem", "server-cert.pem", "server-key.pem"):
        (folder / file).write_bytes((keys / "good" / file).read_bytes())
    (folder / "ca-crl.pem").write_text("junk\n")
    told = platter.bad("serve -k s --tls-certificates mixed -f raw", [disk])
    assert "mixed/ca-crl.pem" in told


# --- with keys that both have ------------------------------------------------


def uri(server, path, user="alice"):
    return (f"nbds+unix://{user}@/?socket={server.socket}"
            f"&tls-psk-file={path}")


def run(*words, **more):
    return subprocess.run([str(word) for word in words], check=False,
                          capture_output=True, text=True, timeout=60, **more)


def test_data_goes_both_ways(platter_path, tmp_path, disk, psk):
    good = psk("good", f"# keys\nbob:{KEY[::-1]}\n\nalice:{KEY}\n")
    source = tmp_path / "source"
    source.write_bytes(os.urandom(SIZE))
    with serving(platter_path, tmp_path, "--tls-psk", good, "-f", "raw",
                 disk) as server:
        for words in ((source, uri(server, good)),
                      (uri(server, good), tmp_path / "back")):
            done = run(find("nbdcopy"), *words)
            assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "back").read_bytes() == source.read_bytes()
    assert disk.read_bytes() == source.read_bytes()


def test_wrong_keys(platter_path, tmp_path, disk, psk):
    good = psk("good", f"alice:{KEY}\nbob:{KEY}\n")
    bad = psk("bad", f"alice:{KEY[::-1]}\nbob:{KEY}\ncarol:{KEY}\n")
    with serving(platter_path, tmp_path, "--tls-psk", good, "--tls-authz",
                 "alice", "-f", "raw", disk, says=(
                     ".*: binder does not verify\n"
                     ".*: no key of 'carol': .*\n"
                     ".*: 'bob' is not authorised\n")) as server:
        nbdinfo = find("nbdinfo")
        assert run(nbdinfo, "--size", uri(server, good)).stdout == f"{SIZE}\n"
        for name, user in ((bad, "alice"), (bad, "carol"), (good, "bob")):
            assert run(nbdinfo, "--size", uri(server, name, user)).returncode
        assert run(nbdinfo, "--size", server.uri()).returncode


def test_qemu_img_comes_by_keys(platter_path, tmp_path, disk, psk):
    (tmp_path / "dir").mkdir()
    keys_file = psk("dir/keys.psk", f"qemu:{KEY}\n")
    with serving(platter_path, tmp_path, "--tls-psk", keys_file, "-f", "raw",
                 disk) as server:
        done = run(find("qemu-img"), "convert", "--object",
                   f"tls-creds-psk,id=t,endpoint=client,dir={tmp_path}/dir,"
                   "username=qemu", "--image-opts", "-O", "raw",
                   f"driver=nbd,server.type=unix,server.path={server.socket},"
                   "tls-creds=t", "copy.raw", cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "copy.raw").read_bytes() == disk.read_bytes()


def test_our_client_comes_by_certificates(platter_path, tmp_path, disk, keys):
    """By TCP, where the host's name is checked."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [platter_path, "serve", "-b", "127.0.0.1", "-p", str(port),
         "--tls-certificates", keys / "good", "-f", "raw", disk])
    try:
        give_up = time.monotonic() + 30
        while True:
            done = run(platter_path, "convert", "-f", "raw", "-O", "raw",
                       f"nbds://localhost:{port}/?tls-certificates="
                       f"{keys}/good", "copy.raw", cwd=tmp_path)
            if done.returncode == 0 or time.monotonic() > give_up:
                break
        assert (done.returncode, done.stderr) == (0, "")
        # The certificate is for another name than this.
        done = run(platter_path, "info", "-f", "raw",
                   f"nbds://127.0.0.1:{port}/?tls-certificates={keys}/good")
        assert done.returncode == 1 and "127.0.0.1" in done.stderr
    finally:
        process.terminate()
        assert process.wait(timeout=30) == 0
    assert (tmp_path / "copy.raw").read_bytes() == disk.read_bytes()


# --- words and files ---------------------------------------------------------


@pytest.mark.parametrize("text,mode,reason", [
    (f"alice:{KEY}\n", 0o604, "everybody"),
    ("alice\n", 0o600, "Line 1"),
    (f"alice:{KEY}\nbob:xyz\n", 0o600, "Line 2"),
    (f"alice:{KEY}\nalice:{KEY}\n", 0o600, "Line 2"),
    ("alice:0123\n", 0o600, "16 to 64 bytes"),
    ("# nobody\n", 0o600, "No key"),
    (f"alice:{KEY}\0\n", 0o600, "NUL"),
])
def test_key_files_that_are_wrong(platter, disk, psk, text, mode, reason):
    path = psk("keys", text, mode)
    told = platter.bad("serve -k s --tls-psk", [path], "-f raw", [disk])
    assert reason in told and str(path) in told
    assert KEY not in told


@pytest.mark.parametrize("words", [
    "--tls require", "--tls on", "--tls maybe --tls-psk k",
    "--tls off --tls-psk k", "--tls-psk k --tls-certificates c",
    "--tls-verify-peer", "--tls-psk k --tls-verify-peer",
    "--tls-certificates c --tls-authz x",
    "--tls on --tls-certificates c --tls-verify-peer",
    "--tls on --tls-psk k --tls-authz x",
])
def test_words_that_do_not_go_together(platter, disk, words):
    assert "--tls" in platter.bad("serve -k s", words, "-f raw", [disk])


def test_certificates_that_are_not_there(platter, disk, tmp_path, keys):
    told = platter.bad("serve -k s --tls-certificates none -f raw", [disk])
    assert "none/ca-cert.pem" in told
    folder = tmp_path / "mixed"
    folder.mkdir()
    for name, origin in (("ca-cert", "good"), ("server-cert", "good"),
                         ("server-key", "other")):
        (folder / f"{name}.pem").write_bytes(
            (keys / origin / f"{name}.pem").read_bytes())
    told = platter.bad("serve -k s --tls-certificates mixed -f raw", [disk])
    assert "mixed/server-key.pem" in told


# --- ends --------------------------------------------------------------------


def in_its_handshake(server, keys):
    client = connect(server)
    assert client.last(wire.STARTTLS) == wire.ACK
    client.send(b"\x16\x03\x01")
    return client


def not_reading(server, keys):
    client = secured(server, keys)
    assert client.go()[-1][0] == wire.ACK
    for _ in range(8):
        client.send_request(wire.READ, 0, SIZE)
    return client


@pytest.mark.parametrize("state", [in_its_handshake, not_reading, secured])
def test_clients_never_keep_a_server_from_stopping(platter_path, tmp_path,
                                                   disk, keys, state):
    server = Server(platter_path, tmp_path, "--tls-certificates",
                    keys / "good", "-f", "raw", disk)
    clients = [state(server, keys) for _ in range(3)]
    assert server.stop(signal.SIGTERM) == (0, "")
    for client in clients:
        client.close()
