#!/usr/bin/python
# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: dns_record_set
short_description: Manage one record set of a Cloud DNS zone
description:
  - Creates, updates and deletes the record set of one name and type, and never touches another one.
  - Records have no owner that Cloud DNS would show. A record set is taken for one of this module's if its values are those of
    O(values), whatever its TTL is. One with other values is only replaced if these are in O(replaces), and a CNAME record of the
    same name only then; otherwise the module fails and changes nothing. With O(state=absent), only a record set with the values
    of O(values) is deleted, and others are left.
  - M(google.cloud.gcp_dns_resource_record_set) replaces a record set of any values without a question, and retries nothing.
version_added: 0.1.0
author:
  - mlops.mlflow_gcp contributors (@mlops)
extends_documentation_fragment:
  - google.cloud.gcp
  - mlops.mlflow_gcp.auth
  - mlops.mlflow_gcp.attributes
  - mlops.mlflow_gcp.state
options:
  zone:
    description: Name of the managed zone, or V(projects/PROJECT/managedZones/NAME) for one of another project.
    type: str
    required: true
  name:
    description: Domain name of the record, with or without a dot at its end.
    type: str
    required: true
  type:
    description: Type of the record.
    type: str
    choices: [A, AAAA, CNAME, TXT]
    default: A
  values:
    description: The values, such as one IPv4 address.
    type: list
    elements: str
    required: true
  ttl:
    description: Seconds for which resolvers may keep the record. An existing record keeps its own if this is not given, a new one gets 300.
    type: int
  replaces:
    description: Values that an existing record of this name, of O(type) or a CNAME record, may have and lose, such as a previous address.
    type: list
    elements: str
    default: []
seealso:
  - name: Resource record sets
    description: The API.
    link: https://cloud.google.com/dns/docs/reference/rest/v1/resourceRecordSets
"""

EXAMPLES = r"""
- name: Point the domain to the load balancer
  mlops.mlflow_gcp.dns_record_set:
    project: my-project
    auth_kind: application
    zone: projects/dns-project/managedZones/example
    name: mlflow.example.com
    values: [203.0.113.7]
"""

RETURN = r"""
name:
  description: Domain name of the record, with a dot at its end.
  returned: success
  type: str
  sample: mlflow.example.com.
resource:
  description: The record set as Google returns it.
  returned: success
  type: dict
  sample:
    name: mlflow.example.com.
    type: A
    ttl: 300
    rrdatas: [203.0.113.7]
"""

from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import dns, values
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compare import Rules
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import GcpError
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import STATE_OPTION, Task, run
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.resource import Resource

TTL = 300


def same_values(wanted: list[str], live: list[str] | None) -> bool:
    """Whether two lists of values are the same, in any order and spelling."""
    return sorted(value.lower().rstrip(".") for value in wanted) == sorted(
        value.lower().rstrip(".") for value in live or ()
    )


class RecordSet(Resource):
    """
    https://cloud.google.com/dns/docs/reference/rest/v1/resourceRecordSets

    The body has the additional key "alias", the CNAME record set that a record set of another type takes the place of.
    """

    kind = "record"
    rules = Rules(same={"rrdatas": same_values})
    internal = frozenset({"alias"})

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.zone = dns.zone_path(task.project if "/" not in self.params["zone"] else "", self.params["zone"])
        self.name, self.type = dns.absolute(self.params["name"]), self.params["type"]
        self.collection = f"{dns.API}/{self.zone}/rrsets"
        self.url = f"{self.collection}/{self.name}/{self.type}"
        self.wanted = {
            "name": self.name,
            "type": self.type,
            "ttl": self.params["ttl"],
            "rrdatas": self.params["values"],
        }

    @property
    def label(self) -> str:
        return f"{self.type} record {self.name.rstrip('.')} in zone {self.zone.rpartition('/')[2]}"

    def read(self) -> dict[str, Any] | None:
        """The record set; that of a CNAME record, with the key "alias", where there is one instead."""
        kinds = {entry["type"]: entry for entry in dns.record_sets(self.client, self.zone, self.name)}
        live = kinds.get(self.type)
        if live is None and "CNAME" in kinds and self.params["state"] == "present":
            return {"name": self.name, "type": "CNAME", "rrdatas": kinds["CNAME"]["rrdatas"], "alias": kinds["CNAME"]}
        if (
            live is not None
            and self.params["state"] == "absent"
            and not same_values(self.wanted["rrdatas"], live["rrdatas"])
        ):
            return None
        return live

    def check_change(self, live: dict[str, Any], changes: list[str]) -> None:
        accepted = [*self.params["replaces"], *self.wanted["rrdatas"]]
        if taken := dns.conflict(live, accepted):
            raise GcpError(
                f"Cannot update {self.label}: the {live['type']} record of that name leads to {taken}, and was not made for "
                f"{', '.join(self.wanted['rrdatas'])}; delete it, or list what it leads to in option replaces (iap_lb_dns_replaces)"
            )

    def create(self) -> dict[str, Any]:
        self.wanted["ttl"] = self.params["ttl"] or TTL
        return super().create()

    def update(self, live: dict[str, Any], changes: list[str]) -> dict[str, Any]:
        if "alias" not in live:
            return self.client.request("PATCH", self.url, {"rrdatas": self.wanted["rrdatas"]} | self.ttl())
        # In one step, so that the name is never without a record.
        body = {"deletions": [live["alias"]], "additions": [self.wanted | {"ttl": live["alias"]["ttl"]} | self.ttl()]}
        self.client.post(f"{dns.API}/{self.zone}/changes", body, idempotent=True)
        return {}

    def ttl(self) -> dict[str, int]:
        """The TTL to set, if one is given."""
        return {"ttl": self.params["ttl"]} if self.params["ttl"] else {}

    def returns(self, live: dict[str, Any]) -> dict[str, Any]:
        return {"name": self.name}


def main() -> None:
    run(
        RecordSet.converge,
        argument_spec={
            "zone": {"type": "str", "required": True, "kind": values.DNS_ZONE},
            "name": {"type": "str", "required": True, "kind": values.RECORD_NAME},
            "type": {"type": "str", "choices": ["A", "AAAA", "CNAME", "TXT"], "default": "A"},
            "values": {"type": "list", "elements": "str", "required": True},
            "ttl": {"type": "int", "kind": values.TTL},
            "replaces": {"type": "list", "elements": "str", "default": []},
            **STATE_OPTION,
        },
    )


if __name__ == "__main__":
    main()
