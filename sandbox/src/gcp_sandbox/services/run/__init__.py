"""Cloud Run: services whose revisions are real processes, and jobs.  https://cloud.google.com/run/docs/reference/rest"""

from __future__ import annotations

import shutil

from aiohttp import web

from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.services.run import dataplane, jobs, revisions, v1, v1_jobs
from gcp_sandbox.services.run.dataplane import serve
from gcp_sandbox.services.run.fleet import fleet
from gcp_sandbox.services.run.resources import SERVICE

__all__ = ["SERVICE", "jobs", "revisions", "serve", "setup", "v1", "v1_jobs"]


def setup(app: Cloud) -> None:
    """Tell the others whose processes are whose."""
    app.fault_pages["*.run.app"] = dataplane.fault_page
    app.networks_of_process = fleet(app).instances.networks_of


@SERVICE.raw("*.run.app")
async def run_app(app: Cloud, request: web.BaseRequest) -> web.StreamResponse:
    """A service's own URL."""
    return await dataplane.run_app(app, request)


@SERVICE.starts
async def start(app: Cloud) -> None:
    """Bring minimum instances up; all others start at their first request."""
    shutil.rmtree(fleet(app).instances.folder, ignore_errors=True)
    for key, _ in app.store.list("run.services"):
        fleet(app).spawn(revisions.tidy(app, key))


@SERVICE.stops
async def stop(app: Cloud) -> None:
    """Stop every container."""
    await fleet(app).stop()
