# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Comparing what exists with what is asked: what cannot become it, and what is missing for a run of some parts."""

from __future__ import annotations

from ipaddress import IPv4Network

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import cloudsql, immutable, secretmanager, values
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.balancing import other_policy
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compare import lookup, same_resource
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.preflight import domains, front_doors
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.preflight.site import (
    APIS,
    FIRST,
    KMS,
    MADE_BY,
    PARTS,
    REGISTRY,
    Site,
)
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.registry import Image

NO_IPV4 = "has no IPv4 range, which Cloud Run needs"


def compare(site: Site) -> None:
    """Compare what the parts of this run manage."""
    checks = {
        "network": check_network,
        "database": check_instance,
        "bucket": check_bucket,
        "image": check_image,
        "front_door": check_front_door,
    }
    for part, check in checks.items():
        if part in site.parts:
            check(site)
    check_keys(site)
    front_doors.check(site)
    if site.partial:
        check_needs(site)


def check_keys(site: Site) -> None:
    """Check that the keys can encrypt, and can encrypt the secrets of the server that exist."""
    for name in site.keys:
        found = site.found[site.text(name)]
        state = lookup(found.body or {}, "primary.state") or "ENABLED"
        purpose = (found.body or {}).get("purpose", "ENCRYPT_DECRYPT")
        if found.body is None and KMS not in site.disabled:
            site.refuse(name, "there is no such key; create it first, or correct the name")
        elif purpose != "ENCRYPT_DECRYPT":
            site.refuse(name, f"the purpose of this key is {purpose}; give one with the purpose ENCRYPT_DECRYPT")
        elif state != "ENABLED":
            site.refuse(name, f"the primary version of this key is {state}; enable it first")
    for path in site.server_secrets:
        check_secret_key(site, path, "cloudrun_keys_kms_key")


def check_secret_key(site: Site, key: str, name: str) -> None:
    """Check that a secret that exists can be encrypted with the key that a variable names."""
    replication = site.live(key).get("replication")
    if replication and (wrong := secretmanager.misplaced(replication, site.text(name))):
        site.refuse(name, f"{site.found[key].label} cannot be encrypted with it: {wrong}")


def check_network(site: Site) -> None:
    """Check the network, its subnetwork and its reserved range."""
    if "compute.googleapis.com" in site.disabled:
        return
    network, subnetwork = site.found["network"], site.found["subnetwork"]
    for name, found in (("network_name", network), ("network_subnetwork_name", subnetwork)):
        if site.text(name) and found.body is None:
            where = f" in {site.text('network_region')}" if found is subnetwork else ""
            site.refuse(
                name,
                f"project {site.network_project} has no {found.label.split()[0]} of that name{where}; set the name of an "
                f"existing one, or leave {site.said(name)} empty to create one",
            )
            return
    if site.range and not site.makes_range and site.found["range"].body is None:
        site.refuse(
            "network_reserved_range",
            f"project {site.network_project} has no reserved range of that name; set the name of an existing one, leave "
            "it empty for any range of an existing peering, or do not set it to create one",
        )
    check_subnetwork(site)
    names = {
        "prefixLength": "network_peering_prefix_length",
        "address": "network_peering_address",
        "network": "network_name",
    }
    wanted = {
        "prefixLength": site.number("network_peering_prefix_length") if site.makes_range else None,
        "address": site.text("network_peering_address") or None if site.makes_range else None,
        "network": site.network,
    }
    site.unchangeable("range", immutable.ADDRESS, names, wanted)


