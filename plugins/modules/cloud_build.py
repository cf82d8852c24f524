#!/usr/bin/python
# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# plugins/action/cloud_build.py runs it, and shows the lines of the log as they arrive.

from __future__ import annotations

DOCUMENTATION = r"""
module: cloud_build
short_description: Build a container image with Cloud Build, unless it has been built already
description:
  - Uploads a folder with a Containerfile as an archive to a bucket, lets Cloud Build build and push the image, and waits for it. The
    lines of the build's log are shown as they arrive; those of a failed build are the error.
  - The tag of the image is a hash of the source. If the repository has an image with this tag, nothing is built. Neither the times
    and owners of the files count, nor the order in which they are listed.
  - A build of the same source that is still running, for example because an earlier run was interrupted, is followed to its end
    instead of starting another one.
  - A build that fails because of an internal error of Cloud Build is repeated, up to three times in all.
  - In check mode, the image is returned by its tag if it would have to be built.
  - C(google.cloud.gcp_cloudbuild_trigger) manages triggers; C(google.cloud) has no module that builds.
version_added: 0.1.0
author:
  - mlops.mlflow_gcp contributors (@mlops)
extends_documentation_fragment:
  - google.cloud.gcp
  - mlops.mlflow_gcp.auth
  - mlops.mlflow_gcp.attributes
options:
  source:
    description:
      - Folder with a C(Containerfile) or C(Dockerfile), on the host where the module runs. By default, the server's image that is part of this
        collection, which requires C(connection=local).
      - C(.git), C(__pycache__), C(*.egg-info), C(.venv) and the like are left out.
    type: path
  extra_packages:
    description:
      - Python packages that the image has in addition, each with its version, such as V(boto3==1.42.0).
      - They are listed in the archive's file C(extra-requirements.txt), which the Containerfile must install.
    type: list
    elements: str
    default: []
  repository:
    description: Resource name of the repository of Artifact Registry, V(projects/PROJECT/locations/LOCATION/repositories/NAME).
    type: str
    required: true
  name:
    description: Name of the image in the repository.
    type: str
    required: true
  bucket:
    description: Bucket for the archive.
    type: str
    required: true
  service_account:
    description:
      - E-mail address of the service account that the build runs as. It needs C(roles/logging.logWriter) on the project,
        C(roles/artifactregistry.writer) on the repository and C(roles/storage.objectViewer) on the bucket.
    type: str
    required: true
  region:
    description: Region in which the build runs, or V(global).
    type: str
    default: global
  builder:
    description: Image of the builder that runs C(docker build).
    type: str
    default: gcr.io/cloud-builders/docker
  build_timeout_seconds:
    description: Seconds after which Cloud Build stops the build.
    type: int
    default: 3600
  log_file:
    description: File to which every line of the log is appended as it arrives.
    type: path
  timeout:
    description: Seconds to wait for the build. It goes on after that, and the next run waits for it again.
    type: int
    default: 7200
seealso:
  - name: Builds
    description: The API.
    link: https://cloud.google.com/build/docs/api/reference/rest/v1/projects.builds
"""

EXAMPLES = r"""
- name: Build the server's image, unless this source has been built already
  mlops.mlflow_gcp.cloud_build:
    project: my-project
    auth_kind: application
    repository: projects/my-project/locations/europe-west2/repositories/mlflow
    name: server
    bucket: my-project-mlflow-source
    service_account: mlflow-build@my-project.iam.gserviceaccount.com
  register: server

- name: Build an image of one's own
  mlops.mlflow_gcp.cloud_build:
    project: my-project
    auth_kind: application
    source: /srv/mlflow-image
    extra_packages:
      - boto3==1.42.0
    repository: projects/my-project/locations/europe-west2/repositories/mlflow
    name: server
    bucket: my-project-mlflow-source
    service_account: mlflow-build@my-project.iam.gserviceaccount.com
"""

