"""What Cloud Run refuses: at once with 400, or when the revision is made."""

from __future__ import annotations

import ipaddress
import re
import time
from typing import Any

from gcp_sandbox.core import labels, projects
from gcp_sandbox.core.auth import Principal
from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.core.errors import ApiError, bad_request
from gcp_sandbox.core.iam import project_resource
from gcp_sandbox.core.service import Call
from gcp_sandbox.services import cloudkms
from gcp_sandbox.services.artifactregistry import contents
from gcp_sandbox.services.compute import shared_vpc
from gcp_sandbox.services.run import names
from gcp_sandbox.services.run.plane import secrets
from gcp_sandbox.services.run.plane.workload import QUANTITY, StartError, quantity, total_memory
from gcp_sandbox.services.serviceusage.catalog import agent_email

Doc = dict[str, Any]
# Addresses of services and jobs that are gone, by their names: {subnetwork, until}.
HELD = "run.heldAddresses"
_CPU = re.compile(r"(\d+(?:\.\d+)?)(m?)")
_MINIMUM_PREFIX = 26
_VOLUMES = ("secret", "cloudSqlInstance", "emptyDir", "nfs", "gcs")
_SYSTEM = re.compile(r"(.*\.)?((run|cloud)\.googleapis\.com|(serving|autoscaling)\.knative\.dev)/")
_TAG = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_ENV = re.compile(r"[A-Za-z_][\w.-]*")
_IMAGE = re.compile(
    r"([\w.-]+(:\d+)?/)?[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*(:\w[\w.-]{0,127})?(@sha256:[0-9a-f]{64})?"
)
# CPUs up to which -> least and most memory.  https://cloud.google.com/run/docs/configuring/services/memory-limits
_MEMORY_OF = (
    (0.499, "128Mi", "512Mi"),
    (0.999, "128Mi", "1Gi"),
    (1, "128Mi", "4Gi"),
    (2, "128Mi", "8Gi"),
    (4, "2Gi", "16Gi"),
    (6, "4Gi", "24Gi"),
    (8, "4Gi", "32Gi"),
)


def invalid(field: str, text: str) -> ApiError:
    """400 about a field's value."""
    return ApiError(
        400, f"{field}: {text}" if field else text, status="INVALID_ARGUMENT", details=[bad_request(field, text)]
    )


def violation(field: str, text: str) -> ApiError:
    """400 about a request that is not well formed; field: from the request on ("CreateServiceRequest.service.template")."""
    return invalid(f"Violation in {field}", text)


def region(name: str) -> None:
    """The location of a request.  Raises ApiError 403 as Google does for one that it has not."""
    if name not in names.REGIONS and name != "-":
        raise ApiError(
            403, f"Permission denied on 'locations/{name}' (or it may not exist).", status="PERMISSION_DENIED"
        )


def name(field: str, value: str, limit: int) -> None:
    """A service's or job's id."""
    if not value:
        raise invalid(field, f"{field} is required.")
    if not names.NAME.fullmatch(value) or len(value) > limit:
        raise invalid(
            field,
            "only lowercase, digits, and hyphens; must begin with letter, and cannot end with hyphen; must be less "
            f"than {limit + 1} characters",
        )


def required(body: Doc, within: str) -> None:
    """What a service or job has to have, within a request's message.  Raises ApiError 400."""
    if "template" not in body:
        raise violation(f"{within}.template", "required field not present.")


