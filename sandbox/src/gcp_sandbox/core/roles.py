"""The supported predefined roles, as patterns of permissions.

https://cloud.google.com/iam/docs/roles-permissions
"""

from __future__ import annotations

import functools
import re

from gcp_sandbox.core import permissions

BASIC = ("roles/owner", "roles/editor", "roles/viewer")
_PROJECT = "resourcemanager.projects.get resourcemanager.projects.list"
_FIREWALLS = "compute.networks.getEffectiveFirewalls compute.networks.getRegionEffectiveFirewalls"
_QUOTA = "serviceusage.quotas.get serviceusage.services.get serviceusage.services.list"
# Permissions that no basic role has: acting as an account, IAP access, reading data whose access is granted separately.
_NEVER = (
    "!iam.serviceAccounts.getAccessToken !iam.serviceAccounts.signBlob !iam.serviceAccounts.signJwt "
    "!iam.serviceAccounts.getOpenIdToken !iam.serviceAccounts.implicitDelegation !*.accessViaIAP "
    "!storage.objects.* !storage.multipartUploads.* "
    "!orgpolicy.policy.set !orgpolicy.policies.create !orgpolicy.policies.delete !orgpolicy.policies.update"
)

# role -> (title, permissions); "*" matches any part, a leading "!" excludes.
ROLES: dict[str, tuple[str, str]] = {
    "roles/owner": ("Owner", f"* {_NEVER}"),
    "roles/editor": (
        "Editor",
        f"* {_NEVER} !*.setIamPolicy !iap.* !secretmanager.versions.access !servicenetworking.services.addPeering "
        "!iam.roles.* !resourcemanager.projects.delete !resourcemanager.projects.undelete "
        "!resourcemanager.projects.createBillingAssignment !resourcemanager.projects.deleteBillingAssignment "
        "!clientauthconfig.clients.getWithSecret !clientauthconfig.clients.listWithSecrets "
        "!cloudkms.cryptoKeyVersions.useToDecrypt !cloudkms.cryptoKeyVersions.useToEncrypt",
    ),
    "roles/viewer": (
        "Viewer",
        f"*.get *.list *.getIamPolicy {_NEVER} !clientauthconfig.* !cloudsql.instances.connect !iap.*.getIamPolicy "
        "!logging.privateLogEntries.list !storage.buckets.get !storage.buckets.getIamPolicy",
    ),
    "roles/browser": (
        "Browser",
        "resourcemanager.folders.get resourcemanager.folders.list resourcemanager.organizations.get "
        f"{_PROJECT} resourcemanager.projects.getIamPolicy",
    ),
    # Cloud Run
    "roles/run.admin": ("Cloud Run Admin", f"run.* {_PROJECT}"),
    "roles/run.developer": ("Cloud Run Developer", f"run.* !*.setIamPolicy {_PROJECT}"),
    "roles/run.invoker": ("Cloud Run Invoker", "run.routes.invoke run.jobs.run"),
    "roles/run.servicesInvoker": ("Cloud Run Service Invoker", "run.routes.invoke"),
    "roles/run.jobsExecutor": ("Cloud Run Jobs Executor", "run.jobs.run run.executions.cancel"),
    "roles/run.jobsExecutorWithOverrides": (
        "Cloud Run Jobs Executor With Overrides",
        "run.jobs.run run.jobs.runWithOverrides run.executions.cancel",
    ),
    "roles/run.viewer": ("Cloud Run Viewer", f"run.*.get run.*.list run.*.getIamPolicy {_PROJECT}"),
    "roles/run.sourceDeveloper": (
        "Cloud Run Source Developer",
        f"run.* !*.setIamPolicy !run.routes.invoke artifactregistry.* !*.setIamPolicy {_PROJECT}",
    ),
    "roles/run.sourceViewer": (
        "Cloud Run Source Viewer",
        f"run.*.get run.*.list artifactregistry.*.get artifactregistry.*.list {_PROJECT}",
    ),
    "roles/run.builder": (
        "Cloud Run Builder",
        "artifactregistry.* !*.setIamPolicy logging.logEntries.create storage.objects.get storage.objects.list",
    ),
    "roles/run.serviceAgent": (
        "Cloud Run Service Agent",
        "run.routes.invoke iam.serviceAccounts.getAccessToken iam.serviceAccounts.getOpenIdToken "
        "iam.serviceAccounts.actAs artifactregistry.repositories.downloadArtifacts compute.addresses.* "
        "compute.networks.access compute.subnetworks.use compute.subnetworks.get storage.objects.get "
        f"vpcaccess.connectors.use cloudsql.instances.connect cloudsql.instances.get {_PROJECT}",
    ),
    # Secret Manager
    "roles/secretmanager.admin": ("Secret Manager Admin", f"secretmanager.* {_PROJECT}"),
    "roles/secretmanager.secretAccessor": (
        "Secret Manager Secret Accessor",
        f"secretmanager.versions.access {_PROJECT}",
    ),
    "roles/secretmanager.secretVersionAdder": (
        "Secret Manager Secret Version Adder",
        f"secretmanager.versions.add {_PROJECT}",
    ),
    "roles/secretmanager.secretVersionManager": (
        "Secret Manager Secret Version Manager",
        f"secretmanager.versions.* !secretmanager.versions.access {_PROJECT}",
    ),
    "roles/secretmanager.viewer": (
        "Secret Manager Viewer",
        f"secretmanager.*.get secretmanager.*.list secretmanager.*.getIamPolicy {_PROJECT}",
    ),
    # Cloud Storage
    "roles/storage.admin": ("Storage Admin", f"storage.* {_PROJECT}"),
    "roles/storage.objectAdmin": ("Storage Object Admin", f"storage.objects.* storage.multipartUploads.* {_PROJECT}"),
    "roles/storage.objectUser": (
        "Storage Object User",
        "storage.objects.create storage.objects.delete storage.objects.get storage.objects.list "
        "storage.objects.update storage.objects.restore storage.objects.move storage.multipartUploads.* "
        f"{_PROJECT}",
    ),
    "roles/storage.objectCreator": (
        "Storage Object Creator",
        "storage.objects.create storage.multipartUploads.create storage.multipartUploads.abort "
        f"storage.multipartUploads.listParts {_PROJECT}",
    ),
    "roles/storage.objectViewer": ("Storage Object Viewer", f"storage.objects.get storage.objects.list {_PROJECT}"),
    "roles/storage.bucketViewer": ("Storage Bucket Viewer", "storage.buckets.get storage.buckets.list"),
    "roles/storage.legacyBucketOwner": (
        "Storage Legacy Bucket Owner",
        "storage.buckets.get storage.buckets.getIamPolicy storage.buckets.setIamPolicy storage.buckets.update "
        "storage.buckets.enableObjectRetention storage.objects.create storage.objects.delete storage.objects.list "
        "storage.objects.restore storage.objects.setRetention storage.multipartUploads.*",
    ),
    "roles/storage.legacyBucketReader": (
        "Storage Legacy Bucket Reader",
        "storage.buckets.get storage.objects.list storage.multipartUploads.list",
    ),
    "roles/storage.legacyBucketWriter": (
        "Storage Legacy Bucket Writer",
        "storage.buckets.get storage.objects.create storage.objects.delete storage.objects.list "
        "storage.objects.restore storage.objects.setRetention storage.multipartUploads.*",
    ),
    "roles/storage.legacyObjectOwner": (
        "Storage Legacy Object Owner",
        "storage.objects.get storage.objects.getIamPolicy storage.objects.setIamPolicy storage.objects.update "
        "storage.objects.overrideUnlockedRetention storage.objects.setRetention",
    ),
    "roles/storage.legacyObjectReader": ("Storage Legacy Object Reader", "storage.objects.get"),
    # Cloud SQL
    "roles/cloudsql.admin": ("Cloud SQL Admin", f"cloudsql.* {_PROJECT} {_QUOTA}"),
    "roles/cloudsql.editor": (
        "Cloud SQL Editor",
        "cloudsql.* !cloudsql.instances.create !cloudsql.instances.delete !cloudsql.users.* "
        f"!cloudsql.instances.login !cloudsql.instances.import {_PROJECT} {_QUOTA}",
    ),
    "roles/cloudsql.client": ("Cloud SQL Client", "cloudsql.instances.connect cloudsql.instances.get"),
    "roles/cloudsql.instanceUser": ("Cloud SQL Instance User", "cloudsql.instances.get cloudsql.instances.login"),
    "roles/cloudsql.studioUser": (
        "Cloud SQL Studio User",
        "cloudsql.databases.list cloudsql.instances.executeSql cloudsql.instances.get cloudsql.instances.login "
        "cloudsql.users.list",
    ),
    "roles/cloudsql.viewer": (
        "Cloud SQL Viewer",
        "cloudsql.*.get cloudsql.*.list cloudsql.instances.export cloudsql.instances.getDiskShrinkConfig "
        f"cloudsql.instances.listServerCas {_PROJECT} {_QUOTA}",
    ),
    "roles/cloudsql.serviceAgent": ("Cloud SQL Service Agent", "cloudsql.instances.get storage.objects.get"),
    # Networking
    "roles/compute.admin": ("Compute Admin", f"compute.* {_PROJECT} {_QUOTA}"),
    "roles/compute.viewer": (
        "Compute Viewer",
        f"compute.*.get compute.*.list compute.*.getIamPolicy compute.*.listAvailableFeatures compute.*.validate {_FIREWALLS} "
        f"compute.networks.listPeeringRoutes {_PROJECT} {_QUOTA}",
    ),
    "roles/compute.networkAdmin": (
        "Compute Network Admin",
        "compute.* !compute.instances.* !compute.disks.* !compute.images.* !compute.snapshots.* "
        "!compute.organizations.* !compute.firewalls.create !compute.firewalls.delete !compute.firewalls.update "
        "!compute.sslCertificates.create !compute.sslCertificates.delete !compute.securityPolicies.create "
        "!compute.securityPolicies.delete !compute.securityPolicies.update !compute.projects.set* "
        "!compute.*etworkEndpointGroups.* compute.*etworkEndpointGroups.get compute.*etworkEndpointGroups.list "
        "compute.*etworkEndpointGroups.use !compute.firewallPolicies.create !compute.firewallPolicies.delete "
        "!compute.firewallPolicies.update !compute.regionSecurityPolicies.create !compute.regionSecurityPolicies.delete "
        "!compute.regionSecurityPolicies.update !compute.regionSslCertificates.create "
        "!compute.regionSslCertificates.delete !compute.*Operations.delete !compute.globalOperations.*IamPolicy "
        "compute.instances.get compute.instances.list servicenetworking.operations.get "
        "servicenetworking.services.addPeering servicenetworking.services.createPeeredDnsDomain "
        "servicenetworking.services.deleteConnection servicenetworking.services.deletePeeredDnsDomain "
        "servicenetworking.services.disableVpcServiceControls servicenetworking.services.enableVpcServiceControls "
        f"servicenetworking.services.get servicenetworking.services.listPeeredDnsDomains {_PROJECT} {_QUOTA}",
    ),
    "roles/compute.networkUser": (
        "Compute Network User",
        "compute.addresses.createInternal compute.addresses.useInternal compute.addresses.get "
        "compute.addresses.list compute.networks.get compute.networks.list compute.networks.use "
        "compute.networks.access compute.subnetworks.get compute.subnetworks.list compute.subnetworks.use "
        f"compute.regions.* compute.zones.* {_PROJECT}",
    ),
    "roles/compute.networkViewer": (
        "Compute Network Viewer",
        "compute.*.get compute.*.list !compute.disks.* !compute.images.* !compute.snapshots.* "
        "!compute.*etworkEndpointGroups.* !compute.*ecurityPolicies.* !compute.firewallPolicies.* "
        "!compute.regionSslPolicies.* !compute.*Operations.* compute.sslPolicies.listAvailableFeatures "
        f"compute.networks.listPeeringRoutes {_FIREWALLS} servicenetworking.services.get {_PROJECT} {_QUOTA}",
    ),
    "roles/compute.xpnAdmin": (
        "Compute Shared VPC Admin",
        "compute.globalOperations.get compute.globalOperations.list compute.organizations.disableXpnHost "
        "compute.organizations.disableXpnResource compute.organizations.enableXpnHost "
        "compute.organizations.enableXpnResource compute.projects.get compute.subnetworks.getIamPolicy "
        f"compute.subnetworks.setIamPolicy {_PROJECT}",
    ),
    "roles/compute.securityAdmin": (
        "Compute Security Admin",
        "compute.firewalls.* compute.firewallPolicies.* compute.securityPolicies.* compute.sslCertificates.* "
        "compute.regionSslCertificates.* compute.sslPolicies.* compute.regionSecurityPolicies.* "
        "compute.globalOperations.get compute.globalOperations.list compute.regionOperations.get "
        "compute.networks.get compute.networks.list compute.networks.updatePolicy compute.backendServices.get "
        "compute.backendServices.list compute.backendServices.setSecurityPolicy compute.projects.get "
        f"compute.regions.* compute.zones.* {_PROJECT}",
    ),
    "roles/compute.loadBalancerAdmin": (
        "Compute Load Balancer Admin",
        "compute.addresses.* compute.backendBuckets.* compute.backendServices.* compute.forwardingRules.* "
        "compute.globalAddresses.* compute.globalForwardingRules.* compute.globalNetworkEndpointGroups.* "
        "compute.healthChecks.* compute.networkEndpointGroups.* compute.regionBackendServices.* "
        "compute.regionHealthChecks.* compute.regionNetworkEndpointGroups.* compute.regionSslCertificates.* "
        "compute.regionSslPolicies.* compute.regionTargetHttpProxies.* compute.regionTargetHttpsProxies.* "
        "compute.regionUrlMaps.* compute.sslCertificates.* compute.sslPolicies.* compute.targetHttpProxies.* "
        "compute.targetHttpsProxies.* compute.urlMaps.* compute.zoneOperations.get compute.zoneOperations.list "
        "compute.globalOperations.get compute.globalOperations.list compute.regionOperations.get "
        "compute.regionOperations.list compute.instances.get compute.instances.list compute.networks.get "
        "compute.networks.list compute.networks.use compute.subnetworks.get compute.subnetworks.list "
        "compute.subnetworks.use compute.projects.get compute.securityPolicies.get compute.securityPolicies.list "
        f"compute.securityPolicies.use {_PROJECT} {_QUOTA}",
    ),
    "roles/compute.serviceAgent": (
        "Compute Engine Service Agent",
        "compute.* iam.serviceAccounts.actAs iam.serviceAccounts.getAccessToken",
    ),
    "roles/servicenetworking.networksAdmin": (
        "Service Networking Admin",
        "servicenetworking.operations.get servicenetworking.services.*",
    ),
    "roles/servicenetworking.serviceAgent": (
        "Service Networking Service Agent",
        f"compute.addresses.* compute.globalAddresses.* compute.networks.* compute.routes.* dns.* {_PROJECT}",
    ),
    "roles/vpcaccess.admin": ("Serverless VPC Access Admin", f"vpcaccess.* {_PROJECT}"),
    "roles/vpcaccess.user": (
        "Serverless VPC Access User",
        "vpcaccess.connectors.get vpcaccess.connectors.list vpcaccess.connectors.use vpcaccess.locations.list "
        f"{_PROJECT}",
    ),
    "roles/vpcaccess.viewer": ("Serverless VPC Access Viewer", f"vpcaccess.*.get vpcaccess.*.list {_PROJECT}"),
    "roles/vpcaccess.serviceAgent": ("Serverless VPC Access Service Agent", "compute.* !compute.*.setIamPolicy"),
    "roles/certificatemanager.owner": ("Certificate Manager Owner", f"certificatemanager.* {_PROJECT}"),
    "roles/certificatemanager.editor": (
        "Certificate Manager Editor",
        "certificatemanager.*.create certificatemanager.*.get certificatemanager.*.list certificatemanager.*.update "
        f"certificatemanager.*.use {_PROJECT}",
    ),
    "roles/certificatemanager.viewer": (
        "Certificate Manager Viewer",
        f"certificatemanager.*.get certificatemanager.*.list {_PROJECT}",
    ),
    "roles/privateca.admin": ("CA Service Admin", f"privateca.* {_PROJECT}"),
    "roles/privateca.certificateRequester": ("CA Service Certificate Requester", "privateca.certificates.create"),
    "roles/dns.admin": ("DNS Administrator", f"dns.* compute.networks.get compute.networks.list {_PROJECT}"),
    "roles/dns.reader": ("DNS Reader", f"dns.*.get dns.*.list dns.*.getIamPolicy compute.networks.get {_PROJECT}"),
    "roles/dns.peer": ("DNS Peer", "dns.networks.targetWithPeeringZone"),
    # Projects, services and accounts
    "roles/serviceusage.serviceUsageAdmin": (
        "Service Usage Admin",
        "serviceusage.operations.* serviceusage.quotas.* serviceusage.services.*",
    ),
    "roles/serviceusage.serviceUsageConsumer": (
        "Service Usage Consumer",
        "serviceusage.quotas.get serviceusage.services.get serviceusage.services.list serviceusage.services.use",
    ),
    "roles/serviceusage.serviceUsageViewer": (
        "Service Usage Viewer",
        f"serviceusage.operations.get serviceusage.operations.list {_QUOTA}",
    ),
    "roles/serviceusage.apiKeysAdmin": ("API Keys Admin", "serviceusage.apiKeys.* serviceusage.operations.get"),
    "roles/serviceusage.apiKeysViewer": ("API Keys Viewer", "serviceusage.apiKeys.get serviceusage.apiKeys.list"),
    "roles/resourcemanager.projectIamAdmin": (
        "Project IAM Admin",
        "resourcemanager.projects.get resourcemanager.projects.getIamPolicy resourcemanager.projects.setIamPolicy",
    ),
    "roles/resourcemanager.projectCreator": (
        "Project Creator",
        "resourcemanager.organizations.get resourcemanager.projects.create",
    ),
    "roles/resourcemanager.projectDeleter": ("Project Deleter", "resourcemanager.projects.delete"),
    "roles/resourcemanager.projectMover": (
        "Project Mover",
        f"{_PROJECT} resourcemanager.projects.move resourcemanager.projects.update",
    ),
    "roles/resourcemanager.organizationAdmin": (
        "Organization Administrator",
        "resourcemanager.organizations.* resourcemanager.folders.get resourcemanager.folders.getIamPolicy "
        "resourcemanager.folders.list resourcemanager.folders.setIamPolicy "
        f"{_PROJECT} resourcemanager.projects.getIamPolicy "
        "resourcemanager.projects.setIamPolicy orgpolicy.*.get orgpolicy.*.list",
    ),
    "roles/orgpolicy.policyAdmin": ("Organization Policy Administrator", "orgpolicy.*"),
    "roles/orgpolicy.policyViewer": ("Organization Policy Viewer", "orgpolicy.*.get orgpolicy.*.list"),
    "roles/resourcemanager.organizationViewer": ("Organization Viewer", "resourcemanager.organizations.get"),
    "roles/resourcemanager.folderAdmin": (
        "Folder Admin",
        "resourcemanager.folders.* resourcemanager.projects.getIamPolicy resourcemanager.projects.move "
        f"resourcemanager.projects.setIamPolicy {_PROJECT}",
    ),
    "roles/resourcemanager.folderCreator": (
        "Folder Creator",
        f"resourcemanager.folders.create resourcemanager.folders.get resourcemanager.folders.list {_PROJECT}",
    ),
    "roles/resourcemanager.folderIamAdmin": (
        "Folder IAM Admin",
        "resourcemanager.folders.get resourcemanager.folders.getIamPolicy resourcemanager.folders.setIamPolicy",
    ),
    "roles/resourcemanager.folderViewer": (
        "Folder Viewer",
        f"resourcemanager.folders.get resourcemanager.folders.list {_PROJECT}",
    ),
    "roles/billing.admin": (
        "Billing Account Administrator",
        "billing.* !billing.accounts.create resourcemanager.projects.createBillingAssignment "
        "resourcemanager.projects.deleteBillingAssignment",
    ),
    "roles/billing.creator": ("Billing Account Creator", "billing.accounts.create resourcemanager.organizations.get"),
    "roles/billing.projectManager": (
        "Project Billing Manager",
        "resourcemanager.projects.createBillingAssignment resourcemanager.projects.deleteBillingAssignment",
    ),
    "roles/billing.user": (
        "Billing Account User",
        "billing.accounts.get billing.accounts.getIamPolicy billing.accounts.list billing.resourceAssociations.*",
    ),
    "roles/billing.viewer": ("Billing Account Viewer", "billing.*.get billing.*.getIamPolicy billing.*.list"),
    "roles/iam.securityAdmin": ("Security Admin", f"*.list *.getIamPolicy *.setIamPolicy iam.roles.get {_PROJECT}"),
    "roles/iam.securityReviewer": ("Security Reviewer", f"*.list *.getIamPolicy iam.roles.get {_PROJECT}"),
    "roles/iam.roleAdmin": ("Role Administrator", f"iam.roles.* {_PROJECT} resourcemanager.projects.getIamPolicy"),
    "roles/iam.roleViewer": (
        "Role Viewer",
        f"iam.roles.get iam.roles.list {_PROJECT} resourcemanager.projects.getIamPolicy",
    ),
    "roles/iam.serviceAccountAdmin": (
        "Service Account Admin",
        "iam.serviceAccounts.create iam.serviceAccounts.delete iam.serviceAccounts.disable "
        "iam.serviceAccounts.enable iam.serviceAccounts.get iam.serviceAccounts.getIamPolicy "
        "iam.serviceAccounts.list iam.serviceAccounts.setIamPolicy iam.serviceAccounts.undelete "
        f"iam.serviceAccounts.update {_PROJECT}",
    ),
    "roles/iam.serviceAccountCreator": (
        "Create Service Accounts",
        f"iam.serviceAccounts.create iam.serviceAccounts.get iam.serviceAccounts.list {_PROJECT}",
    ),
    "roles/iam.serviceAccountDeleter": (
        "Delete Service Accounts",
        f"iam.serviceAccounts.delete iam.serviceAccounts.get iam.serviceAccounts.list {_PROJECT}",
    ),
    "roles/iam.serviceAccountViewer": (
        "View Service Accounts",
        "iam.serviceAccountKeys.get iam.serviceAccountKeys.list iam.serviceAccounts.get "
        f"iam.serviceAccounts.getIamPolicy iam.serviceAccounts.list {_PROJECT}",
    ),
    "roles/iam.serviceAccountUser": (
        "Service Account User",
        f"iam.serviceAccounts.actAs iam.serviceAccounts.get iam.serviceAccounts.list {_PROJECT}",
    ),
    "roles/iam.serviceAccountKeyAdmin": (
        "Service Account Key Admin",
        f"iam.serviceAccountKeys.* iam.serviceAccounts.get iam.serviceAccounts.list {_PROJECT}",
    ),
    "roles/iam.serviceAccountTokenCreator": (
        "Service Account Token Creator",
        "iam.serviceAccounts.get iam.serviceAccounts.list iam.serviceAccounts.getAccessToken "
        "iam.serviceAccounts.getOpenIdToken iam.serviceAccounts.implicitDelegation iam.serviceAccounts.signBlob "
        f"iam.serviceAccounts.signJwt {_PROJECT}",
    ),
    "roles/iam.serviceAccountOpenIdTokenCreator": (
        "Service Account OpenID Connect Identity Token Creator",
        "iam.serviceAccounts.getOpenIdToken",
    ),
    "roles/iam.workloadIdentityUser": (
        "Workload Identity User",
        "iam.serviceAccounts.get iam.serviceAccounts.getAccessToken iam.serviceAccounts.getOpenIdToken "
        "iam.serviceAccounts.list",
    ),
    # Identity-Aware Proxy and OAuth clients
    "roles/iap.admin": (
        "IAP Policy Admin",
        "iap.*.getIamPolicy iap.*.setIamPolicy iap.*.getSettings iap.*.updateSettings iap.tunnelDestGroups.* "
        "!*.accessViaIAP !iap.folders.* !iap.organizations.*",
    ),
    "roles/iap.settingsAdmin": ("IAP Settings Admin", "iap.*.getSettings iap.*.updateSettings"),
    "roles/iap.httpsResourceAccessor": ("IAP-secured Web App User", "iap.webServiceVersions.accessViaIAP"),
    "roles/iap.tunnelResourceAccessor": (
        "IAP-secured Tunnel User",
        "iap.tunnelDestGroups.accessViaIAP iap.tunnelInstances.accessViaIAP",
    ),
    "roles/iap.tunnelDestGroupEditor": (
        "IAP-secured Tunnel Destination Group Editor",
        "iap.tunnelDestGroups.* !*.accessViaIAP !*.setIamPolicy",
    ),
    "roles/iap.tunnelDestGroupViewer": (
        "IAP-secured Tunnel Destination Group Viewer",
        "iap.tunnelDestGroups.get iap.tunnelDestGroups.list",
    ),
    "roles/oauthconfig.editor": ("OAuth Config Editor", f"clientauthconfig.* oauthconfig.* {_PROJECT}"),
    "roles/oauthconfig.viewer": (
        "OAuth Config Viewer",
        "clientauthconfig.brands.get clientauthconfig.brands.list clientauthconfig.clients.get "
        f"clientauthconfig.clients.list oauthconfig.*.get {_PROJECT}",
    ),
    # Cloud KMS
    "roles/cloudkms.admin": (
        "Cloud KMS Admin",
        f"cloudkms.* !cloudkms.cryptoKeyVersions.useToDecrypt !cloudkms.cryptoKeyVersions.useToEncrypt {_PROJECT}",
    ),
    "roles/cloudkms.viewer": ("Cloud KMS Viewer", f"cloudkms.*.get cloudkms.*.list {_PROJECT}"),
    "roles/cloudkms.cryptoKeyEncrypterDecrypter": (
        "Cloud KMS CryptoKey Encrypter/Decrypter",
        "cloudkms.cryptoKeyVersions.useToDecrypt cloudkms.cryptoKeyVersions.useToEncrypt cloudkms.locations.* "
        "resourcemanager.projects.get",
    ),
    "roles/cloudkms.cryptoKeyEncrypter": (
        "Cloud KMS CryptoKey Encrypter",
        "cloudkms.cryptoKeyVersions.useToEncrypt cloudkms.locations.* resourcemanager.projects.get",
    ),
    "roles/cloudkms.cryptoKeyDecrypter": (
        "Cloud KMS CryptoKey Decrypter",
        "cloudkms.cryptoKeyVersions.useToDecrypt cloudkms.locations.* resourcemanager.projects.get",
    ),
    # Artifact Registry
    "roles/artifactregistry.admin": ("Artifact Registry Administrator", "artifactregistry.*"),
    "roles/artifactregistry.repoAdmin": (
        "Artifact Registry Repository Administrator",
        "artifactregistry.* !artifactregistry.repositories.create !artifactregistry.repositories.delete "
        "!artifactregistry.repositories.update !*.setIamPolicy !*.getIamPolicy",
    ),
    "roles/artifactregistry.writer": (
        "Artifact Registry Writer",
        "artifactregistry.*.get artifactregistry.*.list artifactregistry.repositories.downloadArtifacts "
        "artifactregistry.repositories.uploadArtifacts artifactregistry.tags.create artifactregistry.tags.update",
    ),
    "roles/artifactregistry.reader": (
        "Artifact Registry Reader",
        "artifactregistry.*.get artifactregistry.*.list artifactregistry.repositories.downloadArtifacts",
    ),
    "roles/artifactregistry.serviceAgent": (
        "Artifact Registry Service Agent",
        "artifactregistry.*.get storage.objects.*",
    ),
    # Cloud Build
    "roles/cloudbuild.builds.editor": (
        "Cloud Build Editor",
        f"cloudbuild.builds.* !cloudbuild.builds.approve {_PROJECT}",
    ),
    "roles/cloudbuild.builds.viewer": (
        "Cloud Build Viewer",
        f"cloudbuild.builds.get cloudbuild.builds.list {_PROJECT}",
    ),
    "roles/cloudbuild.builds.builder": (
        "Cloud Build Service Account",
        "cloudbuild.builds.* !cloudbuild.builds.approve artifactregistry.*.get artifactregistry.*.list "
        "artifactregistry.repositories.downloadArtifacts artifactregistry.repositories.uploadArtifacts "
        "artifactregistry.tags.create artifactregistry.tags.update logging.logEntries.create storage.buckets.create "
        f"storage.buckets.get storage.buckets.list storage.objects.* {_PROJECT}",
    ),
    "roles/cloudbuild.serviceAgent": (
        "Cloud Build Service Agent",
        "cloudbuild.* iam.serviceAccounts.getAccessToken iam.serviceAccounts.actAs logging.logEntries.create",
    ),
    # Logging and monitoring
    "roles/logging.logWriter": ("Logs Writer", "logging.logEntries.create logging.logEntries.route"),
    "roles/logging.viewer": ("Logs Viewer", f"logging.*.get logging.*.list !logging.privateLogEntries.list {_PROJECT}"),
    "roles/logging.privateLogViewer": (
        "Private Logs Viewer",
        f"logging.*.get logging.*.list logging.views.access {_PROJECT}",
    ),
    "roles/logging.viewAccessor": (
        "Logs View Accessor",
        "logging.logEntries.download logging.views.access logging.views.listLogs logging.views.listResourceKeys "
        "logging.views.listResourceValues",
    ),
    "roles/logging.admin": ("Logging Admin", f"logging.* {_PROJECT}"),
    "roles/monitoring.metricWriter": (
        "Monitoring Metric Writer",
        "monitoring.metricDescriptors.create monitoring.metricDescriptors.get monitoring.metricDescriptors.list "
        "monitoring.monitoredResourceDescriptors.* monitoring.timeSeries.create",
    ),
    "roles/monitoring.viewer": ("Monitoring Viewer", f"monitoring.*.get monitoring.*.list {_PROJECT}"),
    "roles/monitoring.admin": ("Monitoring Admin", f"monitoring.* {_PROJECT}"),
}
# Services all of whose roles are above, so that any other name is a mistake.
_COMPLETE = {"run", "secretmanager", "cloudsql", "iap", "storage", "serviceusage"}


