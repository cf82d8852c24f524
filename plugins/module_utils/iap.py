# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules share that use the IAP OAuth API, which Google is taking away."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import ApiError, GcpError

API = "https://iap.googleapis.com/v1"
BRAND = re.compile(r"projects/[^/]+/brands/[^/]+")
OAUTH_CLIENT = re.compile(r"projects/[^/]+/brands/[^/]+/identityAwareProxyClients/[^/]+")


@contextmanager
def retired(what: str, also: str = "") -> Iterator[None]:
    """
    Turn the answers that say that the API is gone into one line with the two ways that are left.

    WHAT is what could not be done. ALSO is another cause of a 404, if there is one.
    https://cloud.google.com/iap/docs/deprecations/migrate-oauth-client
    """
    try:
        yield
    except ApiError as error:
        told = re.search(
            r"shut ?down|turned down|deprecated|no longer (available|supported)|retired", error.message, re.I
        )
        if error.status not in (404, 405, 410, 501) and not (told and 400 <= error.status < 500):
            raise
        raise GcpError(
            f"Cannot {what}: {also}Google has shut down the IAP OAuth API, which answered {error.status} ({error.message}); use the Google-managed "
            "OAuth client (compute_backend_service with iap.enabled alone) or a client created by hand in the console "
            "(iap.oauth2_client_id and iap.oauth2_client_secret)"
        ) from None
