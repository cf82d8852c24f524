"""Declarations of the v1 API as those of the v2 API, and back: containers, volumes, templates, traffic.

https://cloud.google.com/run/docs/reference/rest/v1/RevisionSpec
"""

from __future__ import annotations

import copy
import json
import re
from typing import Any

from gcp_sandbox.services.run import checks, defaults
from gcp_sandbox.services.run import v1_annotations as notes
from gcp_sandbox.services.run.plane import probes

Doc = dict[str, Any]
_CONTAINER = ("name", "image", "command", "args", "workingDir", "baseImageUri")
_GCS = "gcsfuse.run.googleapis.com"
_SQL_VOLUME, _SQL_PATH = "cloudsql", "/cloudsql"
_ACCELERATOR = "run.googleapis.com/accelerator"
_PROBE_TYPE = "run.googleapis.com/startupProbeType"
# What the v1 API has no word for stays as it was when a declaration is replaced.
_NOT_IN_V1 = ("buildConfig", "multiRegionSettings", "functionalType", "sshEnabled")


# -- from v1 to v2 ---------------------------------------------------------------


def service(body: Doc) -> tuple[Doc, Doc]:
    """A v1 Service as (a v2 Service, the annotations that v2 has no field for).  Raises ApiError 400."""
    meta, spec = body.get("metadata", {}), body.get("spec", {})
    annotations = notes.check(meta, "Service", "metadata")
    out = _top(meta, annotations, notes.SERVICE)
    template = spec.get("template", {})
    out["template"], kept = _revision(template)
    out["traffic"] = [_target(target) for target in spec.get("traffic", ())]
    return out, {"metadata": notes.unread(annotations, notes.SERVICE), "template": kept}


def job(body: Doc) -> tuple[Doc, Doc]:
    """A v1 Job as (a v2 Job, the annotations that v2 has no field for).  Raises ApiError 400."""
    meta, spec = body.get("metadata", {}), body.get("spec", {})
    annotations = notes.check(meta, "Job", "metadata")
    out = _top(meta, annotations, notes.JOB)
    out |= {token: spec[token] for token in ("runExecutionToken", "startExecutionToken") if spec.get(token)}
    template = spec.get("template", {})
    at = "spec.template.metadata"
    inner = notes.check(template.get("metadata", {}), "Execution", at)
    execution: Doc = {
        k: template.get("spec", {})[k]
        for k in ("parallelism", "taskCount", "delayExecution")
        if k in template.get("spec", {})
    }
    notes.read(notes.EXECUTION, inner, execution, at)
    execution |= notes.plain(template.get("metadata", {}).get("labels", {}), inner)
    task: Doc = {}
    notes.read(notes.TASK, inner, task, at)
    declared = template.get("spec", {}).get("template", {}).get("spec", {})
    _common(task, declared, inner)
    if "maxRetries" in declared:
        task["maxRetries"] = declared["maxRetries"]
    execution["template"] = task
    out["template"] = execution
    kept = notes.unread(inner, notes.EXECUTION, notes.TASK)
    return out, {"metadata": notes.unread(annotations, notes.JOB), "template": kept}


def _top(meta: Doc, annotations: Doc, table: notes.Table) -> Doc:
    out = notes.plain(meta.get("labels", {}), annotations)
    notes.read(table, annotations, out, "metadata")
    if policy := annotations.get(notes.BINAUTHZ):
        use = {"useDefault": True} if policy == "default" else {"policy": policy}
        out["binaryAuthorization"] = out.get("binaryAuthorization", {}) | use
    return out


def _revision(template: Doc) -> tuple[Doc, Doc]:
    meta, spec = template.get("metadata", {}), template.get("spec", {})
    at = "spec.template.metadata"
    annotations = notes.check(meta, "Revision", at)
    labels = meta.get("labels", {})
    out = notes.plain(labels, annotations)
    notes.read(notes.REVISION, annotations, out, at)
    if meta.get("name"):
        out["revision"] = meta["name"]
    _common(out, spec, annotations)
    if spec.get("containerConcurrency"):
        out["maxInstanceRequestConcurrency"] = spec["containerConcurrency"]
    throttled = notes.flag(annotations, notes.THROTTLING, at, default=True)
    boosted = notes.flag(annotations, notes.BOOST, at)
    for container in out["containers"]:
        resources = container.setdefault("resources", {})
        resources |= {"cpuIdle": throttled} | ({"startupCpuBoost": True} if boosted else {})
        if labels.get(_PROBE_TYPE) == "Default" and _is_default(container):
            container.pop("startupProbe", None)
    if text := annotations.get(notes.DEPENDENCIES):
        needs = _json(text, f"{at}.annotations[{notes.DEPENDENCIES}]")
        for container in out["containers"]:
            if container.get("name") in needs:
                container["dependsOn"] = needs[container["name"]]
    return out, notes.unread(annotations, notes.REVISION)


