"""Changes of the load balancer of a deployment, with traffic."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from typing import Any

import pytest

from .conftest import LOGGER, PROJECT, ROOT, URL, Cloud, Play
from .test_mlflow_client import token

COMPUTE = f"compute.googleapis.com/compute/v1/projects/{PROJECT}"
GLOBAL = f"https://www.googleapis.com/compute/v1/projects/{PROJECT}/global"
RUN = f"run.googleapis.com/v2/projects/{PROJECT}/locations/europe-west2/services"
HSTS = {"headerName": "Strict-Transport-Security", "headerValue": "max-age=31536000", "replace": True}
DOMAIN = "tracking.example.com"
# What the teams for security and for the network have set.
OTHERS: dict[str, dict[str, Any]] = {
    "targetHttpsProxies/mlflow-lb-https": {"sslPolicy": f"{GLOBAL}/sslPolicies/modern", "quicOverride": "ENABLE"},
    "urlMaps/mlflow-lb": {"headerAction": {"responseHeadersToAdd": [HSTS]}},
    "backendServices/mlflow-lb-backend": {
        "securityPolicy": f"{GLOBAL}/securityPolicies/armor",
        "customResponseHeaders": ["X-Frame-Options:DENY"],
        "logConfig": {"optionalMode": "INCLUDE_ALL_OPTIONAL"},
    },
}
SETTINGS = {
    "accessSettings": {
        "reauthSettings": {"method": "LOGIN", "maxAge": "3600s", "policyType": "DEFAULT"},
        "corsSettings": {"allowHttpOptions": True},
    }
}


@pytest.fixture(scope="module")
def others(cloud: Cloud, deployed: Play) -> Callable[[], dict[str, Any]]:
    """Sets what others set, and returns a function that reads it."""
    number = cloud.call("GET", f"cloudresourcemanager.googleapis.com/v1/projects/{PROJECT}")["projectNumber"]
    iap = f"iap.googleapis.com/v1/projects/{number}/iap_web/compute/services/mlflow-lb-backend:iapSettings"
    cloud.call(
        "POST", f"{COMPUTE}/global/sslPolicies", {"name": "modern", "profile": "MODERN", "minTlsVersion": "TLS_1_2"}
    )
    cloud.call("POST", f"{COMPUTE}/global/securityPolicies", {"name": "armor"})
    for path, body in OTHERS.items():
        url = f"{COMPUTE}/global/{path}"
        cloud.call("PATCH", url, {**body, "fingerprint": cloud.call("GET", url)["fingerprint"]})
    cloud.call("PATCH", iap, SETTINGS)

    def read() -> dict[str, Any]:
        live = {path: cloud.call("GET", f"{COMPUTE}/global/{path}") for path in OTHERS}
        kept = {path: {key: live[path].get(key) for key in body} for path, body in OTHERS.items()}
        return {**kept, "iap": cloud.call("GET", iap)}

    return read


@pytest.fixture(scope="module")
def second(cloud: Cloud, deployed: Play) -> str:
    """A second Cloud Run service, which answers under the other domain."""
    live = cloud.call("GET", f"{RUN}/mlflow")
    template = {key: value for key, value in live["template"].items() if key != "revision"}
    for entry in template["containers"][0]["env"]:
        if "value" in entry:
            entry["value"] = entry["value"].replace("mlflow.example.com", DOMAIN)
    cloud.call("POST", f"{RUN}?serviceId=mlflow-second", {"template": template, "ingress": live["ingress"]})
    return "mlflow-second"


def change(cloud: Cloud, **variables: str) -> Play:
    return cloud.playbook("../tests/e2e/front_door.yml", "--extra-vars", json.dumps(variables))


def experiments(cloud: Cloud, url: str) -> int:
    """The status of a request to MLflow, signed in as the logger."""
    headers = {"Authorization": f"Bearer {token(cloud, LOGGER, url)}"}
    return cloud.http("GET", f"{url}/api/2.0/mlflow/experiments/get?experiment_id=0", headers=headers).status_code


def names(cloud: Cloud) -> tuple[list[str], list[str]]:
    """The NEGs and the certificates."""
    page = cloud.call("GET", f"{COMPUTE}/aggregated/networkEndpointGroups")["items"]
    negs = [neg["name"] for scope in page.values() for neg in scope.get("networkEndpointGroups", ())]
    return negs, [entry["name"] for entry in cloud.call("GET", f"{COMPUTE}/global/sslCertificates")["items"]]


@pytest.mark.long
def test_another_domain_and_service_and_back_keep_what_others_set(cloud, others, second):
    before, first = others(), names(cloud)
    assert all(before.values()) and experiments(cloud, URL) == 200

    play = change(cloud, mlflow_domain=DOMAIN, iap_lb_service=second, iap_lb_wait_for_certificate="true")
    # The grant on the service; NEG and certificate, each made, switched to and deleted, the certificate also detached.
    assert (play.status, play.recap("changed")) == (0, 8), play.output
    assert experiments(cloud, f"https://{DOMAIN}") == 200
    assert others() == before
    negs, certificates = names(cloud)
    assert len(negs) == len(certificates) == 1 and not {*negs, *certificates} & {*first[0], *first[1]}

    play = change(cloud, iap_lb_wait_for_certificate="true")
    assert (play.status, play.recap("changed")) == (0, 7), play.output
    assert (others(), names(cloud), experiments(cloud, URL)) == (before, first, 200)


REFUSED = {
    "no service": (
        {"iap_lb_service": "nothing", "iap_lb_name": "new-lb", "iap_lb_domain": "new.example.com"},
        "Nothing was changed: Cloud Run service nothing does not exist",
    ),
    "domain of another load balancer": (
        {"iap_lb_name": "new-lb"},
        r"Nothing was changed: forwarding rule mlflow-lb-https \(.*\) already serves mlflow\.example",
    ),
    "no address": (
        {"iap_lb_address_name": "nothing"},
        "Nothing was changed: global address nothing does not exist",
    ),
}


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        pytest.param(*case, id=name, marks=[pytest.mark.long] if name != "no service" else [])
        for name, case in REFUSED.items()
    ],
)
def test_what_is_not_possible_is_refused_before_any_change(cloud, deployed, variables, told):
    play = change(cloud, **variables)
    assert play.status != 0 and play.recap("changed") == 0 and re.search(told, play.error), play.output


LOOP = """
- hosts: mlflow
  connection: local
  gather_facts: false
  vars: {ansible_python_interpreter: "{{ ansible_playbook_python }}"}
  tasks:
    - include_role: {name: mlops.mlflow_gcp.iap_lb}
      vars:
        iap_lb_name: "{{ item.name }}"
        iap_lb_domain: "{{ item.domain }}"
        iap_lb_oauth: "{{ item.oauth }}"
        iap_lb_support_email: "{{ item.email }}"
      loop:
        - {name: alpha-lb, domain: alpha.example.com, oauth: brand, email: ml@example.com}
        - {name: beta-lb, domain: beta.example.com, oauth: google_managed, email: ""}
