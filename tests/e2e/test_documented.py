"""Every block of code in every page is executed: tests/documented.py says how."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml
from ansible.parsing.dataloader import DataLoader

from tests.conftest import BIN, IMAGE, IMAGE_PYTHON, LINK, ROOT, Cloud, Play, copied, local_cloud
from tests.documented import BACKUPS, COMMANDS, PAGES, TESTED, Block, blocks, described

from .conftest import PROJECT

REGION = "europe-west2"
MANAGER = "cloudresourcemanager.googleapis.com/v1/projects"
RUN = f"run.googleapis.com/v2/projects/{PROJECT}/locations/{REGION}/services"
# What stands in the pages for something of the reader's, and what it is here.
OURS = {
    "my-project": PROJECT,
    "PROJECT": PROJECT,
    "MEMBER": "user:jane@example.com",
    "[NUMBER …]": "",
    "[NUMBER|CONSTRAINT …]": "",
    "backups/ID": "backups/1234",
}
# The same in blocks of YAML.
THEIRS = {
    "my-project": PROJECT,
    "ml-dev": PROJECT,
    "ml-prod": PROJECT,
    "@sha256:6c3c624b58dbbcd3c0dd82b4c53f04194d1247c6eebdaab7c610cf7d66709b3b": ":3.17.2",
    "keyRings/mlflow/cryptoKeys/mlflow": "keyRings/r/cryptoKeys/k",
}


def words(text: str, meanings: dict[str, str]) -> str:
    """TEXT with the reader's own names."""
    for name, ours in meanings.items():
        text = re.sub(rf"(?<![\w{{$]){re.escape(name)}" if name[0].isalpha() else re.escape(name), ours, text)
    return text


# -- every block has its test --------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_of_a_page_is_executed_by_something(page):
    for block in blocks():
        if block.page == str(page.relative_to(ROOT)):
            assert block.kind


def test_no_entry_of_the_tables_is_for_a_block_that_is_gone():
    assert TESTED.keys() - {block.key for block in blocks()} == set()
    lines = [line for block in blocks("commands") for line in block.commands]
    assert [command.pattern for command in COMMANDS if not any(command.matches(line) for line in lines)] == []


def test_the_tests_that_are_named_exist():
    for name in set(TESTED.values()):
        file, _, function = name.partition("::")
        assert re.search(rf"^def {function}\(", (ROOT / file).read_text(), re.M), name


@pytest.mark.parametrize("block", blocks("commands"), ids=str)
def test_commands_are_those_of_a_shell_and_their_files_exist(block):
    done = subprocess.run(["bash", "-n", "-c", block.text], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    for line in block.commands:
        assert [name for name in described(line).files if not (ROOT / name).exists()] == []


# -- what can be said of commands that cannot be run here ---------------------


def lines_with(word: str) -> list[str]:
    """The commands of all pages that begin with a word."""
    found = [line for block in blocks() for line in block.commands if line.split()[0] == word]
    assert found
    return found


def test_the_packages_that_are_installed_are_those_that_are_needed():
    (line,) = [line for line in lines_with("pip") if "ansible" in line]
    needed = re.findall(r"^[\w-]+", (ROOT / "requirements.txt").read_text(), re.M)
    assert set(line.split()[2:]) == {"ansible", *needed}


def test_the_lock_files_were_made_by_the_commands_of_the_page():
    for line in lines_with("uv"):
        locked = re.search(r"-o (\S+)", line)
        assert locked and f"\n#    {line}\n" in (ROOT / "image" / locked[1]).read_text()


@pytest.mark.skipif(shutil.which("docker") is None, reason="there is no docker on this machine")
def test_docker_has_the_options_of_the_page():
    for line in lines_with("docker"):
        usage = subprocess.run(["docker", line.split()[1], "--help"], capture_output=True, text=True)
        assert [option for option in re.findall(r"--\w+", line) if option not in usage.stdout + usage.stderr] == []


def test_the_playbook_for_a_controller_takes_the_variables_of_the_page():
    (line,) = [line for line in lines_with("ansible-playbook") if "setup.yml" in line]
    source = (ROOT / "extensions/patterns/mlflow_gcp/controller.yml").read_text()
    given = set(re.findall(r"mlflow_controller_\w+", line))
    assert given and [name for name in given if name not in source] == []
    env = {"PATH": "/usr/bin:/bin", "ANSIBLE_LOCALHOST_WARNING": "false"}
    command = ["bash", "-c", f"{BIN}/{line} --syntax-check"]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# -- commands ------------------------------------------------------------------


@dataclass
class Desk:
    """A copy of the repository on the desk of somebody who reads the pages, with an inventory of each name that they have."""

    folder: Path
    env: dict[str, str]

    def type(self, script: str) -> Play:
        """Run the lines of a script, which stops at the first that fails."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.folder,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
        )
        return Play(done.returncode, done.stdout, 0)


def copy_of_the_repository(folder: Path) -> Path:
    """What is under version control, with the times of the files, and the environments that `make` has made."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0"):
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    (folder / ".venv").symlink_to(BIN.parent)
    (folder / ".venv-image").symlink_to(Path(IMAGE_PYTHON).parents[1])
    return folder


