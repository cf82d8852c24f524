"""Cloud Run: services whose revisions are real processes, and jobs.  https://cloud.google.com/run/docs/reference/rest"""

from __future__ import annotations

import shutil

from aiohttp import web

from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.services.run import dataplane, jobs, revisions, v1
from gcp_sandbox.services.run.dataplane import serve
from gcp_sandbox.services.run.fleet import fleet
from gcp_sandbox.services.run.resources import SERVICE

__all__ = ["SERVICE", "jobs", "revisions", "serve", "setup", "v1"]


def setup(cloud: Cloud) -> None:
    """Tell the others whose processes are whose."""
    cloud.fault_pages["*.run.app"] = dataplane.fault_page
    cloud.source_of_process = fleet(cloud).instances.source_of


@SERVICE.raw("*.run.app")
async def run_app(cloud: Cloud, request: web.BaseRequest) -> web.StreamResponse:
    """A service's own URL."""
    return await dataplane.run_app(cloud, request)


@SERVICE.starts
async def start(cloud: Cloud) -> None:
    """Bring minimum instances up; all others start at their first request."""
    shutil.rmtree(fleet(cloud).instances.folder, ignore_errors=True)
    for key, _ in cloud.store.list("run.services"):
        fleet(cloud).spawn(revisions.tidy(cloud, key))


@SERVICE.stops
async def stop(cloud: Cloud) -> None:
    """Stop every container."""
    await fleet(cloud).stop()