"""


@pytest.mark.long
def test_two_load_balancers_in_a_loop_share_nothing(tmp_path):
    (tmp_path / "loop.yml").write_text(LOOP)
    book = os.path.relpath(tmp_path / "loop.yml", ROOT / "playbooks")
    apis = ["cloudresourcemanager", "compute", "iam", "iap", "run"]
    service = {
        "template": {"containers": [{"image": "us-docker.pkg.dev/cloudrun/container/hello"}]},
        "ingress": "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER",
    }
    with Cloud.running("--project", PROJECT, "--iap-oauth-admin-api") as cloud:
        body = {"serviceIds": [f"{api}.googleapis.com" for api in apis]}
        cloud.call("POST", f"serviceusage.googleapis.com/v1/projects/{PROJECT}/services:batchEnable", body)
        cloud.call("POST", f"{RUN}?serviceId=mlflow", service)
        play = cloud.playbook(book)
        assert play.status == 0, play.output
        clients = [
            cloud.call("GET", f"{COMPUTE}/global/backendServices/{name}-lb-backend")["iap"]["oauth2ClientId"].strip()
            for name in ("alpha", "beta")
        ]
        assert clients[0].endswith(".apps.googleusercontent.com") and clients[1] == ""
        play = cloud.playbook(book)
        assert (play.status, play.recap("changed")) == (0, 0), play.output