@pytest.fixture(scope="module")
def cloud(own_cloud: Cloud) -> Cloud:
    """A deployment, which the commands of the pages change."""
    return own_cloud


@pytest.fixture(scope="module")
def base(cloud: Cloud) -> dict[str, Any]:
    """The variables that a deployment has at least: those of the deployment."""
    text = (ROOT / "inventories/sandbox/hosts.yml").read_text()
    (variables,) = yaml.safe_load(text)["mlflow"]["hosts"].values()
    deployer = f"serviceAccount:deployer@{PROJECT}.iam.gserviceaccount.com"
    return variables | {"mlflow_project_id": PROJECT, "mlflow_logger_token_creators": [deployer], "mlflow_image": IMAGE}


@pytest.fixture(scope="module")
def desk(cloud: Cloud, base: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Desk:
    folder = copy_of_the_repository(tmp_path_factory.mktemp("desk"))
    inventory = yaml.safe_dump({"mlflow": {"hosts": {"prod": base}}})
    for name in ("inventory.yml", "inventories/example/hosts.yml", "inventories/prod/hosts.yml"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(inventory)
    token = cloud.command("token").strip()
    own = {
        "ANSIBLE_COLLECTIONS_PATH": str(LINK.parents[2]),
        "CLOUDSDK_CONFIG": str(folder / "gcloud"),
        "CLOUDSDK_AUTH_ACCESS_TOKEN": token,
        "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
        "GCP_AUTH_KIND": "application",
        "PATH": f"{BIN}:{cloud.env['PATH']}",
    }
    others = ("ANSIBLE_CONFIG", "GCP_SERVICE_ACCOUNT_FILE")
    plain = {name: value for name, value in cloud.env.items() if name not in others}
    return Desk(folder, plain | own)


def marked(block: Block) -> Any:
    """A parameter of pytest, long if one of the commands is."""
    long = any(described(line).long for line in block.commands)
    return pytest.param(block, id=str(block), marks=[pytest.mark.long] if long else [])


def runnable(block: Block) -> list[str]:
    """The commands that can be run here."""
    return [line for line in block.commands if not described(line).why]


def of_the_sandbox(block: Block) -> bool:
    """Whether a block is of a sandbox of the reader's own."""
    return block.page == "sandbox/README.md" or any(line.startswith("make") for line in block.commands)


def of_the_deployment(block: Block) -> bool:
    """Whether a block works on a deployment, and leaves one."""
    return bool(runnable(block)) and not of_the_sandbox(block) and "mlflow_confirm_destroy" not in block.text


@pytest.mark.parametrize("block", [marked(one) for one in blocks("commands") if of_the_deployment(one)])
def test_commands(block: Block, desk: Desk):
    lines = runnable(block)
    if any(line.startswith("gcloud") for line in lines) and not shutil.which("gcloud"):
        pytest.skip("there is no gcloud on this machine")
    done = desk.type(words("\n".join(lines), OURS))
    assert done.status == 0, done.output
    assert "[WARNING]" not in done.output, done.output


@pytest.mark.long
@pytest.mark.skipif(shutil.which("gcloud") is None, reason="there is no gcloud on this machine")
def test_gcloud_knows_the_commands_that_the_sandbox_does_not(desk: Desk):
    """They get as far as the API: a command or an option that does not exist would stop them before."""
    lines = [line for one in blocks("commands") for line in one.commands if described(line).why == BACKUPS]
    assert len(lines) == 2
    for line in lines:
        done = desk.type(words(line, OURS))
        assert done.status == 1 and re.search(r"HTTPError \d+|listBackups", done.output), done.output


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Desk]:
    """A desk without a deployment, and what was started on it is stopped."""
    folder = copy_of_the_repository(tmp_path / "mlflow_gcp")
    state = folder / ".gcp-sandbox"
    env = {"PATH": f"{BIN}:/usr/bin:/bin", "HOME": str(tmp_path), "GCP_SANDBOX_STATE": str(state), "LANG": "C.UTF-8"}
    try:
        yield Desk(folder, env)
    finally:
        for place in (state, folder / "deployed", folder / "copy"):
            subprocess.run([BIN / "gcp-sandbox", "down", "--state", place], capture_output=True)


def test_the_commands_of_the_sandbox(alone: Desk):
    """One after the other, as somebody types them who reads the page from top to bottom."""
    script = []
    for block in blocks("commands"):
        if block.page == "sandbox/README.md":
            if "gcp-sandbox down --state deployed" in block.commands:
                script.append('cp -a "$GCP_SANDBOX_STATE" deployed')
            elif script:
                script += ["gcp-sandbox down", "gcp-sandbox up --detach"]
            script += [words(line, OURS | {"my-project": "sandbox-project"}) for line in runnable(block)]
    done = alone.type("\n".join(script))
    assert done.status == 0, done.output
    assert '"projectId": "sandbox-project"' in done.output, done.output


def test_make_lists_its_targets(alone: Desk):
    """Each `make` of a page is among them."""
    listed = re.findall(r"^ +make ([\w-]+)", alone.type("make").output, re.M)
    lines = [line.partition("#")[0].split() for block in blocks("commands") for line in block.commands]
    named = {line[1] for line in lines if line[0] == "make" and len(line) > 1}
    assert len(listed) > 10 and named <= set(listed)


@pytest.mark.long
def test_the_demo(alone: Desk):
    """From nothing to nothing, as the README says; and its recording is of what is there now."""
    assert ["make demo"] in [block.commands for block in blocks("commands") if block.page == "README.md"]
    done = alone.type("make demo\nmake demo-destroy\nmake demo-down")
    assert done.status == 0, done.output
    assert "MLflow is deployed and verified:" in done.output
    assert alone.type("gcp-sandbox status").output.startswith("not running")
    recorded = set(re.findall(r"TASK \[(.*?)\]", html.unescape((ROOT / "docs/images/demo.svg").read_text())))
    assert len(recorded) > 50
    gone = recorded - set(re.findall(r"TASK \[(.*?)\]", done.output))
    assert gone == set(), (
        "the recording of the README is of an older run: tools/record.py docs/images/demo.svg make demo"
    )


# -- inventories, variables ----------------------------------------------------


def hosts(base: dict[str, Any], chain: Path) -> dict[str, dict[str, Any]]:
    """One host for each host of an inventory and each block of variables."""
    found: dict[str, dict[str, Any]] = {}
    for block in blocks("inventory", "variables"):
        values = yaml.safe_load(words(block.text, THEIRS))
        given = values["mlflow"]["hosts"] if block.kind == "inventory" else {"variables": values}
        for name, variables in given.items():
            host = f"{block}-{name}".replace("/", "-").replace(":", "-")
            # In a vault.
            secret = {"vault_mlflow_private_key": chain.with_name("key.pem").read_text()}
            # Two hosts in one project have neither the name nor the domain in common.
            number = len(found)
            apart = {"mlflow_name": f"page{number}", "mlflow_domain": f"page{number}.example.com"}
            own = {name: value for name, value in base.items() if name != "mlflow_image"}
            found[host] = own | secret | apart | variables
    return found


@pytest.fixture(scope="module")
def chain(desk: Desk) -> Path:
    """The file chain.pem of the pages, beside its key."""
    leaf = trustme.CA().issue_cert("mlflow.corp.example", "mlflow.example.com")
    path = desk.folder / "chain.pem"
    path.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    path.with_name("key.pem").write_bytes(leaf.private_key_pem.bytes())
    return path


@pytest.fixture(scope="module")
def fleet(desk: Desk, base: dict[str, Any], chain: Path) -> Path:
    """An inventory of the deployments that the pages show."""
    path = desk.folder / "pages.yml"
    path.write_text(yaml.safe_dump({"mlflow": {"hosts": hosts(base, chain)}}))
    return path


def test_the_variables_of_the_pages_are_accepted(desk: Desk, fleet: Path):
    """All at once, before the first call of an API."""
    tasks = yaml.safe_load((ROOT / "playbooks/preflight.yml").read_text())[1]
    check = next(task for task in tasks["tasks"] if "mlops.mlflow_gcp.check_variables" in task)
    book = desk.folder / "playbooks" / "check.yml"
    book.write_text(yaml.safe_dump([tasks | {"tasks": [check]}], sort_keys=False))
    done = desk.type(f"ansible-playbook -i {fleet} {book}")
    expected = len(yaml.safe_load(fleet.read_text())["mlflow"]["hosts"])
    assert expected > 5
    assert (done.status, done.recap("ok")) == (0, expected), done.output


def of_others(cloud: Cloud) -> None:
    """What the pages name, and others have made: a key, and a network of a host project with a range and a peering."""
    for project in ("security", "network-host"):
        cloud.call("POST", MANAGER, {"projectId": project})
    cloud.kms_key("security", REGION)
    apis = {
        "serviceIds": [f"{name}.googleapis.com" for name in ("compute", "servicenetworking", "cloudresourcemanager")]
    }
    cloud.call("POST", "serviceusage.googleapis.com/v1/projects/network-host/services:batchEnable", apis)
    compute, network = "compute.googleapis.com/compute/v1", "projects/network-host/global/networks/shared"
    cloud.call(
        "POST", f"{compute}/projects/network-host/global/networks", {"name": "shared", "autoCreateSubnetworks": False}
    )
    subnetwork = {"name": f"mlflow-{REGION}", "network": network, "ipCidrRange": "10.20.0.0/24"}
    cloud.call("POST", f"{compute}/projects/network-host/regions/{REGION}/subnetworks", subnetwork)
    range_ = {
        "name": "google-managed-services",
        "purpose": "VPC_PEERING",
        "addressType": "INTERNAL",
        "prefixLength": 20,
    }
    cloud.call("POST", f"{compute}/projects/network-host/global/addresses", range_ | {"network": network})
    number = cloud.call("GET", f"{MANAGER}/network-host")["projectNumber"]
    peering = {"network": network.replace("network-host", number), "reservedPeeringRanges": ["google-managed-services"]}
    connections = "servicenetworking.googleapis.com/v1/services/servicenetworking.googleapis.com/connections"
    cloud.call("POST", connections, peering)
    cloud.call("POST", f"{compute}/projects/network-host/enableXpnHost")
    resource = {"xpnResource": {"id": PROJECT, "type": "PROJECT"}}
    cloud.call("POST", f"{compute}/projects/network-host/enableXpnResource", resource)


@pytest.mark.long
def test_a_plan_with_the_variables_of_the_pages(desk: Desk, fleet: Path):
    """A deployment of each would be made."""
    with local_cloud() as cloud:
        of_others(cloud)
        exports = {name: value for name, value in cloud.exports.items() if name != "GCP_SERVICE_ACCOUNT_FILE"}
        there = Desk(desk.folder, desk.env | exports | {"GCP_AUTH_KIND": "application"})
        done = there.type(f"ansible-playbook -i {fleet} mlops.mlflow_gcp.plan")
    expected = len(yaml.safe_load(fleet.read_text())["mlflow"]["hosts"])
    assert (done.status, done.recap("failed")) == (0, 0), done.output[-8000:]
    assert len(re.findall(r"^ *\d+ create, ", done.output, re.M)) == expected


# -- plays ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def inventory(desk: Desk, base: dict[str, Any], chain: Path) -> Path:
    """The deployment as a host of plays that include single roles, and what these need besides it."""
    path = desk.folder / "roles.yml"
    secret = {"vault_mlflow_private_key": chain.with_name("key.pem").read_text()}
    path.write_text(yaml.safe_dump({"mlflow": {"hosts": {"prod": secret}}}))
    return path


@pytest.fixture(scope="module")
def surroundings(cloud: Cloud) -> None:
    """A service that has Identity-Aware Proxy turned on, and a private zone of the network."""
    service = {"iapEnabled": True, "template": {"containers": [{"image": "gcr.io/cloudrun/hello"}]}}
    cloud.call("POST", f"{RUN}?serviceId=with-iap", service)
    apis = {"serviceIds": ["dns.googleapis.com"]}
    cloud.call("POST", f"serviceusage.googleapis.com/v1/projects/{PROJECT}/services:batchEnable", apis)
    zone = {"name": "corp", "dnsName": "corp.example.", "description": "", "visibility": "private"}
    network = f"https://www.googleapis.com/compute/v1/projects/{PROJECT}/global/networks/mlflow"
    zone |= {"privateVisibilityConfig": {"networks": [{"networkUrl": network}]}}
    cloud.call("POST", f"dns.googleapis.com/dns/v1/projects/{PROJECT}/managedZones", zone)


PLAYS = blocks("plays")


def book(desk: Desk, chosen: list[Block]) -> str:
    """A playbook of these blocks."""
    plays: list[Any] = []
    for block in chosen:
        text = words(block.text, THEIRS)
        if block.page == "roles/iap_cloud_run/README.md":  # the deployment's own service is behind a load balancer
            text = text.replace("iap_cloud_run_service: mlflow", "iap_cloud_run_service: with-iap")
        plays += yaml.safe_load(text)
    (desk.folder / "book.yml").write_text(yaml.safe_dump(plays, sort_keys=False))
    return "book.yml"


def test_the_plays_of_the_pages_in_check_mode(desk: Desk, inventory: Path, surroundings: None):
    """google.cloud's modules that look something up do nothing in check mode: what needs their answer is left out."""
    chosen = [block for block in PLAYS if "google.cloud." not in block.text]
    assert len(chosen) > 5
    done = desk.type(f"ansible-playbook -i {inventory} {book(desk, chosen)} --check")
    assert done.status == 0, done.output


@pytest.mark.long
@pytest.mark.parametrize("block", PLAYS, ids=str)
def test_a_play_of_a_page(block: Block, desk: Desk, inventory: Path, surroundings: None):
    """It works, and the second run changes nothing."""
    command = f"ansible-playbook -i {inventory} {book(desk, [block])}"
    done = desk.type(command)
    assert done.status == 0, done.output
    again = desk.type(command)
    assert (again.status, again.recap("changed")) == (0, 0), again.output


# -- what programs print -------------------------------------------------------


def shown(name: str) -> list[str]:
    """The lines of all blocks that TESTED gives to a test of this file."""
    chosen = [block for block in blocks("tested") if TESTED[block.key].endswith(f"::{name}")]
    assert chosen
    return [line for block in chosen for line in block.text.splitlines()]


def pattern(line: str) -> str:
    """A regular expression for a line with any other numbers."""
    return re.sub(r"\d+", r"\\d+", re.escape(line))


def test_how_a_timeline_ends(deployed: Play):
    """Label by label: the numbers, and what took longest, are those of each run."""
    for line in shown("test_how_a_timeline_ends"):
        label = re.match(r"[^\d:]+", line)
        assert label and re.search(rf"^{re.escape(label[0])}", deployed.output, re.M), (line, deployed.output[-2000:])


@pytest.mark.long
def test_what_a_plan_looks_like(deployment: tuple[Path, Play], first_plan: Play):
    """Each line is one of the plan of an empty project, or of a deployment that has changed, with another front door."""
    with copied(deployment) as cloud:
        bucket = f"storage.googleapis.com/storage/v1/b/{PROJECT}-mlflow-artifacts"
        cloud.call("PATCH", bucket, {"versioning": {"enabled": False}})
        other = IMAGE.replace("server:", "server:other-")
        cloud.command("image", "add", other, str(ROOT / "image"), "--python", IMAGE_PYTHON)
        changed = cloud.playbook(
            "plan.yml", "-e", '{"mlflow_front_door": "cloud_run", "mlflow_domain": ""}', image=other
        )
    assert changed.status == 0, changed.output
    printed = (first_plan.output + changed.output).replace(PROJECT, "my-project")
    lines = shown("test_what_a_plan_looks_like")
    missing = [line for line in lines if not re.search(rf"^\s*{pattern(line.strip())}", printed, re.M)]
    assert missing == [], printed[-6000:]


@pytest.mark.long
def test_the_takedown(deployment: tuple[Path, Play], desk: Desk):
    """With the decision about the data, without which it stops, in the inventory."""
    (block,) = [one for one in blocks("commands") if "mlflow_confirm_destroy" in one.text]
    inventory = desk.folder / "inventories/prod/hosts.yml"
    values = yaml.safe_load(inventory.read_text())
    values["mlflow"]["hosts"]["prod"] |= {"mlflow_destroy_data": True, "network_release_timeout": 0}
    with copied(deployment) as cloud:
        inventory.write_text(yaml.safe_dump(values))
        exports = {name: value for name, value in cloud.exports.items() if name != "GCP_SERVICE_ACCOUNT_FILE"}
        done = Desk(desk.folder, desk.env | exports | {"GCP_AUTH_KIND": "application"}).type(block.text)
        assert done.status == 0, done.output
        services = cloud.call("GET", f"{RUN}")
    assert not services.get("services"), services


def test_what_is_said_while_it_waits():
    """The words are the callback's and the module's own."""
    engine = (ROOT / "plugins/plugin_utils/watch.py").read_text()
    modules = "".join(path.read_text() for path in (ROOT / "plugins").rglob("*.py"))
    for line in shown("test_what_is_said_while_it_waits"):
        found = re.fullmatch(
            r"prod: after \d+ s, still waiting: (\w+) Cloud SQL instance mlflow \(usually (.+)\)", line
        )
        assert found and "still waiting: " in engine and found[2] in modules, line


def test_the_layers_of_the_sandbox():
    """As import-linter has them."""
    (line,) = shown("test_the_layers_of_the_sandbox")
    contracts = (ROOT / "sandbox/pyproject.toml").read_text()
    layers = re.findall(r'"gcp_sandbox\.(\w+)"', contracts.split("layers = [")[1].split("]")[0])
    assert [name for name in layers if name in line.split()] == line.split(" ─ ")


def test_the_dispatcher_of_a_controller():
    """The files that the play reads are there, and have variables."""
    (block,) = [block for block in blocks("tested") if block.page == "extensions/patterns/mlflow_gcp/README.md"]
    (play,) = yaml.safe_load(block.text)
    for name in play["vars_files"]:
        assert DataLoader().load_from_file(str(ROOT / "extensions/patterns/mlflow_gcp" / name))