RETURN = r"""
image:
  description: Reference of the image by digest; in check mode by its tag if it would have to be built.
  returned: success
  type: str
  sample: europe-west2-docker.pkg.dev/my-project/mlflow/server@sha256:6c3c624b58dbbcd3c0dd82b4c53f04194d1247c6eebdaab7c610cf7d66709b3b
digest:
  description: Digest of the image; empty in check mode if it would have to be built.
  returned: success
  type: str
  sample: sha256:6c3c624b58dbbcd3c0dd82b4c53f04194d1247c6eebdaab7c610cf7d66709b3b
tag:
  description: Tag of the image, a hash of its source.
  returned: success
  type: str
  sample: source-1f3870be274f6c49
build:
  description: ID of the build; empty if there was none.
  returned: always
  type: str
  sample: 5b4e7a5a-2c4b-4b0e-9d1a-3c2f1f0e9a77
log:
  description: Lines of the build's log.
  returned: success
  type: list
  elements: str
  sample: ["Step 1/12 : FROM docker.io/library/python:3.13-slim"]
log_url:
  description: URL of the build in the console; empty if there was none.
  returned: always
  type: str
  sample: https://console.cloud.google.com/cloud-build/builds/5b4e7a5a-2c4b-4b0e-9d1a-3c2f1f0e9a77?project=123456789012
"""

import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import operations, registry, values
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import ApiError, GcpError, InvalidInput
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import UNKNOWN, Task, run
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.source import Archive

BUILDS = "https://cloudbuild.googleapis.com/v1/projects/{project}/locations/{region}/builds"
LOGGING = "https://logging.googleapis.com/v2/entries:list"
UPLOAD = "https://storage.googleapis.com/upload/storage/v1/b/{bucket}/o"
RUNNING = ("STATUS_UNKNOWN", "PENDING", "QUEUED", "WORKING")
# Lines of a failed build that are in the error.
LAST_LINES = 5
# Seconds that lines may take to appear in Cloud Logging.
LOG_TIMEOUT = 20
# Seconds that the grants of a new service account may take.
GRANT_TIMEOUT = 300
HASH_LENGTH = 16
# What Cloud Build's own last line begins with.
LAST_WORDS = ("DONE", "ERROR", "TIMEOUT", "CANCELLED")
# Lines of docker build that tell nothing about a failure.
NOISE = re.compile(r" *--->|Removing intermediate container")
OTHER_REGION = "build in another region or in global (variable image_build_region)"


class Log:
    """The log of a build in Cloud Logging, in which lines may appear late."""

    def __init__(self, task: Task, build: dict[str, Any]) -> None:
        self.task = task
        self.lines: list[str] = []
        self._file = Path(task.params["log_file"]) if task.params["log_file"] else None
        self._known: set[str] = set()
        self._readable = True
        self._query = {
            "resourceNames": [f"projects/{task.project}"],
            "orderBy": "timestamp asc",
            "pageSize": 1000,
            "filter": f'resource.type="build" AND resource.labels.build_id="{build["id"]}" AND '
            f'timestamp>="{build["createTime"]}"',
        }

    def read(self) -> None:
        """
        Add the lines that have arrived since the last time; after an error only warn, once.
        https://cloud.google.com/logging/docs/reference/v2/rest/v2/entries/list
        """
        if not self._readable:
            return
        page: dict[str, Any] = {"nextPageToken": ""}
        try:
            with self.task.client.action("read the build's log"):
                while "nextPageToken" in page:
                    token = {"pageToken": page["nextPageToken"]} if page["nextPageToken"] else {}
                    page = self.task.client.post(LOGGING, self._query | token, idempotent=True)
                    self._add([entry for entry in page.get("entries") or () if entry["insertId"] not in self._known])
        except ApiError as error:
            self._readable = False
            self.task.warn(str(error))

    def finish(self) -> None:
        """Add the lines that arrive after the end of the build."""

        def is_complete(_read: None) -> bool:
            return not self._readable or any(line.startswith(LAST_WORDS) for line in self.lines[-1:])

        if is_complete(None):
            return
        with suppress(operations.OperationTimeout):
            operations.poll(self.read, is_complete, timeout=LOG_TIMEOUT, action="read the build's log")

    def _add(self, entries: list[dict[str, Any]]) -> None:
        self._known.update(entry["insertId"] for entry in entries)
        lines = [str(entry.get("textPayload", "")) for entry in entries]
        self.lines += lines
        if self._file and lines:
            with self._file.open("a", encoding="utf-8") as out:
                out.write("".join(f"{line}\n" for line in lines))


