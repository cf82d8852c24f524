# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The permissions that a deployment needs: to be made, and to be changed later. docs/deployer-role.yml has all of them.

https://cloud.google.com/iam/docs/permissions-reference
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.preflight.site import Site


def permissions(text: str) -> frozenset[str]:
    """The permissions in lines such as "service.resource verb verb"."""
    lines = [line.split() for line in text.strip().splitlines()]
    return frozenset(f"{resource}.{verb}" for resource, *verbs in lines for verb in verbs)


class Needs(NamedTuple):
    """The variable with the project, and the permissions on it to make a part and to change it later."""

    project: str
    making: frozenset[str]
    changing: frozenset[str] = frozenset()


PARTS: dict[str, Needs] = {
    "services": Needs(
        "services_project_id",
        permissions("""
            resourcemanager.projects get
            serviceusage.services enable get list
        """),
    ),
    "network": Needs(
        "network_project_id",
        permissions("""
            compute.firewalls get
            compute.globalAddresses createInternal create get list use
            compute.globalOperations get
            compute.networks addPeering create get list updatePolicy use
            compute.regionOperations get
            compute.subnetworks create get list
            servicenetworking.operations get
            servicenetworking.services addPeering get
        """),
        permissions("""
            compute.globalAddresses setLabels
            compute.networks removePeering update updatePeering
            compute.subnetworks expandIpCidrRange setPrivateIpGoogleAccess update
        """),
    ),
    "database": Needs(
        "cloudsql_project_id",
        permissions("""
            cloudsql.databases create get list
            cloudsql.instances create get list
            cloudsql.users create list
            secretmanager.secrets create get getIamPolicy list setIamPolicy update
            secretmanager.versions access add get list
        """),
        permissions("""
            cloudsql.backupRuns create get list
            cloudsql.instances update
            cloudsql.users update
            secretmanager.versions enable
        """),
    ),
    "bucket": Needs(
        "bucket_project_id",
        permissions("""
            resourcemanager.projects get
            storage.buckets create get getIamPolicy list setIamPolicy
        """),
        permissions("storage.buckets update"),
    ),
    "image": Needs(
        "cloudrun_project_id",
        permissions("""
            iam.serviceAccounts actAs create get getIamPolicy list setIamPolicy
            resourcemanager.projects get getIamPolicy setIamPolicy
            run.executions get list
            run.jobs create get list run
            run.operations get list
            run.services create get getIamPolicy list setIamPolicy
        """),
        permissions("""
            iam.serviceAccounts enable update
            logging.logEntries list
            run.jobs runWithOverrides update
            run.services update
            run.tasks list
        """),
    ),
    "front_door": Needs(
        "iap_lb_project_id",
        permissions("""
            compute.backendServices create get list use
            compute.forwardingRules list
            compute.globalAddresses create get list use
            compute.globalForwardingRules create get list
            compute.globalOperations get
            compute.networkEndpointGroups list
            compute.regionNetworkEndpointGroups create get list use
            compute.regionOperations get
            compute.securityPolicies get
            compute.targetHttpProxies create get list use
            compute.targetHttpsProxies create get list use
            compute.urlMaps create get list use
            iam.serviceAccounts create get getIamPolicy list setIamPolicy
            iap.web getSettings
            iap.webServices getIamPolicy getSettings setIamPolicy
            resourcemanager.projects get
            run.services get getIamPolicy setIamPolicy
        """),
        permissions("""
            compute.backendServices update
            compute.globalAddresses setLabels
            compute.globalForwardingRules setLabels setTarget
            compute.regionNetworkEndpointGroups delete
            compute.targetHttpProxies setUrlMap
            compute.targetHttpsProxies setSslPolicy setUrlMap
            compute.urlMaps update
            iam.serviceAccounts enable update
        """),
    ),
}
CLOUD_RUN = Needs(
    "iap_cloud_run_project_id",
    permissions("""
        iam.serviceAccounts create get getIamPolicy list setIamPolicy
        iap.webServices getIamPolicy getSettings setIamPolicy
        resourcemanager.projects get
        run.services get getIamPolicy setIamPolicy
    """),
    permissions("""
        iam.serviceAccounts enable update
        iap.webServices updateSettings
    """),
)
"""In place of the part front_door, for Identity-Aware Proxy of Cloud Run itself."""
BUILD = Needs(
    "image_project_id",
    permissions("""
        artifactregistry.repositories create get getIamPolicy list setIamPolicy
        artifactregistry.tags create get list
        cloudbuild.builds create get list
        iam.serviceAccounts actAs create get list
        logging.logEntries list
        resourcemanager.projects get getIamPolicy setIamPolicy
        storage.buckets create get getIamPolicy list setIamPolicy
    """),
    permissions("""
        artifactregistry.repositories update
        artifactregistry.tags update
        iam.serviceAccounts enable update
        storage.buckets update
    """),
)
ENDPOINT = Needs(
    "cloudsql_project_id",
    permissions("""
        compute.addresses createInternal get list use
        compute.forwardingRules create get list pscCreate
        compute.networks use
        compute.regionOperations get
        compute.subnetworks use
    """),
)
FIREWALL = Needs(
    "network_project_id",
    permissions("compute.firewalls create get list"),
    permissions("compute.firewalls delete update"),
)
MANAGED = Needs(
    "iap_lb_project_id",
    permissions("compute.sslCertificates create get list"),
    permissions("""
        compute.sslCertificates delete
        compute.targetHttpsProxies setSslCertificates
    """),
)
BY_DNS = Needs(
    "iap_lb_project_id",
    permissions("""
        certificatemanager.certmapentries create get list
        certificatemanager.certmaps create get list use
        certificatemanager.certs create get list use
        certificatemanager.dnsauthorizations create get list use
        certificatemanager.operations get
    """),
    permissions("""
        certificatemanager.certmapentries delete update
        certificatemanager.certmaps delete
        certificatemanager.certs delete
        certificatemanager.dnsauthorizations delete
        compute.targetHttpsProxies setCertificateMap setSslCertificates
    """),
)
ARMOR = Needs(
    "iap_lb_project_id",
    permissions("""
        compute.backendServices setSecurityPolicy
        compute.securityPolicies create update use
    """),
    permissions("compute.securityPolicies delete"),
)
PREVIOUS = Needs(
    "iap_lb_project_id",
    permissions("""
        compute.backendServices delete
        compute.globalAddresses delete
        compute.globalForwardingRules delete
        compute.regionNetworkEndpointGroups delete
        compute.sslCertificates delete
        compute.targetHttpProxies delete
        compute.targetHttpsProxies delete setSslCertificates
        compute.urlMaps delete
    """),
)
# The front door within a network, instead of the part "front_door".
INTERNAL = Needs(
    "iap_internal_lb_project_id",
    permissions("""
        compute.addresses createInternal get list use
        compute.forwardingRules create get list
        compute.networkEndpointGroups list
        compute.networks use
        compute.regionBackendServices create get list use
        compute.regionNetworkEndpointGroups create get list use
        compute.regionOperations get
        compute.regionSslCertificates create get list
        compute.regionTargetHttpProxies create get list use
        compute.regionTargetHttpsProxies create get list use
        compute.regionUrlMaps create get list use
        compute.subnetworks use
        iam.serviceAccounts create get getIamPolicy list setIamPolicy
        iap.webServices getIamPolicy setIamPolicy
        resourcemanager.projects get
        run.services get getIamPolicy setIamPolicy
    """),
    permissions("""
        compute.addresses setLabels
        compute.forwardingRules setLabels setTarget
        compute.regionBackendServices update
        compute.regionNetworkEndpointGroups delete
        compute.regionSslCertificates delete
        compute.regionTargetHttpProxies setUrlMap
        compute.regionTargetHttpsProxies setSslCertificates setUrlMap update
        compute.regionUrlMaps update
        iam.serviceAccounts enable update
    """),
)
PROXIES = Needs(
    "iap_internal_lb_network_project_id",
    permissions("""
        compute.networks get updatePolicy
        compute.regionOperations get
        compute.subnetworks create get list
    """),
)
BY_POOL = Needs(
    "iap_internal_lb_project_id",
    permissions("""
        certificatemanager.certissuanceconfigs create get list use
        certificatemanager.certs create get list use
        certificatemanager.operations get
    """),
    permissions("""
        certificatemanager.certissuanceconfigs delete
        certificatemanager.certs delete
        compute.regionTargetHttpsProxies setSslCertificates
    """),
)
BRAND = Needs(
    "iap_lb_project_id",
    permissions("""
        clientauthconfig.brands create get list
        clientauthconfig.clients create get getWithSecret list listWithSecrets
    """),
)
# On the project of the zone.
ZONE = permissions("""
    dns.changes create get list
    dns.managedZones get
    dns.resourceRecordSets create delete get list update
""")
# On a key; not needed if its administrator has granted the role to the service agents.
KEY = permissions("cloudkms.cryptoKeys get getIamPolicy setIamPolicy")
# On the objects of the bucket for the source. The owner of a project does not have them on the project: every new bucket grants them.
SOURCE = permissions("storage.objects create get list")
# On a CA pool; not needed if its administrator has granted the role to the service agent.
POOL = permissions("privateca.caPools getIamPolicy setIamPolicy")
OPTIONAL = (CLOUD_RUN, BUILD, ENDPOINT, FIREWALL, MANAGED, BY_DNS, ARMOR, PREVIOUS, INTERNAL, PROXIES, BY_POOL, BRAND)


