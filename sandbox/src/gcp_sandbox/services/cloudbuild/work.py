"""A build at work: fetches the source, runs the steps, pushes the images, and writes the log.

https://cloud.google.com/build/docs/overview#how_builds_work
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import tarfile
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from gcp_sandbox.core.auth import Principal
from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.core.iam import project_resource
from gcp_sandbox.core.operations import now
from gcp_sandbox.images import Images
from gcp_sandbox.services.artifactregistry import contents
from gcp_sandbox.services.cloudbuild import builds
from gcp_sandbox.services.cloudbuild.builds import CPUS, CPUS_OF_A_BUILD, ENDED, KIND, SERVICE
from gcp_sandbox.services.cloudbuild.docker import Docker, StepError
from gcp_sandbox.services.storage import content
from gcp_sandbox.services.storage import permissions as storage
from gcp_sandbox.services.storage.common import BUCKETS
from gcp_sandbox.services.storage.objects import Objects, record

Doc = dict[str, Any]
_DOCKER = "gcr.io/cloud-builders/docker"
# Cloud Build repeats a push that is refused.
_PUSHES = 10
_LOGGING = {"CLOUD_LOGGING_ONLY", "STACKDRIVER_ONLY", "LEGACY", "LOGGING_UNSPECIFIED"}
_BUCKET = {"GCS_ONLY", "LEGACY", "LOGGING_UNSPECIFIED"}


class _Cancelled(Exception):
    pass


@SERVICE.action("build")
async def build(cloud: Cloud, op: Doc) -> Doc:
    """The action of a build's operation."""
    work = Work(cloud, op["args"]["key"])
    try:
        await work.run()
    finally:
        work.close()
        op["metadata"] = builds.metadata(work.doc)
    doc = work.doc
    if doc["status"] == "CANCELLED":
        raise ApiError(499, "Build cancelled", status="CANCELLED")
    if doc["status"] != "SUCCESS":
        raise ApiError(500, doc["statusDetail"], status="UNKNOWN")
    return {"@type": "type.googleapis.com/google.devtools.cloudbuild.v1.Build"} | builds.shown(doc)