class Build:
    """One image, and its builds."""

    def __init__(self, task: Task) -> None:
        self.task, self.client, params = task, task.client, task.params
        if not params["source"]:
            raise InvalidInput("source", params["source"], "give the path of a folder with a Containerfile")
        try:
            self.archive = Archive(Path(params["source"]).resolve(), params["extra_packages"])
        except GcpError as error:
            raise InvalidInput("source", params["source"], str(error)) from None
        self.tag = f"source-{self.archive.digest[:HASH_LENGTH]}"
        self.name = f"{registry.repository_reference(params['repository'])}/{params['name']}"
        self.reference = f"{self.name}:{self.tag}"
        self.url = BUILDS.format(project=task.project, region=params["region"])

    @property
    def body(self) -> dict[str, Any]:
        """https://cloud.google.com/build/docs/api/reference/rest/v1/projects.builds#resource:-build"""
        params = self.task.params
        arguments = ["build", "--tag", self.reference, "--file", self.archive.containerfile, "."]
        return {
            "source": {"storageSource": {"bucket": params["bucket"], "object": self.object}},
            "steps": [{"name": params["builder"], "args": arguments}],
            "images": [self.reference],
            "tags": [self.tag],
            "serviceAccount": f"projects/{self.task.project}/serviceAccounts/{params['service_account']}",
            # An account of one's own cannot write to Google's bucket for logs.
            "options": {"logging": "CLOUD_LOGGING_ONLY"},
            "timeout": f"{params['build_timeout_seconds']}s",
        }

    @property
    def object(self) -> str:
        """The name of the archive in the bucket."""
        return f"{self.task.params['name']}/{self.archive.digest}.tar.gz"

    def existing(self) -> str | None:
        """The digest of the image, None if it has not been built."""
        image = registry.Image(self.name, self.task.params["repository"], self.task.params["name"], self.tag, "")
        return self.task.read(f"image {self.reference}", lambda: image.find(self.client))

    def upload(self) -> None:
        """https://cloud.google.com/storage/docs/json_api/v1/objects/insert"""
        url = UPLOAD.format(bucket=self.task.params["bucket"])
        query = {"uploadType": "media", "name": self.object, "ifGenerationMatch": "0"}
        with self.client.action(f"upload the source to bucket {self.task.params['bucket']}"):
            try:
                self.client.upload(url, self.archive.content, params=query, content_type="application/gzip")
            except ApiError as error:
                # It has been uploaded by an earlier run, and its name says what is in it.
                if error.status != 412:
                    raise

    def builds(self) -> list[dict[str, Any]]:
        """The builds of this source, the newest first."""
        found = self.client.items(self.url, "builds", params={"filter": f'tags="{self.tag}"'})
        return [build for build in found if self.reference in (build.get("images") or ())]

    def start(self) -> dict[str, Any]:
        """A build of this source: the one that is running, or a new one."""
        with self.client.action(f"build image {self.reference}"):
            before = self.builds()
            for build in before:
                if build.get("status") in RUNNING:
                    return build
            known = {build["id"] for build in before}

            def created() -> dict[str, Any] | None:
                new = next((build for build in self.builds() if build["id"] not in known), None)
                return {"metadata": {"build": new}} if new else None

            try:
                operation = self.client.retry(
                    lambda: self.client.post_once(self.url, self.body, created), _may_pass, timeout=GRANT_TIMEOUT
                )
            except ApiError as error:
                raise self.explained(error) from None
        return operation["metadata"]["build"]

    def explained(self, error: ApiError) -> GcpError:
        """The refusal of a build, with what to do."""
        if "due to quota restrictions" in error.message:
            return GcpError(f"{str(error).rstrip('.')}. Projects may not build in every region: {OTHER_REGION}")
        return error

    def follow(self, build: dict[str, Any]) -> tuple[dict[str, Any], Log]:
        """The build when it has ended, and its log."""
        log, url = Log(self.task, build), f"{self.url}/{build['id']}"
        action, timeout = f"build image {self.reference}", self.task.params["timeout"]

        def read() -> dict[str, Any]:
            found = self.client.get(url)
            log.read()
            return found

        with self.client.action(action):
            try:
                build = operations.poll(
                    read, lambda found: found.get("status") not in RUNNING, timeout=timeout, action=action
                )
            except operations.OperationTimeout:
                raise operations.OperationTimeout(
                    f"Cannot {action} within {timeout} s: build {build['id']} is still running. It continues at Google: run again to see "
                    f"its result. Log: {build.get('logUrl')}"
                ) from None
            log.finish()
        return build, log

    def failed(self, build: dict[str, Any], log: Log) -> str:
        """What a build failed with: the last lines of its log, or what Cloud Build says."""
        lines = [line for line in log.lines if line.strip() and line not in LAST_WORDS and not NOISE.match(line)]
        detail = str(build.get("statusDetail") or (build.get("failureInfo") or {}).get("detail") or "")
        reason = " / ".join(lines[-LAST_LINES:]) or detail
        return f"Cannot build image {self.reference}: {build['status']}: {reason}. Log: {build.get('logUrl')}"

    def result(self, changed: bool, digest: str, build: dict[str, Any], lines: list[str]) -> dict[str, Any]:
        """The result of the module."""
        image = f"{self.name}@{digest}" if digest not in ("", UNKNOWN) else self.reference
        return self.task.result(
            label=f"image {self.reference}",
            changed=changed,
            before={} if changed else {"image": image},
            after={"image": image},
            image=image,
            digest=digest,
            tag=self.tag,
            build=build.get("id", ""),
            log=lines,
            log_url=build.get("logUrl", ""),
        )


