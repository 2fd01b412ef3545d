# SPDX-License-Identifier: BSD-3-Clause
"""TLS in the words of qemu-nbd, ours beside the real one.

Tests that take `program` run twice, so that what they expect is what the real
program does and not what we think it does.
"""

import contextlib
import functools
import os
import socket
import ssl
import subprocess

import nbd_server as wire
import pytest
from conftest import find
from nbd_peers import wait_until
from nbd_server import NamedServer
from tls_keys import authority, certify

SIZE = 1 << 20
KEY = "0123456789abcdef" * 4
# Ours tells on stderr who could not come in.
serving = functools.partial(wire.serving, kind=NamedServer, says=".*")

# In the order of the certificate, as GnuTLS writes it.
DN = "C=GB,O=Example Org,OU=a\\,b,CN=Älice"
SUBJECT = "/C=GB/O=Example Org/OU=a,b/CN=Älice"


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """good: of clients and servers; mixed: of two minds; psk."""
    top = tmp_path_factory.mktemp("keys")
    for name in ("good", "mixed", "other"):
        certify(authority(top / name), "server", "localhost")
        certify(top / name, "client", SUBJECT)
    (top / "mixed/server-key.pem").write_bytes(
        (top / "good/server-key.pem").read_bytes())
    (top / "psk").mkdir()
    (top / "psk/keys.psk").write_text(f"qemu:{KEY}\nbob:{KEY}\n")
    (top / "psk/keys.psk").chmod(0o600)
    return top


@pytest.fixture
def disk(tmp_path, keys):
    path = tmp_path / "disk.raw"
    path.write_bytes(os.urandom(SIZE))
    for name in ("good", "mixed", "other", "psk"):
        (tmp_path / name).symlink_to(keys / name)
    return path


def run(*words, cwd, **more):
    return subprocess.run([*map(str, words)], cwd=cwd, check=False,
                          capture_output=True, text=True, timeout=60, **more)


def creds(kind="x509", more="", folder="good", endpoint="server"):
    return ["--object", f"tls-creds-{kind},id=t,endpoint={endpoint},"
            f"dir={folder}{more}", "--tls-creds=t"]


def authz(text):
    return ["--object", text.replace("DN", DN.replace(",", ",,")),
            "--tls-authz=a"]


# --- words that are wrong ----------------------------------------------------

