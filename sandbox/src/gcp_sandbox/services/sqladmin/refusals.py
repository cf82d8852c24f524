"""Errors of Cloud SQL for invalid requests, in its wording.

https://cloud.google.com/sql/docs/error-messages
"""

from __future__ import annotations

import ipaddress
import re
from typing import Any

from gcp_sandbox.core import projects
from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.services import cloudkms
from gcp_sandbox.services.sqladmin import catalogue, defaults

Doc = dict[str, Any]
_LEARN = "Learn more at https://cloud.google.com/sql/docs/postgres/create-instance#machine-types."
_PRIVATE = tuple(ipaddress.IPv4Network(n) for n in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"))
_SHARED = ("db-f1-micro", "db-g1-small")


def invalid(text: str) -> ApiError:
    """400 "Invalid request: …"."""
    return ApiError(400, f"Invalid request: {text}", reason="invalid")


def missing() -> ApiError:
    """404 for an instance."""
    return ApiError(404, "The Cloud SQL instance does not exist.", reason="instanceDoesNotExist")


def exists(*, reserved: bool) -> ApiError:
    """409 for a name in use, or, as for years at Google, of an instance deleted less than a week ago."""
    text = "The Cloud SQL instance already exists."
    if reserved:
        text += (
            " When you delete an instance, you cannot reuse the name of the deleted instance until one week from the "
            "deletion date."
        )
    return ApiError(409, text, reason="instanceAlreadyExists")


def busy() -> ApiError:
    """409 while an operation of the instance is in progress."""
    text = (
        "Operation failed because another operation was already in progress. Try your request after the current "
        "operation is complete."
    )
    return ApiError(409, text, reason="operationInProgress")


def stale() -> ApiError:
    """412 for a settingsVersion that is not the current one."""
    return ApiError(412, "Condition does not match.", reason="staleData")


def engine(version: str) -> None:
    """Check that a database version is one of PostgreSQL.  Raises ApiError 400, and 501 for other engines."""
    if not version.startswith("POSTGRES_"):
        text = f"gcp-sandbox plays PostgreSQL alone, not {version}: databaseVersion must begin with POSTGRES_."
        raise ApiError(501, text, reason="notImplemented")
    if not re.fullmatch(r"POSTGRES_(9_6|\d\d)", version):
        raise invalid(f"Invalid database version: {version}.")


def name(project_id: str, text: str) -> None:
    """Check an instance's name."""
    if not re.fullmatch(r"[a-z](?:[a-z0-9-]*[a-z0-9])?", text) or len(project_id) + 1 + len(text) > 98:
        raise invalid(f"instance name ({text}).")


def instance(cloud: Cloud, doc: Doc, old: Doc | None = None) -> None:
    """Check a record with complete settings; old: the record it replaces.  Raises ApiError 400."""
    if doc["region"] not in defaults.REGIONS:
        raise invalid(f"Invalid value for region: {doc['region']}.")
    settings = doc["settings"]
    location = settings["locationPreference"]
    for key in ("zone", "secondaryZone"):
        if key in location and location[key] not in [f"{doc['region']}-{letter}" for letter in "abcdf"]:
            raise invalid(f"Zone {location[key]} is not in region {doc['region']}.")
    if location.get("secondaryZone") == location["zone"]:
        raise invalid("The primary and secondary zones must be different.")
    tier(settings)
    _disk(settings)
    _backups(settings)
    _flags(settings)
    _addresses(cloud, doc, old)
    insights = settings.get("insightsConfig", {})
    if not 256 <= insights.get("queryStringLength", 1024) <= (1048576 if _plus(settings) else 4500):
        raise invalid("Query string length must be between 256 and 4500 bytes.")
    window = settings.get("maintenanceWindow", {})
    if not 0 <= window.get("hour", 0) <= 23 or not 0 <= window.get("day", 0) <= 7:
        raise invalid("The maintenance window's day must be between 1 and 7, its hour between 0 and 23.")
    for key, value in settings.get("userLabels", {}).items():
        if not re.fullmatch(r"[a-z][a-z0-9_-]{0,62}", key) or not re.fullmatch(r"[a-z0-9_-]{0,63}", value):
            raise invalid(f"Invalid label: {key}: {value}.")


def _plus(settings: Doc) -> bool:
    return settings["edition"] == "ENTERPRISE_PLUS"


def tier(settings: Doc) -> None:
    """Check a tier against the edition."""
    text = settings.get("tier", "")
    if not text:
        raise invalid("Missing required parameter: tier.")
    optimized = re.fullmatch(r"db-(perf-optimized-N|memory-optimized-N|c4a-highmem)-\d+", text)
    if _plus(settings) and not optimized:
        raise invalid(
            f"Invalid Tier ({text}) for (ENTERPRISE_PLUS) Edition. Use a predefined Tier like db-perf-optimized-N-* "
            f"instead. {_LEARN}"
        )
    if not _plus(settings) and optimized:
        raise invalid(
            f"Invalid Tier ({text}) for (ENTERPRISE) Edition. Use a custom Tier like db-custom-* instead. {_LEARN}"
        )
    if optimized:
        return
    custom = re.fullmatch(r"db-custom-(\d+)-(\d+)", text)
    if custom:
        cores, megabytes = int(custom[1]), int(custom[2])
        if cores != 1 and cores % 2 or not 1 <= cores <= 96:
            raise invalid("Number of CPUs must be 1 or an even number between 2 and 96 for custom instance.")
        if megabytes % 256 or megabytes < 3840 or not cores * 921.6 <= megabytes <= cores * 6656:
            raise invalid(
                "Memory must be a multiple of 256 MB, at least 3840 MB, and between 0.9 GB and 6.5 GB per vCPU, for "
                "custom instance."
            )
    elif text not in _SHARED:
        raise invalid("Only custom or shared-core instance Billing Tier type allowed for PostgreSQL database.")


def _disk(settings: Doc) -> None:
    size, limit = int(settings["dataDiskSizeGb"]), int(settings["storageAutoResizeLimit"])
    if not 10 <= size <= 65536:
        raise invalid("Data disk size must be between 10 GB and 65536 GB.")
    if limit and limit < size:
        raise invalid("Storage auto resize limit must be at least the data disk size.")
    if settings["dataDiskType"] == "PD_HDD" and _plus(settings):
        raise invalid("PD_HDD disk type is not supported for Enterprise Plus Edition: PD_HDD.")


def _backups(settings: Doc) -> None:
    config = settings["backupConfiguration"]
    if not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", config["startTime"]):
        raise invalid(f"Invalid backup start time: {config['startTime']}.")
    most = 35 if _plus(settings) else 7
    if not 1 <= config["transactionLogRetentionDays"] <= most:
        raise invalid(f"The number of transaction log retention days must be between 1 and {most}.")
    retained = config["backupRetentionSettings"]["retainedBackups"]
    if not 1 <= retained <= 365:
        raise invalid("The number of retained backups must be between 1 and 365.")
    recovery = config.get("pointInTimeRecoveryEnabled")
    if recovery and not config["enabled"]:
        raise invalid("Point in time recovery cannot be enabled when backup is disabled.")
    if config.get("binaryLogEnabled"):
        raise invalid("Binary log can only be enabled for MySQL instances.")


def _flags(settings: Doc) -> None:
    for flag in settings.get("databaseFlags", []):
        known = catalogue.find(flag.get("name", ""))
        if known is None:
            raise ApiError(400, "Flag requested cannot be set.", reason="invalidFlagName")
        if not catalogue.accepts(known, flag.get("value", "")):
            raise ApiError(400, "Value requested is not valid.", reason="invalidFlagValue")


def _addresses(cloud: Cloud, doc: Doc, old: Doc | None) -> None:
    config = doc["settings"]["ipConfiguration"]
    for entry in config["authorizedNetworks"]:
        try:
            network = ipaddress.ip_network(entry.get("value", ""), strict=False)
        except ValueError:
            raise invalid(f"Invalid ip range for authorized network: {entry.get('value', '')}.") from None
        if not isinstance(network, ipaddress.IPv4Network) or any(network.subnet_of(own) for own in _PRIVATE):
            raise invalid(f"Non-routable or private authorized network ({entry['value']}).")
    if config["requireSsl"] and config["sslMode"] == "ALLOW_UNENCRYPTED_AND_ENCRYPTED":
        raise invalid("The values of requireSsl and sslMode conflict.")
    psc = config.get("pscConfig", {})
    if psc.get("allowedConsumerProjects") and not psc["pscEnabled"]:
        raise invalid("Allowed consumer projects can only be set when Private Service Connect is enabled.")
    for project in psc.get("allowedConsumerProjects", ()):
        if not re.fullmatch(r"\d+|([a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]", project):
            raise invalid(f"Invalid consumer project: {project}.")
    link = config.get("privateNetwork")
    if link and old and link == old["settings"]["ipConfiguration"].get("privateNetwork"):
        return  # an instance remains and can be changed after its peering is deleted
    if link:
        private_network(cloud, doc, link)
    elif not config["ipv4Enabled"] and not psc.get("pscEnabled"):
        raise invalid("At least one of Public IP, Private IP, or PSC connectivity must be enabled.")


def password(instance: Doc, user: str, text: str) -> None:
    """Check a password against the instance's policy.  https://cloud.google.com/sql/docs/postgres/built-in-authentication

    Raises ApiError 400.
    """
    wrong = _too_weak(instance, user, text)
    if wrong:
        raise invalid(f"INVALID_PASSWORD: {wrong}.")


def root_password(instance: Doc, text: str) -> None:
    """Like password, for an instance's initial user: if there is a policy, a matching password is required."""
    wrong = _too_weak(instance, "postgres", text)
    if wrong:
        raise invalid(f"Root user's password is not policy compliant: {wrong[:1].upper()}{wrong[1:]}. .")


def _too_weak(instance: Doc, user: str, text: str) -> str:
    policy = instance["settings"].get("passwordValidationPolicy", {})
    if not policy.get("enablePasswordPolicy"):
        return ""
    least = policy.get("minLength", 0)
    if len(text) < least:
        return f"length of password cannot be less than {least}"
    kinds = (str.islower, str.isupper, str.isdigit, lambda c: not c.isalnum())
    if policy.get("complexity") == "COMPLEXITY_DEFAULT" and not all(any(map(kind, text)) for kind in kinds):
        return "password should contain at least one lowercase, one uppercase, one number and one non-alphanumeric characters"
    if policy.get("disallowUsernameSubstring") and user and user.lower() in text.lower():
        return "password should not contain the username"
    return ""


def private_network(cloud: Cloud, doc: Doc, link: str) -> None:
    """Check that a network exists and is peered with Google's services."""
    from gcp_sandbox.services import servicenetworking

    found = re.fullmatch(r"projects/([^/]+)/global/networks/([^/]+)", link)
    if not found:
        raise invalid(f"Invalid network resource link: {link}.")
    project = projects.find(cloud, found[1])
    key = f"projects/{project['projectId']}/global/networks/{found[2]}" if project else link
    # The network is stored with the project's ID, regardless of the given form.
    doc["settings"]["ipConfiguration"]["privateNetwork"] = key
    config = f"Incorrect Service Networking config for instance: {doc['project']}:{doc['name']}:"
    if project and not projects.enabled(cloud, project["projectId"], "servicenetworking.googleapis.com"):
        raise invalid(f"{config}SERVICE_NETWORKING_NOT_ENABLED.")
    if cloud.store.peek("compute.networks", key) is None or not servicenetworking.connected(cloud, key):
        raise invalid(f"{config}NETWORK_NOT_PEERED.")


def encryption(cloud: Cloud, doc: Doc) -> Doc:
    """What a new instance says of its key.  Raises ApiError where it cannot be encrypted with it."""
    key = doc["diskEncryptionConfiguration"].get("kmsKeyName", "")
    place = cloudkms.location(key)
    if not place:
        raise invalid(f"Invalid Cloud KMS key name: {key}.")
    if place != doc["region"]:
        raise invalid(f"The Cloud KMS key must be in the region of the instance, {doc['region']}, and {key} is not.")
    try:
        version = cloudkms.use(cloud, doc["project"], "sqladmin", key)
    except ApiError as error:
        raise ApiError(error.code, error.message, reason="forbidden" if error.code == 403 else "invalid") from None
    return {
        "diskEncryptionConfiguration": {"kind": "sql#diskEncryptionConfiguration", "kmsKeyName": key},
        "diskEncryptionStatus": {"kind": "sql#diskEncryptionStatus", "kmsKeyVersionName": version},
    }


def change(old: Doc, new: Doc) -> None:
    """Check an update against the current instance."""
    keys = [doc.get("diskEncryptionConfiguration", {}).get("kmsKeyName") for doc in (old, new)]
    if keys[0] != keys[1]:
        raise invalid("The customer-managed encryption key of an instance cannot be changed.")
    if new["region"] != old["region"]:
        raise invalid("The region of an instance cannot be changed.")
    if new.get("masterInstanceName") != old.get("masterInstanceName"):
        raise invalid("The primary instance of a replica cannot be changed.")
    before, after = old["settings"], new["settings"]
    if int(after["dataDiskSizeGb"]) < int(before["dataDiskSizeGb"]):
        raise invalid("Disk size cannot be decreased.")
    if after["dataDiskType"] != before["dataDiskType"]:
        raise invalid("The data disk type of an instance cannot be changed.")
    kept = before["ipConfiguration"].get("privateNetwork")
    if kept and after["ipConfiguration"].get("privateNetwork") != kept:
        raise invalid("Updating or removing the private network of an instance is not supported.")
    if new["databaseVersion"] != old["databaseVersion"]:
        allowed = [v["name"] for v in old.get("upgradableDatabaseVersions", [])]
        if new["databaseVersion"] not in allowed:
            raise invalid(f"Database version {new['databaseVersion']} is not an upgrade of {old['databaseVersion']}.")
    elif not new["maintenanceVersion"].startswith(new["databaseVersion"]):
        raise invalid(f"Maintenance version ({new['maintenanceVersion']}) is not one of {new['databaseVersion']}.")


def protected() -> ApiError:
    """400 for deleting an instance with deletion protection."""
    return ApiError(
        400,
        "The instance is protected. Please disable the deletion protection and try again. To disable deletion "
        "protection, update the instance settings with deletionProtectionEnabled set to false.",
        reason="invalid",
    )