def _may_pass(error: ApiError) -> bool:
    """Whether Google does not know yet that the service account may read the source, or that the caller may act as it."""
    return ("could not resolve source" in error.message and "403" in error.message) or error.propagating


def build(task: Task) -> dict[str, Any]:
    """The work of the module."""
    image = Build(task)
    digest = image.existing()
    if digest or task.check_mode:
        return image.result(not digest, task.known(digest or ""), {}, [])
    image.upload()
    for attempt in range(1, operations.ATTEMPTS + 1):
        ended, log = image.follow(image.start())
        if ended.get("status") != "INTERNAL_ERROR" or attempt == operations.ATTEMPTS:
            break
        task.warn(image.failed(ended, log) + " It is built again")
    if ended.get("status") != "SUCCESS":
        task.module.fail_json(
            msg=str(GcpError(image.failed(ended, log))),
            build=ended["id"],
            log=log.lines,
            log_url=ended.get("logUrl", ""),
        )
    pushed = (ended.get("results") or {}).get("images") or []
    digest = next((entry["digest"] for entry in pushed if entry["name"] == image.reference), None)
    return image.result(True, digest or image.existing() or "", ended, log.lines)


def main() -> None:
    run(
        build,
        argument_spec={
            "source": {"type": "path"},
            "extra_packages": {"type": "list", "elements": "str", "default": [], "kind": values.PACKAGES},
            "repository": {"type": "str", "required": True, "kind": values.REPOSITORY},
            "name": {"type": "str", "required": True, "kind": values.NAME},
            "bucket": {"type": "str", "required": True, "kind": values.BUCKET_NAME},
            "service_account": {"type": "str", "required": True, "kind": values.EMAIL},
            "region": {"type": "str", "default": "global", "kind": values.BUILD_REGION},
            "builder": {"type": "str", "default": "gcr.io/cloud-builders/docker", "kind": values.IMAGE},
            "build_timeout_seconds": {"type": "int", "default": 3600, "kind": values.BUILD_TIMEOUT},
            "log_file": {"type": "path"},
            "timeout": {"type": "int", "default": 7200},
        },
    )


if __name__ == "__main__":
    main()
