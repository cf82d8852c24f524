"""
Write the surveys of AWX and the pattern's metadata from the argument specification of a deployment and from controller.yml.

    python tools/surveys.py            writes surveys.yml and meta/pattern.json
    python tools/surveys.py --check    fails if they are not what would be written
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
PATTERN = ROOT / "extensions" / "patterns" / "mlflow_gcp"
# The variables that only one playbook has and asks for, by the beginning of their names after mlflow_.
ONLY = {"gc": ("gc_",), "destroy": ("confirm_destroy", "destroy_data", "final_backup")}
# The credential type of the OAuth client sets them.
CREDENTIALS = ("mlflow_oauth_client_id", "mlflow_oauth_client_secret")
# A file on the execution node is gone when the job ends; whether changes are a failure is what the job template Drift is for.
# The job's credential is the environment's; an inventory gives its hosts others.
SIGN_IN = (
    "mlflow_auth_kind",
    "mlflow_service_account_file",
    "mlflow_service_account_contents",
    "mlflow_service_account_email",
    "mlflow_credentials_file",
    "mlflow_access_token",
    "mlflow_impersonate_service_account",
    "mlflow_impersonate_delegates",
    "mlflow_quota_project",
)
PLAN = ("mlflow_plan_file", "mlflow_plan_fail_on_changes")
# The playbook adopt runs once, and writes and reads files on the controller.
ONCE = ("mlflow_adopt_", "mlflow_import_")
REQUIRED = ("mlflow_confirm_destroy",)
HEAD = "---\n# Written by tools/surveys.py from roles/mlflow/meta/argument_specs.yml.\n"


def plain(description: str | list[str]) -> str:
    """A description without Ansible's markup."""
    joined = " ".join([description] if isinstance(description, str) else description)
    return re.sub(r"\b[CVOBI]\(((?:[^()]|\([^()]*\))*)\)", lambda found: found[1].removeprefix("deployment:"), joined)


def question(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    """The question of a survey for one variable. It has no default: what is not answered is as in the inventory."""
    kind: dict[str, Any] = {"type": "text", "min": 0, "max": 1024}
    if choices := spec.get("choices") or (["true", "false"] if spec["type"] == "bool" else None):
        kind = {"type": "multiplechoice", "choices": [str(choice) for choice in choices]}
    elif spec["type"] in ("int", "float"):
        kind = {"type": {"int": "integer"}.get(spec["type"], "float"), "min": 0, "max": 1_000_000_000}
    elif spec["type"] == "raw":
        kind = {"type": "textarea", "min": 0, "max": 65536}
    words = name.removeprefix("mlflow_").replace("_", " ")
    return {
        "question_name": words[0].upper() + words[1:],
        "question_description": plain(spec["description"]),
        "variable": name,
        "required": name in REQUIRED,
        **kind,
    }


def surveys() -> dict[str, dict[str, Any]]:
    """The surveys: that of a deployment, and those of the playbooks that ask for something else."""
    specs = yaml.safe_load((ROOT / "roles/mlflow/meta/argument_specs.yml").read_text())
    options = specs["argument_specs"]["deployment"]["options"]
    own: dict[str, list[dict[str, Any]]] = {}
    for name, spec in options.items():
        if name not in (*CREDENTIALS, *PLAN, *SIGN_IN) and not name.startswith(ONCE):
            survey = next(
                (each for each, parts in ONLY.items() if name.removeprefix("mlflow_").startswith(parts)), "deployment"
            )
            own.setdefault(survey, []).append(question(name, spec))
    return {
        survey: {
            "name": f"MLflow {survey}",
            "description": "What is not answered is as in the inventory, or the default.",
            "spec": spec,
        }
        for survey, spec in own.items()
    }


class Loader(yaml.SafeLoader):
    """Reads !unsafe as text."""


Loader.add_constructor("!unsafe", yaml.SafeLoader.construct_scalar)


class Dumper(yaml.SafeDumper):
    """Indents lists, as yamllint asks."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def pattern() -> dict[str, Any]:
    """meta/pattern.json, by which Automation Platform shows and makes the pattern."""
    controller = yaml.load((PATTERN / "controller.yml").read_text(), Loader)  # a SafeLoader
    (project,), (environment,) = controller["controller_projects"], controller["controller_execution_environments"]
    asked = surveys()
    templates = []
    for template in controller["controller_templates"]:
        playbook = template["playbook"].rpartition("/")[2]
        entry = {key: template[key] for key in ("name", "description", "extra_vars") if key in template}
        entry |= {"playbook": playbook, "primary": playbook == "deploy.yml"}
        if found := re.search(r"mlflow_surveys\.(\w+)", template.get("survey_spec", "")):
            entry |= {"survey_enabled": True, "survey": asked[found[1]]}
        templates.append(entry)
    return {
        "schema_version": "1.0",
        "name": PATTERN.name,
        "title": "MLflow on Google Cloud",
        "description": yaml.safe_load((ROOT / "galaxy.yml").read_text())["description"],
        "short_description": "An MLflow tracking server that only the people you name can reach",
        "tags": ["cloud", "gcp", "mlflow", "mlops"],
        "aap_resources": {
            "controller_project": {key: project[key] for key in ("name", "description")},
            "controller_execution_environment": {
                **{key: environment[key] for key in ("name", "description", "pull")},
                "image_name": "mlflow-gcp-ee:latest",
            },
            "controller_labels": ["mlops.mlflow_gcp"],
            "controller_job_templates": templates,
        },
    }


def files() -> dict[Path, str]:
    """The generated files with their contents."""
    dumped = yaml.dump({"mlflow_surveys": surveys()}, Dumper=Dumper, sort_keys=False, width=78)
    return {
        PATTERN / "surveys.yml": HEAD + dumped,
        PATTERN / "meta" / "pattern.json": json.dumps(pattern(), indent=2) + "\n",
    }


def main() -> int:
    wrong = [path for path, text in files().items() if not path.is_file() or path.read_text() != text]
    if "--check" in sys.argv[1:]:
        print(
            "".join(f"{path.relative_to(ROOT)} is not as python tools/surveys.py writes it\n" for path in wrong), end=""
        )
        return int(bool(wrong))
    for path in wrong:
        path.write_text(files()[path])
    return 0


if __name__ == "__main__":
    sys.exit(main())
