"""Credentials of every kind: each host of one run has its own, for our modules and those of google.cloud."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from tests.conftest import BIN, PROJECT, Cloud, Play

OTHER = "second-project"
ISSUER = "https://token.actions.example.com"
IAM = f"iam.googleapis.com/v1/projects/{PROJECT}"
TYPE = "urn:ietf:params:oauth:token-type:"
OFFICIAL = (
    "key_file",
    "key_contents",
    "token",
    "machine",
    "person",
    "federated",
    "federated_account",
    "impersonated_file",
)
"""The kinds that google.cloud has itself."""
OF_ALL = {"ansible_python_interpreter": "{{ ansible_playbook_python }}"}


def account_id(name: str) -> str:
    return f"of-{name.replace('_', '-')}"


def email(name: str) -> str:
    return f"{account_id(name)}@{PROJECT}.iam.gserviceaccount.com"


class People:
    """What makes the credentials of each kind in a sandbox, and grants them one bucket each."""

    def __init__(self, cloud: Cloud, folder: Path) -> None:
        self.cloud, self.folder = cloud, folder
        self.hosts: dict[str, dict[str, Any]] = {}
        self.secrets: list[str] = []
        self.members: dict[str, str] = {}

    def file(self, name: str, content: Any) -> str:
        path = self.folder / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return str(path)

    def account(self, name: str) -> str:
        self.cloud.call("POST", f"{IAM}/serviceAccounts", {"accountId": account_id(name)})
        return email(name)

    def key(self, name: str) -> dict[str, str]:
        made = self.cloud.call("POST", f"{IAM}/serviceAccounts/{self.account(name)}/keys", {})
        key: dict[str, str] = json.loads(base64.b64decode(made["privateKeyData"]))
        self.secrets.append(key["private_key"].splitlines()[1])
        return key

    def may_act_as(self, name: str, member: str) -> None:
        policy = {"bindings": [{"role": "roles/iam.serviceAccountTokenCreator", "members": [member]}]}
        self.cloud.call("POST", f"{IAM}/serviceAccounts/{email(name)}:setIamPolicy", {"policy": policy})

    def person(self, name: str) -> dict[str, str]:
        made: dict[str, str] = json.loads(self.cloud.command("token", "--as", name, "--credentials"))
        self.secrets.append(made["refresh_token"])
        return made

    def federation(self) -> tuple[str, dict[str, Any]]:
        """A member of a new workload identity pool, and the file of its credentials."""
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        pools = f"{IAM}/locations/global/workloadIdentityPools"
        self.cloud.call("POST", f"{pools}?workloadIdentityPoolId=runners", {})
        jwk = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True) | {"kid": "one", "alg": "RS256", "use": "sig"}
        oidc = {"issuerUri": ISSUER, "jwksJson": json.dumps({"keys": [jwk]})}
        body = {"oidc": oidc, "attributeMapping": {"google.subject": "assertion.sub"}}
        made = self.cloud.call("POST", f"{pools}/runners/providers?workloadIdentityPoolProviderId=oidc", body)
        provider = made.get("response", made)["name"]
        when = int(time.time())
        claims = {"iss": ISSUER, "sub": "repo:team/app", "aud": f"https://iam.googleapis.com/{provider}"}
        token = jwt.encode(claims | {"iat": when, "exp": when + 900}, key, algorithm="RS256", headers={"kid": "one"})
        self.secrets.append(token)
        config = {
            "type": "external_account",
            "audience": f"//iam.googleapis.com/{provider}",
            "subject_token_type": f"{TYPE}jwt",
            "token_url": "https://sts.googleapis.com/v1/token",
            "credential_source": {"file": self.file("subject-token", token)},
        }
        pool = provider.partition("/providers/")[0]
        return f"principal://iam.googleapis.com/{pool}/subject/repo:team/app", config

    def host(self, name: str, member: str, **variables: Any) -> None:
        """A host with these variables, whose credentials are MEMBER's, and its bucket."""
        self.members[name] = member
        bucket = f"{PROJECT}-{name.replace('_', '-')}"
        self.cloud.call(
            "POST", f"storage.googleapis.com/storage/v1/b?project={PROJECT}", {"name": bucket, "location": "EU"}
        )
        policy = {"bindings": [{"role": "roles/storage.admin", "members": [member]}]}
        self.cloud.call("PUT", f"storage.googleapis.com/storage/v1/b/{bucket}/iam", policy)
        self.hosts[name] = variables | {"own": bucket}

    def make(self) -> None:
        """All of them."""
        deployer = f"deployer@{PROJECT}.iam.gserviceaccount.com"
        file = self.file("key.json", self.key("key_file"))
        self.host(
            "key_file",
            f"serviceAccount:{email('key_file')}",
            mlflow_service_account_file=file,
            native={"auth_kind": "serviceaccount", "service_account_file": file},
        )
        contents = json.dumps(self.key("key_contents"), indent=2)
        vaulted = self.file("vault.yml", yaml.safe_dump({"vault_key": contents}))
        password = self.file("password", "only-a-test\n")
        subprocess.run(
            [BIN / "ansible-vault", "encrypt", "--vault-password-file", password, vaulted],
            check=True,
            capture_output=True,
        )
        self.host(
            "key_contents",
            f"serviceAccount:{email('key_contents')}",
            mlflow_service_account_contents="{{ vault_key }}",
            native={"auth_kind": "serviceaccount", "service_account_contents": "{{ vault_key }}"},
        )
        token = self.cloud.command("token", "--as", self.account("token")).strip()
        self.secrets.append(token)
        self.host(
            "token",
            f"serviceAccount:{email('token')}",
            mlflow_access_token=token,
            native={"auth_kind": "accesstoken", "access_token": token},
        )
        self.host(
            "machine",
            f"serviceAccount:{self.account('machine')}",
            mlflow_auth_kind="machineaccount",
            native={"auth_kind": "machineaccount"},
        )
        person = self.person("jane@example.com") | {"quota_project_id": OTHER}
        self.native_file("person", "user:jane@example.com", person)
        # Application default credentials of the environment.
        self.file("default.json", self.person("john@example.com"))
        self.host("default", "user:john@example.com", mlflow_auth_kind="application", mlflow_quota_project=OTHER)
        self.host(
            "impersonated",
            f"serviceAccount:{self.account('impersonated')}",
            mlflow_impersonate_service_account=email("impersonated"),
        )
        self.may_act_as("impersonated", f"serviceAccount:{deployer}")
        url = "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{}:generateAccessToken"
        self.account("impersonated_file")
        self.may_act_as("impersonated_file", "user:mary@example.com")
        config = {
            "type": "impersonated_service_account",
            "service_account_impersonation_url": url.format(email("impersonated_file")),
            "source_credentials": self.person("mary@example.com"),
            "delegates": [],
        }
        self.native_file("impersonated_file", f"serviceAccount:{email('impersonated_file')}", config)
        member, external = self.federation()
        self.native_file("federated", member, external)
        self.account("federated_account")
        self.may_act_as("federated_account", member)
        config = external | {"service_account_impersonation_url": url.format(email("federated_account"))}
        self.native_file("federated_account", f"serviceAccount:{email('federated_account')}", config)
        names = list(self.hosts)
        for name, following in zip(names, names[1:] + names[:1], strict=True):
            self.hosts[name]["others"] = self.hosts[following]["own"]

    def native_file(self, name: str, member: str, config: dict[str, Any]) -> None:
        file = self.file(f"{name}.json", config)
        exported = {"GOOGLE_APPLICATION_CREDENTIALS": file}
        self.host(name, member, mlflow_credentials_file=file, exported=exported, native={"auth_kind": "application"})


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Iterator[People]:
    with Cloud.running("--project", PROJECT, "--machine", email("machine")) as cloud:
        names = ("iam", "iamcredentials", "sts", "storage", "cloudresourcemanager", "serviceusage", "cloudbilling")
        apis = {"serviceIds": [f"{name}.googleapis.com" for name in names]}
        cloud.call("POST", f"serviceusage.googleapis.com/v1/projects/{PROJECT}/services:batchEnable", apis)
        cloud.call("POST", "cloudresourcemanager.googleapis.com/v1/projects", {"projectId": OTHER})
        cloud.call("POST", f"serviceusage.googleapis.com/v1/projects/{OTHER}/services:batchEnable", apis)
        (billing,) = cloud.call("GET", "cloudbilling.googleapis.com/v1/billingAccounts")["billingAccounts"]
        linked = {"billingAccountName": billing["name"]}
        cloud.call("PUT", f"cloudbilling.googleapis.com/v1/projects/{OTHER}/billingInfo", linked)
        made = People(cloud, tmp_path_factory.mktemp("people"))
        made.make()
        owners = {
            "bindings": [
                {
                    "role": "roles/owner",
                    "members": [f"serviceAccount:deployer@{PROJECT}.iam.gserviceaccount.com", *made.members.values()],
                }
            ]
        }
        cloud.call("POST", f"cloudresourcemanager.googleapis.com/v1/projects/{OTHER}:setIamPolicy", {"policy": owners})
        yield made


