# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Advice about denied requests: errors in Google's words, and the roles that they lead to."""

from __future__ import annotations

import json
import re

import pytest
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import advice
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.permissions import ROLES, roles_of
from gcp_sandbox.core.permissions import known
from gcp_sandbox.core.roles import role_has

CALLER = "ci@demo.iam.gserviceaccount.com"
SQL = "https://sqladmin.googleapis.com/v1/projects/demo/instances"
SQL_MESSAGE = "The client is not authorized to make this request."
PROJECT = "https://cloudresourcemanager.googleapis.com/v1/projects/demo"
RUN = "https://run.googleapis.com/v2/projects/demo/locations/europe-west2/services/mlflow"
SECRET = "https://secretmanager.googleapis.com/v1/projects/demo/secrets/mlflow-db-password"
BUCKET = "https://storage.googleapis.com/storage/v1/b/artifacts"
NEG = "https://compute.googleapis.com/compute/v1/projects/demo/regions/europe-west2/networkEndpointGroups/neg"
IAP = "https://iap.googleapis.com/v1/projects/123456789012/iap_web/compute/services/backend"
PEERING = "https://servicenetworking.googleapis.com/v1/services/servicenetworking.googleapis.com/connections"
SERVICES = "https://serviceusage.googleapis.com/v1/projects/demo/services"
IAM = "https://iam.googleapis.com/v1/projects/demo/serviceAccounts"
SIGN = "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/logger@demo.iam.gserviceaccount.com:signJwt"


