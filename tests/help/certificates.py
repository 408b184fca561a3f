"""Certificates that tests make and trust themselves."""

from __future__ import annotations

import subprocess
from pathlib import Path


def certificate_of(name: str, path: Path, ip: str = "") -> Path:
    """A new key and a certificate for a DNS name, and an address, which is its own authority, in one file at
    ``path``.
    """
    words = ["openssl", "req", "-x509", "-newkey", "ed25519", "-nodes", "-days", "2", "-subj", f"/CN={name}"]
    key, made = path.with_suffix(".key"), path.with_suffix(".crt")
    files: list[str | Path] = [
        "-addext",
        f"subjectAltName=DNS:{name}" + f",IP:{ip}" * bool(ip),
        "-keyout",
        key,
        "-out",
        made,
    ]
    subprocess.run([*words, *files], check=True, capture_output=True)
    path.write_bytes(key.read_bytes() + made.read_bytes())
    return path