@pytest.fixture
def run(people: People):
    """Run a playbook with an inventory of these hosts; no secret shows, however much it says."""

    def run(playbook: str, *words: str, **more: dict[str, Any]) -> Play:
        hosts = {name: people.hosts[name] | extra for name, extra in more.items()} if more else people.hosts
        groups = {"mlflow": {"hosts": hosts}, "native": {"hosts": {name: {} for name in OFFICIAL if name in hosts}}}
        inventory = Path(people.file("hosts.yml", yaml.safe_dump({"all": {"children": groups, "vars": OF_ALL}})))
        given = (
            "-e",
            f"@{people.folder / 'vault.yml'}",
            "--vault-password-file",
            people.folder / "password",
            "--forks",
            "4",
        )
        play = people.cloud.playbook(
            playbook,
            *given,
            "-vvv",
            *words,
            inventory=inventory,
            GOOGLE_APPLICATION_CREDENTIALS=str(people.folder / "default.json"),
        )
        assert not [secret for secret in people.secrets if secret in play.output]
        assert "ya29." not in play.output
        return play

    return run


def test_each_host_has_its_own(people: People, run):
    play = run("../tests/clients/credentials.yml")
    assert play.status == 0, play.output[-6000:]
    # Two tasks with our modules, and one with a module of google.cloud, by its own options or the lookup plugin.
    assert play.recap("ok") == 3 * len(people.hosts), play.output[-3000:]
    assert play.recap("changed") == len(people.hosts)


