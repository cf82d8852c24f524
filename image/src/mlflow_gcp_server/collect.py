# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Permanently remove what users deleted: MLflow only marks it, and `mlflow gc` needs a server to find the artifacts.

It removes the same items in the same order as `mlflow gc` (https://mlflow.org/docs/latest/cli.html#mlflow-gc), with three
differences: there is a dry run; if runs or experiments are named, only these are removed; and an item that cannot be removed
does not prevent the removal of the others.
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
class Item:
    """An item to remove: its kind and ID, the location of its artifacts, and the function that removes it from the database."""

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
    """Remove, or with `dry_run` list, what was deleted longer ago than `older_than`; returns whether everything was removed.

    With IDs, only these and the runs of these experiments are removed; with `jobs`, also the records of finished jobs.
    The last line of the output has the counts. Exits without removing anything if an ID does not belong to an item
    that was deleted that long ago.
    """
    milliseconds = int(older_than.total_seconds() * 1000)
    counts: dict[str, int] = {}
    failed = 0
    for item in _plan(milliseconds, run_ids, experiment_ids):
        try:
            if not dry_run:
                if item.artifacts is not None:
                    get_artifact_repository(_stored_at(settings, item.artifacts)).delete_artifacts()
                item.forget(item.identity)
        except Exception as error:  # of any storage; the next run tries again
            failed += 1
            warn(f"gc: {item.kind} {item.identity} was not removed: {type(error).__name__}: {error}")
            continue
        counts[item.kind] = counts.get(item.kind, 0) + 1
        say(f"gc: {item.kind} {item.identity} {'would be removed' if dry_run else 'was removed'}")
    if jobs:
        counts["job"] = _jobs(milliseconds, dry_run)
    kinds = ["run", "logged model", "experiment", *(["job"] if jobs else [])]
    total = ", ".join(f"{counts.get(kind, 0)} {kind}{'' if counts.get(kind) == 1 else 's'}" for kind in kinds)
    say(f"gc: {'would remove' if dry_run else 'removed'} {total}{f'; {failed} failed' if failed else ''}")
    return not failed


def _plan(milliseconds: int, run_ids: Sequence[str], experiment_ids: Sequence[str]) -> Iterator[Item]:
    store = _get_tracking_store()
    assert isinstance(store, SqlAlchemyStore)
    before = get_current_time_millis() - milliseconds
    deleted_runs = set(store._get_deleted_runs(older_than=milliseconds))
    everything = not run_ids and not experiment_ids

    for run_id in run_ids:
        if run_id not in deleted_runs:
            fail(f"gc: run {run_id} was not deleted, or not that long ago; nothing was removed")
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
            fail(f"gc: experiment {one.experiment_id} was not deleted, or not that long ago; nothing was removed")

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
        yield Item("run", run_id, store.get_run(run_id).info.artifact_uri, store._hard_delete_run)
    if everything:
        for model_id in store._get_deleted_logged_models(older_than=milliseconds):
            model = store.get_logged_model(model_id, allow_deleted=True)
            yield Item("logged model", model_id, model.artifact_location, store._hard_delete_logged_model)
    for one in experiments:
        # Its folder now contains only traces. A location chosen by a user may contain other files as well.
        location = one.artifact_location if one.artifact_location == f"{ARTIFACT_ROOT}{one.experiment_id}" else None
        yield Item("experiment", one.experiment_id, location, store._hard_delete_experiment)


def _pages(search: Callable[..., Any], **arguments: Any) -> Iterator[Any]:
    token = None
    while True:
        page = search(page_token=token, **arguments)
        yield from page
        token = page.token
        if not token:
            return


def _stored_at(settings: Settings, uri: str) -> str:
    """The location in the bucket of one of the server's own artifact URIs; other URIs are returned unchanged."""
    parts = urlsplit(uri)
    if f"{parts.scheme}:/" != ARTIFACT_ROOT:
        return uri
    path = normpath(parts.path.lstrip("/"))
    if path == "." or path.startswith(".."):
        raise ValueError(f"{uri} is not a folder of one run, model or experiment")
    return f"{settings.artifacts}/{path}"


def _jobs(milliseconds: int, dry_run: bool) -> int:
    """Remove the records of finished jobs, or count those that would be removed."""
    store = _get_job_store()
    if not dry_run:
        return len(store.delete_jobs(older_than=milliseconds))
    before = get_current_time_millis() - milliseconds
    return sum(1 for job in store.list_jobs() if JobStatus.is_finalized(job.status) and job.creation_time < before)