class Work:
    """One build."""

    def __init__(self, cloud: Cloud, key: str) -> None:
        self._cloud, self._key = cloud, key
        doc = cloud.store.get(KIND, key)
        assert doc
        self.doc: Doc = doc
        self._place = key.split("/")[3]
        self._project: str = doc["projectId"]
        self._principal = Principal(doc["_account"])
        self._log = Log(cloud, doc)
        self._folder = cloud.folder / "builds" / doc["id"]

    def close(self) -> None:
        """Write the rest of the log."""
        self._log.close()

    def _put(self, **fields: Any) -> None:
        current = self._cloud.store.get(KIND, self._key) or {}
        if current.get("status") == "CANCELLED":
            self.doc |= {"status": "CANCELLED", "finishTime": current["finishTime"]}
            raise _Cancelled
        self.doc |= fields
        self._cloud.store.put(KIND, self._key, self.doc)

    async def run(self) -> None:
        """All of it; the result is in the document."""
        try:
            await self._wait()
            self._put(status="WORKING", startTime=now(), timing={})
            async with asyncio.timeout(float(self.doc["timeout"].removesuffix("s"))):
                self._log.write("MAIN", f'starting build "{self.doc["id"]}"')
                if "_fault" in self.doc:
                    self._log.write("MAIN", "ERROR")
                    self._end("INTERNAL_ERROR", detail="Internal error encountered.")
                else:
                    await self._all()
        except _Cancelled:
            self._log.write("MAIN", "CANCELLED")
        except TimeoutError:
            self._log.write("MAIN", "TIMEOUT", "ERROR: context deadline exceeded")
            self._end("TIMEOUT", detail="build timed out")
        except Exception:
            # A defect of the sandbox: whoever waits for the build is told, and the log of the sandbox has the traceback.
            self._end("INTERNAL_ERROR", detail="Internal error encountered.")
            raise
        if self.doc["status"] != "SUCCESS":
            shutil.rmtree(self._folder, ignore_errors=True)

    async def _all(self) -> None:
        try:
            docker = Docker(self._fetch(), _python(self._cloud))
            await self._steps(docker)
            await self._push(docker)
        except _Failed as failure:
            self._log.write("MAIN", "ERROR", f"ERROR: {failure.detail}")
            self._end("FAILURE", type=failure.type, detail=failure.detail)
            return
        self._log.write("MAIN", "DONE")
        self._end("SUCCESS")

    def _end(self, status: str, **failure: str) -> None:
        more: Doc = {"statusDetail": failure["detail"]} if failure else {}
        if "type" in failure:
            more["failureInfo"] = failure
        self._put(status=status, finishTime=now(), **more)

    async def _wait(self) -> None:
        """Wait until the project's quota has room for one more build."""
        while limit := self._cloud.restrictions.quota(CPUS, self._project, self._place):
            if builds.running(self._cloud, self._project, self._place) * CPUS_OF_A_BUILD + CPUS_OF_A_BUILD <= limit[0]:
                break
            self._put()
            await asyncio.sleep(0.1)
        self._put()

    def _span(self, phase: str, start: str) -> None:
        self._put(timing=self.doc["timing"] | {phase: {"startTime": start, "endTime": now()}})

    # -- source ------------------------------------------------------------

    def _fetch(self) -> Path:
        """Unpack the source; its folder."""
        start = now()
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        source = self.doc["sourceProvenance"].get("resolvedStorageSource")
        if source is None:
            return self._folder
        url = f"gs://{source['bucket']}/{source['object']}#{source['generation']}"
        self._log.write("MAIN", "FETCHSOURCE", f"Fetching storage object: {url}", f"Copying {url}...")
        bucket = self._cloud.store.get(BUCKETS, source["bucket"])
        found = Objects(self._cloud, bucket).get(source["object"], source["generation"]) if bucket else None
        if found is None:
            raise _Failed("FETCH_SOURCE_FAILED", f"fetching source: object {url} does not exist")
        try:
            with tarfile.open(content.path_of(self._cloud, found["_blob"])) as archive:
                # Python before 3.11.4 has no filters.
                archive.extraction_filter = getattr(tarfile, "data_filter", lambda member, _path: member)
                archive.extractall(self._folder)
        except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
            raise _Failed("FETCH_SOURCE_FAILED", f"fetching source: unpacking {url}: {error}") from None
        self._log.write("MAIN", f"Operation completed over 1 objects/{int(found['size']) / 1024:.1f} KiB.")
        self._span("FETCHSOURCE", start)
        return self._folder

    # -- steps -------------------------------------------------------------

    async def _steps(self, docker: Docker) -> None:
        start = now()
        self._log.write("MAIN", "BUILD")
        several = len(self.doc["steps"]) > 1
        for number, step in enumerate(self.doc["steps"]):
            label = f"Step #{number}" + (f' - "{step["id"]}"' if step.get("id") else "")
            prefix = f"{label}: " if several else ""
            if several:
                self._log.write(label, f"Starting {label}")
            self._mark(number, status="WORKING", timing={"startTime": now()})
            self._log.write(label, f"{prefix}Already have image (with digest): {step['name']}")
            try:
                async for line in self._run(docker, step):
                    self._log.write(label, prefix + line)
                    self._put()
            except StepError as error:
                self._log.write(label, *(prefix + line for line in error.lines))
                self._mark(number, status="FAILURE", exitCode=error.status)
                named = f' - "{step["id"]}"' if step.get("id") else ""
                raise _Failed(
                    "USER_BUILD_STEP",
                    f'build step {number} "{step["name"]}"{named} failed: step exited with non-zero status: {error.status}',
                ) from None
            if several:
                self._log.write(label, f"Finished {label}")
            self._mark(number, status="SUCCESS")
        self._span("BUILD", start)

    async def _run(self, docker: Docker, step: Doc) -> AsyncIterator[str]:
        name = step["name"].partition("@")[0].removesuffix(":latest")
        if name != _DOCKER or step.get("entrypoint", "docker") != "docker" or step.get("script"):
            raise StepError(f"gcp-sandbox runs only the builder {_DOCKER}", status=127)
        async for line in docker.run(step.get("args", []), step.get("dir", "")):
            yield line

    def _mark(self, number: int, **fields: Any) -> None:
        steps = [dict(step) for step in self.doc["steps"]]
        if "timing" not in fields:
            fields["timing"] = steps[number].get("timing", {}) | {"endTime": now()}
        steps[number] |= fields
        self._put(steps=steps)

    # -- images ------------------------------------------------------------

    async def _push(self, docker: Docker) -> None:
        if not self.doc.get("images"):
            return
        start, pushed = now(), []
        self._log.write("MAIN", "PUSH")
        for image in self.doc["images"]:
            self._log.write("MAIN", f"Pushing {image}", f"The push refers to repository [{image.rpartition(':')[0]}]")
            folder = docker.images.get(image)
            if folder is None:
                self._log.write("MAIN", f"An image does not exist locally with the tag: {image.rpartition(':')[0]}")
                raise _Failed("PUSH_IMAGE_NOT_FOUND", f'error pushing image "{image}": image not found')
            for _ in range(_PUSHES):
                if (refusal := contents.refusal(self._cloud, self._principal, image)) is None:
                    break
                self._log.write("MAIN", refusal)
                await asyncio.sleep(self._pause())
            else:
                self._log.write("MAIN", "ERROR: failed to push because we ran out of retries.")
                raise _Failed(
                    "PUSH_FAILED",
                    f'error pushing image "{image}": retry budget exhausted ({_PUSHES} attempts): step exited with '
                    "non-zero status: 1",
                )
            digest = self._digest(folder)
            Images(self._cloud.folder).push([image], digest, folder, _python(self._cloud))
            contents.clean(self._cloud, image)
            self._log.write("MAIN", f"{image.rpartition(':')[2]}: digest: {digest} size: 1789")
            span = {"startTime": start, "endTime": now()}
            pushed.append({"name": image, "digest": digest, "pushTiming": span})
        results = {"images": pushed, "buildStepImages": [""] * len(self.doc["steps"])}
        self._span("PUSH", start)
        self._put(results=results)

    def _pause(self) -> float:
        """Seconds before a push is repeated: as long as grants take effect late, it is worth waiting."""
        return 1.0 if self._cloud.iam.delay(project_resource(self._project)) else 0.02

    def _digest(self, folder: Path) -> str:
        """The digest of an image: of its content, and of the build, since no two builds are the same to the byte."""
        found = hashlib.sha256(self.doc["id"].encode())
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            found.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes())
        return f"sha256:{found.hexdigest()}"