def _common(out: Doc, spec: Doc, annotations: Doc) -> None:
    """What templates of revisions and of tasks share."""
    aliases = _aliases(annotations.get(notes.SECRETS, ""))
    out["containers"] = [_container(c, aliases) for c in spec.get("containers", ())]
    out["volumes"] = [_volume(v, aliases) for v in spec.get("volumes", ())]
    if spec.get("serviceAccountName"):
        out["serviceAccount"] = spec["serviceAccountName"]
    if spec.get("timeoutSeconds"):
        out["timeout"] = f"{spec['timeoutSeconds']}s"
    if spec.get("nodeSelector"):
        out["nodeSelector"] = {"accelerator": spec["nodeSelector"].get(_ACCELERATOR, "")}
    if set(out.get("vpcAccess", ())) == {"egress"}:
        del out["vpcAccess"]
    if instances := [i.strip() for i in annotations.get(notes.CLOUDSQL, "").split(",") if i.strip()]:
        out["volumes"].append({"name": _SQL_VOLUME, "cloudSqlInstance": {"instances": instances}})
        for container in out["containers"]:
            container.setdefault("volumeMounts", []).append({"name": _SQL_VOLUME, "mountPath": _SQL_PATH})


def _container(given: Doc, aliases: dict[str, str]) -> Doc:
    out = {k: copy.deepcopy(given[k]) for k in _CONTAINER if given.get(k)}
    if "env" in given:
        out["env"] = [_env(env, aliases) for env in given["env"]]
    if "ports" in given:
        out["ports"] = [{k: port[k] for k in ("name", "containerPort") if port.get(k)} for port in given["ports"]]
    if limits := given.get("resources", {}).get("limits"):
        out["resources"] = {"limits": dict(limits)}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        if given.get(probe):
            out[probe] = {k: copy.deepcopy(v) for k, v in given[probe].items() if k not in ("successThreshold", "exec")}
            for action in ("httpGet", "tcpSocket"):
                for key in ("host", "scheme"):
                    out[probe].get(action, {}).pop(key, None)
    if "volumeMounts" in given:
        out["volumeMounts"] = [{k: v for k, v in mount.items() if k != "readOnly"} for mount in given["volumeMounts"]]
    return out


def _env(env: Doc, aliases: dict[str, str]) -> Doc:
    reference = env.get("valueFrom", {}).get("secretKeyRef")
    if not reference:
        return {"name": env.get("name", ""), "value": env.get("value", "")}
    name = reference.get("name") or reference.get("localObjectReference", {}).get("name", "")
    secret = {"secret": aliases.get(name, name), "version": reference.get("key", "")}
    return {"name": env.get("name", ""), "valueSource": {"secretKeyRef": secret}}


def _volume(volume: Doc, aliases: dict[str, str]) -> Doc:
    out: Doc = {"name": volume.get("name", "")}
    if secret := volume.get("secret"):
        name = secret.get("secretName", "")
        out["secret"] = {"secret": aliases.get(name, name)} | {k: secret[k] for k in ("defaultMode",) if k in secret}
        if secret.get("items"):
            out["secret"]["items"] = [
                {"path": i.get("path", ""), "version": i.get("key", "")} | {k: i[k] for k in ("mode",) if k in i}
                for i in secret["items"]
            ]
    elif "emptyDir" in volume:
        out["emptyDir"] = {k: v.upper() if k == "medium" else v for k, v in volume["emptyDir"].items()}
    elif csi := volume.get("csi"):
        if csi.get("driver") != _GCS:
            raise notes.invalid("spec.template.spec.volumes", f"Unknown CSI driver '{csi.get('driver', '')}'.")
        attributes = csi.get("volumeAttributes", {})
        out["gcs"] = {"bucket": attributes.get("bucketName", ""), "readOnly": csi.get("readOnly", False)}
        if attributes.get("mountOptions"):
            out["gcs"]["mountOptions"] = attributes["mountOptions"].split(",")
    else:
        out |= {k: volume[k] for k in ("nfs", "filestore") if k in volume}
    return out


def _target(target: Doc) -> Doc:
    out = {k: target[k] for k in ("percent", "tag") if target.get(k)}
    if target.get("revisionName"):
        if target.get("latestRevision"):
            raise notes.invalid("spec.traffic", "revisionName and latestRevision are mutually exclusive.")
        return {"type": defaults.REVISION, "revision": target["revisionName"]} | out
    return {"type": defaults.LATEST} | out


