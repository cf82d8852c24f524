# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The deployments that exist, as hosts of the group mlflow."""

from __future__ import annotations

DOCUMENTATION = r"""
name: deployments
short_description: The MLflow deployments that exist in projects of Google Cloud
version_added: 0.1.0
author:
  - mlops.mlflow_gcp contributors (@mlops)
description:
  - Finds the deployments that the playbook C(site) has made, in any region, by the label C(mlflow-gcp-deployment) of their Cloud Run services.
  - Each is a host of the group C(mlflow), with the variables that C(verify), C(plan), C(upgrade), C(gc) and C(destroy) need to find what belongs to
    it. The service has them in an annotation. Who has access comes from Google's policies.
  - How a deployment is to be, such as its size, is not known from what exists. Groups by label (O(keyed_groups)) give it to the hosts,
    from the same C(group_vars) as in an inventory that is written by hand.
  - A file with its options has a name that ends with C(deployments.yml) or C(deployments.yaml).
  - Reads the services of each project with one request, and the policies of each deployment with two. Needs the permissions
    C(run.services.list), C(iap.webServices.getIamPolicy) or C(iap.web.getIamPolicy), C(iam.serviceAccounts.getIamPolicy) and
    C(resourcemanager.projects.get), which are part of C(roles/viewer) and C(roles/iap.admin).
requirements:
  - google-auth
  - requests
extends_documentation_fragment:
  - constructed
  - inventory_cache
options:
  plugin:
    description: The name of this plugin.
    required: true
    choices: [mlops.mlflow_gcp.deployments]
  projects:
    description: IDs of the projects. By default the one of the environment.
    type: list
    elements: str
    env:
      - name: GCP_PROJECT
  regions:
    description: Regions to which the inventory is limited. By default all.
    type: list
    elements: str
    default: []
  filters:
    description:
      - What the labels of a deployment must be, as Kubernetes selects labels, such as V(team=ml), V(stage!=prod), V(stage in (dev, test\)) or V(team).
      - All of them must be met.
    type: list
    elements: str
    default: []
  hostname:
    description:
      - An expression for the name of a host, which can use its variables, such as V(mlflow_labels.team ~ '-' ~ mlflow_labels.stage).
      - By default C(NAME.REGION.PROJECT), with the name of the service.
      - Two deployments with the same name are refused.
    type: str
  access:
    description:
      - Whether the hosts get C(mlflow_webapp_users) and C(mlflow_logger_token_creators), as they are in Google's policies. These precede
        C(group_vars).
      - Set it to V(false) if C(group_vars) say who has access.
    type: bool
    default: true
  auth_kind:
    description:
      - The kind of credentials. By default the one that the other options set.
      - Credentials that are given here, in files or by impersonation, are those of the hosts too.
    type: str
    choices: [application, serviceaccount, accesstoken, machineaccount]
    env:
      - name: GCP_AUTH_KIND
  service_account_file:
    description: Path of the key file of a service account.
    type: path
    env:
      - name: GCP_SERVICE_ACCOUNT_FILE
  service_account_contents:
    description: The JSON of such a file.
    type: raw
    env:
      - name: GCP_SERVICE_ACCOUNT_CONTENTS
  service_account_email:
    description: One of the service accounts of the machine, with O(auth_kind=machineaccount).
    type: str
    env:
      - name: GCP_SERVICE_ACCOUNT_EMAIL
  access_token:
    description: An access token.
    type: str
    env:
      - name: GCP_ACCESS_TOKEN
  credentials_file:
    description: Path of a file of application default credentials, of any type.
    type: path
  impersonate_service_account:
    description: E-mail address of a service account to act as.
    type: str
    env:
      - name: GCP_IMPERSONATE_SERVICE_ACCOUNT
  impersonate_delegates:
    description: E-mail addresses of service accounts in between.
    type: list
    elements: str
  quota_project:
    description: ID of the project whose quotas the requests count against.
    type: str
  scopes:
    description: Scopes of the access token.
    type: list
    elements: str
    default: ['https://www.googleapis.com/auth/cloud-platform']
    env:
      - name: GCP_SCOPES
"""

