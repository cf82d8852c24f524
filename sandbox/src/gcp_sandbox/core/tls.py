"""Certificates: the sandbox's own CA, and a leaf certificate for every emulated host."""

from __future__ import annotations

import base64
import hashlib
import ssl
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import serialization


class Authority:
    """The sandbox's certificate authority, kept in the state folder."""

    def __init__(self, folder: Path) -> None:
        self.ca_file = folder / "ca.pem"
        key_file = folder / "ca.key"
        if self.ca_file.exists() and key_file.exists():
            self._ca = trustme.CA.from_pem(self.ca_file.read_bytes(), key_file.read_bytes())
        else:
            self._ca = trustme.CA(organization_name="gcp-sandbox", organization_unit_name="not Google")
            key_file.touch(0o600)
            self._ca.private_key_pem.write_to_path(str(key_file))
            self._ca.cert_pem.write_to_path(str(self.ca_file))
        self._contexts: dict[str, ssl.SSLContext] = {}

    def context(self, host: str) -> ssl.SSLContext:
        """A server context for a host; one wildcard certificate serves all names of one level."""
        name = "*." + host.partition(".")[2] if host.endswith((".googleapis.com", ".google.com", ".run.app")) else host
        if name not in self._contexts:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.set_alpn_protocols(["http/1.1"])
            names = (name, name.removeprefix("*.")) if name.startswith("*.") else (name,)
            leaf = self._ca.issue_cert(*names).private_key_and_cert_chain_pem.bytes()
            # A browser that trusts the CA by its key looks for that key in the certificate chain it receives.
            with trustme.Blob(leaf + self._ca.cert_pem.bytes()).tempfile() as path:
                context.load_cert_chain(path)
            self._contexts[name] = context
        return self._contexts[name]

    @property
    def spki(self) -> str:
        """base64(sha256(public key)), a browser option for trusting this CA for one run."""
        cert = x509.load_pem_x509_certificate(self.ca_file.read_bytes())
        der = cert.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return base64.b64encode(hashlib.sha256(der).digest()).decode()
