# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a deployment records with its Cloud Run service, so that the inventory plugin deployments finds it and all that belongs to it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.cloudrun import serving
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compare import DEPLOYMENT, RECORD_KEY, recorded

# The label by which services are found, with the value of mlflow_name, and the annotation with the variables.
KEY = DEPLOYMENT
LOCATION = "cloud.googleapis.com/location"
# Always recorded.
WHERE = ("mlflow_project_id", "mlflow_region", "mlflow_name", "mlflow_front_door")
# Recorded where they are not the default: names and places of what belongs to a deployment. Not how it is (that is in the resources), who
# gets in (that is in Google's policies), and no secrets: everyone who may view the service can read an annotation.
NAMES = frozenset(
    {
        *WHERE,
        "mlflow_domain",
        "mlflow_extra_domains",
        "mlflow_dns_zone",
        "mlflow_lb_name",
        "mlflow_logger_service_account",
        "mlflow_network_name",
        "mlflow_network_project_id",
        "mlflow_oauth",
        "mlflow_subnetwork_name",
        "bucket_name",
        "bucket_project_id",
        "cloudrun_account_id",
        "cloudrun_job_name",
        "cloudrun_keys_prefix",
        "cloudrun_name",
        "cloudrun_project_id",
        "cloudrun_region",
        "cloudrun_vpc_connector",
        "cloudsql_database",
        "cloudsql_name",
        "cloudsql_password_secret",
        "cloudsql_project_id",
        "cloudsql_region",
        "cloudsql_user",
        "iap_cloud_run_logger_account_id",
        "iap_cloud_run_project_id",
        "iap_cloud_run_region",
        "iap_internal_lb_ca_pool",
        "iap_internal_lb_certificate",
        "iap_internal_lb_dns_zone",
        "iap_internal_lb_domain",
        "iap_internal_lb_extra_domains",
        "iap_internal_lb_logger_account_id",
        "iap_internal_lb_name",
        "iap_internal_lb_network_project_id",
        "iap_internal_lb_project_id",
        "iap_internal_lb_region",
        "iap_lb_address_name",
        "iap_lb_certificate",
        "iap_lb_certificate_map",
        "iap_lb_certificates",
        "iap_lb_dns_zone",
        "iap_lb_domain",
        "iap_lb_extra_domains",
        "iap_lb_logger_account_id",
        "iap_lb_name",
        "iap_lb_project_id",
        "iap_lb_region",
        "image_build_account_id",
        "image_name",
        "image_project_id",
        "image_region",
        "image_repository",
        "image_source_bucket",
        "network_name",
        "network_prefix",
        "network_private_access",
        "network_project_id",
        "network_region",
        "network_reserved_range",
        "network_subnetwork_name",
        "services_project_id",
    }
)


def annotation(record: Mapping[str, Any]) -> str:
    """The value of the annotation, always the same for the same record."""
    return json.dumps({**record}, sort_keys=True, separators=(",", ":"))


def region_of(service: Mapping[str, Any]) -> str:
    """The region of a service as the v1 API returns it."""
    return str(_metadata(service, "labels").get(LOCATION, ""))


def variables_of(service: Mapping[str, Any], project: str) -> dict[str, Any]:
    """
    The variables of the deployment that a service, as the v1 API returns it, belongs to; those of its own name, region and project where
    nothing is recorded.
    """
    labels = _metadata(service, "labels")
    own = {
        "mlflow_project_id": project,
        "mlflow_region": region_of(service),
        "mlflow_name": str(labels.get(KEY) or service["metadata"]["name"]),
        "cloudrun_name": service["metadata"]["name"],
    }
    found = own | _record(_metadata(service, "annotations").get(KEY)) | {"mlflow_labels": labels_of(labels)}
    if found["cloudrun_name"] == found["mlflow_name"]:
        del found["cloudrun_name"]
    return found


def _record(text: Any) -> dict[str, Any]:
    """The variables in an annotation; anything else that somebody has put there is left out."""
    try:
        found = json.loads(text or "{}")
    except (TypeError, ValueError):
        return {}
    return {name: value for name, value in found.items() if name in NAMES} if isinstance(found, dict) else {}


def labels_of(labels: Mapping[str, Any]) -> dict[str, str]:
    """The labels that mlflow_labels has set, see with_record() in compare.py."""
    own = (key for key in sorted(recorded(labels)) if key != KEY and not RECORD_KEY.fullmatch(key))
    return {key: str(labels[key]) for key in own if key in labels}


def about(service: Mapping[str, Any]) -> dict[str, Any]:
    """How a service is, as the v1 API returns it: its address, image, revision and whether it is ready."""
    status = service.get("status") or {}
    template = ((service.get("spec") or {}).get("template") or {}).get("spec") or {}
    containers = template.get("containers") or [{}]
    server = containers[serving(containers)]
    ready: Mapping[str, Any] = next(
        (each for each in status.get("conditions") or () if each.get("type") == "Ready"), {}
    )
    return {
        "service": service["metadata"]["name"],
        "region": region_of(service),
        "created": service["metadata"].get("creationTimestamp", ""),
        "labels": {key: value for key, value in _metadata(service, "labels").items() if "/" not in key},
        "uri": status.get("url", ""),
        "image": server.get("image", ""),
        "revision": status.get("latestReadyRevisionName", ""),
        "service_account": template.get("serviceAccountName", ""),
        "ready": ready.get("status") == "True",
        "recorded": bool(_record(_metadata(service, "annotations").get(KEY))),
    }


def _metadata(service: Mapping[str, Any], key: str) -> dict[str, Any]:
    return (service.get("metadata") or {}).get(key) or {}
