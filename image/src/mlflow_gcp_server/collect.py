# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Remove for good what users deleted: MLflow marks it only, and `mlflow gc` needs a server to find the artifacts by.

What goes, and in which order, is as in `mlflow gc` (https://mlflow.org/docs/latest/cli.html#mlflow-gc), with three
differences: there is a dry run; named runs or experiments are the only ones that go; and one thing that cannot be removed
does not keep the others from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from posixpath import normpath
from typing import Any
from urllib.parse import urlsplit

from mlflow.entities import LifecycleStage, ViewType
from mlflow.entities._job_status import JobStatus
from mlflow.exceptions import MlflowException
from mlflow.server.handlers import _get_job_store, _get_tracking_store
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.store.jobs.sqlalchemy_store import SqlAlchemyJobStore
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.utils.time import get_current_time_millis

from mlflow_gcp_server import seams
from mlflow_gcp_server.console import fail, say, warn
from mlflow_gcp_server.settings import ARTIFACT_ROOT, Settings

for _name, _parameters in (
    ("_get_deleted_runs", ("self", "older_than")),
    ("_get_deleted_logged_models", ("self", "older_than")),
    ("_hard_delete_run", ("self", "run_id")),
    ("_hard_delete_logged_model", ("self", "model_id")),
    ("_hard_delete_experiment", ("self", "experiment_id")),
):
    seams.require(SqlAlchemyStore, _name, _parameters)
seams.require(SqlAlchemyJobStore, "delete_jobs", ("self", "older_than", "job_ids"))


@dataclass(frozen=True)
class Doomed:
    """One thing that goes: what it is, where its artifacts are, what takes it out of the database."""

    kind: str
    identity: str
    artifacts: str | None
    forget: Callable[[str], Any]


def collect(
    settings: Settings,
    older_than: timedelta,
    dry_run: bool,
    run_ids: Sequence[str] = (),
    experiment_ids: Sequence[str] = (),
    jobs: bool = False,
) -> bool:
    """Remove, or with `dry_run` list, what was deleted longer ago than `older_than`; whether all of it went.

    With ids these alone go, and the runs of those experiments; with `jobs`, the records of jobs that are over as well.
    The last line that it writes has the counts. Ends the process, and removes nothing, where an id is not of something
    that was deleted so long ago.
    """
    milliseconds = int(older_than.total_seconds() * 1000)
    counts: dict[str, int] = {}
    failed = 0
    for doomed in _plan(milliseconds, run_ids, experiment_ids):
        try:
            if not dry_run:
                if doomed.artifacts is not None:
                    get_artifact_repository(_stored_at(settings, doomed.artifacts)).delete_artifacts()
                doomed.forget(doomed.identity)
        except Exception as error:  # of whichever storage, which is tried again at the next time
            failed += 1
            warn(f"gc: {doomed.kind} {doomed.identity} stays: {type(error).__name__}: {error}")
            continue
        counts[doomed.kind] = counts.get(doomed.kind, 0) + 1
        say(f"gc: {doomed.kind} {doomed.identity} {'would go' if dry_run else 'is gone'}")
    if jobs:
        counts["job"] = _jobs(milliseconds, dry_run)
    kinds = ["run", "logged model", "experiment", *(["job"] if jobs else [])]
    total = ", ".join(f"{counts.get(kind, 0)} {kind}{'' if counts.get(kind) == 1 else 's'}" for kind in kinds)
    say(f"gc: {'would remove' if dry_run else 'removed'} {total}{f'; {failed} failed' if failed else ''}")
    return not failed


def _plan(milliseconds: int, run_ids: Sequence[str], experiment_ids: Sequence[str]) -> Iterator[Doomed]:
    store = _get_tracking_store()
    before = get_current_time_millis() - milliseconds
    deleted_runs = set(store._get_deleted_runs(older_than=milliseconds))
    everything = not run_ids and not experiment_ids

    for run_id in run_ids:
        if run_id not in deleted_runs:
            fail(f"gc: run {run_id} was not deleted, or not as long ago; nothing was removed")
    experiments = []
    for experiment_id in experiment_ids:
        try:
            experiments.append(store.get_experiment(experiment_id))
        except MlflowException as error:
            fail(f"gc: experiment {experiment_id}: {error.message}; nothing was removed")
    if everything:
        found = _pages(store.search_experiments, view_type=ViewType.DELETED_ONLY)
        experiments = [one for one in found if (one.last_update_time or before) < before]
    for one in experiments:
        if one.lifecycle_stage != LifecycleStage.DELETED or (one.last_update_time or before) >= before:
            fail(f"gc: experiment {one.experiment_id} was not deleted, or not as long ago; nothing was removed")

    runs = list(run_ids) + (sorted(deleted_runs) if everything else [])
    for one in experiments:
        found = _pages(
            store.search_runs,
            experiment_ids=[one.experiment_id],
            filter_string="",
            run_view_type=ViewType.DELETED_ONLY,
            max_results=1000,
        )
        runs += [run.info.run_id for run in found]
    for run_id in dict.fromkeys(runs):
        yield Doomed("run", run_id, store.get_run(run_id).info.artifact_uri, store._hard_delete_run)
    if everything:
        for model_id in store._get_deleted_logged_models(older_than=milliseconds):
            model = store.get_logged_model(model_id, allow_deleted=True)
            yield Doomed("logged model", model_id, model.artifact_location, store._hard_delete_logged_model)
    for one in experiments:
        # What is left in its folder are traces. A location that somebody chose may have other things in it as well.
        location = one.artifact_location if one.artifact_location == f"{ARTIFACT_ROOT}{one.experiment_id}" else None
        yield Doomed("experiment", one.experiment_id, location, store._hard_delete_experiment)


def _pages(search: Callable[..., Any], **arguments: Any) -> Iterator[Any]:
    token = None
    while True:
        page = search(page_token=token, **arguments)
        yield from page
        token = page.token
        if not token:
            return


def _stored_at(settings: Settings, uri: str) -> str:
    """The place in the bucket that the server keeps an artifact URI of its own at; others as they are."""
    parts = urlsplit(uri)
    if f"{parts.scheme}:/" != ARTIFACT_ROOT:
        return uri
    path = normpath(parts.path.lstrip("/"))
    if path == "." or path.startswith(".."):
        raise ValueError(f"{uri} is not a folder of one run, model or experiment")
    return f"{settings.artifacts}/{path}"


def _jobs(milliseconds: int, dry_run: bool) -> int:
    """Remove the records of jobs that are over, or count those that would go."""
    store = _get_job_store()
    if not dry_run:
        return len(store.delete_jobs(older_than=milliseconds))
    before = get_current_time_millis() - milliseconds
    return sum(1 for job in store.list_jobs() if JobStatus.is_finalized(job.status) and job.creation_time < before)