def check_subnetwork(site: Site) -> None:
    """Check the range of the subnetwork, unless an existing one is used."""
    live, wanted = site.live("subnetwork"), site.text("network_subnetwork_range")
    label, name = site.found["subnetwork"].label, "network_subnetwork_range"
    if site.text("network_subnetwork_name"):
        if live and not same_resource(site.network, live["network"]):
            site.refuse("network_subnetwork_name", f"{label} belongs to network {live['network'].rpartition('/')[2]}")
        elif live and not live.get("ipCidrRange") and not site.text("cloudrun_vpc_connector"):
            site.refuse("network_subnetwork_name", f"{label} {NO_IPV4}; give one that has one")
        return
    asked = IPv4Network(wanted)
    if live and not same_resource(site.network, live["network"]):
        site.refuse(
            "network_name", f"{label} belongs to network {live['network'].rpartition('/')[2]} and cannot be moved"
        )
        return
    if live and not live.get("ipCidrRange"):
        site.refuse("network_prefix", f"{label} {NO_IPV4}; delete it or give another value")
    elif live and not IPv4Network(live["ipCidrRange"]).subnet_of(asked):
        site.refuse(name, f"the range of {label} is {live['ipCidrRange']!r} and can only be expanded")
    for path, other in site.live("subnetworks").items():
        if path == site.subnetwork or not IPv4Network(other["ipCidrRange"]).overlaps(asked):
            continue
        region, prefix = other["region"].rpartition("/")[2], site.text("network_prefix")
        if not live and other["name"] == f"{prefix}-{region}":
            site.refuse(
                "network_region",
                f"subnetwork {other['name']} of this deployment is in {region!r} and cannot be moved; give "
                f"{site.said('network_prefix')} another value to create a deployment there",
            )
        else:
            site.refuse(
                name,
                f"subnetwork {other['name']} in {region} has {other['ipCidrRange']}, which overlaps; give a free range",
            )


def check_instance(site: Site) -> None:
    """Check the Cloud SQL instance."""
    check_database(site)
    live, label = site.live("instance"), site.found["instance"].label
    if not live:
        return
    state = str(live.get("state"))
    if state in cloudsql.UNUSABLE_STATES:
        site.refuse("cloudsql_name", f"{label} is {state}; {cloudsql.UNUSABLE_STATES[state]}")
        return
    names = {
        "region": "cloudsql_region",
        "databaseVersion": "cloudsql_database_version",
        "settings.dataDiskType": "cloudsql_disk_type",
        immutable.KEY_OF_INSTANCE: "cloudsql_kms_key",
        immutable.NETWORK_OF_INSTANCE: "cloudsql_private_network"
        if site.text("cloudsql_private_network")
        else "network_name",
    }
    wanted = {
        "region": site.text("cloudsql_region"),
        "databaseVersion": site.text("cloudsql_database_version"),
        "diskEncryptionConfiguration": {"kmsKeyName": site.text("cloudsql_kms_key") or None},
        "settings": {
            "dataDiskType": site.text("cloudsql_disk_type"),
            "ipConfiguration": {
                "privateNetwork": (site.text("cloudsql_private_network") or site.network) if site.peered else None
            },
        },
    }
    site.unchangeable("instance", immutable.SQL_INSTANCE, names, wanted)
    size, asked = int(lookup(live, "settings.dataDiskSizeGb") or 0), site.number("cloudsql_disk_size_gb")
    # A disk that may grow on its own is expected to be larger than asked.
    grows = site.flag("cloudsql_disk_autoresize") or lookup(live, "settings.storageAutoResize") is not False
    if size > asked and not grows:
        site.refuse("cloudsql_disk_size_gb", f"the disk of {label} has {size} GB and cannot shrink; give at least that")
    version = live.get("databaseVersion", "").split("_")
    if site.text("cloudsql_edition") == "ENTERPRISE_PLUS" and version[1:] and int(version[1]) < 12:
        site.refuse(
            "cloudsql_edition", f"{label} has {live['databaseVersion']}, and this edition starts with POSTGRES_12"
        )


def check_database(site: Site) -> None:
    """Check the database, and the secret with its password."""
    site.unchangeable("database", immutable.DATABASE, {"charset": "cloudsql_database"}, {"charset": "UTF8"})
    regions = values.listed(site.variables.get("cloudsql_password_secret_locations")) or ()
    replicas = [{"location": region} for region in regions]
    wanted = {"replication": {"userManaged": {"replicas": replicas}} if replicas else None}
    site.unchangeable("secret", immutable.SECRET, {"replication": "cloudsql_password_secret_locations"}, wanted)
    if site.text("cloudsql_password_secret_kms_key"):
        check_secret_key(site, "secret", "cloudsql_password_secret_kms_key")


