# SPDX-License-Identifier: BSD-3-Clause
"""Libraries of large cost: missed by those commands only that need them."""

import os

import pytest

KEY = "0123456789abcdef" * 4


@pytest.fixture
def without(tmp_path):
    """The environment of a machine where a library is there but of no use."""
    def build(file):
        folder = tmp_path / "lib"
        folder.mkdir()
        (folder / file).touch()
        return {**os.environ, "LD_LIBRARY_PATH": str(folder)}
    return build


@pytest.fixture
def disk(tmp_path):
    path = tmp_path / "disk.raw"
    path.write_bytes(bytes(1 << 16))
    return path


def test_tls_misses_libssl(platter, without, disk, tmp_path):
    (tmp_path / "keys").write_text(f"alice:{KEY}\n")
    (tmp_path / "keys").chmod(0o600)
    env = without("libssl.so.3")
    assert platter("info -f raw", [disk], env=env).returncode == 0
    told = platter.bad("serve -k s --tls-psk keys -f raw", [disk], env=env)
    assert "TLS needs OpenSSL's libssl" in told and "libssl.so.3" in told


def test_clients_miss_libnbd(platter, without, disk):
    env = without("libnbd.so.0")
    assert platter("info -f raw", [disk], env=env).returncode == 0
    told = platter.bad("info nbd+unix:///?socket=none", env=env)
    assert "NBD needs libnbd" in told and "libnbd.so.0" in told
