# SPDX-License-Identifier: BSD-3-Clause
"""The server and its clients inside a guest, for what needs a kernel with more
in it than the host's may have: vsock to the machine itself, and TLS that the
kernel speaks."""

import re
import shutil
import subprocess

import pytest
from guests import KIT, PROGRAM, boot
from tls_keys import authority, certify

# They are opened when they are needed, and so ldd does not name them.
ALSO = ("libssl.so.3", "libnbd.so.0")
PEERS = ("nbdcopy", "nbdinfo")

SETUP = """
export PATH=/tools:$PATH
ifconfig lo 127.0.0.1 up
load() { for name; do insmod /modules/$name.ko || exit 1; done; }
is_there() {
	n=0
	until nbdinfo --can connect "$1" 2>/out; do
		n=$((n + 1))
		[ $n -lt 100 ] || { cat /out; exit 1; }
		sleep 0.1
	done
}
mkdir /tmp && cd /tmp
dd if=/dev/urandom of=source.raw bs=1M count=24 2>/dev/null || exit 1
# Behind a hole.
dd if=/dev/urandom of=source.raw bs=512 seek=80001 count=1 2>/dev/null
platter convert -f raw -O qcow2 source.raw disk.qcow2 || exit 1
platter create -q -f qcow2 target.qcow2 "$(stat -c %s source.raw)" || exit 1
"""

# Out and in by nbdcopy, and out and in by our own client.
USE = """
is_there URI/disk
nbdinfo --no-content URI/disk && nbdcopy URI/disk out.raw || exit 1
cmp source.raw out.raw || exit 1
nbdcopy source.raw URI/target || exit 1
platter compare -f raw source.raw 'URI/target' || exit 1
platter convert -f raw -O raw 'URI/disk' again.raw || exit 1
cmp source.raw again.raw || exit 1
platter convert -n -f raw -O raw again.raw 'URI/target' || exit 1
kill $server && wait $server || exit 1
platter check -q target.qcow2 || exit 1
platter compare -f raw -F qcow2 source.raw target.qcow2 || exit 1
"""

SERVE = ("platter serve -f qcow2 -E disk=disk.qcow2,read-only=on -E target=target.qcow2"
         " {words} &\nserver=$!\n")


def libraries(path):
    said = subprocess.run(["ldd", path], check=True, capture_output=True,
                          text=True).stdout
    return re.findall(r"/\S+", said)


def library_path(name):
    said = subprocess.run(["/sbin/ldconfig", "-p"], check=True,
                          capture_output=True, text=True).stdout
    return re.search(rf"{re.escape(name)} .*x86-64.* => (\S+)", said).group(1)


def add(root, path, target):
    at = root / str(target).lstrip("/")
    at.parent.mkdir(parents=True, exist_ok=True)
    if not at.exists():
        shutil.copy(path, at)


@pytest.fixture
def root(tmp_path):
    """What a guest has beyond its kit: programs, with all they are linked
    with in its place."""
    root = tmp_path / "root"
    programs = [(PROGRAM, "platter")]
    programs += [(shutil.which(name), name) for name in PEERS]
    needed = [library_path(name) for name in ALSO]
    for path, name in programs:
        add(root, path, f"tools/{name}")
        needed += libraries(path)
    for path in needed:
        add(root, path, path)
        for other in libraries(path):
            add(root, other, other)
    (root / "etc").mkdir()
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n")
    return root


def boot_with(root, tmp_path, script):
    """A kernel takes several archives behind each other."""
    names = b"\0".join(str(path.relative_to(root)).encode()
                       for path in [root, *sorted(root.rglob("*"))])
    archive = subprocess.run(["cpio", "--quiet", "-0", "-o", "-H", "newc"],
                             input=names, cwd=root, check=True,
                             capture_output=True).stdout
    initrd = tmp_path / "initrd"
    initrd.write_bytes((KIT / "initrd").read_bytes() + archive)
    return boot(tmp_path, script, "-initrd", str(initrd), "-m", "768")


def test_vsock_carries_it(root, tmp_path):
    script = (SETUP + "load vsock vmw_vsock_virtio_transport_common "
              "vsock_loopback\n" + SERVE.format(words="--vsock 10809")
              + USE.replace("URI", "nbd+vsock://1:10809"))
    said = boot_with(root, tmp_path, script)
    assert "protocol: newstyle-fixed without TLS" in said


# What OpenSSL 3.0 leaves to the kernel: all but what arrives by TLS 1.3; and
# what makes clients use that version.
VERSIONS = {
    "1.3": (("TlsTxSw",), ""),
    "1.2": (("TlsTxSw", "TlsRxSw"), "[overrides]\ndisabled-version = tls1.3\n"),
}


@pytest.mark.parametrize("version", VERSIONS)
def test_the_kernel_speaks_tls(version, root, tmp_path):
    counters, rules = VERSIONS[version]
    keys = authority(tmp_path / "keys")
    certify(keys, "server", "localhost")
    certify(keys, "client", "client")
    shutil.copytree(keys, root / "keys")
    (root / "etc/gnutls").write_text(rules)
    tls = "nbds://localhost:10809"
    use = USE.replace("URI/disk", f"{tls}/disk?tls-certificates=/keys")
    use = use.replace("URI/target", f"{tls}/target?tls-certificates=/keys")
    script = (SETUP + "load ctr gf128mul ghash-generic gcm tls\n"
              "export GNUTLS_SYSTEM_PRIORITY_FILE=/etc/gnutls\n"
              + SERVE.format(words="-b 127.0.0.1 --tls require --tls-verify-"
                             "peer --tls-certificates /keys")
              + use + "cat /proc/net/tls_stat\n")
    said = boot_with(root, tmp_path, script)
    assert "protocol: newstyle-fixed with TLS" in said
    for counter in counters:
        assert int(re.search(rf"{counter}\s+(\d+)", said).group(1)) > 0, said
    assert re.search(r"TlsDecryptError\s+0", said), said
