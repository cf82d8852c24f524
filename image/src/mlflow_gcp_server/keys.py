# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The keys that MLflow encrypts with: values stored before the keys were set stay readable.

Without keys, MLflow wraps the gateway's secrets with a passphrase from its source code, and encrypts the secrets of webhooks
with a key that each process generates for itself.
"""

from __future__ import annotations

import os
from typing import Any

import sqlalchemy
from cryptography.fernet import InvalidToken
from mlflow.entities.webhook import WebhookStatus
from mlflow.exceptions import MlflowException
from mlflow.store.model_registry.dbmodels.models import EncryptedString, SqlWebhook
from mlflow.store.tracking.dbmodels.models import SqlGatewaySecret
from mlflow.utils import crypto
from sqlalchemy.engine import Engine
from sqlalchemy.orm import Session

from mlflow_gcp_server import seams
from mlflow_gcp_server.console import fail, say, warn

seams.require(crypto, "KEKManager", ("passphrase", "kek_version"))
seams.require(crypto, "unwrap_dek", ("wrapped_dek", "kek"))
seams.require(
    crypto, "rotate_secret_encryption", ("encrypted_value", "wrapped_dek", "old_kek_manager", "new_kek_manager")
)
_decrypt = seams.require(EncryptedString, "process_result_value", ("self", "value", "dialect"))


def install() -> None:
    """Make MLflow treat a webhook secret that cannot be decrypted as missing, instead of returning 500 for all webhooks.

    The row is left unchanged, so that the right key can decrypt it later.
    """
    seams.replace(EncryptedString, "process_result_value", _decrypt_or_none)


def _decrypt_or_none(column: EncryptedString, value: str | None, dialect: Any) -> str | None:
    try:
        return _decrypt(column, value, dialect)
    except InvalidToken:
        return None


def adopt(engine: Engine) -> None:
    """Adapt the stored secrets to the keys of the environment; requires the current schema and the lock.

    Exits with one line, without changing anything, if neither passphrase decrypts a gateway secret.
    """
    with Session(engine) as session, session.begin():
        _rewrap_gateway_secrets(session)
        _disable_webhooks_without_their_secret(session)


def _rewrap_gateway_secrets(session: Session) -> None:
    query: sqlalchemy.Select[str, str, bytes, bytes, int] = sqlalchemy.select(
        SqlGatewaySecret.secret_id,
        SqlGatewaySecret.secret_name,
        SqlGatewaySecret.encrypted_value,
        SqlGatewaySecret.wrapped_dek,
        SqlGatewaySecret.kek_version,
    )
    secrets = session.execute(query.with_for_update()).all()
    if not secrets:
        return  # a key is derived in a third of a second
    given = os.environ.get(crypto.CRYPTO_KEK_PASSPHRASE_ENV_VAR) or crypto.DEFAULT_KEK_PASSPHRASE
    now = crypto.KEKManager(given, int(os.environ.get(crypto.CRYPTO_KEK_VERSION_ENV_VAR) or "1"))
    before: dict[int, crypto.KEKManager] = {}
    rewrapped = 0
    for identity, name, value, wrapped, version in secrets:
        if _fits(wrapped, now):
            continue
        if version not in before:
            before[version] = crypto.KEKManager(crypto.DEFAULT_KEK_PASSPHRASE, version)
        try:
            rotated = crypto.rotate_secret_encryption(value, wrapped, before[version], now)
        except MlflowException:
            fail(
                f"the gateway secret {name!r} was stored with a passphrase other than the "
                f"current {crypto.CRYPTO_KEK_PASSPHRASE_ENV_VAR}: restore that passphrase; nothing was changed"
            )
        change = sqlalchemy.update(SqlGatewaySecret).where(SqlGatewaySecret.secret_id == identity)
        session.execute(change.values(wrapped_dek=rotated.wrapped_dek, kek_version=now.kek_version))
        rewrapped += 1
    if rewrapped:
        say(
            f"rewrapped {rewrapped} gateway secrets, which were stored with MLflow's built-in passphrase, with the current one"
        )


def _fits(wrapped_dek: bytes, manager: crypto.KEKManager) -> bool:
    try:
        crypto.unwrap_dek(wrapped_dek, manager.get_kek())
    except MlflowException:
        return False
    return True


def _disable_webhooks_without_their_secret(session: Session) -> None:
    """Requests that must be signed are not sent unsigned; the message names the webhook, so that it can get a new secret."""
    conditions = (
        SqlWebhook.status == WebhookStatus.ACTIVE.value,
        SqlWebhook.deleted_timestamp.is_(None),
        SqlWebhook.secret.is_not(None),
    )
    for webhook in session.scalars(sqlalchemy.select(SqlWebhook).where(*conditions)):
        if webhook.secret is not None:
            continue
        webhook.status = WebhookStatus.DISABLED.value
        warn(
            f"webhook {webhook.name!r} was disabled: MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY does not decrypt its secret; "
            "set a new secret and activate it, or restore the key it was stored with"
        )
