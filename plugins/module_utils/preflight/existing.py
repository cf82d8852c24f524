# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading what exists, and returning it in the form of the roles' results."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import cloudsql, immutable, secretmanager
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.balancing import rivals
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compare import lookup, relative, same_resource
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compute import API, LINKS, aggregated
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.deployment import Found
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import ApiError
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.preflight import domains, front_doors
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.preflight.site import KMS, REGISTRY, Site
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.registry import Image

COMPUTE = f"{API}/"
BUCKETS = "https://storage.googleapis.com/storage/v1/b"
RUN = "https://run.googleapis.com/v2/"
AT_ONCE = 20  # requests


def read(site: Site) -> None:
    """Read all resources."""
    sql_project, sql_name = site.text("cloudsql_project_id"), site.text("cloudsql_name")
    sql = f"{cloudsql.instances_url(sql_project)}/{sql_name}"
    balancer = f"{COMPUTE}projects/{site.text('iap_lb_project_id')}/global"
    region = f"projects/{site.text('cloudrun_project_id')}/locations/{site.text('cloudrun_region')}"
    lb_name, balanced = site.text("iap_lb_name"), site.door == "load_balancer"
    urls = {
        "network": ("network", COMPUTE + site.network),
        "subnetwork": ("subnetwork", COMPUTE + site.subnetwork),
        "instance": (immutable.SQL_INSTANCE.name, sql),
        "service": ("Cloud Run service", f"{RUN}{region}/services/{site.text('cloudrun_name')}"),
    }
    if balanced:
        urls |= {
            "address": (immutable.ADDRESS.name, f"{balancer}/addresses/{site.text('iap_lb_address_name')}"),
            "backend": (immutable.BACKEND_SERVICE.name, f"{balancer}/backendServices/{lb_name}-backend"),
            "rule": ("forwarding rule", f"{balancer}/forwardingRules/{lb_name}-https"),
        }
        if previous := site.text("iap_lb_previous_name"):
            urls["previous rule"] = ("forwarding rule", f"{balancer}/forwardingRules/{previous}-https")
        for name in site.listed("iap_lb_replaces"):
            urls[f"replaced rule {name}"] = ("forwarding rule", f"{balancer}/forwardingRules/{name}")
    elif site.door == "internal":
        balancer = (
            f"{COMPUTE}projects/{site.text('iap_internal_lb_project_id')}/regions/{site.text('iap_internal_lb_region')}"
        )
        lb_name = site.text("iap_internal_lb_name")
        urls |= {
            "address": (immutable.ADDRESS.name, f"{balancer}/addresses/{lb_name}-ip"),
            "backend": (immutable.BACKEND_SERVICE.name, f"{balancer}/backendServices/{lb_name}-backend"),
        }
    if site.range:
        urls["range"] = (
            "reserved range",
            f"{COMPUTE}projects/{site.network_project}/global/addresses/{site.range}",
        )
    if not site.peered:
        places = f"projects/{site.text('cloudsql_project_id')}/regions/{site.text('cloudsql_region')}"
        urls["endpoint"] = ("endpoint", f"{COMPUTE}{places}/addresses/{site.text('cloudsql_name')}-psc")
    calls: dict[str, tuple[str, str, Callable[[], dict[str, Any] | None]]] = {
        key: (f"{kind} {url.rpartition('/')[2]}", url.split("/")[2], partial(site.client.find, url))
        for key, (kind, url) in urls.items()
    }
    calls["instance"] = (*calls["instance"][:2], partial(cloudsql.find_instance, site.client, sql_project, sql_name))
    bucket, secret = site.text("bucket_name"), site.secret.rpartition("/")[2]
    calls["bucket"] = (f"{immutable.BUCKET.name} {bucket}", "storage.googleapis.com", partial(read_bucket, site))
    calls["secret"] = (f"secret {secret}", "secretmanager.googleapis.com", partial(read_secret, site))
    if image := Image.parse(site.text("image_reference")):
        calls["image"] = (f"image {site.text('image_reference')}", REGISTRY, partial(read_image, site, image))
    if balanced:
        calls["rivals"] = ("other load balancers", "compute.googleapis.com", partial(read_rivals, site))
    if site.door != "cloud_run":
        calls |= domains.reads(site)
    calls |= front_doors.reads(site)
    for key in map(site.text, site.keys):
        calls[key] = (f"key {key}", KMS, partial(site.client.find, f"https://{KMS}/v1/{key}"))
    for path in site.server_secrets:
        label = f"secret {path.rpartition('/')[2]}"
        calls[path] = (label, "secretmanager.googleapis.com", partial(site.client.find, secretmanager.BASE + path))
    if not site.text("network_subnetwork_name"):
        calls["subnetworks"] = ("subnetworks", "compute.googleapis.com", partial(read_subnetworks, site))
    # First on its own, so that the credentials are exchanged for a token only once, and fail only once.
    site.owner = site.look(
        f"project {site.text('bucket_project_id')}",
        "cloudresourcemanager.googleapis.com",
        lambda: site.client.find(
            f"https://cloudresourcemanager.googleapis.com/v1/projects/{site.text('bucket_project_id')}"
        ),
    )
    with ThreadPoolExecutor(AT_ONCE) as pool:
        site.client.read_ahead(pool)
        futures = {key: pool.submit(site.look, *call) for key, call in calls.items()}
        site.found = {key: future.result() for key, future in futures.items()}
    found = site.found["instance"]
    sql = f"{cloudsql.instances_url(sql_project)}/{(found.body or {}).get('name', sql_name)}"
    label, url = f"database {site.text('cloudsql_database')}", f"{sql}/databases/{site.text('cloudsql_database')}"
    front_doors.read_more(site)
    # For a database of an instance that does not exist, the error may be 403.
    read = site.look(label, "sqladmin.googleapis.com", lambda: site.client.find(url)) if found.body else found
    site.found["database"] = Found(label, read.body)