def _aliases(text: str) -> dict[str, str]:
    """ "alias:projects/p/secrets/s,…" of the secrets of other projects."""
    found = (
        re.fullmatch(r"\s*([^:]+):(projects/[^/]+/secrets/[^/]+)\s*", part) for part in text.split(",") if part.strip()
    )
    return {match.group(1): match.group(2) for match in found if match}


def _json(text: str, at: str) -> Doc:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise notes.invalid(at, f"Invalid value '{text}'.")
    return value


def _is_default(container: Doc) -> bool:
    port = (container.get("ports") or [{}])[0].get("containerPort", 8080)
    return container.get("startupProbe", {}) == probes.default(
        container.get("startupProbe", {}).get("tcpSocket", {}).get("port", port)
    )


def untouched(body: Doc, old: Doc, translated: Doc) -> Doc:
    """A v2 body for replacing old, whose own translation there and back is translated.

    What came back as it was given stays as it is stored: a client that reads, changes a label and writes changes only
    that, however v2 had written the rest.
    """
    out = dict(body)
    if body["template"] == translated["template"]:
        out["template"] = old["template"]
    return out | {k: old[k] for k in _NOT_IN_V1 if k in old}


# -- from v2 to v1 ---------------------------------------------------------------


def template_labels(template: Doc) -> Doc:
    """Labels of a revision or its template."""
    containers = template.get("containers", [])
    main = next((c for c in containers if c.get("ports")), None)
    default = {_PROBE_TYPE: "Default"} if main is not None and _is_default(main) else {}
    return dict(template.get("labels", {})) | default


def template_notes(template: Doc, kept: Doc, own: frozenset[str]) -> Doc:
    """Annotations of a revision or its template.  own: what a secret's project may be called to need no alias."""
    out = dict(template.get("annotations", {})) | kept | notes.write(notes.REVISION, template)
    containers = template.get("containers", [])
    main = next((c for c in containers if c.get("ports")), containers[0] if containers else {})
    resources = main.get("resources", {})
    for name, value, default in ((notes.THROTTLING, "cpuIdle", True), (notes.BOOST, "startupCpuBoost", False)):
        if name in kept or resources.get(value, False) is not default:
            out[name] = "true" if resources.get(value) else "false"
    if needs := {c["name"]: c["dependsOn"] for c in containers if c.get("dependsOn")}:
        out[notes.DEPENDENCIES] = json.dumps(needs, separators=(",", ":"))
    return out | _shared_notes(template, kept, own)


def task_notes(execution: Doc, kept: Doc, own: frozenset[str]) -> Doc:
    """Annotations of an execution or its template: those of its tasks are among them."""
    task = execution.get("template", {})
    out = dict(execution.get("annotations", {})) | kept | notes.write(notes.EXECUTION, execution)
    return out | notes.write(notes.TASK, task) | _shared_notes(task, kept, own)


def top_notes(doc: Doc, kept: Doc, table: notes.Table) -> Doc:
    """Annotations of a service or job that its fields stand for."""
    out = dict(doc.get("annotations", {})) | kept | notes.write(table, doc)
    authorization = doc.get("binaryAuthorization", {})
    if authorization.get("useDefault") or authorization.get("policy"):
        out[notes.BINAUTHZ] = authorization.get("policy") or "default"
    return out


def _shared_notes(template: Doc, kept: Doc, own: frozenset[str]) -> Doc:
    out = {}
    instances = [i for v in template.get("volumes", ()) for i in v.get("cloudSqlInstance", {}).get("instances", ())]
    if instances:
        out[notes.CLOUDSQL] = ",".join(instances)
    names = _short_names(template, kept.get(notes.SECRETS, ""), own)
    aliases = {short: full for full, short in names.items() if full.rsplit("/", 1)[-1] != short or not _mine(full, own)}
    if aliases:
        out[notes.SECRETS] = ",".join(f"{short}:{full}" for short, full in sorted(aliases.items()))
    return out


def _mine(secret: str, own: frozenset[str]) -> bool:
    return "/" not in secret or secret.split("/")[1] in own


