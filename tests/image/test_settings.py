"""The entry point's environment variables: valid values, and the errors for invalid ones. These tests do not need MLflow."""

from __future__ import annotations

import pytest
from mlflow_gcp_server import __main__ as program
from mlflow_gcp_server.settings import Settings

GOOD = {
    "MLFLOW_DB_HOST": "10.0.0.3",
    "MLFLOW_DB_NAME": "mlflow",
    "MLFLOW_DB_USER": "mlflow",
    "MLFLOW_DB_PASSWORD": "secret",
    "MLFLOW_ARTIFACTS_BUCKET": "p-artifacts",
}


def test_defaults():
    settings = Settings(GOOD)
    assert settings.errors == []
    assert (settings.host, settings.port) == ("0.0.0.0", 8080)
    assert settings.artifacts == "gs://p-artifacts"
    assert settings.backend_uri == "postgresql+psycopg2://mlflow:secret@10.0.0.3:5432/mlflow?sslmode=prefer"


def test_every_part_of_the_uri_is_quoted():
    odd = {"USER": "a@b", "PASSWORD": "p@ss:w/ord%?#é", "NAME": "x?y", "HOST": "fd00::1"}
    uri = Settings(GOOD | {f"MLFLOW_DB_{name}": value for name, value in odd.items()}).backend_uri
    assert uri == "postgresql+psycopg2://a%40b:p%40ss%3Aw%2Ford%25%3F%23%C3%A9@[fd00::1]:5432/x%3Fy?sslmode=prefer"


@pytest.mark.parametrize("bucket", ["gs://p-artifacts/runs", "gs://p-artifacts/runs/"])
def test_a_bucket_with_a_prefix(bucket):
    settings = Settings(GOOD | {"MLFLOW_ARTIFACTS_BUCKET": bucket})
    assert (settings.errors, settings.artifacts) == ([], "gs://p-artifacts/runs")


@pytest.mark.parametrize("name", GOOD)
def test_a_missing_variable_is_named(name):
    env = {key: value for key, value in GOOD.items() if key != name}
    assert Settings(env).errors == [f"{name} is not set"]


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("PORT", "http", "from 1 to 65535"),
        ("PORT", "0", "from 1 to 65535"),
        ("MLFLOW_DB_PORT", "65536", "from 1 to 65535"),
        ("MLFLOW_DB_SSLMODE", "yes", "verify-full"),
        ("MLFLOW_DB_UPGRADE", "later", "auto, never"),
        ("MLFLOW_DB_WAIT_SECONDS", "120", "from 1 to 55"),
        ("MLFLOW_SQLALCHEMYSTORE_POOL_SIZE", "0", "from 1 to 1000"),
        ("MLFLOW_CRYPTO_KEK_VERSION", "one", "a number from 1"),
        ("MLFLOW_ARTIFACTS_BUCKET", "s3://p-artifacts", "gs://name/prefix"),
        ("MLFLOW_ARTIFACTS_BUCKET", "Upper", "gs://name/prefix"),
    ],
)
def test_a_bad_value_is_reported_with_the_allowed_values(name, value, allowed):
    (error,) = Settings(GOOD | {name: value}).errors
    assert error.startswith(f"{name} is {value!r}; it must be ") and allowed in error


@pytest.mark.parametrize("key", ["MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=", "_" * 42 + "8="])
def test_a_fernet_key_is_accepted(key):
    assert Settings(GOOD | {"MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": key}).errors == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["gc", "--older-than", "3x"], "'3x' is not a duration such as 30d, 12h or 1d12h30m5s"),
        (["gc", "--older-than", ""], "'' is not a duration"),
        (["migrate"], "invalid choice: 'migrate'"),
    ],
)
def test_a_wrong_command_ends_with_status_2(arguments, says, monkeypatch, capfd):
    monkeypatch.setattr(program.signal, "signal", lambda *_: None)
    with pytest.raises(SystemExit) as stop:
        program.main(arguments)
    assert stop.value.code == 2
    assert says in capfd.readouterr().err


def test_a_bad_environment_ends_with_status_2(monkeypatch, capfd):
    monkeypatch.setattr(program.signal, "signal", lambda *_: None)
    for name in GOOD:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SystemExit) as stop:
        program.main([])
    assert stop.value.code == 2
    assert capfd.readouterr().err.splitlines() == [f"mlflow-server: {name} is not set" for name in GOOD]
