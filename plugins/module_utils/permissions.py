# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which permission a denied request requires, and the smallest predefined role that includes it.

https://cloud.google.com/iam/docs/roles-permissions
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit


class Roles(NamedTuple):
    """
    The predefined roles that include a permission: the smallest with which verify works, and the smallest with which site
    does, "" for none. They are those of docs/permissions.md.
    """

    reader: str
    deployer: str


LOAD_BALANCER = (
    "backendServices|globalForwardingRules|regionNetworkEndpointGroups|sslCertificates|targetHttps?Proxies|urlMaps"
)
NETWORK = "addresses|forwardingRules|globalAddresses|networks|routes|subnetworks"
# Pattern of a permission -> roles; the first that matches. A role without a reader is for a permission that changes something.
ROLES: dict[str, Roles] = {
    r"serviceusage\.services\.use": Roles("roles/serviceusage.serviceUsageConsumer", ""),
    r"serviceusage\.(services|operations)\.(get|list)": Roles(
        "roles/serviceusage.serviceUsageViewer", "roles/serviceusage.serviceUsageAdmin"
    ),
    r"serviceusage\.services\.(enable|disable)": Roles("", "roles/serviceusage.serviceUsageAdmin"),
    r"compute\.firewalls\.(create|update|delete)": Roles("", "roles/compute.securityAdmin"),
    rf"compute\.({LOAD_BALANCER})\.(get|list)": Roles("roles/compute.viewer", "roles/compute.loadBalancerAdmin"),
    rf"compute\.({LOAD_BALANCER})\.": Roles("", "roles/compute.loadBalancerAdmin"),
    rf"compute\.({NETWORK}|firewalls|regions)\.(get|list|get(Region)?EffectiveFirewalls)": Roles(
        "roles/compute.viewer", "roles/compute.networkAdmin"
    ),
    rf"compute\.({NETWORK})\.": Roles("", "roles/compute.networkAdmin"),
    r"compute\..*\.(get|list)": Roles("roles/compute.viewer", ""),
    r"servicenetworking\.services\.get": Roles("roles/compute.networkViewer", "roles/compute.networkAdmin"),
    r"servicenetworking\.services\.(addPeering|deleteConnection)": Roles("", "roles/compute.networkAdmin"),
    r"certificatemanager\..*\.(get|list)": Roles("roles/certificatemanager.viewer", "roles/certificatemanager.owner"),
    r"certificatemanager\.": Roles("", "roles/certificatemanager.owner"),
    r"dns\..*\.(get|list)": Roles("roles/dns.reader", "roles/dns.admin"),
    r"dns\.": Roles("", "roles/dns.admin"),
    r"artifactregistry\.locations\.list": Roles("roles/artifactregistry.reader", "roles/artifactregistry.reader"),
    r"vpcaccess\.(connectors|locations)\.(get|list)": Roles("roles/vpcaccess.viewer", "roles/vpcaccess.user"),
    r"vpcaccess\.connectors\.use": Roles("", "roles/vpcaccess.user"),
    r"cloudkms\.cryptoKeys\.get": Roles("", "roles/cloudkms.viewer"),
    r"cloudkms\.cryptoKeys\.": Roles("", "roles/cloudkms.admin"),
    r"cloudsql\..*\.(get|list)": Roles("roles/cloudsql.viewer", "roles/cloudsql.admin"),
    r"cloudsql\.instances\.connect": Roles("", "roles/cloudsql.client"),
    r"cloudsql\.": Roles("", "roles/cloudsql.admin"),
    r"secretmanager\.versions\.access": Roles("", "roles/secretmanager.secretAccessor"),
    r"secretmanager\..*\.(get|list|getIamPolicy)": Roles("roles/secretmanager.viewer", "roles/secretmanager.admin"),
    r"secretmanager\.": Roles("", "roles/secretmanager.admin"),
    r"storage\.objects\.(get|list)": Roles("roles/storage.objectViewer", ""),
    r"storage\.objects\.(create|delete|update)": Roles("", "roles/storage.objectUser"),
    r"storage\.buckets\.(get|list)": Roles("roles/storage.bucketViewer", "roles/storage.admin"),
    r"storage\.buckets\.getIamPolicy": Roles("roles/iam.securityReviewer", "roles/storage.admin"),
    r"storage\.": Roles("", "roles/storage.admin"),
    r"run\.routes\.invoke": Roles("", "roles/run.invoker"),
    r"run\..*\.(get|list|getIamPolicy)": Roles("roles/run.viewer", "roles/run.admin"),
    r"run\.": Roles("", "roles/run.admin"),
    r"iam\.serviceAccounts\.actAs": Roles("", "roles/iam.serviceAccountUser"),
    r"iam\.serviceAccounts\.(signJwt|signBlob|getAccessToken|getOpenIdToken|implicitDelegation)": Roles(
        "", "roles/iam.serviceAccountTokenCreator"
    ),
    r"iam\.serviceAccounts\.(get|list|getIamPolicy)": Roles(
        "roles/iam.serviceAccountViewer", "roles/iam.serviceAccountAdmin"
    ),
    r"iam\.serviceAccounts\.": Roles("", "roles/iam.serviceAccountAdmin"),
    r"resourcemanager\.projects\.get": Roles("roles/browser", "roles/resourcemanager.projectIamAdmin"),
    r"resourcemanager\.projects\.getIamPolicy": Roles(
        "roles/iam.securityReviewer", "roles/resourcemanager.projectIamAdmin"
    ),
    r"resourcemanager\.projects\.setIamPolicy": Roles("", "roles/resourcemanager.projectIamAdmin"),
    r"iap\.\w+\.getIamPolicy": Roles("roles/iam.securityReviewer", "roles/iap.admin"),
    r"iap\.web\w*\.(setIamPolicy|getSettings|updateSettings)": Roles("", "roles/iap.admin"),
    r"clientauthconfig\.": Roles("", "roles/oauthconfig.editor"),
    r"logging\.log\w+\.(get|list)": Roles("roles/logging.viewer", ""),
    r"cloudbuild\.builds\.(get|list)": Roles("roles/cloudbuild.builds.viewer", "roles/cloudbuild.builds.editor"),
    r"cloudbuild\.builds\.(create|update)": Roles("", "roles/cloudbuild.builds.editor"),
    r"artifactregistry\.repositories\.downloadArtifacts": Roles("roles/artifactregistry.reader", ""),
    r"artifactregistry\..*\.(get|list)": Roles("roles/artifactregistry.reader", "roles/artifactregistry.admin"),
    r"artifactregistry\..*\.getIamPolicy": Roles("roles/iam.securityReviewer", "roles/artifactregistry.admin"),
    r"artifactregistry\.": Roles("", "roles/artifactregistry.admin"),
}

