# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The survey of module mlflow_preflight against projects of a sandbox."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.preflight import needs
from gcp_sandbox.testing import CallError, Sandbox

from .modules.test_mlflow_preflight import NAMES, VARIABLES

Doc = dict[str, Any]
ROLE = Path(__file__).resolve().parents[2] / "docs" / "deployer-role.yml"
MANAGER = "cloudresourcemanager.googleapis.com/v1/projects"
MORE = {
    "image_project_id": "replaced",
    "image_reference": "",
    "iap_lb_certificate": "managed",
    "iap_lb_dns_zone": "",
    "iap_lb_oauth": "google_managed",
    "iap_lb_logger_account_id": "mlflow-logger",
    "cloudrun_account_id": "mlflow-server",
    "cloudrun_ingress": "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER",
    "cloudrun_vpc_egress": "PRIVATE_RANGES_ONLY",
    "bucket_uniform_access": True,
    "bucket_public_access_prevention": "enforced",
    "services_names": ["run.googleapis.com", "sqladmin.googleapis.com"],
}


@pytest.fixture(scope="module")
def project(gcp_sandbox: Sandbox) -> str:
    """A new project: no API is on, no account pays, and one user deploys with a few roles only."""
    apis = ("cloudresourcemanager", "compute", "iam", "dns", "sqladmin")
    own = {"serviceIds": [f"{api}.googleapis.com" for api in apis]}
    gcp_sandbox.call("POST", "serviceusage.googleapis.com/v1/projects/sandbox-project/services:batchEnable", own)
    gcp_sandbox.call("POST", MANAGER, {"projectId": "surveyed"})
    body = {"serviceIds": [f"{api}.googleapis.com" for api in ("cloudresourcemanager", "compute", "iam", "dns")]}
    gcp_sandbox.call("POST", "serviceusage.googleapis.com/v1/projects/surveyed/services:batchEnable", body)
    return "surveyed"


def grant(sandbox: Sandbox, project: str, member: str, *roles: str) -> None:
    policy = sandbox.call("POST", f"{MANAGER}/{project}:getIamPolicy", {})
    bindings = [entry for entry in policy.get("bindings", ()) if member not in entry["members"]]
    bindings += [{"role": role, "members": [member]} for role in roles]
    sandbox.call(
        "POST", f"{MANAGER}/{project}:setIamPolicy", {"policy": {"etag": policy["etag"], "bindings": bindings}}
    )


@pytest.fixture
def survey(gcp_sandbox: Sandbox, sandbox_module: Callable[..., Doc]) -> Callable[..., Doc]:
    """survey("project", as_="jane@example.com", iap_lb_dns_zone="z") -> what the module returns, on failure too."""

    def survey(project: str, as_: str = "", mode: str = "always", **variables: Any) -> Doc:
        values = {name: project if name.endswith("project_id") else value for name, value in (VARIABLES | MORE).items()}
        values["bucket_name"] = f"{project}-artifacts"
        auth: Doc = {}
        if as_:
            token = gcp_sandbox.command("token", "--as", as_).strip()
            auth = {"auth": {"auth_kind": "accesstoken", "access_token": token}}
        options = {"variables": values | variables, "names": NAMES, "survey": mode, "project": project}
        try:
            return sandbox_module("mlflow_preflight", **(options if not as_ else {**options, **auth}))
        except Exception as failed:
            return failed.result  # type: ignore[attr-defined]

    return survey


def test_everything_that_is_missing_is_told_at_once(
    gcp_sandbox: Sandbox, project: str, survey: Callable[..., Doc]
) -> None:
    grant(gcp_sandbox, project, "user:jane@example.com", "roles/compute.networkAdmin", "roles/run.admin")
    result = survey(project, as_="jane@example.com")
    told = "\n".join(result["findings"])
    for role in ("cloudsql.admin", "secretmanager.admin", "storage.admin", "compute.loadBalancerAdmin", "iap.admin"):
        assert (
            f"gcloud projects add-iam-policy-binding {project} --member=user:jane@example.com --role=roles/{role}"
            in told
        )
    assert "roles/compute.networkAdmin" not in told and "roles/run.admin" not in told
    assert "cloudsql.instances.create" in told


