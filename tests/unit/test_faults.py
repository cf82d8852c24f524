# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""
Every write method of a first run and of a change, with every fault that passes: one run of its module succeeds, nothing is
there twice, and a second run changes nothing.

`make faults` runs all of it and prints the table; `make test` runs the methods that would create a second thing if they were
sent twice, and a few others. All write methods of the roles are called by modules of this collection: the roles use no
module of google.cloud that writes.
"""

from __future__ import annotations

import importlib
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from gcp_sandbox.core.faults import Book, counts
from gcp_sandbox.testing import Sandbox

from .conftest import COLLECTION

ROOT = Path(__file__).parents[2]
FAULTS = {
    "429": ["429"],
    "503": ["503"],
    "reset": ["reset"],
    "lost": ["lost"],
    "failed": ["operation-error", "code=INTERNAL"],
}
RUN = {
    "region": "europe-west2",
    "network": "net",
    "subnetwork": "sub",
    "image": "us-docker.pkg.dev/cloudrun/container/hello",
}
# As many ranges as a rule of Cloud Armor has.
TEN = [f"10.0.{number}.0/24" for number in range(10)]
# An image whose program ends at once.
DONE = "europe-west2-docker.pkg.dev/faults/images/done:1"
COMPUTE = "compute.googleapis.com/compute/v1/projects/{project}"
SECRETS = "secretmanager.googleapis.com/v1/projects/{project}/secrets"
SQL = "sqladmin.googleapis.com/v1/projects/{project}/instances"
SERVER = "server@{project}.iam.gserviceaccount.com"
LINKS = "https://www.googleapis.com/compute/v1/projects/{project}"
APIS = (
    "artifactregistry",
    "cloudbuild",
    "compute",
    "iam",
    "iap",
    "logging",
    "run",
    "secretmanager",
    "servicenetworking",
    "sqladmin",
    "storage",
)


@dataclass(frozen=True)
class Write:
    """A write method, the module that calls it, and what must be there once afterwards."""

    method: str
    """As `gcp-sandbox fault add` takes it."""
    module: str
    options: dict[str, Any]
    there: str = ""
    """Where to count: the URL of a list method, and its key and a pattern of the entries that count."""
    key: str = "items"
    counts: str = ""
    once: bool = True
    """A second run changes nothing."""
    results: dict[str, str] = field(default_factory=dict)
    """Results of the module that options of later ones contain, such as {address}."""


def members(method: str, kind: str, resource: str, role: str, **more: Any) -> Write:
    options = {"resource_type": kind, "resource": resource, "role": role, "members": [f"serviceAccount:{SERVER}"]}
    return Write(method, "iam_role_members", options | more)


SERVICES = Write(
    "serviceusage.services.batchEnable",
    "service_usage_services",
    {"names": [f"{name}.googleapis.com" for name in APIS]},
)
NETWORK = Write(
    "compute.networks.insert",
    "compute_network",
    {"name": "net", "auto_create_subnetworks": False},
    f"{COMPUTE}/global/networks",
    counts="'name': 'net'",
)
ACCOUNT = Write(
    "iam.projects.serviceAccounts.create",
    "iam_service_account",
    {"name": "server"},
    "iam.googleapis.com/v1/projects/{project}/serviceAccounts",
    "accounts",
    SERVER,
)
BUCKET = Write(
    "storage.buckets.insert",
    "storage_bucket",
    {"name": "{project}-b", "location": "EU"},
    "storage.googleapis.com/storage/v1/b?project={project}",
)
VERSION = Write(
    "secretmanager.projects.secrets.addVersion",
    "secret_manager_secret",
    {"name": "password", "generate_length": 32},
    f"{SECRETS}/password/versions",
    "versions",
)
VALUE = Write(
    "secretmanager.projects.secrets.addVersion",
    "secret_manager_secret",
    {"name": "given", "value": "of-an-option"},
    f"{SECRETS}/given/versions",
    "versions",
)
BRAND = Write(
    "iap.projects.brands.create",
    "iap_brand",
    {"application_title": "MLflow", "support_email": "mlops@example.com"},
    "iap.googleapis.com/v1/projects/{project}/brands",
    "brands",
    results={"brand": "name"},
)
CLIENT = Write(
    "iap.projects.brands.identityAwareProxyClients.create",
    "iap_client",
    {"brand": "{brand}", "display_name": "lb"},
    "iap.googleapis.com/v1/{brand}/identityAwareProxyClients",
    "identityAwareProxyClients",
    results={"client": "name"},
)
LABELS = {"labels": {"team": "ml"}}
BUCKET_CHANGE = Write("storage.buckets.patch", "storage_bucket", BUCKET.options | {"versioning": True})
NETWORK_CHANGE = Write("compute.networks.patch", "compute_network", NETWORK.options | {"routing_mode": "GLOBAL"})
SECRET_CHANGE = Write(
    "secretmanager.projects.secrets.patch",
    "secret_manager_secret",
    VERSION.options | LABELS,
    f"{SECRETS}/password/versions",
    "versions",
)
# Independent of the others, and without processes of Cloud Run and PostgreSQL.
REGISTRY = "artifactregistry.googleapis.com/v1/projects/{project}/locations/europe-west2/repositories"
BUILD = (
    Write(
        "artifactregistry.projects.locations.repositories.create",
        "artifact_registry_repository",
        {"name": "images", "location": RUN["region"]},
        REGISTRY,
        "repositories",
    ),
    members(
        "artifactregistry.projects.locations.repositories.setIamPolicy",
        "artifact_registry_repository",
        "images",
        "roles/artifactregistry.writer",
        region=RUN["region"],
    ),
    members("storage.buckets.setIamPolicy", "bucket", "{project}-b", "roles/storage.objectViewer"),
    members("cloudresourcemanager.projects.setIamPolicy", "project", "{project}", "roles/logging.logWriter"),
    Write(
        "cloudbuild.projects.locations.builds.create",
        "cloud_build",
        {
            "source": str(ROOT / "image"),
            "repository": "projects/{project}/locations/europe-west2/repositories/images",
            "name": "server",
            "bucket": "{project}-b",
            "service_account": SERVER,
        },
        f"{REGISTRY}/images/packages/server/versions",
        "versions",
        results={"image": "image"},
    ),
    Write(
        "artifactregistry.projects.locations.repositories.packages.tags.create",
        "artifact_registry_image",
        {"image": "{image}", "tags": ["deployed"]},
        f"{REGISTRY}/images/packages/server/tags",
        "tags",
        "tags/deployed",
    ),
)
SAMPLE = (
    SERVICES,
    ACCOUNT,
    NETWORK,
    NETWORK_CHANGE,
    BUCKET,
    BUCKET_CHANGE,
    VERSION,
    SECRET_CHANGE,
    VALUE,
    BRAND,
    CLIENT,
    *BUILD,
)
INSERTS = (
    SERVICES,
    Write(
        "serviceusage.services.generateServiceIdentity",
        "service_usage_service_identity",
        {"service": "iap.googleapis.com"},
        results={"agent": "email"},
    ),
    ACCOUNT,
    NETWORK,
    Write(
        "compute.subnetworks.insert",
        "compute_subnetwork",
        {"name": "sub", "region": RUN["region"], "network": "net", "ip_cidr_range": "10.8.0.0/24"},
        f"{COMPUTE}/regions/europe-west2/subnetworks",
        counts="'name': 'sub'",
    ),
    Write(
        "compute.globalAddresses.insert",
        "compute_global_address",
        {"name": "range", "purpose": "VPC_PEERING", "prefix_length": 24, "network": "net", "labels": {"a": "1"}},
        f"{COMPUTE}/global/addresses",
    ),
    Write(
        "servicenetworking.services.connections.create",
        "service_networking_connection",
        {"network": "net", "reserved_ranges": ["range"]},
        f"{COMPUTE}/global/networks/net",
        "peerings",
    ),
    Write(
        "compute.firewalls.insert",
        "compute_firewall",
        {"name": "fw", "network": "net", "source_ranges": ["10.8.0.0/24"], "allowed": [{"ip_protocol": "icmp"}]},
        f"{COMPUTE}/global/firewalls",
        counts="'name': 'fw'",
    ),
    BUCKET,
    Write(
        "secretmanager.projects.secrets.create",
        "secret_manager_secret",
        {"name": "key", "generate_bytes": 32},
        f"{SECRETS}/key/versions",
        "versions",
    ),
    VERSION,
    VALUE,
    Write(
        "sql.instances.insert",
        "sql_instance",
        {"name": "db", "region": RUN["region"], "tier": "db-g1-small", "private_network": "net"},
        SQL,
    ),
    Write(
        "sql.databases.insert",
        "sql_database",
        {"instance": "db", "name": "mlflow"},
        f"{SQL}/db/databases",
        counts="mlflow",
    ),
    Write(
        "sql.users.insert",
        "sql_user",
        {"instance": "db", "name": "mlflow", "password_secret": "password"},
        f"{SQL}/db/users",
        counts="'mlflow'",
    ),
    Write(
        "secretmanager.projects.secrets.patch",
        "sql_user",
        {"instance": "db", "name": "other", "password_secret": "password"},
        f"{SQL}/db/users",
        counts="'other'",
    ),
    Write(
        "sql.backupRuns.insert",
        "sql_backup",
        {"instance": "db"},
        f"{SQL}/db/backupRuns",
        counts="'SUCCESSFUL'",
        once=False,
    ),
    members("cloudresourcemanager.projects.setIamPolicy", "project", "{project}", "roles/cloudsql.client"),
    members(
        "secretmanager.projects.secrets.setIamPolicy",
        "secret",
        "password",
        "roles/secretmanager.secretAccessor",
        exclusive=True,
    ),
    members("storage.buckets.setIamPolicy", "bucket", "{project}-b", "roles/storage.objectUser", exclusive=True),
    members(
        "iam.projects.serviceAccounts.setIamPolicy", "service_account", SERVER, "roles/iam.serviceAccountTokenCreator"
    ),
    Write(
        "run.projects.locations.jobs.create",
        "run_job",
        {**RUN, "name": "job", "service_account": SERVER, "image": DONE},
        "run.googleapis.com/v2/projects/{project}/locations/europe-west2/jobs",
        "jobs",
    ),
    Write(
        "run.projects.locations.jobs.run",
        "run_job_execution",
        {"region": RUN["region"], "job": "job"},
        "run.googleapis.com/v2/projects/{project}/locations/europe-west2/jobs/job/executions",
        "executions",
        once=False,
    ),
    Write(
        "run.projects.locations.services.create",
        "run_service",
        {**RUN, "name": "server", "service_account": SERVER},
        "run.googleapis.com/v2/projects/{project}/locations/europe-west2/services",
        "services",
    ),
    members(
        "run.projects.locations.services.setIamPolicy",
        "run_service",
        "server",
        "roles/run.invoker",
        region="europe-west2",
    ),
    Write(
        "compute.globalAddresses.insert",
        "compute_global_address",
        {"name": "ip", "address_type": "EXTERNAL"},
        f"{COMPUTE}/global/addresses",
        counts="'name': 'ip'",
        results={"address": "address"},
    ),
    Write(
        "compute.sslCertificates.insert",
        "compute_managed_ssl_certificate",
        {"name": "lb", "domains": ["{project}.example.com"]},
        f"{COMPUTE}/global/sslCertificates",
        results={"certificate": "self_link"},
    ),
    Write(
        "compute.regionNetworkEndpointGroups.insert",
        "compute_serverless_neg",
        {"name": "lb-neg", "region": RUN["region"], "cloud_run_service": "server"},
        f"{COMPUTE}/regions/europe-west2/networkEndpointGroups",
        results={"neg": "self_link"},
    ),
    BRAND,
    CLIENT,
    Write(
        "compute.backendServices.insert",
        "compute_backend_service",
        {"name": "lb", "groups": ["{neg}"], "iap": {"enabled": True, "oauth2_client": "{client}"}},
        f"{COMPUTE}/global/backendServices",
    ),
    Write(
        "compute.urlMaps.insert",
        "compute_url_map",
        {"name": "lb", "default_service": "lb"},
        f"{COMPUTE}/global/urlMaps",
    ),
    Write(
        "compute.urlMaps.insert",
        "compute_url_map",
        {"name": "other", "default_url_redirect": {"https_redirect": True}},
        f"{COMPUTE}/global/urlMaps",
        counts="'name': 'other'",
    ),
    Write(
        "compute.targetHttpsProxies.insert",
        "compute_target_https_proxy",
        {"name": "lb", "ssl_certificates": ["{certificate}"], "url_map": "lb"},
        f"{COMPUTE}/global/targetHttpsProxies",
        results={"proxy": "self_link"},
    ),
    Write(
        "compute.targetHttpProxies.insert",
        "compute_target_http_proxy",
        {"name": "lb", "url_map": "lb"},
        f"{COMPUTE}/global/targetHttpProxies",
    ),
    Write(
        "compute.globalForwardingRules.insert",
        "compute_global_forwarding_rule",
        {"name": "lb", "ip_address": "{address}", "port": 443, "target": "{proxy}"},
        f"{COMPUTE}/global/forwardingRules",
    ),
    members("iap.setIamPolicy", "iap_backend_service", "lb", "roles/iap.httpsResourceAccessor", exclusive=True),
    *BUILD,
)
SUBNETWORK = {"name": "sub", "region": RUN["region"], "network": "net", "ip_cidr_range": "10.8.0.0/23"}
PROXY = {"name": "lb", "ssl_certificates": ["{certificate}"], "url_map": "lb"}
# Of what INSERTS have made: Private Service Connect for the instance, and a change of everything.
UPDATES = (
    Write(
        "sql.instances.patch",
        "sql_instance",
        {
            "name": "db",
            "region": RUN["region"],
            "tier": "db-g1-small",
            "private_network": "net",
            "psc_allowed_projects": ["{project}"],
        },
        results={"attachment": "psc_service_attachment"},
    ),
    Write(
        "compute.addresses.insert",
        "compute_address",
        {"name": "psc", "region": RUN["region"], "subnetwork": "sub"},
        f"{COMPUTE}/regions/europe-west2/addresses",
        results={"psc": "path"},
    ),
    Write(
        "compute.forwardingRules.insert",
        "compute_forwarding_rule",
        {"name": "psc", "region": RUN["region"], "network": "net", "address": "{psc}", "target": "{attachment}"},
        f"{COMPUTE}/regions/europe-west2/forwardingRules",
    ),
    NETWORK_CHANGE,
    Write("compute.subnetworks.expandIpCidrRange", "compute_subnetwork", SUBNETWORK),
    Write(
        "compute.subnetworks.setPrivateIpGoogleAccess",
        "compute_subnetwork",
        SUBNETWORK | {"private_ip_google_access": True},
    ),
    Write(
        "compute.firewalls.patch",
        "compute_firewall",
        {"name": "fw", "network": "net", "source_ranges": ["10.8.0.0/23"], "allowed": [{"ip_protocol": "icmp"}]},
    ),
    Write(
        "compute.globalAddresses.setLabels",
        "compute_global_address",
        {"name": "range", "purpose": "VPC_PEERING", "prefix_length": 24, "network": "net", **LABELS},
    ),
    Write(
        "compute.addresses.setLabels",
        "compute_address",
        {"name": "psc", "region": RUN["region"], "subnetwork": "sub", **LABELS},
    ),
    Write(
        "compute.globalAddresses.insert",
        "compute_global_address",
        {"name": "more", "purpose": "VPC_PEERING", "prefix_length": 24, "network": "net"},
        f"{COMPUTE}/global/addresses",
        counts="'name': 'more'",
    ),
    Write(
        "servicenetworking.services.connections.patch",
        "service_networking_connection",
        {"network": "net", "reserved_ranges": ["more"]},
        f"{COMPUTE}/global/networks/net",
        "peerings",
    ),
    Write("iam.projects.serviceAccounts.patch", "iam_service_account", {"name": "server", "display_name": "Server"}),
    BUCKET_CHANGE,
    SECRET_CHANGE,
    Write(
        "sql.users.update",
        "sql_user",
        {"instance": "db", "name": "mlflow", "password_secret": "given"},
        f"{SQL}/db/users",
        counts="'mlflow'",
    ),
    Write(
        "run.projects.locations.jobs.patch",
        "run_job",
        {**RUN, "name": "job", "service_account": SERVER, "image": DONE, **LABELS},
    ),
    Write(
        "run.projects.locations.services.patch",
        "run_service",
        {**RUN, "name": "server", "service_account": SERVER, **LABELS},
    ),
    Write(
        "compute.backendServices.patch",
        "compute_backend_service",
        {"name": "lb", "groups": ["{neg}"], "iap": {"enabled": True, "oauth2_client": "{client}"}, "log_enabled": True},
    ),
    Write(
        "compute.securityPolicies.insert",
        "compute_security_policy",
        {"name": "armor", "allowed_ranges": TEN},
        f"{COMPUTE}/global/securityPolicies",
    ),
    Write(
        "compute.securityPolicies.addRule",
        "compute_security_policy",
        {"name": "armor", "allowed_ranges": [*TEN, "203.0.113.0/24"]},
    ),
    Write(
        "compute.securityPolicies.patchRule",
        "compute_security_policy",
        {"name": "armor", "allowed_ranges": [*TEN[1:], "203.0.113.0/24"]},
    ),
    Write(
        "compute.securityPolicies.removeRule",
        "compute_security_policy",
        {"name": "armor", "allowed_ranges": TEN[1:]},
    ),
    Write(
        "compute.backendServices.setSecurityPolicy",
        "compute_backend_service",
        {"name": "lb", "security_policy": "armor"},
    ),
    Write(
        "compute.urlMaps.patch",
        "compute_url_map",
        {"name": "other", "default_url_redirect": {"https_redirect": True, "redirect_response_code": "FOUND"}},
    ),
    Write(
        "compute.sslCertificates.insert",
        "compute_managed_ssl_certificate",
        {"name": "lb", "domains": ["{project}.example.org"]},
        f"{COMPUTE}/global/sslCertificates",
        counts="{project}.example.org",
        results={"other_certificate": "self_link"},
    ),
    Write(
        "compute.targetHttpsProxies.setSslCertificates",
        "compute_target_https_proxy",
        PROXY | {"ssl_certificates": ["{other_certificate}"], "detach": ["{certificate}"]},
    ),
    Write(
        "compute.targetHttpsProxies.setUrlMap",
        "compute_target_https_proxy",
        PROXY | {"ssl_certificates": ["{other_certificate}"], "url_map": "other"},
    ),
    Write("compute.targetHttpProxies.setUrlMap", "compute_target_http_proxy", {"name": "lb", "url_map": "other"}),
    Write(
        "compute.targetHttpsProxies.insert",
        "compute_target_https_proxy",
        PROXY | {"name": "second"},
        f"{COMPUTE}/global/targetHttpsProxies",
        counts="'name': 'second'",
        results={"other_proxy": "self_link"},
    ),
    Write(
        "compute.globalForwardingRules.setTarget",
        "compute_global_forwarding_rule",
        {"name": "lb", "ip_address": "{address}", "port": 443, "target": "{other_proxy}"},
        f"{COMPUTE}/global/forwardingRules",
    ),
)
WRITES = INSERTS + UPDATES
# The method starts no operation that could fail.
NO_STRIKE = "-"


@pytest.fixture(scope="module")
def gcp_sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A sandbox of its own: its faults would strike other tests."""
    folder = tmp_path_factory.mktemp("done")
    (folder / "Containerfile").write_text('FROM python:3\nENTRYPOINT ["python", "-c", "pass"]\n')
    with Sandbox.running("--iap-oauth-admin-api") as sandbox:
        sandbox.command("image", "add", DONE, str(folder), "--python", sys.executable)
        yield sandbox


