"""Secrets stored before the image's server had keys, and the behavior with wrong keys."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Iterator

import pytest

from .conftest import Postgres
from .test_server import Server, end, serving, start

KEYS = {
    "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
    "MLFLOW_CRYPTO_KEK_PASSPHRASE": "a-passphrase-of-this-deployment-alone",
    "MLFLOW_FLASK_SERVER_SECRET_KEY": "a-session-key-of-this-deployment",
}
OTHER = {
    "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=",
    "MLFLOW_CRYPTO_KEK_PASSPHRASE": "a-passphrase-of-another-deployment",
}
DECRYPT = """
import os
from mlflow.store.tracking.dbmodels.models import SqlGatewaySecret
from mlflow.utils.crypto import KEKManager, _decrypt_secret
from mlflow_gcp_server import console, database
from mlflow_gcp_server.settings import Settings
from sqlalchemy.orm import Session

with Session(database.engine(Settings(os.environ))) as session:
    for row in session.query(SqlGatewaySecret):
        value = _decrypt_secret(row.encrypted_value, row.wrapped_dek, KEKManager(), row.secret_id, row.secret_name)
        console.say(f"{row.secret_name} is {value['api_key']}")
"""
WRAPPED = "SELECT encode(wrapped_dek, 'hex') FROM secrets"
HOOKS = "/api/2.0/mlflow/webhooks"


def make_webhook(server: Server, name: str, **more: str) -> None:
    event = {"entity": "REGISTERED_MODEL", "action": "CREATED"}
    server.request(HOOKS, {"name": name, "url": "https://8.8.8.8/hook", "events": [event]} | more)


def webhooks(server: Server) -> dict[str, str]:
    """Name and status of each."""
    return {hook["name"]: hook["status"] for hook in json.loads(server.request(HOOKS)).get("webhooks", [])}


@pytest.fixture(scope="module")
def before(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The database `keyless`, with secrets stored by a server without keys."""
    postgres.sql("CREATE DATABASE keyless")
    with serving(
        start(postgres, "keyless", tmp_path_factory.mktemp("keys"), MLFLOW_ENABLE_AI_GATEWAY="true")
    ) as server:
        make_webhook(server, "signed", secret="a-secret-of-ours")
        make_webhook(server, "unsigned")
        secret = {"secret_name": "openai", "secret_value": {"api_key": "sk-1"}, "provider": "openai"}
        server.request("/api/3.0/mlflow/gateway/secrets/create", secret)


@pytest.fixture
def database(before: None, postgres: Postgres) -> Iterator[str]:
    """A copy of it for one test."""
    postgres.sql("CREATE DATABASE keyed TEMPLATE keyless")
    yield "keyed"
    postgres.sql("DROP DATABASE keyed WITH (FORCE)")


def test_adding_keys_loses_no_webhook(postgres, database, tmp_path):
    stored = postgres.sql("SELECT secret FROM webhooks WHERE name = 'signed'", database)
    with serving(start(postgres, database, tmp_path, **KEYS)) as server:
        # The key that a process generated is lost: the webhook is kept, not sent unsigned, and named in the log.
        assert webhooks(server) == {"signed": "DISABLED", "unsigned": "ACTIVE"}
        assert "webhook 'signed' was disabled" in server.log.read_text()
        assert postgres.sql("SELECT secret FROM webhooks WHERE name = 'signed'", database) == stored
        identity = postgres.sql("SELECT webhook_id FROM webhooks WHERE name = 'signed'", database)
        body = json.dumps({"secret": "a-new-secret", "status": "ACTIVE"}).encode()
        url = f"http://127.0.0.1:{server.port}{HOOKS}/{identity}"
        headers = {"Content-Type": "application/json"}
        urllib.request.urlopen(urllib.request.Request(url, body, headers, method="PATCH"), timeout=10).close()
    with serving(start(postgres, database, tmp_path, **KEYS)) as server:
        assert webhooks(server) == {"signed": "ACTIVE", "unsigned": "ACTIVE"}
        assert "disabled" not in server.log.read_text()
    assert "a-new-secret" not in postgres.sql("SELECT secret FROM webhooks WHERE name = 'signed'", database)


@pytest.mark.long
def test_the_right_key_finds_a_webhook_again_after_the_wrong_one(postgres, database, tmp_path):
    postgres.sql("DELETE FROM webhooks", database)
    with serving(start(postgres, database, tmp_path, **KEYS)) as server:
        make_webhook(server, "ours", secret="a-secret-of-ours")
    stored = postgres.sql("SELECT secret FROM webhooks", database)
    with serving(start(postgres, database, tmp_path, **KEYS | {k: OTHER[k] for k in list(OTHER)[:1]})) as server:
        assert webhooks(server) == {"ours": "DISABLED"}
    assert postgres.sql("SELECT secret FROM webhooks", database) == stored


@pytest.mark.long
def test_adding_a_passphrase_loses_no_gateway_secret(postgres, database, tmp_path):
    constant = postgres.sql(WRAPPED, database)
    with serving(start(postgres, database, tmp_path, **KEYS)) as server:
        assert "rewrapped 1 gateway secrets" in server.log.read_text()
    wrapped = postgres.sql(WRAPPED, database)
    assert wrapped != constant
    assert end(start(postgres, database, tmp_path, code=DECRYPT, **KEYS)) == (0, "mlflow-server: openai is sk-1")
    with serving(start(postgres, database, tmp_path, **KEYS)) as server:
        assert "wrapped" not in server.log.read_text()
    assert postgres.sql(WRAPPED, database) == wrapped
    for wrong in (OTHER, {}):
        server = start(postgres, database, tmp_path, **wrong)
        status, message = end(server)
        assert (status, "the gateway secret 'openai' was stored with a passphrase other than" in message) == (1, True)
        assert not re.search("|".join([*KEYS.values(), *OTHER.values()]), server.log.read_text())
    assert postgres.sql(WRAPPED, database) == wrapped


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY", "not-a-fernet-key", "is not a Fernet key"),
        ("MLFLOW_CRYPTO_KEK_PASSPHRASE", "too-short", "at least 16 characters"),
        ("MLFLOW_FLASK_SERVER_SECRET_KEY", "too-short", "at least 16 characters"),
    ],
)
def test_a_malformed_key_is_reported_without_its_value(postgres, tmp_path, name, value, allowed):
    server = start(postgres, "postgres", tmp_path, **{name: value})
    status, message = end(server)
    assert (status, name in message, allowed in message) == (2, True, True)
    assert value not in server.log.read_text()