LISTED = "--object authz-list,id=a,"
WRONG = [
    ("--tls-creds=none", "Failed to get TLS creds: No TLS credentials with id "
     "'none'"),
    ("--object secret,id=t,data=x --tls-creds=t",
     "Failed to get TLS creds: Object with id 't' is not TLS credentials"),
    ("--object tls-creds-x509,id=t,dir=good --tls-creds=t",
     "Expected TLS credentials for a server endpoint"),
    ("--object tls-creds-psk,id=t,dir=psk,endpoint=client --tls-creds=t",
     "Expected TLS credentials for a server endpoint"),
    ("--object tls-creds-x509,id=t,dir=good,endpoint=both --tls-creds=t",
     "Parameter 'endpoint' does not accept value 'both'"),
    ("--object tls-creds-x509,id=t,endpoint=server --tls-creds=t",
     "Missing 'dir' property value"),
    ("--object tls-creds-psk,id=t,endpoint=server --tls-creds=t",
     "Missing 'dir' property value"),
    ("--object tls-creds-x509,id=t,endpoint=server,dir=none --tls-creds=t",
     "Unable to access credentials none/ca-cert.pem: No such file"),
    ("--object tls-creds-psk,id=t,endpoint=server,dir=none --tls-creds=t",
     "Unable to access credentials none/keys.psk: No such file"),
    ("--object tls-creds-x509,id=t,endpoint=server,dir=psk --tls-creds=t",
     "Unable to access credentials psk/ca-cert.pem: No such file"),
    ("--object tls-creds-x509,id=t,endpoint=server,dir=mixed --tls-creds=t",
     "mixed/server-key.pem'"),
    ("--object tls-creds-psk,id=t,endpoint=server,dir=psk,username=x "
     "--tls-creds=t", "username should not be set when endpoint=server"),
    ("--object tls-creds-x509,id=t,endpoint=server,dir=good,verify-peer=maybe "
     "--tls-creds=t", "Parameter 'verify-peer' expects 'on' or 'off'"),
    ("--object tls-creds-x509,id=t,endpoint=server,dir=good,foo=1 "
     "--tls-creds=t", "Parameter 'foo' is unexpected"),
    ("--object tls-creds-psk,id=t,endpoint=server,dir=psk,sanity-check=on "
     "--tls-creds=t", "Parameter 'sanity-check' is unexpected"),
    ("--object tls-creds-x509,dir=good --tls-creds=t",
     "Parameter 'id' is missing"),
    ("--object secret,id=t,data=x --object secret,id=t,data=y",
     "attempt to add duplicate property 't' to object (type 'container')"),
    ("--tls-authz=a", "--tls-authz is not permitted without --tls-creds"),
    ("--tls-hostname=h", "--tls-hostname is not permitted without "
     "--tls-creds"),
    ("GOOD --tls-hostname=h", "TLS hostname is only supported with export "
     "list"),
    ("GOOD --tls-authz=a --object authz-simple,id=a",
     "Parameter 'identity' is missing"),
    ("GOOD --tls-authz=a --object authz-simple,id=a,identity=x,foo=1",
     "Parameter 'foo' is unexpected"),
    (f"GOOD --tls-authz=a {LISTED}policy=no",
     "Parameter 'policy' does not accept value 'no'"),
    (f"GOOD --tls-authz=a {LISTED}foo=1", "Parameter 'foo' is unexpected"),
    (f"GOOD --tls-authz=a {LISTED}rules.0.policy=allow",
     "Parameter 'rules.0.match' is missing"),
    (f"GOOD --tls-authz=a {LISTED}rules.0.match=x",
     "Parameter 'rules.0.policy' is missing"),
    (f"GOOD --tls-authz=a {LISTED}rules.0.match=x,rules.0.policy=no",
     "Parameter 'policy' does not accept value 'no'"),
    (f"GOOD --tls-authz=a {LISTED}rules.0.match=x,rules.0.policy=deny,"
     "rules.0.format=no", "Parameter 'format' does not accept value 'no'"),
    (f"GOOD --tls-authz=a {LISTED}rules.1.match=x,rules.1.policy=deny",
     "rules"),
    (f"GOOD --tls-authz=a {LISTED}rules.0.match=x,rules.0.policy=deny,"
     "rules.0.more=1", "rules"),
]