def test_without_a_load_balancer_nothing_of_it_is_needed(
    gcp_sandbox: Sandbox, project: str, survey: Callable[..., Doc]
) -> None:
    grant(gcp_sandbox, project, "user:jane@example.com", "roles/compute.networkAdmin", "roles/run.admin")
    own = {"project_id": project, "logger_account_id": "mlflow-logger", "users": ["user:jane@example.com"]}
    variables = {f"iap_cloud_run_{name}": value for name, value in own.items()}
    result = survey(project, as_="jane@example.com", mlflow_front_door="cloud_run", **variables)
    told = "\n".join(result["findings"] + result["notes"])
    assert "--role=roles/iap.admin" in told and "iap.webServices" in told
    assert "compute.loadBalancerAdmin" not in told and "sslCertificates" not in told


def test_the_owner_of_a_project_without_billing(gcp_sandbox: Sandbox, project: str, survey: Callable[..., Doc]) -> None:
    result = survey(project)
    (finding,) = result["findings"]
    assert finding.startswith(
        f"project {project} is not linked to an open billing account: gcloud billing projects link"
    )
    assert any(
        "APIs that the run enables: run.googleapis.com, sqladmin.googleapis.com" in note for note in result["notes"]
    )


def test_organization_policies_that_refuse_something(
    gcp_sandbox: Sandbox, project: str, survey: Callable[..., Doc]
) -> None:
    url = f"orgpolicy.googleapis.com/v2/projects/{project}/policies"
    made = {
        "run.allowedIngress": {"values": {"allowedValues": ["internal"]}},
        "gcp.resourceLocations": {"values": {"allowedValues": ["us-east1"]}},
        "compute.restrictVpcPeering": {"denyAll": True},
        "storage.uniformBucketLevelAccess": {"enforce": True},
        "iam.allowedPolicyMemberDomains": {"values": {"allowedValues": ["C0123abcd"]}},
    }
    for name, rule in made.items():
        gcp_sandbox.call("POST", url, {"name": f"projects/{project}/policies/{name}", "spec": {"rules": [rule]}})
    result = survey(project, bucket_uniform_access=False)
    told = "\n".join(result["findings"])
    assert "run.allowedIngress refuses ingress 'internal-and-cloud-load-balancing'" in told
    assert "gcp.resourceLocations refuses europe-west2 (cloudsql_region), europe-west2 (cloudrun_region)" in told
    assert "secrets without locations (set mlflow_secret_locations" in told
    assert "compute.restrictVpcPeering refuses the peering" in told and "network_private_access: psc" in told
    assert "storage.uniformBucketLevelAccess refuses a bucket without uniform access" in told
    assert any("iam.allowedPolicyMemberDomains" in note for note in result["notes"])
    key = "projects/p-1/locations/us-east1/keyRings/r/cryptoKeys/k"
    stored = {"cloudsql_password_secret_locations": ["us-east1"], "cloudrun_keys_kms_key": key}
    other = survey(project, network_private_access="psc", **stored)
    told = "\n".join(other["findings"])
    assert "restrictVpcPeering" not in told and "secrets without" not in told and "uniform" not in told
    for name in made:
        gcp_sandbox.call("DELETE", f"{url}/{name}")


def test_quotas_that_are_used_up(gcp_sandbox: Sandbox, project: str, survey: Callable[..., Doc]) -> None:
    gcp_sandbox.command("policy", "set", "quota", "NETWORKS", "1", f"project={project}")
    told = "\n".join(survey(project)["findings"])
    assert f"quota NETWORKS of project {project} is used up to 1 of 1, and a deployment takes 1" in told


def test_a_run_that_is_not_the_first_is_not_surveyed(project: str, survey: Callable[..., Doc]) -> None:
    result = survey(project, mode="never")
    assert (result["findings"], result["notes"], result["caller"]) == ([], [], {})
    first = survey(project, mode="first")
    assert any("billing" in finding for finding in first["findings"])


