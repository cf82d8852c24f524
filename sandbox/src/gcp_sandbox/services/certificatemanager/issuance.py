"""Certificate issuance configs: the CA pool that issues managed certificates, and how long they are valid.

https://cloud.google.com/certificate-manager/docs/issuance-configs
"""

from __future__ import annotations

import re

from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.core.resources import serve
from gcp_sandbox.core.service import Call
from gcp_sandbox.services import privateca
from gcp_sandbox.services.certificatemanager.common import (
    BASE,
    CERTIFICATES,
    CONFIGS,
    Doc,
    Resources,
    begin,
    ident,
    in_use,
    invalid,
    key_of,
    numbered,
    stamped,
)
from gcp_sandbox.services.serviceusage import catalog

_POOL = re.compile(r"projects/[^/]+/locations/[^/]+/caPools/[^/]+")
_DAY = 86_400
# https://cloud.google.com/certificate-manager/docs/issuance-configs#create: 21 to 30 days.
_LIFETIMES = (21 * _DAY, 30 * _DAY)


def _prepare(call: Call, key: str, new: Doc, old: Doc | None) -> Doc:
    if old is not None:
        return stamped(new, old)
    pool = new.get("certificateAuthorityConfig", {}).get("certificateAuthorityServiceConfig", {}).get("caPool", "")
    if not _POOL.fullmatch(pool):
        raise invalid(
            "certificate_authority_config.certificate_authority_service_config.ca_pool", "invalid CA pool name"
        )
    place, region = key.split("/")[3], pool.split("/")[3]
    if place not in ("global", region):
        raise invalid(
            "certificate_authority_config.certificate_authority_service_config.ca_pool",
            "the CA pool must be in the location of the certificate issuance config",
        )
    found = re.fullmatch(r"(\d+)(\.\d+)?s", new.get("lifetime", ""))
    if not found or not _LIFETIMES[0] <= int(found[1]) <= _LIFETIMES[1]:
        raise invalid("lifetime", "the lifetime must be between 21 and 30 days")
    if not 1 <= new.get("rotationWindowPercentage", 0) <= 99:
        raise invalid("rotation_window_percentage", "it must be between 1 and 99")
    if new.get("keyAlgorithm", "KEY_ALGORITHM_UNSPECIFIED") == "KEY_ALGORITHM_UNSPECIFIED":
        raise invalid("key_algorithm", "it is required")
    return stamped(new, None)


def _operation(call: Call, method: str, key: str) -> Doc:
    if method == "delete":
        for _, doc in call.cloud.store.list(CERTIFICATES):
            if doc.get("managed", {}).get("issuanceConfig") == key:
                text = "can't delete CertificateIssuanceConfig that is referenced by a Certificate or other resources"
                raise in_use(numbered(call.cloud, key), text)
    return begin(call, method, key)


def issue(cloud: Cloud, key: str, number: str, domains: list[str]) -> tuple[str, str]:
    """Chain and private key of a certificate by a config, for the agent of the project with a number.  Raises ApiError."""
    doc = cloud.store.peek(CONFIGS, key)
    if doc is None:
        raise ApiError(404, f"Resource '{key}' was not found")
    agent = catalog.agent_email("certificatemanager.googleapis.com", number)
    pool = key_of(cloud, doc["certificateAuthorityConfig"]["certificateAuthorityServiceConfig"]["caPool"])
    return privateca.issue(cloud, agent, pool, domains, doc["lifetime"])


serve(
    Resources(
        f"{BASE}.certificateIssuanceConfigs",
        CONFIGS,
        permission="certificatemanager.certissuanceconfigs",
        type="google.cloud.certificatemanager.v1.CertificateIssuanceConfig",
        mutable=("description", "labels"),
        ident=ident("certificateIssuanceConfigId"),
        prepare=_prepare,
        operation=_operation,
    ),
    "create get list patch delete",
)