def template(kind: str, doc: Doc, within: str) -> None:
    """A template of a service ("template") or of a job's tasks ("template.template"), within a request's message.

    Raises ApiError 400.
    """
    containers = doc.get("containers", [])
    if not containers:
        raise invalid(f"{kind}.containers", "must contain at least one container.")
    names_of = [volume.get("name", "") for volume in doc.get("volumes", ())]
    volumes = set(names_of)
    if len(volumes) != len(names_of):
        raise invalid(f"{kind}.volumes", "volume names must be unique.")
    for index, volume in enumerate(doc.get("volumes", ())):
        _one_of(f"{within}.{kind}.volumes[{index}]", "volume_type", volume, _VOLUMES)
    known = [c.get("name", "") for c in containers]
    ingress = next((c for c in containers if c.get("ports")), containers[0] if len(containers) == 1 else None)
    for index, container in enumerate(containers):
        at = f"{kind}.containers[{index}]"
        if not _IMAGE.fullmatch(container.get("image", "")):
            raise violation(
                f"{within}.{at}.image",
                "must be a container image path in the form [hostname/]repo-path[:tag and/or @digest]",
            )
        if len(container.get("ports", ())) > 1:
            raise violation(f"{within}.{at}.ports", "ports should contain 0 or 1 port.")
        seen: set[str] = set()
        for number, env in enumerate(container.get("env", ())):
            _one_of(f"{within}.{at}.env[{number}]", "values", env, ("value", "valueSource"))
            _env(f"{at}.env", number, env, seen, taken={"PORT"} if container is ingress else set())
        for number, mount in enumerate(container.get("volumeMounts", ())):
            if mount.get("name") not in volumes:
                raise invalid(f"{at}.volume_mounts[{number}].name", f"Volume '{mount.get('name', '')}' not found.")
            if not mount.get("mountPath", "").startswith("/"):
                raise invalid(f"{at}.volume_mounts[{number}].mount_path", "should be a valid absolute unix path.")
        for other in container.get("dependsOn", ()):
            if other not in known:
                raise invalid(f"{at}.depends_on", f"container '{other}' does not exist.")
        _limits(at, container)
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            if probe in container:
                _one_of(f"{within}.{at}.{probe}", "probe_type", container[probe], ("httpGet", "tcpSocket", "grpc"))
                _probe(f"{at}.{probe}", container[probe])
    _total(f"{kind}.containers.resources.limits", doc)
    _vpc_shape(kind, doc.get("vpcAccess"))
    if len(set(filter(None, known))) != len([n for n in known if n]):
        raise invalid(f"{kind}.containers", "container names must be unique.")


def service(doc: Doc, within: str) -> None:
    """A service, within a request's message.  Raises ApiError 400."""
    spec = doc["template"]
    template("template", spec, within)
    with_ports = [c for c in spec["containers"] if c.get("ports")]
    if len(spec["containers"]) > 1 and len(with_ports) != 1:
        raise invalid(
            "template.containers", "Revision template should contain exactly one container with an exposed port."
        )
    for container in with_ports:
        ports = container["ports"]
        if not 1 <= int(ports[0].get("containerPort", 8080)) <= 65535:
            raise invalid("template.containers[0].ports[0].container_port", "must be between 1 and 65535.")
        if ports[0].get("name", "http1") not in ("http1", "h2c"):
            raise invalid("template.containers[0].ports[0].name", "port name must be 'http1' or 'h2c'.")
    seconds = duration(spec.get("timeout", "300s"))
    if seconds > 3600:
        raise violation(f"{within}.template.timeout", "maximum allowed time is one hour.")
    if seconds <= 0:
        raise invalid("template.timeout", "must be at least 1s.")
    concurrency = spec.get("maxInstanceRequestConcurrency", 80)
    if not 0 <= concurrency <= 1000:
        raise invalid("template.max_instance_request_concurrency", "must be between 1 and 1000.")
    if concurrency > 1 and sum(map(cpus, spec["containers"])) < 1:
        raise invalid(
            "template.containers.resources.limits.cpu",
            "Invalid value specified for cpu. Total cpu < 1 is not supported with concurrency > 1.",
        )
    scaling = spec.get("scaling", {})
    low, high = scaling.get("minInstanceCount", 0), scaling.get("maxInstanceCount", 100)
    if low < 0 or high < 0 or (high and low > high):
        raise invalid(
            "template.scaling.min_instance_count",
            f"min_instance_count ({low}) must be less than or equal to max_instance_count ({high}).",
        )
    traffic = doc.get("traffic", ())
    total = sum(t.get("percent", 0) for t in traffic)
    if traffic and total != 100:
        raise invalid("traffic", f"Traffic targets' percents must add up to 100, got {total}.")
    tags = [t["tag"] for t in traffic if t.get("tag")]
    if wrong := next((tag for tag in tags if not _TAG.fullmatch(tag)), ""):
        raise invalid(
            "traffic",
            f"Traffic tag '{wrong}' must be lowercase letters, digits and hyphens, begin with a letter "
            "and not end with a hyphen, because it is part of a host's name.",
        )
    if len(set(tags)) != len(tags):
        raise invalid("traffic", "Traffic tags must be unique.")
    # Those of Knative's clients have a domain before a slash.
    if wrong := labels.violation({k: v for k, v in doc.get("labels", {}).items() if "/" not in k}):
        text = f"At least one label does not conform to GCP naming style. {wrong}"
        raise ApiError(400, text, status="INVALID_ARGUMENT")
    for key in ("labels", "annotations"):
        for label in (*doc.get(key, ()), *spec.get(key, ())):
            if _SYSTEM.match(label):
                raise invalid(key, f"{label} is a system key: the v2 API has a field for it.")


