#!/usr/bin/python
# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: artifact_registry_image
short_description: Find the digest of an image in Artifact Registry, and tag the image
description:
  - Looks up which image a tag stands for, and returns the reference with its digest, which always means the same image.
  - With O(tags), lets these tags stand for the image.
  - An image of another registry, or one that the caller may not read, is returned as given, with a warning. Cloud Run looks up the
    digest of a tag when it makes a revision, and keeps it for that revision.
  - C(google.cloud) has no module for this.
version_added: 0.1.0
author:
  - mlops.mlflow_gcp contributors (@mlops)
extends_documentation_fragment:
  - google.cloud.gcp
  - mlops.mlflow_gcp.auth
  - mlops.mlflow_gcp.attributes
options:
  image:
    description: Reference of the image, with a tag, a digest or both. Without either, the tag is V(latest).
    type: str
    required: true
  tags:
    description: Tags that stand for the image. They are moved if they stand for another one.
    type: list
    elements: str
    default: []
seealso:
  - name: Tags
    description: The API.
    link: https://cloud.google.com/artifact-registry/docs/reference/rest/v1/projects.locations.repositories.packages.tags
"""

EXAMPLES = r"""
- name: Find out which image a tag stands for
  mlops.mlflow_gcp.artifact_registry_image:
    project: my-project
    auth_kind: application
    image: europe-west2-docker.pkg.dev/my-project/mlflow/server:3.17.2
  register: server

- name: Show its digest
  ansible.builtin.debug:
    var: server.image

- name: Keep it, whatever the cleanup policies of the repository delete
  mlops.mlflow_gcp.artifact_registry_image:
    project: my-project
    auth_kind: application
    image: "{{ server.image }}"
    tags: [deployed-mlflow]
"""

RETURN = r"""
image:
  description: Reference of the image by digest; as given if the digest could not be found out.
  returned: success
  type: str
  sample: europe-west2-docker.pkg.dev/my-project/mlflow/server@sha256:6c3c624b58dbbcd3c0dd82b4c53f04194d1247c6eebdaab7c610cf7d66709b3b
digest:
  description: The digest; empty if it could not be found out.
  returned: success
  type: str
  sample: sha256:6c3c624b58dbbcd3c0dd82b4c53f04194d1247c6eebdaab7c610cf7d66709b3b
"""

from functools import partial
from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import values
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import ApiError, GcpError
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import UNKNOWN, Task, run
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.registry import Image, body_of


def may_be_built(task: Task) -> bool:
    """Whether the real run may have built the image by now: tags are given for what was built."""
    return task.check_mode and bool(task.params["tags"])


def digest_of(task: Task, image: Image) -> str:
    """The digest of an image, "" and a warning if it cannot be found out; raises GcpError if there is no such image."""
    reference = task.params["image"]
    try:
        with task.client.action(f"read image {reference}"):
            digest = image.find(task.client)
    except ApiError as error:
        if error.status != 403:
            raise
        if error.disabled and may_be_built(task):
            return UNKNOWN
        task.warn(f"The digest of image {reference} was not looked up: {error.message}")
        return image.digest
    if digest is None and may_be_built(task):
        return UNKNOWN
    if digest is None:
        raise GcpError(
            f"Cannot use image {reference}: repository {image.repository} has no {image.package} with "
            f"{f'digest {image.digest}' if image.digest else f'tag {image.tag}'}. Correct the reference, or build the image"
        )
    return digest


def tag(task: Task, image: Image, digest: str) -> list[str]:
    """Let the tags of option tags stand for DIGEST; those that were changed."""
    wanted, changed = body_of(image, digest), []
    for name in task.params["tags"]:
        url = f"{image.url}/tags/{name}"
        live = task.read(f"tag {name} of image {image.name}", partial(task.client.find, url))
        if live and live.get("version") == wanted["version"]:
            continue
        changed.append(name)
        if task.check_mode:
            continue
        with task.client.action(f"tag image {image.name} with {name}"):
            if live:
                task.client.request("PATCH", url, wanted, params={"updateMask": "version"})
            else:
                # Idempotent because the name is given.
                try:
                    task.client.post(f"{image.url}/tags", wanted, params={"tagId": name}, idempotent=True)
                except ApiError as error:
                    if error.status != 409:
                        raise
                    task.client.request("PATCH", url, wanted, params={"updateMask": "version"})
    return changed


def find(task: Task) -> dict[str, Any]:
    """The work of the module."""
    reference = task.params["image"]
    label = f"tags of image {reference}"
    image = Image.parse(reference)
    if image is None:
        task.warn(f"The digest of image {reference} was not looked up: it is not in Artifact Registry")
        return task.result(label=label, changed=False, before={}, after={}, image=reference, digest="")
    digest = digest_of(task, image)
    if not digest:
        return task.result(label=label, changed=False, before={}, after={}, image=reference, digest="")
    changed = tag(task, image, digest)
    after = {"tags": sorted(task.params["tags"])}
    before = {"tags": sorted(set(task.params["tags"]) - set(changed))}
    pinned = reference if digest == UNKNOWN else image.pinned(digest)
    return task.result(label=label, changed=bool(changed), before=before, after=after, image=pinned, digest=digest)


def main() -> None:
    run(
        find,
        argument_spec={
            "image": {"type": "str", "required": True, "kind": values.IMAGE},
            "tags": {"type": "list", "elements": "str", "default": [], "kind": values.IMAGE_TAGS},
        },
    )


if __name__ == "__main__":
    main()
