# SPDX-License-Identifier: BSD-3-Clause
"""Credentials for TLS that are no good: what qemu-img says of them."""

import pytest

IMAGE = "--image-opts driver=nbd,host=localhost,port=1,tls-creds=t"
SAME = """
tls-creds-x509,id=t,dir=missing
tls-creds-x509,id=t
tls-creds-x509,id=t,dir=.
tls-creds-x509,id=t,dir=.,endpoint=klient
tls-creds-x509,id=t,dir=.,foo=1
tls-creds-x509,id=t,dir=.,verify-peer=maybe
tls-creds-psk,id=t
tls-creds-psk,id=t,dir=missing
tls-creds-psk,id=t,dir=.,username=bob
tls-creds-psk,id=t,dir=.,username=alice,endpoint=server
tls-creds-psk,id=t,dir=.,endpoint=server
tls-creds-psk,id=t/2,dir=.
tls-creds-psk,id=2t,dir=.
tls-creds-psk,id=s,dir=.
secret,id=t,data=abc
""".strip().splitlines()


@pytest.mark.parametrize("creds", SAME)
def test_the_same_is_said(twins, creds):
    twins.write("keys.psk", b"alice:00aabb11\nqemu:00ccdd11\n")
    assert twins.same(f"info --object {creds} {IMAGE}").status == 1


def test_one_id_for_two(twins):
    twins.write("keys.psk", b"qemu:00ccdd11\n")
    creds = "--object tls-creds-psk,id=t,dir=."
    assert twins.same(f"info {creds} {creds} {IMAGE}").status == 1


def test_no_object(twins):
    assert twins.same(f"info {IMAGE}").status == 1


@pytest.mark.parametrize("creds", [
    "tls-creds-anon,id=t", "tls-creds-x509,id=t,dir=.,priority=NORMAL",
    "tls-creds-x509,id=t,dir=.,passwordid=s"])
def test_what_is_not_supported_is_not_ignored(platter, creds):
    result = platter(f"info --object {creds} {IMAGE}")
    assert result.status == 1 and "not supported" in result.err


def test_two_kinds_of_credentials(platter, tmp_path):
    (tmp_path / "keys.psk").write_text("qemu:00ccdd11\n")
    result = platter("info --object tls-creds-psk,id=t,dir=. "
                     f"{IMAGE},tls-psk-file=keys.psk")
    assert result.status == 1 and "by other options as well" in result.err
