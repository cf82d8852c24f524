"""The code blocks of all pages, and how each is executed. What a block is, is said nowhere but here.

A block of YAML says by itself whether it is plays, an inventory or variables of a host. Each command of a block of commands
must match an entry of `COMMANDS`. Any other block belongs to the test that `TESTED` names. A new page needs no entry, unless
it has a new command.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml
from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "*/README.md", "roles/*/README.md", "extensions/patterns/*/README.md")
    for path in ROOT.glob(pattern)
)
HERE = "tests/e2e/test_documented.py"

# Blocks that another test executes, or compares with what is printed: page and first line, and the test.
TESTED = {
    ("README.md", "ansible-galaxy collection install git+https://github.com/mlops/mlflow_gcp.git"): (
        "tests/e2e/test_readme.py::test_the_readme_leads_to_a_deployment_that_passes_verify"
    ),
    ("README.md", "pip install ansible google-auth requests"): (
        "tests/e2e/test_readme.py::test_the_readme_leads_to_a_deployment_that_passes_verify"
    ),
    ("README.md", "ansible-galaxy collection build"): (
        "tests/e2e/test_readme.py::test_an_archive_can_be_installed_instead"
    ),
    (
        "docs/logging.md",
        "pip install mlflow mlflow-iap    # mlflow-iap: ./client of this repository, until it is on PyPI",
    ): ("tests/e2e/test_logging_page.py::test_the_commands_of_the_page_work"),
    ("docs/logging.md", "mlflow-iap doctor"): "tests/e2e/test_logging_page.py::test_the_commands_of_the_page_work",
    ("docs/logging.md", "import mlflow"): "tests/e2e/test_logging_page.py::test_the_commands_of_the_page_work",
    ("docs/logging.md", "mlflow-iap proxy --port 5001 &"): (
        "tests/e2e/test_logging_page.py::test_the_commands_of_the_page_work"
    ),
    (
        "extensions/patterns/mlflow_gcp/README.md",
        "- name: Manage the controller",
    ): f"{HERE}::test_the_dispatcher_of_a_controller",
    # Vaults, federated accounts and other people's projects.
    ("docs/credentials.md", "mlflow:"): "tests/clients/test_credentials.py::test_each_host_has_its_own",
    ("docs/credentials.md", "- name: Use modules of google.cloud with the credentials of each host"): (
        "tests/clients/test_credentials.py::test_each_host_has_its_own"
    ),
    ("docs/credentials.md", "caller:"): "tests/clients/test_credentials.py::test_the_preflight_reports_whose_they_are",
    ("docs/fleet.md", "TASK [Show which are done, and which failed and why] ***"): (
        "tests/e2e/test_fleet.py::test_what_fails_does_not_stop_the_others"
    ),
    ("docs/fleet.md", "# an inventory file"): "tests/e2e/test_fleet.py::test_the_inventory_finds_what_was_deployed",
    ("docs/terraform.md", "mlflow:"): "tests/e2e/test_adopt.py::test_it_is_taken_over_and_no_client_notices",
    ("docs/architecture.md", "cli ─ gateway ─ frontdoor ─ services ─ core"): f"{HERE}::test_the_layers_of_the_sandbox",
    ("docs/plan.md", "+ create Cloud SQL instance mlflow"): f"{HERE}::test_what_a_plan_looks_like",
    ("docs/timeline.md", "The run took 3 min 0 s: 1 host, 92 tasks, 476 calls of Google"): (
        f"{HERE}::test_how_a_timeline_ends"
    ),
    (
        "docs/timeline.md",
        "prod: after 10 s, still waiting: create Cloud SQL instance mlflow "
        "(usually 10 to 20 minutes, up to 25 for a tier below one core)",
    ): f"{HERE}::test_what_is_said_while_it_waits",
}


@dataclass(frozen=True)
class Command:
    """How a command that matches a pattern as a whole is executed.

    long:   Only `make test-long` runs it.
    why:    It cannot be run here, and why.
    files:  Files of the repository that it reads, which must exist.
    """

    pattern: str
    long: bool = False
    why: str = ""
    files: tuple[str, ...] = ()

    def matches(self, line: str) -> bool:
        """Whether a command, without its comment, is one of these."""
        return re.fullmatch(self.pattern, re.sub(r"\s+#.*$", "", line).strip()) is not None


PLAYBOOK = r"(?:[A-Z_]+=\S+ )*ansible-playbook -i (?:inventory\.yml|inventories/(?:example|prod)) mlops\.mlflow_gcp\."
BACKUPS = "the sandbox has no backups of a project, only those of an instance"
INDEX = "it installs from a package index"
COMMANDS = (
    Command(r"export(?: [A-Z_]+=\S+)+"),
    # ---- playbooks, against a deployment
    Command(PLAYBOOK + r"(?:plan|preflight)", long=True),
    Command(PLAYBOOK + r"destroy --check"),
    Command(PLAYBOOK + r"(?:site|verify|site --tags users)", long=True),
    Command(PLAYBOOK + r"destroy -e mlflow_confirm_destroy=prod", long=True),
    # ---- several deployments, of which tests make their own
    Command(
        r"ansible-playbook -i inventories/fleet .*",
        why="test_fleet.py runs as many, with inventories of their own",
        files=("inventories/fleet", "tests/e2e/test_fleet.py"),
    ),
    Command(
        r"ansible-(?:inventory|playbook) -i fleet\.deployments\.yml .*",
        why="test_fleet.py has a file with the projects of the sandbox",
        files=("tests/e2e/test_fleet.py",),
    ),
    # ---- what somebody else has made
    Command(
        r"ansible-playbook -i (?:hosts\.yml|inventories/prod) mlops\.mlflow_gcp\.adopt .*",
        why="test_adopt.py and test_import.py have a stack and a server to take over",
        files=("playbooks/adopt.yml", "tests/e2e/test_adopt.py", "tests/e2e/test_import.py"),
    ),
    Command(
        r"mlflow-iap import \S+ --uri \S+",
        why="test_import.py has a server to import",
        files=("tests/e2e/test_import.py",),
    ),
    # ---- the Makefile
    Command(r"make"),
    Command(r"make demo(?:-destroy|-down)?", long=True),
    Command(r"make test", why="it runs this very test", files=("Makefile",)),
    # ---- gcloud
    Command(r"gcloud iam roles create \w+ --project=PROJECT --file=docs/deployer-role\.yml", long=True),
    Command(r"gcloud projects add-iam-policy-binding PROJECT --member=MEMBER --role=\S+", long=True),
    Command(
        r"gcloud iam service-accounts add-iam-policy-binding \S+ --member=\S+ --role=\S+",
        why="the project is one of others; test_credentials.py grants the same role through the API",
        files=("tests/clients/test_credentials.py",),
    ),
    Command(r"gcloud sql backups (?:list|restore) .*", why=BACKUPS),
    # ---- the sandbox
    Command(r"gcp-sandbox up --detach(?: --state copy)?"),
    Command(r"gcp-sandbox down(?: --state deployed)?"),
    Command(r"cp -a deployed copy"),
    Command(r'eval "\$\(gcp-sandbox env\)"'),
    Command(
        r'curl -H "Authorization: Bearer \$\(gcp-sandbox token\)" https://cloudresourcemanager\.googleapis\.com/\S+'
    ),
    Command(r"gcp-sandbox (?:status|fault|policy)\b.*"),
    # ---- what needs more than this machine
    Command(r"pip install \./sandbox", why=INDEX, files=("sandbox/pyproject.toml",)),
    Command(r"pip install mlflow-iap", why=INDEX, files=("client/pyproject.toml",)),
    Command(
        r"docker build .* --file image/Containerfile image", why="it needs an engine", files=("image/Containerfile",)
    ),
    Command(r"docker push \$IMAGE", why="it needs an engine and a registry"),
    Command(r"uv pip compile .*", why=INDEX, files=("image/requirements.in", "image/build-requirements.in")),
    Command(
        r"ansible-playbook extensions/patterns/mlflow_gcp/setup\.yml .*",
        why="it needs a controller",
        files=("extensions/patterns/mlflow_gcp/setup.yml",),
    ),
)


@dataclass(frozen=True)
class Block:
    """One block of a page, fenced or indented."""

    page: str
    line: int
    language: str  # "" if it is indented
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def key(self) -> tuple[str, str]:
        """Page and first line."""
        return self.page, self.text.strip().splitlines()[0]

    @property
    def kind(self) -> str:
        """plays, inventory, variables, commands, tested or drawing.  Raises LookupError if nothing says it."""
        if self.key in TESTED:
            return "tested"
        if self.language == "mermaid" or (not self.language and " ── " in self.text):
            return "drawing"
        if self.language in ("yaml", "yml") or (not self.language and re.match(r"(?:- )?\w+:\s", self.text)):
            return self._kind_of_yaml()
        if self.language in ("", "sh", "bash", "console"):
            for line in self.commands:
                described(line)
            return "commands"
        raise LookupError(f"{self}: TESTED names no test for this block")

    def _kind_of_yaml(self) -> str:
        values = yaml.safe_load(self.text)
        if isinstance(values, list):
            return "plays"
        groups = values.values()
        return "inventory" if all(isinstance(group, dict) and "hosts" in group for group in groups) else "variables"

    @property
    def commands(self) -> list[str]:
        """The lines of a block of commands; those that are continued, as one."""
        lines = re.sub(r"\s*\\\n\s*", " ", self.text).splitlines()
        return [line.removeprefix("$ ") for line in lines if line.strip() and not line.startswith("#")]


def described(line: str) -> Command:
    """The entry of COMMANDS for a line.  Raises LookupError."""
    found = [command for command in COMMANDS if command.matches(line)]
    if len(found) != 1:
        raise LookupError(f"{len(found)} entries of COMMANDS match {line!r}")
    return found[0]


@cache
def blocks(*kinds: str) -> list[Block]:
    """All blocks, or those of some kinds."""
    markdown = MarkdownIt("commonmark")
    if kinds:
        return [block for block in blocks() if kind(block) in kinds]
    return [
        Block(str(page.relative_to(ROOT)), token.map[0] + 1, token.info.strip(), token.content)
        for page in PAGES
        for token in markdown.parse(page.read_text())
        if token.type in ("fence", "code_block") and token.map
    ]


def kind(block: Block) -> str:
    """The kind of a block, "" if nothing says it."""
    try:
        return block.kind
    except LookupError:
        return ""
