"""
List the resources of a Google Cloud project through its APIs, those that cost money first.

    tools/resources.py [--billable-only] [--fail-if-billable]

Signs in like the modules, by GCP_AUTH_KIND and the related variables; the project is GCP_PROJECT. Kinds that this collection
does not make or use, such as virtual machines, are not listed: Cloud Asset Inventory lists those.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / ".collections"))

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.client import Client, authorized_session  # noqa: E402
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compute import aggregated  # noqa: E402
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import ApiError  # noqa: E402

Doc = dict[str, Any]


@dataclass(frozen=True)
class Kind:
    """A kind of resource. url: its list method, or the collection of Compute Engine. billable: whether one costs money."""

    name: str
    url: str
    key: str = "items"
    query: tuple[tuple[str, str], ...] = ()
    billable: Callable[[Doc], bool] = lambda _resource: False

    def resources(self, client: Client, project: str) -> Iterator[Doc]:
        """All of the project."""
        if "/" not in self.url:
            yield from aggregated(client, project, self.url)
            return
        query = {name: value.format(project=project) for name, value in self.query}
        yield from client.items(f"https://{self.url.format(project=project)}", self.key, params=query)


def always(_resource: Doc) -> bool:
    """Every resource of the kind costs money."""
    return True


COMPUTE = "compute.googleapis.com/compute/v1/projects/{project}/global"
# In version 1, which lists all regions at once.
RUN = "run.googleapis.com/apis/{api}/v1/namespaces/{{project}}"
SQL = "sqladmin.googleapis.com/v1/projects/{project}"
BUCKETS = "storage.googleapis.com/storage/v1/b"
KINDS = (
    Kind("forwarding rule", "forwardingRules", billable=always),
    Kind("address", "addresses", billable=lambda address: address.get("addressType") != "INTERNAL"),
    Kind("security policy", "securityPolicies", billable=always),
    Kind("HTTPS proxy", "targetHttpsProxies"),
    Kind("HTTP proxy", "targetHttpProxies"),
    Kind("URL map", "urlMaps"),
    Kind("backend service", "backendServices"),
    Kind("network endpoint group", "networkEndpointGroups"),
    Kind("certificate", "sslCertificates"),
    Kind("router", "routers", billable=lambda router: bool(router.get("nats"))),
    Kind("network", f"{COMPUTE}/networks"),
    Kind("subnetwork", "subnetworks"),
    Kind("firewall rule", f"{COMPUTE}/firewalls"),
    Kind("Cloud Run service", f"{RUN.format(api='serving.knative.dev')}/services", billable=always),
    Kind("Cloud Run job", f"{RUN.format(api='run.googleapis.com')}/jobs", billable=always),
    Kind(
        "VPC connector",
        "vpcaccess.googleapis.com/v1/projects/{project}/locations/-/connectors",
        "connectors",
        (),
        always,
    ),
    Kind("Cloud SQL instance", f"{SQL}/instances", billable=always),
    Kind("Cloud SQL backup", f"{SQL}/backups", "backups", billable=always),
    Kind("secret", "secretmanager.googleapis.com/v1/projects/{project}/secrets", "secrets", billable=always),
    Kind("bucket", BUCKETS, query=(("project", "{project}"),), billable=always),
    Kind("soft-deleted bucket", BUCKETS, query=(("project", "{project}"), ("softDeleted", "true")), billable=always),
    Kind("service account", "iam.googleapis.com/v1/projects/{project}/serviceAccounts", "accounts"),
)


def name(resource: Doc) -> str:
    """The name to show."""
    shown = str(resource.get("email") or resource.get("name") or resource["metadata"]["name"]).rpartition("/")[2]
    return f"{shown} ({resource['region'].rpartition('/')[2]})" if resource.get("region") else shown


def listing(client: Client, project: str) -> Iterator[tuple[bool, str, str]]:
    """Whether it costs money, kind and name of each resource."""
    for kind in KINDS:
        try:
            with client.action(f"list {kind.name}s"):
                found = list(kind.resources(client, project))
        except ApiError as error:
            # Without the API, there is nothing of it.
            if not error.disabled:
                raise
            continue
        for resource in sorted(found, key=name):
            yield kind.billable(resource), kind.name, name(resource)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--billable-only", action="store_true", help="leave out what costs nothing")
    parser.add_argument("--fail-if-billable", action="store_true", help="exit with 1 if anything costs money")
    options = parser.parse_args()
    environment = {
        option: os.environ.get(f"GCP_{option.upper()}")
        for option in ("auth_kind", "service_account_email", "service_account_file", "access_token")
    }
    client, project = Client(authorized_session(environment)), os.environ["GCP_PROJECT"]
    try:
        found = sorted(listing(client, project), reverse=True, key=lambda entry: entry[0])
    except ApiError as error:
        return print(error, file=sys.stderr) or 1
    for billable, kind, shown in found:
        if billable or not options.billable_only:
            print(f"{'billable' if billable else 'free':8}  {kind:22}  {shown}")
    costs = sum(billable for billable, _kind, _name in found)
    print(f"{len(found)} resources in project {project}, {costs} of them billable")
    return 1 if costs and options.fail_if_billable else 0


if __name__ == "__main__":
    sys.exit(main())