# Exactly three parts, and no part of an e-mail address, a domain or a path.
PERMISSION = re.compile(
    r"(?<![\w@./:-])[a-z][a-zA-Z]*\.[a-z][a-zA-Z]*\.(?!com\b|org\b|net\b)[a-z][a-zA-Z]*(?![\w@-]|\.\w)"
)

# Verbs of permissions by the method of a request, for a resource and for a collection.
RESOURCE_VERBS = {"GET": "get", "PATCH": "update", "PUT": "update", "DELETE": "delete"}
COLLECTION_VERBS = {"GET": "list", "POST": "create"}
# The parts of a path of Cloud SQL that are no methods of their own.
SQL_COLLECTIONS = {"users": "users", "databases": "databases", "backupRuns": "backupRuns"}


def roles_of(permission: str) -> Roles:
    """The roles for PERMISSION, which some APIs write in lower case; both "" if this collection does not need it."""
    for pattern, roles in ROLES.items():
        if re.match(rf"{pattern}$" if not pattern.endswith(r"\.") else pattern, permission, re.IGNORECASE):
            return roles
    return Roles("", "")


def required_permission(method: str, url: str, message: str, metadata: Mapping[str, str]) -> str:
    """
    The permission that a denied request requires: as Google names it in the details or the message of the error, otherwise
    the one of the API's reference. "" if neither tells.
    """
    named = metadata.get("permission") or next(iter(PERMISSION.findall(message)), "")
    return named or _permission_of_request(method, url, message)


def _permission_of_request(method: str, url: str, message: str) -> str:
    """The permission of a request to one of the APIs whose errors do not name it."""
    parts = urlsplit(url)
    path, _colon, verb = parts.path.rpartition("/")[2].partition(":")
    words = [word for word in parts.path.split("/") if word]
    if parts.hostname == "sqladmin.googleapis.com":
        return _sql_permission(method, words[3:])
    if parts.hostname == "cloudresourcemanager.googleapis.com":
        return f"resourcemanager.projects.{verb or RESOURCE_VERBS.get(method, 'get')}"
    if parts.hostname == "iap.googleapis.com":
        if "brands" in words:
            kind = "clients" if "identityAwareProxyClients" in parts.path else "brands"
            return f"clientauthconfig.{kind}.{_verb(method, path == 'brands' or path == 'identityAwareProxyClients')}"
        return f"iap.webServices.{verb or ('getSettings' if method == 'GET' else 'updateSettings')}"
    if parts.hostname == "logging.googleapis.com":
        return "logging.logEntries.list"
    if parts.hostname == "cloudbuild.googleapis.com":
        if "act as service account" in message:
            return "iam.serviceAccounts.actAs"
        return f"cloudbuild.builds.{'update' if verb else _verb(method, path == 'builds')}"
    if parts.hostname == "servicenetworking.googleapis.com":
        return f"servicenetworking.services.{'get' if method == 'GET' else 'addPeering'}"
    if parts.hostname == "serviceusage.googleapis.com":
        return f"serviceusage.services.{'enable' if method == 'POST' else _verb(method, path == 'services')}"
    return ""


def _verb(method: str, collection: bool) -> str:
    return (COLLECTION_VERBS if collection else RESOURCE_VERBS).get(method, "get")


def _sql_permission(method: str, words: list[str]) -> str:
    """
    The permission of a request to Cloud SQL; WORDS is its path after the project.
    https://cloud.google.com/sql/docs/postgres/iam-permissions#permissions-api
    """
    if not words or words[0] == "operations":
        return "cloudsql.instances.get"
    if len(words) <= 2:
        return f"cloudsql.instances.{_verb(method, len(words) == 1)}"
    if words[2] in SQL_COLLECTIONS:
        named = len(words) > 3 or words[2] == "users" and method in ("PUT", "DELETE")
        return f"cloudsql.{words[2]}.{_verb(method, not named)}"
    return f"cloudsql.instances.{words[2]}"
