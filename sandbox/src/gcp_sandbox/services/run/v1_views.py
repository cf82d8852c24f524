"""Cloud Run's resources as the v1 API shows them: views of what is stored in the v2 API's shape.

https://cloud.google.com/run/docs/reference/rest/v1/namespaces.services
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from typing import Any

from gcp_sandbox.core import projects
from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.services.run import defaults, names, v1_fields
from gcp_sandbox.services.run import v1_annotations as notes
from gcp_sandbox.services.run.resources import DONE, FAILED

Doc = dict[str, Any]
SERVING, RUN = "serving.knative.dev/v1", "run.googleapis.com/v1"
_STATES = {DONE: "True", FAILED: "False"}
# Conditions that say something without deciding whether the resource is ready.
_INFO = {"Active", "Retry"}
# Service, job, … -> (its collection, the API's group)
KINDS = {
    "Service": ("services", SERVING),
    "Revision": ("revisions", SERVING),
    "Configuration": ("configurations", SERVING),
    "Route": ("routes", SERVING),
    "Job": ("jobs", RUN),
    "Execution": ("executions", RUN),
    "Task": ("tasks", RUN),
}


def version(doc: Doc) -> str:
    """resourceVersion: it changes whenever the etag does."""
    return base64.urlsafe_b64encode(hashlib.sha256(doc["etag"].encode()).digest()[:8]).decode().rstrip("=")


def conditions(found: list[Doc]) -> list[Doc]:
    """Conditions, the one that decides first."""
    out = []
    for each in found:
        shown = {"type": each["type"], "status": _STATES.get(each.get("state", ""), "Unknown")}
        reason = next((each[k] for k in ("reason", "revisionReason", "executionReason") if each.get(k)), "")
        if reason:
            shown["reason"] = "".join(word.capitalize() for word in reason.split("_"))
        shown |= {k: each[k] for k in ("message", "lastTransitionTime") if each.get(k)}
        out.append(shown | ({"severity": "Info"} if each["type"] in _INFO else {}))
    return out


class Views:
    """The views of one project's resources."""

    def __init__(self, cloud: Cloud, project: Doc) -> None:
        self._cloud, self._number = cloud, project["projectNumber"]
        self._own = frozenset({project["projectId"], project["projectNumber"]})

    def of(self, kind: str, doc: Doc) -> Doc:
        """A stored document as a kind of resource ("Service", "Route", …)."""
        view: Callable[[Doc], Doc] = getattr(self, f"_{kind.lower()}")
        return {"apiVersion": KINDS[kind][1], "kind": kind} | view(doc)

    def _meta(self, kind: str, doc: Doc, labels: Doc, annotations: Doc) -> Doc:
        collection, group = KINDS[kind]
        name = doc["name"].rsplit("/", 1)[-1]
        labels = labels | {"cloud.googleapis.com/location": names.parts(doc["name"])["locations"]}
        out = {
            "name": name,
            "namespace": self._number,
            "uid": doc["uid"],
            "resourceVersion": version(doc),
            "selfLink": f"/apis/{group}/namespaces/{self._number}/{collection}/{name}",
            "generation": int(doc["generation"]),
            "creationTimestamp": doc["createTime"],
            "labels": dict(sorted(labels.items())),
            "annotations": dict(sorted(annotations.items())),
        }
        if doc.get("deleteTime"):
            out["deletionTimestamp"] = doc["deleteTime"]
        return {k: v for k, v in out.items() if v != {}}

    @staticmethod
    def _status(doc: Doc, found: list[Doc]) -> Doc:
        out: Doc = {"conditions": conditions(found)}
        if doc.get("observedGeneration"):
            out["observedGeneration"] = int(doc["observedGeneration"])
        return out

    @staticmethod
    def _owner(kind: str, name: str, uid: str) -> list[Doc]:
        return [
            {
                "apiVersion": KINDS[kind][1],
                "kind": kind,
                "name": name,
                "uid": uid,
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ]

    @staticmethod
    def _kept(doc: Doc, part: str) -> Doc:
        return doc.get("_v1", {}).get(part, {})

    @staticmethod
    def _operation(doc: Doc) -> Doc:
        last = doc.get("_v1", {})
        if last.get("operation") and last.get("generation") == doc["generation"]:
            return {"run.googleapis.com/operation-id": last["operation"]}
        return {}

    # -- services ------------------------------------------------------------

    def _service(self, doc: Doc) -> Doc:
        annotations = v1_fields.top_notes(doc, self._kept(doc, "metadata"), notes.SERVICE) | self._operation(doc)
        if not doc.get("reconciling") and "run.googleapis.com/ingress" in annotations:
            annotations["run.googleapis.com/ingress-status"] = annotations["run.googleapis.com/ingress"]
        if doc.get("urls") and not doc.get("defaultUriDisabled"):
            annotations["run.googleapis.com/urls"] = json.dumps(doc["urls"], separators=(",", ":"))
        annotations |= {
            "serving.knative.dev/creator": doc["creator"],
            "serving.knative.dev/lastModifier": doc["lastModifier"],
        }
        status = self._status(
            doc, [doc["terminalCondition"], *sorted(doc.get("conditions", []), key=lambda c: c["type"])]
        )
        return {
            "metadata": self._meta("Service", doc, doc.get("labels", {}), annotations),
            "spec": {"template": self._template(doc), "traffic": v1_fields.traffic(doc["traffic"])},
            "status": status | self._revisions(doc) | self._addresses(doc),
        }

    def _template(self, doc: Doc) -> Doc:
        template, kept = doc["template"], self._kept(doc, "template")
        meta: Doc = {"name": template["revision"]} if template.get("revision") else {}
        meta["labels"] = v1_fields.template_labels(template)
        meta["annotations"] = dict(sorted(v1_fields.template_notes(template, kept, self._own).items()))
        return {
            "metadata": {k: v for k, v in meta.items() if v},
            "spec": v1_fields.template_spec(template, kept, self._own),
        }

    @staticmethod
    def _revisions(doc: Doc) -> Doc:
        both = {"latestCreatedRevisionName": "latestCreatedRevision", "latestReadyRevisionName": "latestReadyRevision"}
        return {name: doc[field].rsplit("/", 1)[-1] for name, field in both.items() if doc.get(field)}

    @staticmethod
    def _addresses(doc: Doc) -> Doc:
        out: Doc = {}
        if doc.get("uri") and not doc.get("defaultUriDisabled"):
            out = {"url": doc["uri"], "address": {"url": doc["uri"]}}
        traffic = []
        for route, shown in zip(doc.get("_routes", ()), doc.get("trafficStatuses", ()), strict=False):
            target = {"revisionName": route["revision"].rsplit("/", 1)[-1]}
            target |= {k: shown[k] for k in ("percent", "tag") if shown.get(k)}
            target |= {"latestRevision": True} if shown.get("type") == defaults.LATEST else {}
            traffic.append(target | ({"url": shown["uri"]} if shown.get("uri") else {}))
        return out | ({"traffic": traffic} if traffic else {})

    def _part(self, kind: str, doc: Doc, condition: str) -> Doc:
        """What the configuration and the route of a service have in common."""
        labels = dict(doc.get("labels", {})) | {
            "serving.knative.dev/service": names.parts(doc["name"])["services"],
            "serving.knative.dev/serviceUid": doc["uid"],
        }
        authors = {
            "serving.knative.dev/creator": doc["creator"],
            "serving.knative.dev/lastModifier": doc["lastModifier"],
        }
        meta = self._meta(kind, doc, labels, authors)
        meta["ownerReferences"] = self._owner("Service", meta["name"], doc["uid"])
        found = next((c for c in doc.get("conditions", ()) if c["type"] == condition), doc["terminalCondition"])
        return {"metadata": meta, "status": self._status(doc, [found | {"type": "Ready"}])}

    def _configuration(self, doc: Doc) -> Doc:
        out = self._part("Configuration", doc, "ConfigurationsReady")
        out["status"] |= self._revisions(doc)
        return {"metadata": out["metadata"], "spec": {"template": self._template(doc)}, "status": out["status"]}

    def _route(self, doc: Doc) -> Doc:
        out = self._part("Route", doc, "RoutesReady")
        out["status"] |= self._addresses(doc)
        return {
            "metadata": out["metadata"],
            "spec": {"traffic": v1_fields.traffic(doc["traffic"])},
            "status": out["status"],
        }

    def _revision(self, doc: Doc) -> Doc:
        name, kept = names.parts(doc["name"]), self._kept(doc, "template")
        owner = self._cloud.store.peek("run.services", doc["name"].partition("/revisions/")[0]) or {"uid": ""}
        labels = v1_fields.template_labels(doc) | {
            "serving.knative.dev/configuration": name["services"],
            "serving.knative.dev/route": name["services"],
            "serving.knative.dev/service": name["services"],
            "serving.knative.dev/serviceUid": owner["uid"],
            "serving.knative.dev/configurationGeneration": doc.get("_configuration", "1"),
        }
        annotations = v1_fields.template_notes(doc, kept, self._own) | {"serving.knative.dev/creator": doc["creator"]}
        meta = self._meta("Revision", doc, labels, annotations)
        meta["ownerReferences"] = self._owner("Configuration", name["services"], owner["uid"])
        found = doc["conditions"]
        if owner.get("_routes") and all(route["revision"] != doc["name"] for route in owner["_routes"]):
            retired = {"state": FAILED, "reason": "RETIRED", "message": "Revision retired."}
            found = [c | retired if c["type"] == "Active" else c for c in found]
        status = self._status(doc, found) | {"logUrl": doc["logUri"]}
        if doc.get("containerStatuses"):
            status |= {
                "imageDigest": doc["containerStatuses"][0]["imageDigest"],
                "containerStatuses": doc["containerStatuses"],
            }
        if minimum := doc.get("scaling", {}).get("minInstanceCount"):
            status["desiredReplicas"] = minimum
        return {"metadata": meta, "spec": v1_fields.template_spec(doc, kept, self._own), "status": status}

    # -- jobs ----------------------------------------------------------------

    def _job(self, doc: Doc) -> Doc:
        kept = self._kept(doc, "template")
        annotations = (
            v1_fields.top_notes(doc, self._kept(doc, "metadata"), notes.JOB)
            | self._operation(doc)
            | {"run.googleapis.com/creator": doc["creator"], "run.googleapis.com/lastModifier": doc["lastModifier"]}
        )
        execution = doc["template"]
        meta = {
            "labels": dict(execution.get("labels", {})),
            "annotations": v1_fields.task_notes(execution, kept, self._own),
        }
        status = self._status(doc, [doc["terminalCondition"], *doc.get("conditions", [])])
        if doc.get("executionCount"):
            status["executionCount"] = doc["executionCount"]
        if latest := doc.get("latestCreatedExecution"):
            shown = {
                "name": "name",
                "createTime": "creationTimestamp",
                "completionTime": "completionTimestamp",
                "completionStatus": "completionStatus",
            }
            status["latestCreatedExecution"] = {shown[k]: v for k, v in latest.items() if k in shown}
        template = {"metadata": {k: v for k, v in meta.items() if v}, "spec": self._execution_spec(execution, kept)}
        return {
            "metadata": self._meta(
                "Job",
                doc,
                doc.get("labels", {}) | {"run.googleapis.com/lastUpdatedTime": doc["updateTime"]},
                annotations,
            ),
            "spec": {k: doc[k] for k in ("runExecutionToken", "startExecutionToken") if k in doc}
            | {"template": template},
            "status": status,
        }

    def _execution_spec(self, execution: Doc, kept: Doc) -> Doc:
        out = {k: execution[k] for k in ("parallelism", "taskCount") if execution.get(k)}
        return out | {"template": {"spec": v1_fields.task_spec(execution["template"], kept, self._own)}}

    def _of_job(self, doc: Doc) -> Doc:
        """Labels of an execution or task."""
        job = self._cloud.store.peek("run.jobs", doc["name"].partition("/executions/")[0])
        out = dict(doc.get("labels", {})) | {"run.googleapis.com/job": doc["job"]}
        if job is None:
            return out
        return out | {
            "run.googleapis.com/jobUid": job["uid"],
            "run.googleapis.com/jobGeneration": job["generation"],
            "run.googleapis.com/jobResourceVersion": version(job),
        }

    def _execution(self, doc: Doc) -> Doc:
        labels = self._of_job(doc)
        annotations = v1_fields.task_notes(doc, {}, self._own) | {"run.googleapis.com/creator": doc["creator"]}
        meta = self._meta("Execution", doc, labels, annotations)
        meta["ownerReferences"] = self._owner("Job", doc["job"], labels.get("run.googleapis.com/jobUid", ""))
        found = list(doc["conditions"])
        if doc.get("startTime") and len(found) == 1:
            begun = {"state": DONE, "lastTransitionTime": doc["startTime"]}
            found += [begun | {"type": kind} for kind in ("ResourcesAvailable", "Started", "ContainerReady")]
        status = self._status(doc, found) | {
            k: doc[k]
            for k in (
                "startTime",
                "completionTime",
                "runningCount",
                "succeededCount",
                "failedCount",
                "cancelledCount",
                "retriedCount",
                "logUri",
            )
            if doc.get(k)
        }
        return {"metadata": meta, "spec": self._execution_spec(doc, {}), "status": status}

    def _task(self, doc: Doc) -> Doc:
        execution = self._cloud.store.peek("run.executions", doc["name"].partition("/tasks/")[0]) or {"uid": ""}
        done = doc["conditions"][0]
        state = {DONE: "Succeeded", FAILED: "Cancelled" if execution.get("_cancel") else "Failed"}.get(
            done["state"], "Running"
        )
        labels = self._of_job(doc) | {
            "run.googleapis.com/execution": doc["execution"],
            "run.googleapis.com/executionUid": execution["uid"],
            "run.googleapis.com/runningState": state,
            "run.googleapis.com/taskIndex": str(doc["index"]),
        }
        meta = self._meta("Task", doc, labels, v1_fields.task_notes({"template": doc}, {}, self._own))
        meta["ownerReferences"] = self._owner("Execution", doc["execution"], execution["uid"])
        found = [*doc["conditions"], done | {"type": "Started", "state": DONE, "message": ""}]
        status = self._status(doc, found) | {
            k: doc[k]
            for k in ("index", "startTime", "completionTime", "retried", "lastAttemptResult", "logUri")
            if k in doc
        }
        return {"metadata": meta, "spec": v1_fields.task_spec(doc, {}, self._own), "status": status}


def views(cloud: Cloud, project_id: str) -> Views:
    """The views of a project's resources."""
    project = projects.find(cloud, project_id)
    assert project is not None
    return Views(cloud, project)
