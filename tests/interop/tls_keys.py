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


def certify(folder, role, subject, days="2", ca="ca", more=""):
    """ROLE-cert.pem and ROLE-key.pem, by that authority; a subject that is no
    /PATH= is a host's name. `more` are extensions."""
    path = subject if subject.startswith("/") else f"/CN={subject}"
    openssl(folder, "req", *EC, "-keyout", f"{role}-key.pem", "-out",
            f"{role}.csr", "-utf8", "-subj", path)
    if path != subject:
        more += f"\nsubjectAltName=DNS:{subject}"
    (folder / "ext").write_text(more + "\n")
    openssl(folder, "x509", "-req", "-in", f"{role}.csr", "-CA",
            f"{ca}-cert.pem", "-CAkey", f"{ca}-key.pem", "-CAcreateserial",
            "-extfile", "ext", "-out", f"{role}-cert.pem", "-days", days)


def revoke(folder, ca, *roles):
    """The list of what that authority has revoked: all of `roles`."""
    names = ("index", "number")
    (folder / "ca.conf").write_text(
        "[ca]\ndefault_ca=x\n[x]\ndatabase=index\ncrlnumber=number\n"
        "default_md=sha256\ndefault_crl_days=2\n")
    for name, text in zip(names, ("", "01\n")):
        (folder / name).write_text(text)
    base = ("ca", "-config", "ca.conf", "-cert", f"{ca}-cert.pem", "-keyfile",
            f"{ca}-key.pem")
    for role in roles:
        openssl(folder, *base, "-revoke", f"{role}-cert.pem")
    openssl(folder, *base, "-gencrl", "-out", f"{ca}-list.pem")
    return (folder / f"{ca}-list.pem").read_text()
