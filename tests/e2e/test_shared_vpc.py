"""Whole deployments in the network of a host project, in which the deployer may use one subnetwork and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import local_cloud
from tests.e2e.conftest import PROJECT, Cloud

COMPUTE = "compute.googleapis.com/compute/v1/projects"
CONNECTIONS = "servicenetworking.googleapis.com/v1/services/servicenetworking.googleapis.com/connections"
MANAGER = "cloudresourcemanager.googleapis.com/v1/projects"
HOST, ADMIN = "net-host", "network-admin@example.com"
NETWORK = f"projects/{HOST}/global/networks/shared"
SUBNETWORK = f"projects/{HOST}/regions/europe-west2/subnetworks/runs"
APIS = ["compute.googleapis.com", "servicenetworking.googleapis.com", "cloudresourcemanager.googleapis.com"]


def deployer(cloud: Cloud) -> str:
    """The account that runs the playbooks."""
    return json.loads(Path(cloud.env["GCP_SERVICE_ACCOUNT_FILE"]).read_text())["client_email"]


@pytest.fixture
def shared() -> Iterator[Cloud]:
    """A sandbox with a host project of the network's administrators, whose network has a range and a peering."""
    with local_cloud() as cloud:
        call = cloud.call
        call("POST", MANAGER, {"projectId": HOST})
        call("POST", f"serviceusage.googleapis.com/v1/projects/{HOST}/services:batchEnable", {"serviceIds": APIS})
        call("POST", f"{COMPUTE}/{HOST}/global/networks", {"name": "shared", "autoCreateSubnetworks": False})
        body = {"name": "runs", "network": NETWORK, "ipCidrRange": "10.20.0.0/24"}
        call("POST", f"{COMPUTE}/{HOST}/regions/europe-west2/subnetworks", body)
        body = {"name": "theirs", "purpose": "VPC_PEERING", "addressType": "INTERNAL", "prefixLength": 20}
        call("POST", f"{COMPUTE}/{HOST}/global/addresses", {**body, "network": NETWORK})
        number = call("GET", f"{MANAGER}/{HOST}")["projectNumber"]
        network = f"projects/{number}/global/networks/shared"
        call("POST", CONNECTIONS, {"network": network, "reservedPeeringRanges": ["theirs"]})
        call("POST", f"{COMPUTE}/{HOST}/enableXpnHost")
        call("POST", f"{COMPUTE}/{HOST}/enableXpnResource", {"xpnResource": {"id": PROJECT, "type": "PROJECT"}})
        # Cloud Run's service agent exists as soon as its API is enabled.
        own = {"serviceIds": [APIS[2], "run.googleapis.com"]}
        call("POST", f"serviceusage.googleapis.com/v1/projects/{PROJECT}/services:batchEnable", own)
        number = cloud.call("GET", f"{MANAGER}/{PROJECT}")["projectNumber"]
        members = [
            f"serviceAccount:{deployer(cloud)}",
            f"serviceAccount:service-{number}@serverless-robot-prod.iam.gserviceaccount.com",
        ]
        policy = {"bindings": [{"role": "roles/compute.networkUser", "members": members}]}
        call("POST", f"compute.googleapis.com/compute/v1/{SUBNETWORK}/setIamPolicy", {"policy": policy})
        owner = {"bindings": [{"role": "roles/owner", "members": [f"user:{ADMIN}"]}]}
        call("POST", f"{MANAGER}/{HOST}:setIamPolicy", {"policy": owner})
        yield cloud


@pytest.mark.long
@pytest.mark.parametrize("access", ["peering", "psc"])
def test_a_deployment_in_a_shared_vpc(shared, access):
    values = {
        "mlflow_network_project_id": HOST,
        "mlflow_network_name": "shared",
        "mlflow_subnetwork_name": "runs",
        "network_reserved_range": "theirs",
        "network_private_access": access,
    }
    extra = ["--extra-vars", json.dumps(values)]
    play = shared.playbook("site.yml", *extra)
    assert play.status == 0, play.output
    service = shared.call("GET", f"run.googleapis.com/v2/projects/{PROJECT}/locations/europe-west2/services/mlflow")
    (interface,) = service["template"]["vpcAccess"]["networkInterfaces"]
    assert interface == {"network": NETWORK, "subnetwork": SUBNETWORK}
    (environment,) = [container["env"] for container in service["template"]["containers"]]
    (host,) = [entry["value"] for entry in environment if entry["name"] == "MLFLOW_DB_HOST"]
    instance = shared.call("GET", f"sqladmin.googleapis.com/v1/projects/{PROJECT}/instances/mlflow")
    config = instance["settings"]["ipConfiguration"]
    if access == "peering":
        assert (config["privateNetwork"], config["allocatedIpRange"]) == (NETWORK, "theirs")
        assert [address["ipAddress"] for address in instance["ipAddresses"]] == [host]
    else:
        rule = shared.call("GET", f"{COMPUTE}/{PROJECT}/regions/europe-west2/forwardingRules/mlflow-psc")
        assert (rule["IPAddress"], rule["target"].endswith(instance["pscServiceAttachmentLink"])) == (host, True)
        assert "privateNetwork" not in config and not instance.get("ipAddresses")
    again = shared.playbook("site.yml", *extra)
    assert (again.status, again.recap("changed")) == (0, 0), again.output
    # To look for mistakes in the network, the doctor has to see it.
    members = [f"serviceAccount:{deployer(shared)}"]
    owner = {"role": "roles/owner", "members": [f"user:{ADMIN}"]}
    policy = {"bindings": [owner, {"role": "roles/compute.networkViewer", "members": members}]}
    answer = shared.session(ADMIN).post(f"https://{MANAGER}/{HOST}:setIamPolicy", json={"policy": policy}, timeout=60)
    assert answer.ok, answer.text
    verified = shared.playbook("verify.yml", *extra)
    assert verified.status == 0, verified.output