EXAMPLES = r"""
# fleet.deployments.yml: all deployments of two projects, named as in the inventory that has made them
plugin: mlops.mlflow_gcp.deployments
projects: [team-a-project, team-b-project]
hostname: mlflow_labels.team ~ '-' ~ mlflow_labels.stage
keyed_groups:
  - {key: mlflow_labels.team, prefix: team}
  - {key: mlflow_labels.stage, prefix: stage}
cache: true
cache_plugin: ansible.builtin.jsonfile
cache_connection: ~/.ansible/mlflow-deployments

# b.deployments.yml: those of a project that are in production, with the credentials of another account
#
# plugin: mlops.mlflow_gcp.deployments
# projects: [team-b-project]
# filters: [stage=prod]
# impersonate_service_account: deployer@team-b-project.iam.gserviceaccount.com
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from ansible.errors import AnsibleError, AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin, Cacheable, Constructable
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import client, credentials, recorded, values
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import ApiError, GcpError
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.iam import members_of
from ansible_collections.mlops.mlflow_gcp.plugins.plugin_utils import core, host_credentials

GROUP = "mlflow"
RUN = "https://run.googleapis.com/v1"
IAP = "https://iap.googleapis.com/v1"
IAM = "https://iam.googleapis.com/v1"
USER_ROLE = "roles/iap.httpsResourceAccessor"
CREATOR_ROLE = "roles/iam.serviceAccountTokenCreator"
PAGE = 200
THREADS = 16
Doc = dict[str, Any]


class InventoryModule(BaseInventoryPlugin, Constructable, Cacheable):
    """See DOCUMENTATION."""

    NAME = "mlops.mlflow_gcp.deployments"

    def verify_file(self, path: str) -> bool:
        """Whether a file is for this plugin."""
        return bool(super().verify_file(path)) and path.endswith(("deployments.yml", "deployments.yaml"))

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:
        """Add the deployments to the inventory."""
        super().parse(inventory, loader, path, cache=cache)
        given = self._read_config_data(path)
        for option in sorted(given.keys() & credentials.OPTIONS.keys()):
            # As gcp_compute does, and so that a secret need not be in the file.
            self.set_option(option, self.templar.template(self.get_option(option)))
        self.load_cache_plugin()
        key, cached = self.get_cache_key(path), self.get_option("cache")
        found: list[Doc] | None = None
        if cached and cache:
            with suppress(KeyError):
                found = self._cache[key]
        if found is None:
            found = self._find(self._client(given))
            if cached:
                self._cache[key] = found
        self._add(inventory, found, self._of_hosts(given))

    # Finding.

    def _client(self, given: Doc) -> client.Client:
        """The client with the credentials of the options."""
        if client.IMPORT_ERROR:
            raise AnsibleParserError("mlops.mlflow_gcp.deployments requires google-auth and requests")
        params = self._credentials(given)
        if not params["auth_kind"]:
            raise AnsibleParserError("there are no credentials: set auth_kind, or GCP_AUTH_KIND in the environment")
        try:
            return client.Client(client.authorized_session(params), "mlops.mlflow_gcp-inventory")
        except GcpError as error:
            raise AnsibleParserError(str(error)) from None

    def _credentials(self, given: Doc) -> Doc:
        """The options of credentials; if the file has some, none of them come from the environment."""
        params = {option: self.get_option(option) for option in credentials.OPTIONS}
        own = [option for option in host_credentials.OWN if given.get(option)]
        if own:
            params |= {option: None for option in host_credentials.OWN if option not in own}
            params["auth_kind"] = params["auth_kind"] or credentials.KIND_OF[own[0]]
            if "impersonate_service_account" not in given:
                params["impersonate_service_account"] = None
        return params

    def _of_hosts(self, given: Doc) -> Doc:
        """The variables of all hosts: credentials of the file that are no secrets."""
        secret = {"access_token", "service_account_contents"}
        options = (*host_credentials.OWN, *host_credentials.ABOVE)
        found = {option: self.get_option(option) for option in options if given.get(option)}
        if secret & found.keys():
            return {}
        return {host_credentials.PREFIX + option: value for option, value in found.items()}

    def _find(self, google: client.Client) -> list[Doc]:
        """What is found, in the form in which it is kept in the cache."""
        projects = [project for given in self.get_option("projects") or () for project in values.listed(given) or ()]
        if not projects:
            raise AnsibleParserError("give projects, or GCP_PROJECT in the environment")
        for project in projects:
            if not values.PROJECT_ID.valid(project):
                raise AnsibleParserError(f"projects has {project!r}; allowed: {values.PROJECT_ID.words(project)}")
        try:
            # First on its own, so that the credentials are exchanged for a token only once, and fail only once.
            first = [*self._services(google, projects[0])]
            with ThreadPoolExecutor(THREADS) as pool:
                more = pool.map(lambda project: [*self._services(google, project)], projects[1:])
                services = [*first, *(service for found in more for service in found)]
                return [*pool.map(lambda found: self._deployment(google, *found), services)]
        except GcpError as error:
            raise AnsibleParserError(str(error)) from None

    def _services(self, google: client.Client, project: str) -> Iterator[tuple[str, Doc]]:
        """
        The services of a project with the label, with the project.
        https://cloud.google.com/run/docs/reference/rest/v1/projects.locations.services/list
        """
        regions = self.get_option("regions")
        query = {"labelSelector": ",".join([recorded.KEY, *self.get_option("filters")]), "limit": str(PAGE)}
        with google.action(f"list the Cloud Run services of project {project}"):
            while True:
                try:
                    page = google.get(f"{RUN}/projects/{project}/locations/-/services", params=query)
                except ApiError as error:
                    if error.disabled:
                        return
                    raise
                if page.get("unreachable"):
                    self.display.warning(
                        f"The services of project {project} in {', '.join(page['unreachable'])} could not be listed: deployments may be missing"
                    )
                for service in page.get("items") or ():
                    if not regions or recorded.region_of(service) in regions:
                        yield project, service
                query["continue"] = (page.get("metadata") or {}).get("continue") or ""
                if not query["continue"]:
                    return

    def _deployment(self, google: client.Client, project: str, service: Doc) -> Doc:
        """The variables of a deployment; a text instead of access that may not be read."""
        variables = recorded.variables_of(service, project)
        found: Doc = {"variables": variables, "deployment": {**recorded.about(service), "project": project}}
        if self.get_option("access"):
            try:
                variables |= self._access(google, variables, service)
            except ApiError as error:
                found["unread"] = str(error)
        return found

    def _access(self, google: client.Client, variables: Doc, service: Doc) -> Doc:
        """Who may pass Identity-Aware Proxy, and who may sign in as the logger."""

        def of(name: str, default: str) -> str:
            return str(variables.get(name) or default)

        name, project = variables["mlflow_name"], variables["mlflow_project_id"]
        door = values.FRONT_DOORS.get(of("mlflow_front_door", "load_balancer"), "iap_lb")
        region, number = variables["mlflow_region"], service["metadata"].get("namespace")
        own = of(f"{door}_project_id", project)
        with google.action(f"read who has access to {name} of project {project}"):
            if own != project or not str(number).isdigit():
                url = f"https://cloudresourcemanager.googleapis.com/v1/projects/{own}"
                number = google.get(url)["projectNumber"]
            balancer = of(f"{door}_name", of("mlflow_lb_name", f"{name}-lb"))
            resource = {
                "iap_lb": f"compute/services/{balancer}-backend",
                "iap_internal_lb": f"compute-{of('iap_internal_lb_region', region)}/services/{balancer}-backend",
                "iap_cloud_run": f"cloud_run-{of('iap_cloud_run_region', region)}/services/{service['metadata']['name']}",
            }[door]
            ask = {"options": {"requestedPolicyVersion": 3}}
            url = f"{IAP}/projects/{number}/iap_web/{resource}:getIamPolicy"
            users = members_of(google.post(url, ask, idempotent=True), USER_ROLE)
            account = of(f"{door}_logger_account_id", of("mlflow_logger_service_account", f"{name}-logger"))
            logger = values.service_account_email(account, own)
            url = f"{IAM}/projects/{own}/serviceAccounts/{logger}:getIamPolicy"
            query = {"options.requestedPolicyVersion": "3"}
            creators = members_of(google.post(url, {}, params=query, idempotent=True), CREATOR_ROLE)
        return {
            "mlflow_webapp_users": [member for member in users if member != f"serviceAccount:{logger}"],
            "mlflow_logger_token_creators": creators,
        }

    # Adding.

    def _add(self, inventory: Any, found: list[Doc], of_hosts: Doc) -> None:
        inventory.add_group(GROUP)
        names: dict[str, Doc] = {}
        for each in sorted(found, key=lambda each: self._place(each["deployment"])):
            # What is in Google's resources is no template.
            variables: Doc = core.no_template({**each["variables"], "mlflow_deployment": each["deployment"]})
            variables |= of_hosts | {"ansible_connection": "local"}
            name = self._hostname(each["deployment"], variables)
            if name in names:
                raise AnsibleParserError(
                    f"two deployments have the name {name}: {self._place(names[name])} and {self._place(each['deployment'])}; change hostname"
                )
            names[name] = each["deployment"]
            inventory.add_host(name, group=GROUP)
            for variable, value in variables.items():
                inventory.set_variable(name, variable, value)
            if "unread" in each:
                self.display.warning(f"{name}: {each['unread']}. Its variables say who has access, or access: false")
            strict = self.get_option("strict")
            self._set_composite_vars(self.get_option("compose"), variables, name, strict=strict)
            self._add_host_to_composed_groups(self.get_option("groups"), variables, name, strict=strict)
            self._add_host_to_keyed_groups(self.get_option("keyed_groups"), variables, name, strict=strict)

    def _hostname(self, deployment: Doc, variables: Doc) -> str:
        expression = self.get_option("hostname")
        if not expression:
            return self._place(deployment)
        try:
            name = self._compose(expression, variables)
        except AnsibleError as error:
            raise AnsibleParserError(f"hostname of {self._place(deployment)}: {error}") from None
        if not isinstance(name, str) or not name:
            raise AnsibleParserError(f"hostname of {self._place(deployment)} is {name!r}; allowed: text")
        if name == GROUP:
            raise AnsibleParserError(
                f"hostname of {self._place(deployment)} is {name!r}, which is the group of all deployments"
            )
        return str(name)

    def _place(self, deployment: Doc) -> str:
        return ".".join(deployment[key] for key in ("service", "region", "project"))