def _env(at: str, number: int, env: Doc, seen: set[str], taken: set[str]) -> None:
    key = env.get("name", "")
    if not _ENV.fullmatch(key):
        raise invalid(f"{at}[{number}].name", f"'{key}' is not a valid name of an environment variable.")
    if key in taken or key.startswith(("X_GOOGLE_", "K_SERVICE", "K_REVISION", "K_CONFIGURATION")):
        raise invalid(
            at,
            f"The following reserved env names were provided: {key}. These values are automatically set by the system.",
        )
    if key in seen:
        raise invalid(f"{at}[{number}].name", f"Duplicate environment variable name '{key}'.")
    seen.add(key)
    if ref := env.get("valueSource", {}).get("secretKeyRef"):
        field = f"{at}[{number}].value_source.secret_key_ref"
        if not re.fullmatch(r"(projects/[^/]+/secrets/)?[\w-]{1,255}", ref.get("secret", "")):
            raise invalid(f"{field}.secret", "must be the name of a secret.")
        if not re.fullmatch(r"latest|[1-9]\d*|[a-z][\w-]*|", ref.get("version", "")):
            raise invalid(f"{field}.version", "must be a version number or 'latest'.")


def _one_of(at: str, name: str, message: Doc, fields: tuple[str, ...]) -> None:
    """At most one of the fields of a protocol buffer's oneof."""
    given = [field for field in fields if field in message]
    if len(given) > 1:
        where = re.sub(r"(?<=[a-z0-9])([A-Z])", lambda m: f"_{m[1].lower()}", at.partition(".")[2])
        text = f"Invalid value at '{where}' (oneof), oneof field '{name}' is already set. Cannot set '{given[1]}'"
        raise ApiError(400, text, status="INVALID_ARGUMENT", details=[bad_request(where, text)])


def _limits(at: str, container: Doc) -> None:
    limits = container.get("resources", {}).get("limits", {})
    for key in limits:
        if key not in ("cpu", "memory", "nvidia.com/gpu"):
            raise invalid(
                f"{at}.resources.limits", f"'{key}' is not supported: only cpu, memory and nvidia.com/gpu are."
            )
    size, cpu = limits.get("memory", "512Mi"), limits.get("cpu", "1")
    if not 0.08 <= _cpu(cpu) <= 1 and _cpu(cpu) not in (2, 4, 6, 8):
        text = (
            f"Invalid value specified for cpu: {cpu}. Total cpu must be one of 1, 2, 4, 6 or 8, or between .08 and 1."
        )
        raise invalid(f"{at}.resources.limits.cpu", text)
    if not QUANTITY.fullmatch(size):
        raise invalid(f"{at}.resources.limits.memory", f"Invalid quantity '{size}'.")
    least, most = next((least, most) for count, least, most in _MEMORY_OF if _cpu(cpu) <= count)
    if not quantity(least) <= quantity(size) <= quantity(most):
        text = (
            f"Invalid value specified for container memory. For {_cpu(cpu):.4} CPU, memory must be between {least} and {most} "
            "inclusive."
        )
        raise invalid(f"{at}.resources.limits.memory", text)