def told(method: str, url: str, message: str, status: str = "PERMISSION_DENIED", **details: str) -> str:
    error = {"code": 403, "message": message, "status": status}
    if details:
        error["details"] = [
            {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": status, "metadata": details}
        ]
    return advice(403, json.dumps({"error": error}), CALLER, method, url)


# Google's own texts.
REFUSALS = [
    (
        "GET",
        BUCKET,
        f"{CALLER} does not have storage.buckets.get access to the Google Cloud Storage bucket. Permission "
        "'storage.buckets.get' denied on resource (or it may not exist).",
        "storage.buckets.get: roles/storage.bucketViewer to verify, roles/storage.admin to deploy",
    ),
    (
        "GET",
        f"{BUCKET}/iam",
        f"{CALLER} does not have storage.buckets.getIamPolicy access to the Google Cloud Storage bucket.",
        "storage.buckets.getIamPolicy: roles/iam.securityReviewer to verify, roles/storage.admin to deploy",
    ),
    (
        "GET",
        f"{BUCKET}/o/7%2Fprobe.bin",
        f"{CALLER} does not have storage.objects.get access to the Google Cloud Storage object.",
        "storage.objects.get: roles/storage.objectViewer",
    ),
    (
        "GET",
        f"{SQL}/mlflow",
        SQL_MESSAGE,
        "cloudsql.instances.get: roles/cloudsql.viewer to verify, roles/cloudsql.admin",
    ),
    ("POST", SQL, SQL_MESSAGE, "cloudsql.instances.create: roles/cloudsql.admin"),
    ("PATCH", f"{SQL}/mlflow", SQL_MESSAGE, "cloudsql.instances.update: roles/cloudsql.admin"),
    ("PUT", f"{SQL}/mlflow/users?name=mlflow", SQL_MESSAGE, "cloudsql.users.update: roles/cloudsql.admin"),
    ("POST", f"{SQL}/mlflow/users", SQL_MESSAGE, "cloudsql.users.create: roles/cloudsql.admin"),
    ("GET", f"{SQL}/mlflow/databases/mlflow", SQL_MESSAGE, "cloudsql.databases.get: roles/cloudsql.viewer to verify"),
    ("POST", f"{SQL}/mlflow/backupRuns", SQL_MESSAGE, "cloudsql.backupRuns.create: roles/cloudsql.admin"),
    ("GET", "https://sqladmin.googleapis.com/v1/projects/demo/operations", SQL_MESSAGE, "cloudsql.instances.get: "),
    ("POST", f"{SQL}/mlflow/restart", SQL_MESSAGE, "cloudsql.instances.restart: roles/cloudsql.admin"),
    (
        "GET",
        f"{SQL}/mlflow",
        "boss::NOT_AUTHORIZED: Not authorized to access resource. Possibly missing permission cloudsql.instances.get on "
        "resource instances/mlflow.",
        "cloudsql.instances.get: roles/cloudsql.viewer to verify",
    ),
    (
        "POST",
        f"{PROJECT}:getIamPolicy",
        "The caller does not have permission",
        "resourcemanager.projects.getIamPolicy: roles/browser to verify, roles/resourcemanager.projectIamAdmin to deploy",
    ),
    (
        "POST",
        f"{PROJECT}:setIamPolicy",
        "Policy update access denied.",
        "resourcemanager.projects.setIamPolicy: roles/resourcemanager.projectIamAdmin",
    ),
    ("GET", PROJECT, "The caller does not have permission", "resourcemanager.projects.get: roles/browser to verify"),
    (
        "POST",
        f"{IAP}:setIamPolicy",
        "The caller does not have permission",
        "iap.webServices.setIamPolicy: roles/iap.admin",
    ),
    (
        "GET",
        "https://iap.googleapis.com/v1/projects/123456789012/brands",
        "The caller does not have permission",
        "clientauthconfig.brands.list: roles/oauthconfig.editor",
    ),
    (
        "GET",
        f"{SECRET}/versions/1:access",
        "Permission 'secretmanager.versions.access' denied for resource 'projects/demo/secrets/mlflow-db-password/versions/1' "
        "(or it may not exist).",
        "secretmanager.versions.access: roles/secretmanager.secretAccessor",
    ),
    (
        "POST",
        RUN,
        "Permission 'iam.serviceaccounts.actAs' denied on service account mlflow-server@demo.iam.gserviceaccount.com (or it "
        "may not exist).",
        "iam.serviceaccounts.actAs: roles/iam.serviceAccountUser",
    ),
    (
        "GET",
        RUN,
        "Permission 'run.services.get' denied on resource 'projects/demo/locations/europe-west2/services/mlflow' (or "
        "resource may not exist).",
        "run.services.get: roles/run.viewer to verify, roles/run.admin to deploy",
    ),
    (
        "GET",
        NEG,
        "Required 'compute.regionNetworkEndpointGroups.get' permission for "
        "'projects/demo/regions/europe-west2/networkEndpointGroups/neg'",
        "compute.regionNetworkEndpointGroups.get: roles/compute.viewer to verify, roles/compute.loadBalancerAdmin to deploy",
    ),
    (
        "POST",
        PEERING,
        "Permission denied to add peering for service 'servicenetworking.googleapis.com'.",
        "servicenetworking.services.addPeering: roles/compute.networkAdmin",
    ),
    (
        "POST",
        f"{SERVICES}:batchEnable",
        "Permission denied to enable service [run.googleapis.com]",
        "serviceusage.services.enable: roles/serviceusage.serviceUsageAdmin",
    ),
    (
        "POST",
        f"{IAM}",
        "Permission 'iam.serviceAccounts.create' denied on resource (or it may not exist).",
        "iam.serviceAccounts.create: roles/iam.serviceAccountAdmin",
    ),
    (
        "POST",
        SIGN,
        "Permission 'iam.serviceAccounts.signJwt' denied on resource (or it may not exist).",
        "iam.serviceAccounts.signJwt: roles/iam.serviceAccountTokenCreator",
    ),
    (
        "GET",
        RUN,
        "Caller does not have required permission to use project demo. Grant the caller the "
        "roles/serviceusage.serviceUsageConsumer role, or a custom role with the serviceusage.services.use permission, by "
        "visiting https://console.developers.google.com/iam-admin/iam/project?project=demo and then retry.",
        "serviceusage.services.use: roles/serviceusage.serviceUsageConsumer",
    ),
]


@pytest.mark.parametrize(("method", "url", "message", "expected"), REFUSALS)
def test_advice_names_the_smallest_role(method, url, message, expected):
    text = told(method, url, message)
    assert re.sub("^Check that the resource exists, and g", "G", text).startswith(
        f"Grant {CALLER} a role with {expected}"
    )


def test_details_name_the_permission():
    text = told("POST", SERVICES, "Permission denied to enable service", permission="serviceusage.services.enable")
    assert text == f"Grant {CALLER} a role with serviceusage.services.enable: roles/serviceusage.serviceUsageAdmin"


@pytest.mark.parametrize(
    "message",
    [
        "The caller does not have permission",
        "mlflow-x@demo.iam.gserviceaccount.com may not do this",
        "Access to run.googleapis.com denied for jane.doe.smith@example.com, see https://cloud.google.com/iam.html",
    ],
)
def test_an_address_is_not_a_permission(message):
    assert told("GET", "https://example.googleapis.com/v1/things/1", message) == f"Grant {CALLER} the required role"


def test_a_permission_of_an_unknown_service():
    text = told("GET", "https://example.googleapis.com/v1/x", "Permission 'pubsub.topics.get' denied.")
    assert text == f"Grant {CALLER} a role with pubsub.topics.get"


def test_service_controls():
    text = told("GET", RUN, "Request is prohibited by organization's policy. vpcServiceControlsUniqueIdentifier: abc")
    assert text.startswith("A perimeter of VPC Service Controls forbids this")


def test_every_advised_role_includes_the_permission():
    """According to the sandbox's copy of Google's lists."""
    checked, wrong = set(), []
    for permission in sorted(known()):
        roles = roles_of(permission)
        for role in filter(None, roles):
            checked.add(role)
            if not role_has(role, permission):
                wrong.append((permission, role))
    assert not wrong
    assert checked == {role for roles in ROLES.values() for role in roles if role}