def _short_names(template: Doc, text: str, own: frozenset[str]) -> dict[str, str]:
    """What each secret of a template is called in v1: its short name, or an alias for one of another project."""
    given = {full: alias for alias, full in _aliases(text).items()}
    used = [
        env["valueSource"]["secretKeyRef"]["secret"]
        for c in template.get("containers", ())
        for env in c.get("env", ())
        if env.get("valueSource", {}).get("secretKeyRef")
    ]
    used += [v["secret"]["secret"] for v in template.get("volumes", ()) if v.get("secret", {}).get("secret")]
    out = {}
    for secret in used:
        short = secret.rsplit("/", 1)[-1]
        out[secret] = given.get(secret) or (short if _mine(secret, own) else f"secret-{secret.split('/')[1]}-{short}")
    return out


def template_spec(template: Doc, kept: Doc, own: frozenset[str]) -> Doc:
    """RevisionSpec."""
    out: Doc = {}
    if template.get("maxInstanceRequestConcurrency"):
        out["containerConcurrency"] = template["maxInstanceRequestConcurrency"]
    out |= _spec(template, kept, own)
    if template.get("timeout"):
        out["timeoutSeconds"] = int(checks.duration(template["timeout"]))
    return out


def task_spec(template: Doc, kept: Doc, own: frozenset[str]) -> Doc:
    """TaskSpec."""
    out = _spec(template, kept, own) | {"maxRetries": template.get("maxRetries", 3)}
    if template.get("timeout"):
        out["timeoutSeconds"] = str(int(checks.duration(template["timeout"])))
    return out


def _spec(template: Doc, kept: Doc, own: frozenset[str]) -> Doc:
    names = _short_names(template, kept.get(notes.SECRETS, ""), own)
    sql = {v["name"] for v in template.get("volumes", ()) if "cloudSqlInstance" in v}
    out: Doc = {"containers": [_container_out(c, names, sql) for c in template.get("containers", ())]}
    if template.get("serviceAccount"):
        out["serviceAccountName"] = template["serviceAccount"]
    if volumes := [_volume_out(v, names) for v in template.get("volumes", ()) if v["name"] not in sql]:
        out["volumes"] = volumes
    if accelerator := template.get("nodeSelector", {}).get("accelerator"):
        out["nodeSelector"] = {_ACCELERATOR: accelerator}
    return out


def _container_out(container: Doc, names: dict[str, str], sql: set[str]) -> Doc:
    out = {
        k: copy.deepcopy(container[k])
        for k in (*_CONTAINER, "ports", "startupProbe", "livenessProbe", "readinessProbe")
        if container.get(k) and k != "baseImageUri"
    }
    if container.get("env"):
        out["env"] = []
        for env in container["env"]:
            reference = env.get("valueSource", {}).get("secretKeyRef")
            if reference:
                key = {"key": reference.get("version") or "latest", "name": names[reference["secret"]]}
                out["env"].append({"name": env["name"], "valueFrom": {"secretKeyRef": key}})
            else:
                out["env"].append({"name": env["name"]} | ({"value": env["value"]} if env.get("value") else {}))
    if limits := container.get("resources", {}).get("limits"):
        out["resources"] = {"limits": dict(limits)}
    if mounts := [dict(m) for m in container.get("volumeMounts", ()) if m.get("name") not in sql]:
        out["volumeMounts"] = mounts
    return out


def _volume_out(volume: Doc, names: dict[str, str]) -> Doc:
    out: Doc = {"name": volume["name"]}
    if secret := volume.get("secret"):
        out["secret"] = {"secretName": names[secret["secret"]]} | {
            k: secret[k] for k in ("defaultMode",) if k in secret
        }
        if secret.get("items"):
            out["secret"]["items"] = [
                {"key": i.get("version") or "latest", "path": i.get("path", "")}
                | {k: i[k] for k in ("mode",) if k in i}
                for i in secret["items"]
            ]
    elif "emptyDir" in volume:
        out["emptyDir"] = {k: v.capitalize() if k == "medium" else v for k, v in volume["emptyDir"].items()}
    elif gcs := volume.get("gcs"):
        attributes = {"bucketName": gcs["bucket"]}
        if gcs.get("mountOptions"):
            attributes["mountOptions"] = ",".join(gcs["mountOptions"])
        out["csi"] = {"driver": _GCS, "volumeAttributes": attributes} | (
            {"readOnly": True} if gcs.get("readOnly") else {}
        )
    else:
        out |= {k: volume[k] for k in ("nfs", "filestore") if k in volume}
    return out


def traffic(targets: list[Doc]) -> list[Doc]:
    """TrafficTargets of a service's declaration."""
    return [
        (
            {"latestRevision": True}
            if target.get("type") == defaults.LATEST
            else {"revisionName": target.get("revision", "")}
        )
        | {k: target[k] for k in ("percent", "tag") if target.get(k)}
        for target in targets
    ]