def everything() -> frozenset[str]:
    """The permissions for all options and all changes, those on the project of a zone included."""
    needs = (*PARTS.values(), *OPTIONAL)
    return frozenset().union(
        ZONE, KEY, POOL, SOURCE, *(need.making for need in needs), *(need.changing for need in needs)
    )


def chosen(site: Site) -> list[Needs]:
    """What the parts of a run need with the options of a deployment."""
    found = [need for part, need in PARTS.items() if part in site.parts]
    if "network" in site.parts and site.text("network_name"):
        # Others manage it; who may use it need not have these permissions on its whole project.
        found.remove(PARTS["network"])
    elif "network" in site.parts and site.flag("network_allow_internal"):
        found.append(FIREWALL)
    if "image" in site.parts and not site.text("image_reference"):
        found.append(BUILD)
    if "database" in site.parts and not site.peered:
        found.append(ENDPOINT)
    if "front_door" in site.parts and site.door == "cloud_run":
        found[found.index(PARTS["front_door"])] = CLOUD_RUN
    elif "front_door" in site.parts and site.door == "internal":
        found[found.index(PARTS["front_door"])] = INTERNAL
        # In a network of others, their administrator makes the proxy-only subnetwork.
        found += [] if site.text("network_name") else [PROXIES]
        found += [BY_POOL] if site.text("iap_internal_lb_certificate") == "ca_pool" else []
    elif "front_door" in site.parts:
        certificate = {"managed": MANAGED, "certificate_manager": BY_DNS}.get(site.text("iap_lb_certificate"))
        found += [certificate] if certificate else []
        found += [ARMOR] if site.listed("iap_lb_allowed_ranges") else []
        found += [PREVIOUS] if site.flag("iap_lb_delete_previous") else []
        found += [BRAND] if site.text("iap_lb_oauth") == "brand" else []
    return found


def by_project(site: Site) -> dict[str, tuple[frozenset[str], frozenset[str]]]:
    """The permissions for making and for changing what is chosen, by the project on which they are needed."""
    out: dict[str, tuple[frozenset[str], frozenset[str]]] = {}
    needs = [(site.text(need.project), need.making, need.changing) for need in chosen(site)]
    if site.zone and "front_door" in site.parts and site.door != "cloud_run":
        needs.append((site.zone.split("/")[1], ZONE, frozenset()))
    for project, making, changing in needs:
        before = out.get(project, (frozenset(), frozenset()))
        out[project] = (before[0] | making, before[1] | changing)
    return {project: (making, changing - making) for project, (making, changing) in out.items() if project}
