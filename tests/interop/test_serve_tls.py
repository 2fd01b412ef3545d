# SPDX-License-Identifier: BSD-3-Clause
"""serve over TLS: what the clear may not do, and who is let in."""
import os
import pathlib
import socket
import ssl
import struct
import subprocess
import time

import pytest

PLATTER = str(pathlib.Path(__file__).resolve().parents[2] / "build/platter")
TLS_REQD, INVALID, POLICY, ACK = 0x80000005, 0x80000003, 0x80000002, 1


def openssl(folder, *words):
    subprocess.run(("openssl",) + words, cwd=folder, check=True,
                   capture_output=True)


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    top = tmp_path_factory.mktemp("pki")
    openssl(top, "req", "-x509", "-newkey", "ec", "-pkeyopt",
            "ec_paramgen_curve:P-256", "-nodes", "-keyout", "ca.key", "-out",
            "ca-cert.pem", "-subj", "/CN=ca")
    for name, cn in (("server", "localhost"), ("client", "alice")):
        openssl(top, "req", "-newkey", "ec", "-pkeyopt",
                "ec_paramgen_curve:P-256", "-nodes", "-keyout",
                f"{name}-key.pem", "-out", "csr", "-subj", f"/CN={cn}")
        openssl(top, "x509", "-req", "-in", "csr", "-CA", "ca-cert.pem",
                "-CAkey", "ca.key", "-CAcreateserial", "-out",
                f"{name}-cert.pem")
    return top


@pytest.fixture
def serve(tmp_path):
    started = []

    def start(*words):
        image = tmp_path / "image"
        image.write_bytes(os.urandom(1 << 20))
        path = str(tmp_path / "s")
        started.append(subprocess.Popen(
            [PLATTER, "serve", "-f", "raw", "--socket", path, *words,
             str(image)]))
        while not os.path.exists(path):
            assert started[-1].poll() is None
            time.sleep(0.01)
        return path
    yield start
    for process in started:
        process.terminate()
        assert process.wait(20) == 0


def connect(path):
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(10)
    sock.connect(path)
    assert len(sock.recv(18, socket.MSG_WAITALL)) == 18
    sock.sendall(struct.pack(">I", 3))
    return sock


def take(sock, count):
    data = b""
    while len(data) < count:
        more = sock.recv(count - len(data))
        if not more:
            raise ConnectionError("the end")
        data += more
    return data


def option(code, data=b""):
    return b"IHAVEOPT" + struct.pack(">II", code, len(data)) + data


def ask(sock, code, data=b""):
    sock.sendall(option(code, data))
    _, _, kind, size = struct.unpack(">QIII", take(sock, 20))
    take(sock, size)
    return kind


def wrap(sock, pki, with_client=False):
    ctx = ssl.create_default_context(cafile=pki / "ca-cert.pem")
    ctx.check_hostname = False
    if with_client:
        ctx.load_cert_chain(pki / "client-cert.pem", pki / "client-key.pem")
    return ctx.wrap_socket(sock)


def test_clear_text_gets_nowhere(serve, pki):
    path = serve("--tls-certificates", str(pki))
    sock = connect(path)
    for code in (3, 6, 7, 8, 9, 10, 11, 77):
        assert ask(sock, code) == TLS_REQD
    assert ask(sock, 5, b"x") == INVALID
    sock.sendall(option(1))
    with pytest.raises(ConnectionError):
        take(sock, 1)


def test_state_of_the_clear_is_forgotten(serve, pki):
    sock = connect(serve("--tls", "on", "--tls-certificates", str(pki)))
    assert ask(sock, 11) == ACK
    assert ask(sock, 5) == ACK
    sock = wrap(sock, pki)
    # With extended headers still on this would be refused.
    assert ask(sock, 8) == ACK
    assert ask(sock, 5) == INVALID


def test_injected_bytes_are_not_executed(serve, pki):
    sock = connect(serve("--tls-certificates", str(pki)))
    sock.sendall(option(5) + option(3))
    take(sock, 20)
    with pytest.raises((ssl.SSLError, OSError)):
        wrap(sock, pki)


def test_off_refuses_tls(serve):
    assert ask(connect(serve()), 5) == POLICY


@pytest.mark.parametrize("name, with_client, good", [
    ("alice", True, True), ("CN=alice", True, True), ("bob", True, False),
    ("alice", False, False)])
def test_only_listed_names(serve, pki, name, with_client, good):
    sock = connect(serve("--tls-certificates", str(pki), "--tls-verify-peer",
                         "--tls-authz", name))
    assert ask(sock, 5) == ACK
    if good:
        assert ask(wrap(sock, pki, with_client), 8) == ACK
    else:
        with pytest.raises(OSError):
            ask(wrap(sock, pki, with_client), 8)


def test_stop_does_not_wait_for_a_handshake(serve, pki):
    sock = connect(serve("--tls-certificates", str(pki)))
    assert ask(sock, 5) == ACK  # and no more; the fixture stops the server


def test_keys_carry_data_both_ways(serve, tmp_path):
    keys = {}
    for name in ("good", "bad"):
        keys[name] = tmp_path / name
        keys[name].write_text(f"alice:{os.urandom(32).hex()}\n")
        keys[name].chmod(0o600)
    path = serve("--tls-psk", str(keys["good"]))
    source, back = tmp_path / "source", tmp_path / "back"
    source.write_bytes(os.urandom(1 << 20))
    uri = f"nbds+unix://alice@/?socket={path}&tls-psk-file="
    subprocess.run(["nbdcopy", source, uri + str(keys["good"])], check=True)
    subprocess.run(["nbdcopy", uri + str(keys["good"]), back], check=True)
    assert back.read_bytes() == source.read_bytes()
    assert subprocess.run(["nbdinfo", uri + str(keys["bad"])],
                          capture_output=True).returncode
