# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Import everything of another MLflow server or store: experiments, runs, models, and the registry.

Each thing that is imported has a tag with its ID in the source. A run is complete when it has been read back and is equal: an
import that was interrupted goes on where it was, and one that is repeated writes nothing.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar
from urllib.parse import unquote, urlsplit

import mlflow
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput, Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from mlflow_iap.errors import IapError

T = TypeVar("T")
P = ParamSpec("P")
SOURCE_ID = "mlflow_iap.source_id"
"""Tag: the ID of the run, model or version in the source."""
COMPLETE = "mlflow_iap.complete"
"""Tag: status and end of the run when all of it had been imported."""
PARENT = "mlflow.parentRunId"
CREDENTIALS = ("TOKEN", "USERNAME", "PASSWORD", "AUTH", "INSECURE_TLS", "SERVER_CERT_PATH")
BATCH, PARAMETERS = 1000, 100
PAGE = 500


@dataclass
class Counts:
    """How much there is of what."""

    experiments: int = 0
    runs: int = 0
    logged_models: int = 0
    registered_models: int = 0
    versions: int = 0


@dataclass
class Copied:
    """What this import has written."""

    experiments: int = 0
    runs: int = 0
    params: int = 0
    metrics: int = 0
    files: int = 0
    bytes: int = 0
    logged_models: int = 0
    registered_models: int = 0
    versions: int = 0
    aliases: int = 0


@dataclass
class Report:
    """The result of an import: what the source has, what of it was in the target before and after, and what went wrong."""

    source: Counts = field(default_factory=Counts)
    before: Counts = field(default_factory=Counts)
    after: Counts = field(default_factory=Counts)
    copied: Copied = field(default_factory=Copied)
    problems: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"changed": any(asdict(self.copied).values())}


class Side:
    """A server or store, with its own credentials in the environment while it is used."""

    def __init__(self, uri: str, environment: dict[str, str]) -> None:
        self.uri, self.environment = uri, environment
        self.client = MlflowClient(tracking_uri=uri, registry_uri=uri)

    @contextlib.contextmanager
    def active(self) -> Iterator[MlflowClient]:
        """MLflow reads the credentials from the environment with each request."""
        names = [f"MLFLOW_TRACKING_{name}" for name in CREDENTIALS]
        before = {name: os.environ.pop(name) for name in names if name in os.environ}
        os.environ.update(self.environment)
        mlflow.set_tracking_uri(self.uri)
        mlflow.set_registry_uri(self.uri)
        try:
            yield self.client
        finally:
            for name in self.environment:
                os.environ.pop(name, None)
            os.environ.update(before)


def every(find: Callable[..., Any], **query: Any) -> Iterator[Any]:
    """All entries of a search, page by page."""
    token = None
    while True:
        page = find(**query, page_token=token)
        yield from page
        if not (token := page.token):
            return