def _total(field: str, doc: Doc) -> None:
    """What the second generation of the execution environment needs at least."""
    if doc.get("executionEnvironment") != "EXECUTION_ENVIRONMENT_GEN2":
        return
    always = not all(c.get("resources", {}).get("cpuIdle") for c in doc["containers"])
    where = "gen2 execution environment" + (" with cpu always allocated (unthrottled)" if always else "")
    if total_memory(doc["containers"]) < quantity("512Mi"):
        text = f"Invalid value specified for memory. Total memory < 512 Mi is not supported with {where}."
        raise invalid(f"{field}.memory", text)
    if always and sum(map(cpus, doc["containers"])) < 1:
        raise invalid(f"{field}.cpu", f"Invalid value specified for cpu. Total cpu < 1 is not supported with {where}.")


def cpus(container: Doc) -> float:
    """A container's CPUs."""
    return _cpu(container.get("resources", {}).get("limits", {}).get("cpu", "1"))


def _cpu(text: str) -> float:
    found = _CPU.fullmatch(text)
    return float(found.group(1)) / (1000 if found.group(2) else 1) if found else 0


def _probe(at: str, probe: Doc) -> None:
    period, timeout = probe.get("periodSeconds", 10), probe.get("timeoutSeconds", 1)
    if timeout > period:
        raise invalid(f"{at}.timeout_seconds", "timeoutSeconds must be less than or equal to periodSeconds.")
    most = 240 if at.endswith("startupProbe") else 3600
    for field, least, limit in (
        ("initialDelaySeconds", 0, most),
        ("periodSeconds", 1, most),
        ("timeoutSeconds", 1, 3600),
        ("failureThreshold", 1, None),
    ):
        value = probe.get(field) or least
        if value < least or limit and value > limit:
            raise invalid(f"{at}.{field}", f"must be at least {least}" + (f" and at most {limit}." if limit else "."))
    if at.endswith("startupProbe") and period * probe.get("failureThreshold", 3) > 240 and period != 240:
        raise invalid(
            f"{at}.failure_threshold", "The product of periodSeconds and failureThreshold must not exceed 240 seconds."
        )
    if at.endswith("readinessProbe") and "tcpSocket" in probe:
        raise invalid(f"{at}.tcp_socket", "A readiness probe must be of type HTTP or gRPC.")
    if "httpGet" in probe and not probe["httpGet"].get("path", "/").startswith("/"):
        raise invalid(f"{at}.http_get.path", "must begin with '/'.")


def duration(text: str) -> float:
    """Seconds of a google.protobuf.Duration ("300s")."""
    return float(text.removesuffix("s") or 0)


def account(call: Call, email: str) -> None:
    """The service account of a template: it exists, and the caller may act as it.  Raises ApiError 403."""
    from gcp_sandbox.services.iam import service_account

    found = service_account(call.cloud, email)
    project = found["projectId"] if found else ""
    resources = (project_resource(project), f"//iam.googleapis.com/projects/{project}/serviceAccounts/{email}")
    if found is None or not call.cloud.iam.allows(call.principal, "iam.serviceAccounts.actAs", *resources):
        text = f"Permission 'iam.serviceaccounts.actAs' denied on service account {email} (or it may not exist)."
        raise ApiError(403, text, status="PERMISSION_DENIED")


def encryption(call: Call, region: str, template: Doc) -> None:
    """The key of a template in a region: it is in the same region, and Cloud Run's agent may use it.  Raises ApiError."""
    key = template.get("encryptionKey")
    if not key:
        return
    place = cloudkms.location(key)
    if not place:
        raise violation("template.encryption_key", "must be the name of a Cloud KMS key.")
    if place != region:
        raise violation("template.encryption_key", f"the key must be in the region {region}, and it is in {place}.")
    cloudkms.use(call.cloud, call.project_id, "run", key)


# -- networks --------------------------------------------------------------------


def _vpc_shape(kind: str, access: Doc | None) -> None:
    if not access:
        return
    interfaces = access.get("networkInterfaces", [])
    if access.get("connector") and interfaces:
        raise invalid(f"{kind}.vpc_access", "connector and network_interfaces are mutually exclusive.")
    if not access.get("connector") and len(interfaces) != 1:
        raise invalid(f"{kind}.vpc_access.network_interfaces", "exactly one network interface is required.")
    for interface in interfaces:
        if not interface.get("network") and not interface.get("subnetwork"):
            raise invalid(f"{kind}.vpc_access.network_interfaces[0]", "network or subnetwork must be specified.")