@pytest.fixture(scope="module")
def table(pytestconfig: pytest.Config) -> Iterator[dict[tuple[str, str], dict[str, str]]]:
    """The results by method, module and fault; printed at the end."""
    rows: dict[tuple[str, str], dict[str, str]] = {}
    yield rows
    if not rows:
        return
    lines = {("write method", "module"): {name: name for name in FAULTS}, **rows}
    with pytestconfig.pluginmanager.get_plugin("capturemanager").global_and_fixture_disabled():
        print()
        for (method, module), results in lines.items():
            print(f"{method:55}{module:33}" + "".join(f"{results.get(name, ''):10}" for name in FAULTS).rstrip())
        print("Modules of google.cloud that write: none, the roles and playbooks use only modules of this collection.")


@pytest.fixture
def quick(sandbox_module: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a module as sandbox_module, with pauses of a tenth."""
    clock = SimpleNamespace(sleep=lambda seconds: time.sleep(seconds / 10), monotonic=time.monotonic, time=time.time)
    for name in ("client", "operations"):
        monkeypatch.setattr(importlib.import_module(f"{COLLECTION}.module_utils.{name}"), "time", clock)
    return sandbox_module


def struck(
    cloud: Sandbox, write: Write, fault: str, options: dict[str, Any], run: Callable[..., Any]
) -> tuple[Any, int]:
    """The result of the module while the first call of the method has a fault, and how many calls had one."""
    book = Book(cloud.state)
    rule = book.add([write.method, *FAULTS[fault], "first=1"])
    try:
        result = run(write.module, **options)
        return result, counts(cloud.state, rule)[1]
    finally:
        book.clear()


def number(cloud: Sandbox, write: Write, values: dict[str, str]) -> int:
    """How many of them there are."""
    entries = cloud.call("GET", fill(write.there, values)).get(write.key) or []
    return sum(fill(write.counts, values) in str(entry) for entry in entries)


def fill(value: Any, values: dict[str, str]) -> Any:
    """VALUE with results of earlier modules and the project's ID."""
    if isinstance(value, dict):
        return {key: fill(entry, values) for key, entry in value.items()}
    if isinstance(value, list):
        return [fill(entry, values) for entry in value]
    return re.sub(r"\{(\w+)\}", lambda found: values[found[1]], value) if isinstance(value, str) else value


Table = dict[tuple[str, str], dict[str, str]]


def deploy(cloud: Sandbox, run: Callable[..., Any], fault: str, writes: tuple[Write, ...], table: Table) -> list[str]:
    """A first run in a new project, with one fault for each write; what went wrong."""
    project = f"faults-{fault}-{len(writes)}"
    cloud.call("POST", "cloudresourcemanager.googleapis.com/v1/projects", {"projectId": project})
    values, wrong = {"project": project}, []
    enabled = {"serviceIds": ["cloudresourcemanager.googleapis.com", "serviceusage.googleapis.com"]}
    cloud.call("POST", f"serviceusage.googleapis.com/v1/projects/{project}/services:batchEnable", enabled)
    for write in writes:
        row = table.setdefault((write.method, write.module), {})
        try:
            options = {"project": project, **fill(write.options, values)}
            result, times = struck(cloud, write, fault, options, run)
            values |= {name: result[key] for name, key in write.results.items()}
            assert times or fault == "failed", "the fault struck no call"
            found = number(cloud, write, values) if write.there else 1
            assert found == 1, f"{found} of them exist"
            assert not write.once or not run(write.module, **options)["changed"], "a second run changes something"
        except Exception as error:
            wrong.append(f"{write.method} ({write.module}): {error!r}")
            row[fault] = "FAILED"
        else:
            row.setdefault(fault, "passes" if times else NO_STRIKE)
    return wrong


@pytest.mark.parametrize("fault", ["lost", "failed"])
def test_a_fault_that_passes(fault: str, quick: Any, gcp_sandbox: Sandbox) -> None:
    wrong = deploy(gcp_sandbox, quick, fault, SAMPLE, {})
    assert not wrong, "\n".join(wrong)


@pytest.mark.long
@pytest.mark.parametrize("fault", FAULTS)
def test_every_write_method(fault: str, quick: Any, gcp_sandbox: Sandbox, table: Any) -> None:
    wrong = deploy(gcp_sandbox, quick, fault, WRITES, table)
    assert not wrong, "\n".join(wrong)


def test_no_official_module_writes() -> None:
    """The table is complete without them."""
    files = [path for folder in ("roles", "playbooks") for path in (ROOT / folder).rglob("*.yml")]
    used = {name for path in files for name in re.findall(r"google\.cloud\.(gcp_\w+):", path.read_text())}
    assert [name for name in used if not name.endswith("_info")] == []