class _Failed(Exception):
    def __init__(self, type_: str, detail: str) -> None:
        super().__init__(detail)
        self.type, self.detail = type_, detail


def _python(cloud: Cloud) -> Path | None:
    return Path(cloud.settings.image_python) if cloud.settings.image_python else None


class Log:
    """The log of a build: entries of Cloud Logging in a file, and the text in the logs bucket."""

    def __init__(self, cloud: Cloud, doc: Doc) -> None:
        self._cloud, self._doc, self._lines = cloud, doc, [""][:0]
        kind = doc["options"].get("logging", "LEGACY")
        self._principal = Principal(doc["_account"])
        project = project_resource(doc["projectId"])
        self._file: Path | None = None
        if kind in _LOGGING and cloud.iam.allows(self._principal, "logging.logEntries.create", project):
            self._file = cloud.folder / "logs" / "build" / f"{doc['projectId']}.{doc['id']}.jsonl"
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._file.unlink(missing_ok=True)
        elif kind == "CLOUD_LOGGING_ONLY":
            doc["warnings"] = [
                {
                    "text": f"{doc['serviceAccount'].rpartition('/')[2]} does not have permission to write logs to Cloud "
                    "Logging. To fix this, grant the Logs Writer (roles/logging.logWriter) role to the service account.",
                    "priority": "ALERT",
                }
            ]
        self._bucket = doc.get("logsBucket", "").removeprefix("gs://") if kind in _BUCKET else ""

    def write(self, step: str, *lines: str) -> None:
        """Add lines of a step."""
        self._lines += lines
        if self._file is None:
            return
        with self._file.open("a", encoding="utf-8") as out:
            for line in lines:
                out.write(json.dumps({"time": now(), "step": step, "text": line}, separators=(",", ":")) + "\n")

    def close(self) -> None:
        """Write the object with the log, if the build's account may."""
        name, _, prefix = self._bucket.partition("/")
        bucket = self._cloud.store.get(BUCKETS, name) if name else None
        path = f"{prefix.strip('/')}/log-{self._doc['id']}.txt".lstrip("/")
        if bucket is None or not storage.allows(
            self._cloud, self._principal, "storage.objects.create", bucket, name=path
        ):
            return
        blob = content.Blob(self._cloud)
        blob.write("".join(f"{line}\n" for line in self._lines).encode())
        blob.close()
        Objects(self._cloud, bucket).add(
            record(
                bucket,
                path,
                {"contentType": "text/plain"},
                blob=blob.id,
                size=blob.size,
                md5=blob.md5,
                crc32c=blob.crc32c,
            )
        )


__all__ = ["ENDED", "build"]
