"""The official google.cloud modules."""

from __future__ import annotations

import datetime
import json

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from .conftest import PROJECT, ROOT

DOMAIN = "client.example.com"


def certificate() -> dict[str, str]:
    """A key and a self-signed certificate for DOMAIN, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, DOMAIN)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=9))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(DOMAIN)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return {"certificate": made.public_bytes(serialization.Encoding.PEM).decode(), "private_key": private.decode()}


@pytest.fixture
def play(cloud, deployed, tmp_path):
    """Run official_modules.yml; everything it created is deleted afterwards."""
    (tmp_path / "sent").write_bytes(bytes(range(256)))
    pair = certificate()
    (tmp_path / "certificate.pem").write_text(pair["certificate"])
    region = f"compute.googleapis.com/compute/v1/projects/{PROJECT}/regions/europe-west2"
    (neg,) = cloud.call("GET", f"{region}/networkEndpointGroups")["items"]
    (tmp_path / "vars.json").write_text(json.dumps(pair | {"folder": str(tmp_path), "neg": neg["selfLink"]}))

    def run(which: str):
        here = ROOT / "tests" / "clients"
        options = ["--extra-vars", f"@{tmp_path / 'vars.json'}", "--extra-vars", f"run={which}"]
        return cloud.playbook("../tests/clients/official_modules.yml", *options, inventory=here / "hosts.yml")

    yield run
    last = run("last")
    # The module destroys the versions of a secret, but never the secret itself.
    cloud.call("DELETE", f"secretmanager.googleapis.com/v1/projects/{PROJECT}/secrets/client")
    assert last.status == 0, last.output


# In `make test`, those of test_credentials.py stand for them.
@pytest.mark.long
def test_official_modules(cloud, play, tmp_path):
    first = play("first")
    assert first.status == 0, first.output
    assert first.recap("changed") == 4, first.output
    assert (tmp_path / "received").read_bytes() == (tmp_path / "sent").read_bytes()
    assert json.loads((tmp_path / "key.json").read_text())["client_email"].startswith("client@")

    second = play("second")
    assert (second.status, second.recap("changed")) == (0, 0), second.output

    # The load balancer that they created leads to the same server, and requires sign-in.
    answer = cloud.http("GET", f"https://{DOMAIN}/", allow_redirects=False, verify=tmp_path / "certificate.pem")
    assert answer.status_code == 302
    assert answer.headers["Location"].startswith("https://accounts.google.com/")