@pytest.mark.parametrize("words,text", WRONG)
def test_wrong_words(program, disk, tmp_path, words, text):
    words = words.replace("GOOD", " ".join(creds()))
    done = run(program, "-k", tmp_path / "s", "-f", "raw", *words.split(),
               disk, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("qemu-nbd: ") and text in done.stderr


@pytest.mark.parametrize("words,text", [
    ("-L GOOD", "Expected TLS credentials for a client endpoint"),
    ("-L --tls-creds=none", "No TLS credentials with id 'none'"),
    ("-L --tls-hostname=h", "--tls-hostname is not permitted without "
     "--tls-creds"),
    ("-L CLIENT --tls-authz=a", "TLS authorization is incompatible with "
     "export list"),
])
def test_wrong_words_of_a_list(program, disk, tmp_path, words, text):
    words = words.replace("GOOD", " ".join(creds()))
    words = words.replace("CLIENT", " ".join(creds(endpoint="client")))
    done = run(program, "-k", tmp_path / "s", *words.split(), cwd=tmp_path)
    assert done.returncode == 1 and text in done.stderr


@pytest.mark.parametrize("words,text", [
    (creds(more=",priority=NORMAL"), "'priority' is not supported"),
    (creds(more=",passwordid=p"), "'passwordid' is not supported"),
    (["--object", "tls-creds-anon,id=t,endpoint=server", "--tls-creds=t"],
     "Anonymous TLS credentials are not supported"),
    ([*creds(), "--tls-authz=none"], "No authorization object"),
    ([*creds(), *authz("authz-pam,id=a,service=x")], "not authz-pam"),
    ([*creds(), "--tls-authz=t"], "not tls-creds-x509"),
])
def test_what_is_not_there_says_so(ours, disk, tmp_path, words, text):
    done = run(ours, "-k", tmp_path / "s", "-f", "raw", *words, disk,
               cwd=tmp_path)
    assert done.returncode == 1 and text in done.stderr


# --- who may come ------------------------------------------------------------


def may_come(server, keys, name=None):
    """A client by TLS, with that certificate."""
    context = ssl.create_default_context(cafile=keys / "good/ca-cert.pem")
    if name:
        context.load_cert_chain(keys / name / "client-cert.pem",
                                keys / name / "client-key.pem")
    client = server.connect()
    client.greet()
    assert client.last(wire.GO, wire.go_data(b"")) == wire.TLS_REQD
    assert client.last(wire.STARTTLS) == wire.ACK
    try:
        client.socket = context.wrap_socket(client.socket,
                                            server_hostname="localhost")
        return client.go()[-1][0] == wire.ACK
    except (OSError, EOFError):
        return False
    finally:
        client.close()


def rules(*lines, policy=""):
    """authz-list of (match, policy[, format])"""
    text = "authz-list,id=a" + policy
    for i, line in enumerate(lines):
        for word, value in zip(("match", "policy", "format"), line):
            text += f",rules.{i}.{word}={value}"
    return authz(text)


ALLOW, DENY = "allow", "deny"
COMERS = [  # words, whose certificate, does it come in
    (creds(), None, False),
    (creds(), "good", True),
    (creds(), "other", False),
    (creds(more=",verify-peer=off"), None, True),
    (creds(more=",verify-peer=on"), None, False),
    (creds(more=",sanity-check=no"), "good", True),
    ([*creds(), *authz("authz-simple,id=a,identity=DN")], "good", True),
    ([*creds(), *authz("authz-simple,id=a,identity=Älice")], "good", False),
    ([*creds(), *authz("authz-simple,id=a,identity=CN=Älice")], "good", False),
    ([*creds(), *authz("authz-simple,id=a,identity=CN=Älice,,OU=a\\,,b,,"
                       "O=Example Org,,C=GB")], "good", False),
    ([*creds(), *authz("authz-simple,id=a,identity=*")], "good", False),
    ([*creds(), *rules()], "good", False),
    ([*creds(), *rules(policy=",policy=allow")], "good", True),
    ([*creds(), *rules(("DN", ALLOW))], "good", True),
    ([*creds(), *rules(("DN", DENY), policy=",policy=allow")], "good", False),
    ([*creds(), *rules(("DN", DENY), ("*", ALLOW, "glob"))], "good", False),
    ([*creds(), *rules(("*Org*", ALLOW, "glob"))], "good", True),
    ([*creds(), *rules(("*Org*", ALLOW, "exact"))], "good", False),
    ([*creds(), *rules(("*CN=?lice", ALLOW, "glob"))], "good", True),
    ([*creds(), *rules(("?lice*", ALLOW, "glob"))], "good", False),
    ([*creds(), "--object", '{"qom-type": "authz-list", "id": "a", "policy": '
      '"deny", "rules": [{"match": "x", "policy": "allow"}, {"match": "C=GB*", '
      '"policy": "allow", "format": "glob"}]}', "--tls-authz=a"], "good",
     True),
]


@pytest.mark.parametrize("words,name,good", COMERS)
def test_who_may_come(program, disk, tmp_path, keys, words, name, good):
    with serving(program, tmp_path, "-t", "-k", tmp_path / "sock", "-f", "raw",
                 *words, disk) as server:
        assert may_come(server, keys, name) == good


def test_nobody_comes_by_name_without_a_certificate(ours, disk, tmp_path,
                                                    keys):
    words = [*creds(more=",verify-peer=off"), *rules(("DN", ALLOW),
                                                     policy=",policy=allow")]
    with serving(ours, tmp_path, "-t", "-k", tmp_path / "sock", "-f", "raw",
                 *words, disk) as server:
        assert not may_come(server, keys)


def test_keys_that_both_have(program, disk, tmp_path, keys):
    with serving(program, tmp_path, "-t", "-k", tmp_path / "sock", "-f", "raw",
                 *creds("psk", folder=keys / "psk"), disk) as server:
        for user, status in (("qemu", 0), ("carol", 1)):
            done = run(find("qemu-img"), "convert", "--object",
                       "tls-creds-psk,id=t,endpoint=client,dir=psk,"
                       f"username={user}", "--image-opts", "-O", "raw",
                       f"driver=nbd,server.type=unix,server.path="
                       f"{server.socket},tls-creds=t", "copy", cwd=tmp_path)
            assert done.returncode == status
    assert (tmp_path / "copy").read_bytes() == disk.read_bytes()


def test_names_rule_keys_as_well(ours, disk, tmp_path, keys):
    """The real one lets in whoever has a key, and says nothing."""
    words = [*creds("psk", folder="psk"), *authz("authz-simple,id=a,"
                                                 "identity=bob")]
    with serving(ours, tmp_path, "-t", "-k", tmp_path / "sock", "-f", "raw",
                 *words, disk) as server:
        for user, status in (("bob", 0), ("qemu", 1)):
            done = run(find("nbdinfo"), "--size",
                       f"nbds+unix://{user}@/?socket={server.socket}&"
                       "tls-psk-file=psk/keys.psk", cwd=tmp_path)
            assert done.returncode == status


# --- lists -------------------------------------------------------------------


@pytest.fixture
def port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@contextlib.contextmanager
def by_tcp(program, folder, *words):
    process = subprocess.Popen([program, "--pid-file=tcp.pid", *words],
                               cwd=folder, stdin=subprocess.DEVNULL)
    try:
        wait_until((folder / "tcp.pid").exists, "the server does not start")
        yield
    finally:
        process.terminate()
        process.wait(timeout=30)


def test_lists_by_a_key(program, real, disk, tmp_path, keys):
    with serving(real, tmp_path, "-t", "-k", tmp_path / "sock", "-f", "raw",
                 *creds("psk", folder=keys / "psk"), disk):
        def ask(*words):
            return run(program, "-L", "-k", tmp_path / "sock", *words,
                       cwd=tmp_path)

        client = functools.partial(creds, "psk", folder="psk",
                                   endpoint="client")
        done = ask(*client())
        assert done.returncode == 0 and f"size:  {SIZE}\n" in done.stdout
        assert ask(*client(more=",username=bob")).returncode == 0
        assert ask(*client(more=",username=carol")).returncode == 1
        assert ask().returncode == 1


@pytest.mark.parametrize("words,host,status", [
    (creds(endpoint="client"), "localhost", 0),
    (creds(endpoint="client"), "127.0.0.1", 1),
    (creds(endpoint="client", folder="other"), "localhost", 1),
    ([*creds(endpoint="client"), "--tls-hostname=localhost"], "localhost", 0),
])
def test_lists_by_certificates(program, real, disk, tmp_path, port, words,
                               host, status):
    with by_tcp(real, tmp_path, "-t", "-b", "localhost", "-p", port, "-f",
                "raw", *creds(), disk):
        done = run(program, "-L", "-b", host, "-p", port, *words, cwd=tmp_path)
        assert done.returncode == status
        assert (f"size:  {SIZE}\n" in done.stdout) == (not status)


def test_no_list_of_a_server_that_cannot_be_verified(ours, real, disk,
                                                     tmp_path):
    """libnbd compares no other name than the host's."""
    with serving(real, tmp_path, "-t", "-k", tmp_path / "sock", "-f", "raw",
                 *creds(), disk):
        for more, text in (([], "cannot be verified"),
                           (["--tls-hostname=localhost"], "libnbd")):
            done = run(ours, "-L", "-k", tmp_path / "sock",
                       *creds(endpoint="client"), *more, cwd=tmp_path)
            assert done.returncode == 1 and text in done.stderr
        done = run(ours, "-L", "-k", tmp_path / "sock",
                   *creds(endpoint="client", more=",verify-peer=off"),
                   cwd=tmp_path)
        assert done.returncode == 0
