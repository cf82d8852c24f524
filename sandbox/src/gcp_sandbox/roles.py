"""The predefined roles that count here, as patterns of permissions.

https://cloud.google.com/iam/docs/understanding-roles
"""

from __future__ import annotations

import functools
import re

_RUN_READ = ["run.*.get", "run.*.list", "run.*.getIamPolicy"]

# role -> permissions; "*" stands for any part, a leading "!" takes away again.
ROLES: dict[str, list[str]] = {
    "roles/owner": ["*", "!storage.objects.*", "!iap.webServiceVersions.accessViaIAP", "!iap.*.accessViaIAP",
                    "!iam.serviceAccounts.getAccessToken", "!iam.serviceAccounts.signBlob",
                    "!iam.serviceAccounts.signJwt", "!iam.serviceAccounts.getOpenIdToken",
                    "!iam.serviceAccounts.implicitDelegation"],
    "roles/editor": ["*", "!*.setIamPolicy", "!storage.objects.*", "!iap.*", "!secretmanager.versions.access",
                     "!iam.serviceAccounts.getAccessToken", "!iam.serviceAccounts.signBlob",
                     "!iam.serviceAccounts.signJwt", "!iam.serviceAccounts.getOpenIdToken",
                     "!run.routes.invoke", "!servicenetworking.services.addPeering"],
    "roles/viewer": ["*.get", "*.list", "*.getIamPolicy", "!storage.objects.*", "!secretmanager.versions.access"],
    "roles/run.invoker": ["run.routes.invoke", "run.jobs.run"],
    "roles/run.admin": ["run.*"],
    "roles/run.developer": ["run.*", "!*.setIamPolicy"],
    "roles/run.viewer": _RUN_READ,
    "roles/secretmanager.secretAccessor": ["secretmanager.versions.access"],
    "roles/secretmanager.admin": ["secretmanager.*"],
    "roles/secretmanager.viewer": ["secretmanager.*.get", "secretmanager.*.list", "secretmanager.*.getIamPolicy"],
    "roles/storage.admin": ["storage.*"],
    "roles/storage.objectAdmin": ["storage.objects.*", "storage.multipartUploads.*", "storage.folders.*"],
    "roles/storage.objectUser": ["storage.objects.create", "storage.objects.delete", "storage.objects.get",
                                 "storage.objects.list", "storage.objects.update", "storage.objects.restore",
                                 "storage.multipartUploads.*", "storage.folders.*"],
    "roles/storage.objectCreator": ["storage.objects.create", "storage.multipartUploads.create"],
    "roles/storage.objectViewer": ["storage.objects.get", "storage.objects.list"],
    "roles/storage.legacyBucketOwner": ["storage.buckets.get", "storage.buckets.getIamPolicy",
                                        "storage.buckets.setIamPolicy", "storage.buckets.update",
                                        "storage.objects.create", "storage.objects.delete", "storage.objects.list",
                                        "storage.multipartUploads.*"],
    "roles/storage.legacyBucketReader": ["storage.buckets.get", "storage.objects.list", "storage.multipartUploads.list"],
    "roles/storage.legacyObjectOwner": ["storage.objects.get", "storage.objects.getIamPolicy",
                                        "storage.objects.setIamPolicy", "storage.objects.update"],
    "roles/storage.legacyObjectReader": ["storage.objects.get"],
    "roles/cloudsql.client": ["cloudsql.instances.connect", "cloudsql.instances.get"],
    "roles/cloudsql.admin": ["cloudsql.*"],
    "roles/compute.admin": ["compute.*"],
    "roles/compute.networkAdmin": ["compute.*", "!compute.instances.*", "!compute.firewalls.create"],
    "roles/compute.loadBalancerAdmin": ["compute.*", "!compute.networks.create"],
    "roles/servicenetworking.networksAdmin": ["servicenetworking.*"],
    "roles/serviceusage.serviceUsageAdmin": ["serviceusage.*"],
    "roles/serviceusage.serviceUsageConsumer": ["serviceusage.services.get", "serviceusage.services.list",
                                                "serviceusage.services.use"],
    "roles/resourcemanager.projectIamAdmin": ["resourcemanager.projects.get", "resourcemanager.projects.getIamPolicy",
                                              "resourcemanager.projects.setIamPolicy"],
    "roles/resourcemanager.organizationAdmin": [
        "resourcemanager.organizations.*", "resourcemanager.folders.*", "resourcemanager.projects.get",
        "resourcemanager.projects.list", "resourcemanager.projects.getIamPolicy", "resourcemanager.projects.setIamPolicy",
        "orgpolicy.policy.get"],
    "roles/resourcemanager.projectCreator": ["resourcemanager.organizations.get", "resourcemanager.projects.create"],
    "roles/resourcemanager.projectDeleter": ["resourcemanager.projects.delete"],
    "roles/browser": ["resourcemanager.folders.get", "resourcemanager.folders.list", "resourcemanager.organizations.get",
                      "resourcemanager.projects.get", "resourcemanager.projects.getIamPolicy",
                      "resourcemanager.projects.list"],
    "roles/iam.serviceAccountAdmin": ["iam.serviceAccounts.*", "!iam.serviceAccounts.actAs",
                                      "!iam.serviceAccounts.getAccessToken", "!iam.serviceAccounts.signBlob",
                                      "!iam.serviceAccounts.signJwt", "!iam.serviceAccounts.getOpenIdToken"],
    "roles/iam.serviceAccountUser": ["iam.serviceAccounts.actAs", "iam.serviceAccounts.get", "iam.serviceAccounts.list"],
    "roles/iam.serviceAccountKeyAdmin": ["iam.serviceAccountKeys.*"],
    "roles/iam.serviceAccountTokenCreator": ["iam.serviceAccounts.getAccessToken", "iam.serviceAccounts.signBlob",
                                             "iam.serviceAccounts.signJwt", "iam.serviceAccounts.getOpenIdToken",
                                             "iam.serviceAccounts.implicitDelegation"],
    "roles/iap.httpsResourceAccessor": ["iap.webServiceVersions.accessViaIAP"],
    "roles/iap.admin": ["iap.*", "!iap.*.accessViaIAP"],
    "roles/iap.settingsAdmin": ["iap.*.getSettings", "iap.*.updateSettings", "iap.projects.*"],
    "roles/oauthconfig.editor": ["clientauthconfig.*", "oauthconfig.*"],
    "roles/artifactregistry.reader": ["artifactregistry.*.get", "artifactregistry.*.list",
                                      "artifactregistry.repositories.downloadArtifacts"],
    "roles/artifactregistry.admin": ["artifactregistry.*"],
    "roles/logging.logWriter": ["logging.logEntries.create"],
    "roles/run.serviceAgent": ["run.*", "iam.serviceAccounts.getAccessToken", "artifactregistry.repositories.*"],
    "roles/compute.serviceAgent": ["compute.*"],
}  # fmt: skip


BASIC = ("roles/owner", "roles/editor", "roles/viewer")


@functools.lru_cache(maxsize=10_000)
def role_has(role: str, permission: str) -> bool:
    """Whether a predefined role contains a permission."""
    granted = False
    for pattern in ROLES.get(role, ()):
        text = pattern.removeprefix("!")
        if re.fullmatch(re.escape(text).replace(r"\*", ".*"), permission):
            granted = not pattern.startswith("!")
    return granted


def exists(role: str) -> bool:
    """Whether IAM accepts the role: predefined names are taken as they come, custom ones need their path."""
    return bool(re.fullmatch(r"roles/[A-Za-z][\w.]*|(projects|organizations)/[^/]+/roles/[\w.]+", role))