ZONES = {
    "absent": ("nowhere", "has no managed zone nowhere"),
    "another domain": (
        "other",
        "zone other is not authoritative for mlflow.example.com: its names end with other.test",
    ),
    "private": ("inside", "zone inside is private"),
    "delegated": ("delegated", "mlflow.example.com is delegated to ns1.elsewhere.test."),
    "taken": ("taken", "its A record leads to 203.0.113.99"),
    "alias": ("alias", "its CNAME record leads to elsewhere.test."),
    "two families": ("six", "its AAAA record leads to 2001:db8::1"),
    "forbidden": ("caa", 'its CAA records (0 issue "other.test") forbid Google to issue a certificate'),
}
RECORDS = {
    "delegated": [("mlflow.example.com.", "NS", "ns1.elsewhere.test.")],
    "taken": [("mlflow.example.com.", "A", "203.0.113.99")],
    "alias": [("mlflow.example.com.", "CNAME", "elsewhere.test.")],
    "six": [("mlflow.example.com.", "AAAA", "2001:db8::1")],
    "caa": [("example.com.", "CAA", '0 issue "other.test"')],
    "good": [("example.com.", "CAA", '0 issue "pki.goog"'), ("mlflow.example.com.", "TXT", '"text"')],
}


@pytest.fixture(scope="module")
def zones(gcp_sandbox: Sandbox, project: str) -> Iterator[None]:
    """Zones for the domain, gone at the end: while one is there, names of the domain resolve by its records only."""
    url = f"dns.googleapis.com/dns/v1/projects/{project}/managedZones"
    for name in ("other", "inside", *RECORDS):
        body = {"name": name, "dnsName": "other.test." if name == "other" else "example.com.", "description": "zone"}
        gcp_sandbox.call("POST", url, body | ({"visibility": "private"} if name == "inside" else {}))
        for record, kind, data in RECORDS.get(name, ()):
            gcp_sandbox.call(
                "POST", f"{url}/{name}/rrsets", {"name": record, "type": kind, "ttl": 60, "rrdatas": [data]}
            )
    yield
    for name in ("other", "inside", *RECORDS):
        for record, kind, _data in RECORDS.get(name, ()):
            gcp_sandbox.call("DELETE", f"{url}/{name}/rrsets/{record}/{kind}")
        gcp_sandbox.call("DELETE", f"{url}/{name}")


@pytest.mark.parametrize(("zone", "message"), ZONES.values(), ids=ZONES)
def test_a_zone_that_cannot_lead_the_domain_is_refused(
    zones: None, project: str, survey: Callable[..., Doc], zone: str, message: str
) -> None:
    result = survey(project, mode="never", iap_lb_dns_zone=zone)
    assert result.get("failed") and any(message in finding for finding in result["findings"]), result


def test_a_zone_that_can(zones: None, project: str, survey: Callable[..., Doc]) -> None:
    assert survey(project, mode="never", iap_lb_dns_zone="good")["findings"] == []
    path = f"projects/{project}/managedZones/taken"
    replaced = survey(project, mode="never", iap_lb_dns_zone=path, iap_lb_dns_replaces=["203.0.113.99"])
    assert replaced["findings"] == []


def test_a_permission_that_cannot_be_tested_is_not_said_to_be_missing(
    project: str, survey: Callable[..., Doc], monkeypatch: pytest.MonkeyPatch
) -> None:
    part = needs.Needs("bucket_project_id", needs.permissions("storage.buckets get nothing"))
    monkeypatch.setattr(needs, "chosen", lambda _site: [part])
    result = survey(project)
    assert not any("lacks" in text for text in result["findings"] + result["notes"])
    assert not any("could not find out" in note and "permissions" in note for note in result["notes"])


def test_the_documented_role_has_exactly_what_is_needed(gcp_sandbox: Sandbox, project: str) -> None:
    role = yaml.safe_load(ROLE.read_text())
    assert role["includedPermissions"] == sorted(needs.everything())
    url = f"iam.googleapis.com/v1/projects/{project}/roles"
    # IAM refuses a permission that does not exist, or that a project's role cannot have.
    assert gcp_sandbox.call("POST", url, {"roleId": "mlflowDeployer", "role": role})["name"].endswith("mlflowDeployer")
    with pytest.raises(CallError):
        bad = role | {"includedPermissions": ["compute.networks.nothing"]}
        gcp_sandbox.call("POST", url, {"roleId": "mlflowOther", "role": bad})