def read_bucket(site: Site) -> dict[str, Any] | None:
    """The bucket; with the key "taken" if another project has it."""
    name, project = site.text("bucket_name"), site.text("bucket_project_id")
    try:
        live = site.client.find(f"{BUCKETS}/{name}")
    except ApiError as error:
        if error.status != 403 or error.disabled:
            raise
        # Another project's bucket, or one that the caller may not read.
        query = {"project": project, "prefix": name, "fields": "items(name),nextPageToken"}
        if name in {entry["name"] for entry in site.client.items(BUCKETS, "items", params=query)}:
            raise
        return {"taken": True}
    number = (site.owner.body or {}).get("projectNumber")
    taken = live is not None and number and str(live.get("projectNumber", number)) != str(number)
    return {"taken": True} if taken else live


def read_secret(site: Site) -> dict[str, Any] | None:
    """The secret of the database password; with the key "version", the one that the database user has."""
    live = site.client.find(secretmanager.BASE + site.secret)
    if live is None:
        return None
    key = cloudsql.PasswordRecord.key(
        site.text("cloudsql_project_id"), site.text("cloudsql_name"), site.text("cloudsql_user")
    )
    if version := cloudsql.PasswordRecord.of(live, key).version:
        return {**live, "version": version}
    newest = secretmanager.newest_enabled(site.client, site.secret)
    return {**live, "version": str(secretmanager.version_number(newest)) if newest else ""}


def read_image(site: Site, image: Image) -> dict[str, Any] | None:
    """The digest of the image that is given, None if there is no such image."""
    digest = image.find(site.client)
    return {"digest": digest} if digest else None


def read_rivals(site: Site) -> dict[str, Any]:
    """The other load balancers of the project that serve a domain of this one, by the name of the forwarding rule."""
    return dict(rivals(site.client, site.text("iap_lb_project_id"), site.text("iap_lb_name"), site.domains))


def read_subnetworks(site: Site) -> dict[str, Any]:
    """The subnetworks of the network in all regions that have IPv4 addresses, by path."""
    return {
        relative(entry["selfLink"]): entry
        for entry in aggregated(site.client, site.network.split("/")[1], "subnetworks")
        if same_resource(site.network, entry["network"]) and entry.get("ipCidrRange")
    }


def results(site: Site) -> Iterator[tuple[str, dict[str, Any]]]:
    """The results of the roles as far as the resources exist."""
    # A network or subnetwork that may not be read is one of others, which exists.
    network = "" if site.found["network"].body is None else site.network
    subnetwork = "" if site.found["subnetwork"].body is None else site.subnetwork
    instance = site.live("instance")
    yield (
        "network",
        {
            "network": network.rpartition("/")[2],
            "network_path": network,
            "network_self_link": f"{LINKS}/{network}" if network else "",
            "subnetwork": subnetwork.rpartition("/")[2],
            "subnetwork_path": subnetwork,
            "subnetwork_self_link": f"{LINKS}/{subnetwork}" if subnetwork else "",
            "reserved_range": site.range,
            "private_access": site.text("network_private_access"),
        },
    )
    addresses = {address.get("type"): address.get("ipAddress") for address in instance.get("ipAddresses") or ()}
    yield (
        "cloudsql",
        {
            "instance": instance.get("name", ""),
            "private_ip_address": addresses.get("PRIVATE", "")
            if site.peered
            else site.live("endpoint").get("address", ""),
            "connection_name": instance.get("connectionName", ""),
            "database": site.live("database").get("name", ""),
            "user": site.text("cloudsql_user"),
            "password_secret": site.secret,
            "password_version": site.live("secret").get("version", ""),
            "is_new": False,
        },
    )
    yield "front_door", front_doors.result(site)
    containers = lookup(site.live("service"), "template.containers") or [{}]
    yield "image", {"image": containers[0].get("image", "")}
    name = site.live("bucket").get("name", "")
    yield "bucket", {"name": name, "url": f"gs://{name}" if name else ""}
