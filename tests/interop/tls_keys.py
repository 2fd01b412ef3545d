# SPDX-License-Identifier: BSD-3-Clause
"""Certificates and keys for tests of TLS."""

import subprocess

from nbd_peers import find

EC = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


def openssl(folder, *words):
    subprocess.run([find("openssl"), *words], cwd=folder, check=True,
                   capture_output=True)


def authority(folder):
    """ca-cert.pem and ca-key.pem, in a folder that is made; all of them have
    one name."""
    folder.mkdir()
    openssl(folder, "req", "-x509", *EC, "-keyout", "ca-key.pem", "-out",
            "ca-cert.pem", "-subj", "/CN=ca", "-days", "2")
    return folder


def certify(folder, role, subject, days="2", ca="ca"):
    """ROLE-cert.pem and ROLE-key.pem, by that authority; a subject that is no
    /PATH= is a host's name."""
    path = subject if subject.startswith("/") else f"/CN={subject}"
    openssl(folder, "req", *EC, "-keyout", f"{role}-key.pem", "-out",
            f"{role}.csr", "-utf8", "-subj", path)
    (folder / "ext").write_text("" if path == subject
                                else f"subjectAltName=DNS:{subject}\n")
    openssl(folder, "x509", "-req", "-in", f"{role}.csr", "-CA",
            f"{ca}-cert.pem", "-CAkey", f"{ca}-key.pem", "-CAcreateserial",
            "-extfile", "ext", "-out", f"{role}-cert.pem", "-days", days)
