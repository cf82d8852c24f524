# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The IAP OAuth API, which Google is shutting down."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import ApiError, GcpError

API = "https://iap.googleapis.com/v1"
OAUTH_CLIENT = re.compile(r"projects/[^/]+/brands/[^/]+/identityAwareProxyClients/[^/]+")


@contextmanager
def explain_shutdown(action: str, other_cause: str = "") -> Iterator[None]:
    """
    Replace errors that indicate that the API has been shut down by a message with the two alternatives.

    ACTION is as in Client.action. OTHER_CAUSE is another possible cause of a 404, as the start of the message.
    https://cloud.google.com/iap/docs/deprecations/migrate-oauth-client
    """
    try:
        yield
    except ApiError as error:
        announced = re.search(
            r"shut ?down|turned down|deprecated|no longer (available|supported)|retired", error.message, re.I
        )
        if error.status not in (404, 405, 410, 501) and not (announced and 400 <= error.status < 500):
            raise
        raise GcpError(
            f"Cannot {action}: {other_cause}Google has shut down the IAP OAuth API ({error.status}: {error.message}); use the Google-managed "
            "OAuth client (compute_backend_service with iap.enabled alone) or a manually created client "
            "(iap.oauth2_client_id and iap.oauth2_client_secret)"
        ) from None