@functools.lru_cache(maxsize=20_000)
def role_has(role: str, permission: str) -> bool:
    """Whether a predefined role contains a permission."""
    return matches(tuple(ROLES[role][1].split()), permission) if role in ROLES else False


def matches(patterns: tuple[str, ...], permission: str) -> bool:
    """Whether a permission is among patterns, of which the last that fits decides."""
    granted = False
    for pattern in patterns:
        text = pattern.removeprefix("!")
        if re.fullmatch(re.escape(text).replace(r"\*", ".*"), permission):
            granted = not pattern.startswith("!")
    return granted


@functools.lru_cache(maxsize=256)
def included(role: str) -> list[str]:
    """The permissions of a predefined role that this program knows by name."""
    return sorted(p for p in permissions.known() if role_has(role, p))


def exists(role: str) -> bool:
    """Whether there is a role of a name; custom ones need their path."""
    if role in ROLES or re.fullmatch(r"(projects|organizations)/[^/]+/roles/[\w.]+", role):
        return True
    found = re.fullmatch(r"roles/([a-z][a-zA-Z]*)(\.[A-Za-z]\w*)?", role)
    return bool(found and found.group(2) and found.group(1) not in _COMPLETE)


def fits(role: str, service: str) -> bool:
    """Whether a role can be granted on a resource of a service ("secretmanager"; "" for projects, which take most)."""
    if not service and role.startswith("roles/storage.legacy"):
        return False  # these are of a bucket and what is in it
    found = re.fullmatch(r"roles/([a-z]\w*)\.\w+", role)
    return not service or not found or found.group(1) == service or found.group(1) not in _COMPLETE
