"""Certificates of an instance: the CA that clients trust (serverCaCert), and the server certificate.

https://cloud.google.com/sql/docs/postgres/configure-ssl-instance
"""

from __future__ import annotations

import datetime
import ipaddress
import uuid

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

_YEARS = datetime.timedelta(days=3650)
Pem = str


def authority() -> tuple[Pem, Pem]:
    """A new self-signed CA: certificate and key."""
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.DN_QUALIFIER, str(uuid.uuid4())),
            x509.NameAttribute(NameOID.COMMON_NAME, "Google Cloud SQL Server CA"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Google, Inc"),
            x509.NameAttribute(NameOID.COUNTRY_NAME, "US"),
        ]
    )
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(name, name, key).add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    return _pem(builder.sign(key, hashes.SHA256())), _key_pem(key)


def issue(ca: Pem, ca_key: Pem, common_name: str, addresses: list[str]) -> tuple[Pem, Pem]:
    """A certificate and key issued by a CA, with addresses as alternative names."""
    issuer = x509.load_pem_x509_certificate(ca.encode())
    signer = serialization.load_pem_private_key(ca_key.encode(), None)
    assert isinstance(signer, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64]),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Google, Inc"),
            x509.NameAttribute(NameOID.COUNTRY_NAME, "US"),
        ]
    )
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(a)) for a in addresses])
    builder = _builder(name, issuer.subject, key).add_extension(names, critical=False)
    return _pem(builder.sign(signer, hashes.SHA256())), _key_pem(key)


def described(cert: Pem, instance: str) -> dict[str, str]:
    """The API's sql#sslCert of a certificate."""
    parsed = x509.load_pem_x509_certificate(cert.encode())
    return {
        "kind": "sql#sslCert",
        "instance": instance,
        "cert": cert.strip(),
        "certSerialNumber": str(parsed.serial_number),
        "commonName": parsed.subject.rfc4514_string(),
        "sha1Fingerprint": parsed.fingerprint(hashes.SHA1()).hex(),
        "createTime": parsed.not_valid_before_utc.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
        "expirationTime": parsed.not_valid_after_utc.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
    }


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    begin = datetime.datetime.now(datetime.UTC).replace(microsecond=0) - datetime.timedelta(minutes=5)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + _YEARS)
    )


def _pem(cert: x509.Certificate) -> Pem:
    return cert.public_bytes(serialization.Encoding.PEM).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey) -> Pem:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