def networks(cloud: Cloud, project_id: str, location: str, access: Doc | None) -> frozenset[str]:
    """VPC networks (store keys) that a vpcAccess attaches to.  Raises StartError where it cannot."""
    if not access:
        return frozenset()
    if access.get("connector"):
        return frozenset({_connector_network(cloud, project_id, location, access["connector"])})
    interface = access["networkInterfaces"][0]
    network = _path(cloud, interface.get("network", ""), project_id, "global/networks")
    given = interface.get("subnetwork", "") or network.rsplit("/", 1)[-1]
    subnet = _path(cloud, given, project_id, f"regions/{location}/subnetworks")
    if network and cloud.store.peek("compute.networks", network) is None:
        raise StartError(
            f"VPC network {network} does not exist, or Cloud Run does not have permission to use it.",
            {"reason": "VPC_NETWORK_NOT_FOUND"},
            "NOT_FOUND",
        )
    found = cloud.store.peek("compute.subnetworks", subnet)
    if found is None:
        raise StartError(
            f"VPC subnetwork {subnet} does not exist, or Cloud Run does not have permission to use it.",
            {"reason": "VPC_NETWORK_NOT_FOUND"},
            "NOT_FOUND",
        )
    if why := shared_vpc.usable(cloud, project_id, subnet, _agent(cloud, project_id)):
        raise StartError(
            f"VPC subnetwork {subnet} does not exist, or Cloud Run does not have permission to use it. {why} "
            f"(service agent {_agent(cloud, project_id).email})",
            {"reason": "VPC_NETWORK_NOT_FOUND"},
            "PERMISSION_DENIED",
        )
    of = _path(cloud, found.get("network", ""), project_id, "global/networks")
    if network and of != network:
        raise StartError(
            f"VPC subnetwork {subnet} is not of the network {network}.", {"reason": "VPC_NETWORK_NOT_FOUND"}
        )
    if "ipCidrRange" not in found:
        raise StartError(
            f"The subnetwork {subnet} has no IPv4 range, which direct VPC egress needs.",
            {"reason": "VPC_NETWORK_NOT_FOUND"},
        )
    size = ipaddress.ip_network(found["ipCidrRange"]).prefixlen
    if size > _MINIMUM_PREFIX:
        raise StartError(
            f"The subnetwork {subnet} has a /{size} range, which is too small for direct VPC egress: it must be "
            f"/{_MINIMUM_PREFIX} or larger.",
            {"reason": "VPC_NETWORK_NOT_FOUND"},
        )
    return frozenset({of})


def _agent(cloud: Cloud, project_id: str) -> Principal:
    """The service agent of Cloud Run in a project."""
    number = (projects.find(cloud, project_id) or {}).get("projectNumber", "")
    return Principal(f"service-{number}@serverless-robot-prod.iam.gserviceaccount.com")


def _connector_network(cloud: Cloud, project_id: str, location: str, text: str) -> str:
    key = _path(cloud, text, project_id, f"locations/{location}/connectors")
    found = cloud.store.peek("vpcaccess.connectors", key)
    host, agent = key.split("/")[1], _agent(cloud, project_id)
    denied = host != project_id and not cloud.iam.allows(agent, "vpcaccess.connectors.use", project_resource(host))
    if found is None or denied or found.get("state") != "READY":
        raise StartError(
            f"VPC connector {key} does not exist, or Cloud Run does not have permission to use it.",
            {"reason": "VPC_NETWORK_NOT_FOUND"},
            "NOT_FOUND",
        )
    if found.get("network"):
        return _path(cloud, found["network"], project_id, "global/networks")
    subnet = found.get("subnet", {})
    path = _path(
        cloud, subnet.get("name", ""), subnet.get("projectId") or project_id, f"regions/{location}/subnetworks"
    )
    doc = cloud.store.peek("compute.subnetworks", path) or {}
    return _path(cloud, doc.get("network", ""), project_id, "global/networks")


