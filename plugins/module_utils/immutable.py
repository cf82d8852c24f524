# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""
What Google cannot change on an existing resource, with what to do instead.

The modules refuse such a change when it is their turn (Resource.check_change); mlflow_preflight refuses it before a run
writes anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compare import lookup, same_resource, same_scalar


@dataclass(frozen=True)
class Kind:
    """
    One kind of resource.

    name: as in messages, such as "bucket". fields: paths that cannot be changed once they are set, each with what to do
    instead. same: custom equality of a field, called with (wanted, live). unset: those of fields that also cannot be set later.
    """

    name: str
    fields: Mapping[str, str]
    same: Mapping[str, Callable[[Any, Any], bool]] = field(default_factory=dict)
    unset: frozenset[str] = frozenset()

    def refused(self, wanted: Mapping[str, Any], live: Mapping[str, Any]) -> Iterator[tuple[str, Any, str]]:
        """The declared fields that LIVE has with another value: path, live value, what to do instead."""
        for path, instead in self.fields.items():
            new, old = lookup(wanted, path), lookup(live, path)
            fixed = old not in (None, "") or path in self.unset
            if new is not None and fixed and not self.same.get(path, same_scalar)(new, old):
                yield path, old, instead


def same_location(wanted: Any, live: Any) -> bool:
    """Locations of buckets are equal regardless of case."""
    return str(wanted).upper() == str(live).upper()


def same_charset(wanted: Any, live: Any) -> bool:
    """UTF8, utf8 and UTF-8 are the same."""
    return str(wanted).upper().replace("-", "") == str(live or "").upper().replace("-", "")


def locations(replication: Mapping[str, Any] | None) -> list[str]:
    """The regions of user-managed replication, [] for automatic replication."""
    replicas = (replication or {}).get("userManaged", {}).get("replicas", [])
    return sorted(replica["location"] for replica in replicas)


KEY_OF_INSTANCE = "diskEncryptionConfiguration.kmsKeyName"
NETWORK_OF_INSTANCE = "settings.ipConfiguration.privateNetwork"
SQL_INSTANCE = Kind(
    "Cloud SQL instance",
    {
        "region": "give another name to create a new instance there",
        "databaseVersion": "back it up and upgrade it manually (gcloud sql instances patch --database-version), "
        "then give the new version here",
        "settings.dataDiskType": "give its current type",
        NETWORK_OF_INSTANCE: "give its current network",
        KEY_OF_INSTANCE: "set the key of the instance (variable cloudsql_kms_key) to '' to keep the instance as it is, or give the "
        "instance another name and move the data",
    },
    {NETWORK_OF_INSTANCE: same_resource, KEY_OF_INSTANCE: lambda wanted, live: same_resource(wanted, live or "")},
    frozenset({KEY_OF_INSTANCE}),
)
DATABASE = Kind(
    "Cloud SQL database",
    dict.fromkeys(
        ("charset", "collation"), "create a database with another name and move the data with pg_dump and pg_restore"
    ),
    {"charset": same_charset, "collation": same_charset},
)
SECRET = Kind(
    "secret",
    {"replication": "leave replication_locations empty to keep it, or give another name"},
    {"replication": lambda wanted, live: locations(wanted) == locations(live)},
)
BUCKET = Kind(
    "bucket",
    {"location": "Google cannot move a bucket: give another name, or copy the objects and delete this bucket"},
    {"location": same_location},
)
ADDRESS = Kind(
    "address",
    dict.fromkeys(
        ("addressType", "purpose", "address", "prefixLength", "network", "subnetwork"),
        "Google cannot change a reserved address: set the option back, or reserve another address under another name",
    ),
    {"network": same_resource, "subnetwork": same_resource},
)
BACKEND_SERVICE = Kind("backend service", {"loadBalancingScheme": "create a backend service with another name"})