def chunks(entries: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Parts of at most SIZE entries."""
    return (entries[start : start + size] for start in range(0, len(entries), size))


def state(run: Any) -> str:
    """What the tag COMPLETE of a run's copy is."""
    return f"{run.info.status} {run.info.end_time or ''}".strip()


def files_of(find: Callable[[str | None], Iterable[Any]], path: str | None = None) -> Iterator[tuple[str, int]]:
    """Path and size of all files, recursively."""
    for entry in find(path):
        if entry.is_dir:
            yield from files_of(find, entry.path)
        else:
            yield entry.path, int(entry.file_size or 0)


def upgrade(uri: str, source: str) -> None:
    """Give a copy of the database SOURCE the schema of this version of MLflow, if it has an older one.  Raises IapError."""
    try:
        MlflowClient(tracking_uri=uri, registry_uri=uri).search_experiments(max_results=1)
    except MlflowException:
        command = [sys.executable, "-m", "mlflow", "db", "upgrade", uri]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            last = (done.stderr.strip() or "no message").splitlines()[-1]
            raise IapError(f"{source} is not a database of MLflow that this version can read: {last}") from None


@contextlib.contextmanager
def opened(source: str) -> Iterator[str]:
    """The URI by which MLflow reads a source; a SQLite database is copied first, because MLflow upgrades its schema.

    Raises IapError.
    """
    if source.startswith(("http://", "https://")):
        yield source.rstrip("/")
        return
    parts = urlsplit(source)
    if parts.scheme == "sqlite":
        file = Path(unquote(source.removeprefix("sqlite:///")))
        if not source.startswith("sqlite:///") or not file.is_file():
            raise IapError(f"{source} is not sqlite:/// and the path of an existing file.")
        # Relative paths of artifacts are relative to where the server was started.
        os.chdir(file.absolute().parent)
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "source.db"
            shutil.copyfile(file.absolute(), copy)
            for rest in ("-wal", "-journal"):
                if (beside := file.absolute().with_name(file.name + rest)).is_file():
                    shutil.copyfile(beside, copy.with_name(copy.name + rest))
            upgrade(f"sqlite:///{copy}", source)
            yield f"sqlite:///{copy}"
        return
    if parts.scheme not in ("", "file"):
        raise IapError(
            f"{source} cannot be imported: give a URL (https://…), sqlite:///PATH, or the path of a file store."
        )
    store = Path(unquote(parts.path)) if parts.scheme else Path(source)
    if not store.is_dir():
        raise IapError(f"The folder {store} does not exist.")
    if not any(store.glob("*/meta.yaml")):
        raise IapError(f"The folder {store} is no file store of MLflow: it has no experiments.")
    os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
    os.chdir(store.absolute().parent)
    yield store.absolute().as_uri()


class Import:
    """One import. SAY is told what is done."""

    def __init__(self, source: Side, target: Side, say: Callable[[str], None] = lambda line: None) -> None:
        self.source, self.target, self.say = source, target, say
        self.report = Report()
        self.experiments: dict[str, str] = {}
        self.runs: dict[str, str] = {}
        self.models: dict[str, str] = {}
        """The ID in the target, by that in the source."""
        self.done: dict[str, str] = {}
        """The tag COMPLETE of the runs that were there before, "" without one, by their IDs in the source."""

    def read(self, call: Callable[Concatenate[MlflowClient, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Ask the source."""
        with self.source.active() as client:
            return call(client, *args, **kwargs)

    def write(self, call: Callable[Concatenate[MlflowClient, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Ask or change the target."""
        with self.target.active() as client:
            return call(client, *args, **kwargs)

    def run(self, *, dry: bool = False) -> Report:
        """Import everything that is possible, and report what is not. DRY only counts what the source has."""
        experiments = self.read(lambda client: list(every(client.search_experiments, max_results=PAGE)))
        models = self.read(lambda client: list(every(client.search_registered_models, max_results=100)))
        runs = [run for experiment in experiments for run in self.runs_of(experiment)]
        used = {run.info.experiment_id for run in runs}
        logged = [
            model for experiment in experiments for model in self.models_of(self.source, experiment.experiment_id)
        ]
        used |= {model.experiment_id for model in logged}
        # That of every server, which nobody has used.
        experiments = [entry for entry in experiments if entry.experiment_id != "0" or "0" in used]
        versions = {model.name: self.versions_of(self.source, model.name) for model in models}
        counts = self.report.source
        counts.experiments, counts.runs, counts.logged_models = len(experiments), len(runs), len(logged)
        counts.registered_models, counts.versions = len(models), sum(map(len, versions.values()))
        self.say(f"source: {asdict(counts)}")
        if dry:
            return self.report

        names = [experiment.name for experiment in experiments]
        self.report.before = self.count(names, versions)
        for experiment in experiments:
            self.experiments[experiment.experiment_id] = self.experiment(experiment)
        self.shells(runs)
        for model in logged:
            self.attempt(f"model {model.model_id}", partial(self.model, model))
        for number, run in enumerate(runs, 1):
            self.attempt(f"run {run.info.run_id}", partial(self.fill, run))
            if number % 50 == 0:
                self.say(f"{number} of {len(runs)} runs")
        for registered in models:
            work = partial(self.registered, registered, versions[registered.name])
            self.attempt(f"registered model {registered.name}", work)
        self.report.after = after = self.count(names, versions)
        for name, number in asdict(counts).items():
            if asdict(after)[name] != number:
                self.report.problems.append(f"{name}: the source has {number}, and {asdict(after)[name]} are complete")
        return self.report

    def attempt(self, what: str, work: Callable[[], None]) -> None:
        """Do WORK; go on if it fails."""
        try:
            work()
        except (MlflowException, OSError, ValueError) as error:
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            self.report.problems.append(f"{what}: {first}")

    # Reading both sides.

    def runs_of(self, experiment: Any) -> list[Any]:
        """The runs of the source, without metrics' history."""
        ids = [experiment.experiment_id]
        return self.read(
            lambda client: list(
                every(client.search_runs, experiment_ids=ids, max_results=PAGE, order_by=["attributes.start_time ASC"])
            )
        )

    def models_of(self, side: Side, experiment: str) -> list[Any]:
        """The logged models of an experiment; none of a server that is older than they are."""
        with side.active() as client:
            try:
                return list(every(client.search_logged_models, experiment_ids=[experiment], max_results=50))
            except MlflowException as error:
                if error.error_code in ("ENDPOINT_NOT_FOUND", "NOT_IMPLEMENTED", "BAD_REQUEST") or "404" in str(error):
                    return []
                raise
            except NotImplementedError:
                return []

    def versions_of(self, side: Side, name: str) -> list[Any]:
        """The versions of a registered model, the oldest first."""
        quoted = name.replace("'", "''") if "'" in name else name
        with side.active() as client:
            found = list(every(client.search_model_versions, filter_string=f"name='{quoted}'", max_results=PAGE))
        return sorted(found, key=lambda version: int(version.version))

    def imported(self, experiment: str) -> dict[str, Any]:
        """The runs of a target's experiment that come from a source, by their IDs there."""
        query = {"experiment_ids": [experiment], "filter_string": f"tags.`{SOURCE_ID}` != ''", "max_results": PAGE}
        found = self.write(lambda client: list(every(client.search_runs, **query)))
        return {run.data.tags[SOURCE_ID]: run for run in found}

    def count(self, names: Iterable[str], versions: dict[str, list[Any]]) -> Counts:
        """What of the source is in the target."""
        counts = Counts()
        for name in names:
            experiment = self.write(MlflowClient.get_experiment_by_name, name)
            if experiment is None:
                continue
            counts.experiments += 1
            found = self.imported(experiment.experiment_id).values()
            counts.runs += sum(COMPLETE in run.data.tags for run in found)
            logged = self.models_of(self.target, experiment.experiment_id)
            counts.logged_models += sum(SOURCE_ID in model.tags and str(model.status) != "PENDING" for model in logged)
        for name in versions:
            if self.write(registered_or_none, name) is None:
                continue
            counts.registered_models += 1
            counts.versions += sum(SOURCE_ID in version.tags for version in self.versions_of(self.target, name))
        return counts

    # Experiments and runs.

    def experiment(self, experiment: Any) -> str:
        """The ID of the target's experiment of the same name."""
        found = self.write(MlflowClient.get_experiment_by_name, experiment.name)
        if found is not None:
            if found.lifecycle_stage != "active":
                raise IapError(f"The experiment {experiment.name!r} was deleted in the target: restore it first.")
            return str(found.experiment_id)
        tags = {key: value for key, value in experiment.tags.items() if not key.startswith("mlflow.experiment.")}
        self.report.copied.experiments += 1
        return str(self.write(MlflowClient.create_experiment, experiment.name, tags=tags))

    def shells(self, runs: list[Any]) -> None:
        """Create the runs that are not there, all of them before the first is filled: tags of children name their parents."""
        for experiment in self.experiments.values():
            for source_id, run in self.imported(experiment).items():
                self.runs[source_id] = run.info.run_id
                self.done[source_id] = run.data.tags.get(COMPLETE, "")
        for run in runs:
            if run.info.run_id in self.runs:
                continue
            made = self.write(
                MlflowClient.create_run,
                self.experiments[run.info.experiment_id],
                start_time=run.info.start_time,
                tags={SOURCE_ID: run.info.run_id},
                run_name=run.info.run_name,
            )
            self.runs[run.info.run_id] = made.info.run_id
            self.report.copied.runs += 1

    def tags_of(self, run: Any) -> list[RunTag]:
        """The tags of a run, with the IDs that it and its parent have in the target."""
        tags = []
        for key, value in run.data.tags.items():
            if key == PARENT:
                value = self.runs.get(value, value)
            tags.append(RunTag(key, self.translated(value) if key == "mlflow.log-model.history" else value))
        return tags

    def translated(self, text: str) -> str:
        """A text with the IDs of runs and models in the target."""
        for old, new in {**self.runs, **self.models}.items():
            text = text.replace(old, new)
        return text

    def fill(self, run: Any) -> None:
        """Copy a run, and read it back."""
        source_id, target_id = run.info.run_id, self.runs[run.info.run_id]
        if self.done.get(source_id) == state(run):
            return
        copied = self.report.copied
        copied.runs += source_id in self.done  # otherwise it was counted when it was created
        params = [Param(key, value) for key, value in run.data.params.items()]
        for some_params in chunks(params, PARAMETERS):
            self.write(MlflowClient.log_batch, target_id, params=some_params)
        for some_tags in chunks(self.tags_of(run), PARAMETERS):
            self.write(MlflowClient.log_batch, target_id, tags=some_tags)
        points = 0
        for key in run.data.metrics:
            history = self.read(MlflowClient.get_metric_history, source_id, key)
            metrics = [Metric(metric.key, metric.value, metric.timestamp, metric.step) for metric in history]
            for some_metrics in chunks(metrics, BATCH):
                self.write(MlflowClient.log_batch, target_id, metrics=some_metrics)
            points += len(
                {
                    (metric.value if metric.value == metric.value else None, metric.timestamp, metric.step)
                    for metric in history
                }
            )
        there = self.write(MlflowClient.get_run, target_id)
        known = {entry.dataset.digest for entry in (there.inputs.dataset_inputs if there.inputs else ())}
        datasets = [
            entry for entry in (run.inputs.dataset_inputs if run.inputs else ()) if entry.dataset.digest not in known
        ]
        if datasets:
            self.write(MlflowClient.log_inputs, target_id, datasets=datasets)
        known = {entry.model_id for entry in (there.outputs.model_outputs if there.outputs else ())}
        models = [
            LoggedModelOutput(self.models[entry.model_id], entry.step)
            for entry in (run.outputs.model_outputs if run.outputs else ())
            if self.models.get(entry.model_id, "") not in {"", *known}
        ]
        if models:
            self.write(MlflowClient.log_outputs, target_id, models=models)
        files, size = self.artifacts(source_id, target_id)
        if run.info.status in ("FINISHED", "FAILED", "KILLED"):
            self.write(MlflowClient.set_terminated, target_id, run.info.status, run.info.end_time)
        else:
            self.write(MlflowClient.update_run, target_id, status=run.info.status)
        self.compare(run, target_id, points, files)
        self.write(MlflowClient.set_tag, target_id, COMPLETE, state(run))
        copied.params, copied.metrics = copied.params + len(params), copied.metrics + points
        copied.files, copied.bytes = copied.files + len(files), copied.bytes + size

    def artifacts(self, source_id: str, target_id: str) -> tuple[dict[str, int], int]:
        """Copy the files of a run that are not there, one after another; path and size of all, and the bytes copied."""
        files = dict(self.read(lambda client: list(files_of(lambda path: client.list_artifacts(source_id, path)))))
        there = dict(self.write(lambda client: list(files_of(lambda path: client.list_artifacts(target_id, path)))))
        size = 0
        for path, length in files.items():
            if there.get(path) == length and not path.endswith("MLmodel"):
                continue
            with tempfile.TemporaryDirectory() as folder:
                local = self.read(MlflowClient.download_artifacts, source_id, path, folder)
                self.rewrite(Path(local))
                place = path.rpartition("/")[0] or None
                self.write(MlflowClient.log_artifact, target_id, local, place)
            size += length
        return files, size

    def rewrite(self, file: Path) -> None:
        """A model's description names its run and model by IDs, which are as long as those in the target."""
        if file.name == "MLmodel":
            file.write_text(self.translated(file.read_text(encoding="utf-8")), encoding="utf-8")

    def compare(self, run: Any, target_id: str, points: int, files: dict[str, int]) -> None:
        """Raise ValueError if a copy is not equal."""
        copy = self.write(MlflowClient.get_run, target_id)
        if copy.data.params != run.data.params:
            raise ValueError("its parameters differ after the import")
        found = 0
        for key in run.data.metrics:
            found += len(self.write(MlflowClient.get_metric_history, target_id, key))
        if found != points:
            raise ValueError(f"it has {points} values of metrics, and {found} after the import")
        there = dict(self.write(lambda client: list(files_of(lambda path: client.list_artifacts(target_id, path)))))
        if missing := sorted(path for path, length in files.items() if there.get(path) != length):
            raise ValueError(
                f"{len(missing)} files are missing or have another size after the import, such as {missing[0]}"
            )

    # Models.

    def model(self, model: Any) -> None:
        """Copy a logged model with its files."""
        found = self.known.get(model.model_id)
        if found is None:
            tags = {key: value for key, value in model.tags.items() if not key.startswith("mlflow.")}
            found = self.write(
                MlflowClient.create_logged_model,
                self.experiments[model.experiment_id],
                name=model.name,
                source_run_id=self.runs.get(model.source_run_id) if model.source_run_id else None,
                tags=tags | {SOURCE_ID: model.model_id},
                params=dict(model.params),
                model_type=model.model_type,
            )
        self.models[model.model_id] = found.model_id
        if str(found.status) != "PENDING":
            return
        with tempfile.TemporaryDirectory() as folder:
            with self.source.active() as client:
                files = list(files_of(lambda path: client.list_logged_model_artifacts(model.model_id, path)))
                if files:
                    mlflow.artifacts.download_artifacts(artifact_uri=f"models:/{model.model_id}", dst_path=folder)
            for file in Path(folder).rglob("MLmodel"):
                self.rewrite(file)
            if files:
                self.write(MlflowClient.log_model_artifacts, found.model_id, folder)
        if str(model.status) in ("READY", "FAILED"):
            self.write(MlflowClient.finalize_logged_model, found.model_id, model.status)
        self.report.copied.logged_models += 1
        self.report.copied.files += len(files)
        self.report.copied.bytes += sum(size for _path, size in files)

    @cached_property
    def known(self) -> dict[str, Any]:
        """The logged models that the target had from a source before, by their IDs there."""
        return {
            entry.tags[SOURCE_ID]: entry
            for experiment in self.experiments.values()
            for entry in self.models_of(self.target, experiment)
            if SOURCE_ID in entry.tags
        }

    def registered(self, model: Any, versions: list[Any]) -> None:
        """Copy a registered model, its versions with their numbers, and its aliases."""
        name, copied = model.name, self.report.copied
        there = self.write(registered_or_none, name)
        if there is None:
            self.write(MlflowClient.create_registered_model, name, dict(model.tags), model.description)
            copied.registered_models += 1
        mine = self.versions_of(self.target, name)
        known = {version.tags.get(SOURCE_ID): version for version in mine}
        numbers = {}
        for version in versions:
            found = known.get(f"{name}/{version.version}")
            if found is None:
                found = self.version(version, after=max((int(entry.version) for entry in mine), default=0))
                mine.append(found)
                copied.versions += 1
            numbers[str(version.version)] = str(found.version)
        aliases = there.aliases if there else {}
        for alias, number in model.aliases.items():
            wanted = numbers.get(str(number))
            if wanted and str(aliases.get(alias, "")) != wanted:
                self.write(MlflowClient.set_registered_model_alias, name, alias, wanted)
                copied.aliases += 1

    def version(self, version: Any, after: int) -> Any:
        """Copy a version, whose number is the source's if AFTER, the highest that the target has, allows that."""
        name = version.name
        source, model_id = self.source_of(version)
        run_id = self.runs.get(version.run_id) if version.run_id else None

        def create(tags: dict[str, str]) -> Any:
            return self.write(
                MlflowClient.create_model_version,
                name,
                source,
                run_id,
                tags=tags,
                description=version.description,
                model_id=model_id,
            )

        # Numbers of versions that were deleted in the source.
        for _gap in range(after + 1, int(version.version)):
            number = create({}).version
            self.write(MlflowClient.delete_model_version, name, number)
        made = create(dict(version.tags) | {SOURCE_ID: f"{name}/{version.version}"})
        if version.current_stage not in (None, "None", ""):
            self.write(MlflowClient.transition_model_version_stage, name, made.version, version.current_stage)
        return made

    def source_of(self, version: Any) -> tuple[str, str | None]:
        """Where the files of a version are in the target, and the logged model that it is; raises ValueError."""
        source, model_id = version.source or "", getattr(version, "model_id", None)
        if source.startswith("models:/"):
            model_id = model_id or source.removeprefix("models:/").partition("/")[0]
        if model_id and model_id in self.models:
            return f"models:/{self.models[model_id]}", self.models[model_id]
        if version.run_id in self.runs:
            root = self.read(MlflowClient.get_run, version.run_id).info.artifact_uri.rstrip("/")
            for prefix in (f"{root}/", f"runs:/{version.run_id}/"):
                if source.startswith(prefix):
                    return f"runs:/{self.runs[version.run_id]}/{source.removeprefix(prefix)}", None
        raise ValueError(
            f"version {version.version} is at {source}, which belongs to no run or model that was imported"
        )


def registered_or_none(client: MlflowClient, name: str) -> Any:
    """A registered model, None if there is none of that name."""
    try:
        return client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def run(source: str, target: str, say: Callable[[str], None], *, dry: bool = False) -> Report:
    """Import SOURCE into TARGET, a URL, with credentials from the environment: MLFLOW_SOURCE_…, and MLFLOW_TRACKING_… for TARGET.

    Raises IapError.
    """
    names = [(f"MLFLOW_TRACKING_{name}", f"MLFLOW_SOURCE_{name}") for name in CREDENTIALS]
    reading = {ours: os.environ[theirs] for ours, theirs in names if theirs in os.environ}
    writing = {ours: os.environ.pop(ours) for ours, _theirs in names if ours in os.environ}
    with opened(source) as uri:
        try:
            return Import(Side(uri, reading), Side(target, writing), say).run(dry=dry)
        except MlflowException as error:
            raise IapError(f"The import has stopped: {str(error).splitlines()[0]}") from None