def _path(cloud: Cloud, text: str, project_id: str, collection: str) -> str:
    """A store key from a short name, a path or a link."""
    if not text:
        return ""
    text = re.sub(r"^https?://[^/]+/(compute/\w+/)?", "", text)
    if "/" not in text:
        return f"projects/{project_id}/{collection}/{text}"
    if found := re.match(r"projects/(\d+)/", text):
        project = projects.find(cloud, found.group(1))
        if project:
            text = text.replace(found.group(0), f"projects/{project['projectId']}/", 1)
    return text if text.startswith("projects/") else f"projects/{project_id}/{text}"


def hold_addresses(cloud: Cloud, name: str, vpc_access: Doc) -> None:
    """
    Note that a service or job that is deleted keeps its addresses of a subnet for a while.

    https://cloud.google.com/run/docs/configuring/vpc-direct-vpc#delete-subnet
    """
    seconds = cloud.faults.held("compute.subnetworks.delete") or cloud.latency("run.addresses")
    for other, doc in cloud.store.list(HELD):
        if doc["until"] < time.time():
            cloud.store.delete(HELD, other)
    if seconds and (interfaces := vpc_access.get("networkInterfaces")):
        _, project, _, location, *_ = name.split("/")
        given = interfaces[0].get("subnetwork") or interfaces[0]["network"].rsplit("/", 1)[-1]
        subnet = _path(cloud, given, project, f"regions/{location}/subnetworks")
        cloud.store.put(HELD, name, {"subnetwork": subnet, "until": time.time() + seconds})


def images(cloud: Cloud, project_id: str, spec: Doc) -> None:
    """Raise StartError where Cloud Run's service agent may not pull an image of the template."""
    project = projects.find(cloud, project_id)
    assert project
    agent = agent_email("run.googleapis.com", project["projectNumber"])
    for container in spec["containers"]:
        owner = contents.unreadable(cloud, Principal(agent), container["image"])
        if owner is None:
            continue
        text = (
            f"Google Cloud Run Service Agent {agent} must have permission to read the image, {container['image']}. Ensure "
            "that the provided container image URL is correct and that the above account has permission to access the "
            "image. If you just enabled the Cloud Run API, the permissions might take a few minutes to propagate."
        )
        if owner != project_id:
            text += (
                f" Note that the image is from project [{owner}], which is not the same as this project [{project_id}]. "
                "Permission must be granted to the Google Cloud Run Service Agent from this project. See "
                "https://cloud.google.com/run/docs/deploying#other-projects"
            )
        raise StartError(text, {"reason": "CONTAINER_PERMISSION_DENIED"}, "PERMISSION_DENIED")


def secret_problems(cloud: Cloud, project_id: str, spec: Doc) -> None:
    """Raise StartError where the service account cannot read a secret of the template."""
    found = secrets.problems(cloud, project_id, spec, spec["serviceAccount"])
    if found:
        status = found[0][0]
        raise StartError("\n".join(text for _, text in found), {"reason": "SECRETS_ACCESS_CHECK_FAILED"}, status)


def one_proxy(cloud: Cloud, service_key: str) -> None:
    """Raise ApiError 400 where Identity-Aware Proxy is on for a backend service that leads to a service.

    Google's documentation only says that both cannot be configured, not by which error:
    https://cloud.google.com/run/docs/securing/identity-aware-proxy-cloud-run#known_limitations
    """
    part = names.parts(service_key)
    for collection in ("compute.backendServices", "compute.regionBackendServices"):
        for _, backend in cloud.store.list(collection):
            if not backend.get("iap", {}).get("enabled"):
                continue
            for entry in backend.get("backends", ()):
                key = entry["group"][entry["group"].index("projects/") :]
                neg = cloud.store.peek("compute.networkEndpointGroups", key) or {}
                same = neg.get("cloudRun", {}).get("service") == part["services"]
                if same and key.startswith(f"projects/{part['projects']}/regions/{part['locations']}/"):
                    raise ApiError(
                        400,
                        "Identity-Aware Proxy cannot be enabled on both this service and the backend service "
                        f"{backend['name']}.",
                        status="FAILED_PRECONDITION",
                    )