DEPLOYMENT = {
    "mlflow_project_id": OTHER,
    "mlflow_region": "europe-west2",
    "mlflow_front_door": "cloud_run",
    "mlflow_webapp_users": ["user:jane@example.com"],
}
FOUND = {
    "person": ("application", "authorized_user", "", "user:jane@example.com", OTHER, True),
    "impersonated": ("serviceaccount", "impersonated_service_account", "service_account", "serviceAccount:", "", True),
    "federated": ("application", "external_account", "", "an identity of projects/", "", True),
    "token": ("accesstoken", "access_token", "", "serviceAccount:", "", False),
}


def test_the_preflight_reports_whose_they_are(people: People, run):
    names = {name: DEPLOYMENT | {"mlflow_name": f"of-{name}"} for name in FOUND}
    # Refused by the preflight, as one host of the run.
    names["default"] = DEPLOYMENT | {
        "mlflow_name": "of-default",
        "mlflow_impersonate_service_account": email("machine"),
    }
    play = run("preflight.yml", **names)
    assert play.recap("failed") == 1, play.output[-6000:]
    callers = re.findall(r"ok: \[(\w+)\] => \n    msg:\n        caller:\n((?: {12}.*\n)+)", play.output)
    assert {name for name, _ in callers} == set(FOUND)
    for name, text in callers:
        caller = yaml.safe_load(text)
        kind, credentials, source, principal, quota_project, renewed = FOUND[name]
        assert (caller["auth_kind"], caller["credentials"], caller["source"]) == (kind, credentials, source), text
        assert caller["principal"].startswith(principal) and caller["quota_project"] == quota_project, text
        assert caller["renewed"] is renewed and re.fullmatch(r"2\d{3}-\d\d-\d\dT[\d:]{8}Z", caller["expires"]), text
    # The host whose credentials may not act as the account says so, with what mends it.
    assert "iam.serviceAccounts.getAccessToken" in play.error and "roles/iam.serviceAccountTokenCreator" in play.error