def check_bucket(site: Site) -> None:
    """Check the bucket."""
    live = site.live("bucket")
    if live.get("taken"):
        site.refuse(
            "bucket_name",
            f"a project other than {site.text('bucket_project_id')} has a bucket with this name, and names are unique "
            "across all of Google Cloud; choose another name",
        )
        return
    site.unchangeable(
        "bucket", immutable.BUCKET, {"location": "bucket_location"}, {"location": site.text("bucket_location")}
    )


def check_image(site: Site) -> None:
    """Check that an image that is given exists; in a project whose API is not enabled yet, this is seen later."""
    image = Image.parse(site.text("image_reference"))
    if image and site.found["image"].body is None and REGISTRY not in site.disabled:
        site.refuse(
            "image_reference",
            f"{image.repository} has no such image; correct it, or leave {site.said('image_reference')} empty to build one",
        )


def check_front_door(site: Site) -> None:
    """Check the address and the backend service of the load balancer."""
    if site.door == "internal":
        domains.check(site)
        wanted = {"loadBalancingScheme": "INTERNAL_MANAGED"}
        site.unchangeable("backend", immutable.BACKEND_SERVICE, dict.fromkeys(wanted, "iap_internal_lb_name"), wanted)
    if site.door != "load_balancer":
        return
    name, address = site.text("iap_lb_address_name"), site.found["address"]
    own = name == f"{site.text('iap_lb_name')}-ip"
    if address.body is None and not own and "compute.googleapis.com" not in site.disabled:
        site.refuse("iap_lb_address_name", "there is no global address of that name; set the name of an existing one")
    if site.live("address"):
        site.unchangeable(
            "address", immutable.ADDRESS, {"addressType": "iap_lb_address_name"}, {"addressType": "EXTERNAL"}
        )
    current, reserved = site.live("rule").get("IPAddress"), site.live("address").get("address", "a new one")
    if current and current != reserved and address.body != {}:
        site.refuse(
            "iap_lb_address_name",
            f"{site.found['rule'].label} has the address {current}, and Google cannot change it to that of {name}, "
            f"{reserved}; set the name of the address {current}",
        )
    accepted = [*site.listed("iap_lb_replaces"), f"{site.text('iap_lb_previous_name')}-https"]
    for rule, sentence in site.live("rivals").items():
        if rule not in accepted:
            site.refuse(
                "iap_lb_domain",
                f"{sentence}, and a domain leads to one load balancer only; set another domain, remove it from that load "
                f"balancer, or list {rule} in iap_lb_replaces to take the domain over (set iap_lb_previous_name to "
                f"{rule.removesuffix('-https')} if that is the previous name of this load balancer)",
            )
    ranges = site.listed("iap_lb_allowed_ranges")
    if ranges and (problem := other_policy(site.live("backend"), f"{site.text('iap_lb_name')}-allowed")):
        site.refuse(
            "iap_lb_allowed_ranges", f"{problem}; add the ranges to it and leave this empty, or detach it first"
        )
    domains.check(site)
    wanted = {"loadBalancingScheme": "EXTERNAL_MANAGED"}
    site.unchangeable("backend", immutable.BACKEND_SERVICE, dict.fromkeys(wanted, "iap_lb_name"), wanted)


def needed(site: Site, part: str) -> tuple[str, ...]:
    """What a part needs from the others."""
    # Without a load balancer, the members are those of the service itself.
    return ("service",) if part == "users" and site.door == "cloud_run" else PARTS[part]


def check_needs(site: Site) -> None:
    """Check that what other parts make exists."""
    disabled = sorted(site.disabled & {api for part in site.parts for api in APIS[part]})
    if disabled and "services" not in site.parts:
        chosen = ", ".join(part for part in PARTS if part in site.parts)
        site.missing.append(f"the run is limited to {chosen}, for which {', '.join(disabled)} must be enabled; {FIRST}")
        return
    for key, part in MADE_BY.items():
        wanted = [chosen for chosen in PARTS if chosen in site.parts and key in needed(site, chosen)]
        if key not in site.found:
            continue
        connector = key == "subnetwork" and site.text("cloudrun_vpc_connector")
        if wanted and part not in site.parts and site.found[key].body is None and not connector:
            site.missing.append(
                f"{wanted[0]} needs {site.found[key].label}, which does not exist; {FIRST}, or also with --tags {part}"
            )
