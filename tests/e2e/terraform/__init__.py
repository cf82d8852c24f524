"""What the Terraform module teamdatatonic/mlflow/google 1.2.0 leaves in a project, made by the calls that Terraform sends."""

from __future__ import annotations

import base64
import secrets
import time
from pathlib import Path

from tests.conftest import IMAGE_PYTHON, PROJECT, Cloud

REGION = "europe-west2"
DOMAIN = "mlflow.example.com"
IMAGE = f"europe-docker.pkg.dev/{PROJECT}/mlflow:latest"
LOGGER = f"mlflow-logger@{PROJECT}.iam.gserviceaccount.com"
DEPLOYER = f"deployer@{PROJECT}.iam.gserviceaccount.com"
CLIENT_SECRET = "MOKLPX-C-QuBFCAmgUtYkXTSzQQBzU7YHXq"
USERS = ["group:ml-team@example.com", "user:jane@example.com"]
NETWORK = "mlflow-network"
APIS = (
    "appengine",
    "cloudbuild",
    "cloudresourcemanager",
    "compute",
    "iam",
    "iap",
    "run",
    "secretmanager",
    "servicenetworking",
    "sqladmin",
    "storage",
    "vpcaccess",
)
COMPUTE = f"compute.googleapis.com/compute/v1/projects/{PROJECT}"
LINKS = f"https://www.googleapis.com/compute/v1/projects/{PROJECT}"
SQL = f"sqladmin.googleapis.com/v1/projects/{PROJECT}"
RUN = f"{REGION}-run.googleapis.com/apis/serving.knative.dev/v1/namespaces/{PROJECT}/services"
RUN_V2 = f"run.googleapis.com/v2/projects/{PROJECT}/locations/{REGION}/services/mlflow-service"


class Stack:
    """The stack in a running sandbox."""

    def __init__(self, cloud: Cloud, *, suffix: str = "c29e11d1d5", tier: str = "db-f1-micro") -> None:
        self.cloud = cloud
        self.bucket = f"mlflow-artifacts-store-{suffix}"
        self.instance = f"mlflow-{suffix[::-1]}"
        self.tier = tier
        self.password = secrets.token_hex(8)

    def apply(self) -> None:
        """Make everything, as `terraform apply`."""
        call = self.cloud.call
        services = [f"{name}.googleapis.com" for name in APIS]
        call(
            "POST", f"serviceusage.googleapis.com/v1/projects/{PROJECT}/services:batchEnable", {"serviceIds": services}
        )
        self.cloud.command("image", "add", IMAGE, str(Path(__file__).parent / "image"), "--python", IMAGE_PYTHON)
        self.network()
        self.data()
        self.service()
        self.balancer()

    def network(self) -> None:
        call, link = self.cloud.call, f"{LINKS}/global/networks/{NETWORK}"
        call("POST", f"{COMPUTE}/global/networks", {"name": NETWORK, "autoCreateSubnetworks": True})
        ports = [{"IPProtocol": "icmp"}, *({"IPProtocol": kind, "ports": ["0-65535"]} for kind in ("tcp", "udp"))]
        firewall = {"name": f"{NETWORK}-allow-internal", "network": link, "allowed": ports}
        call("POST", f"{COMPUTE}/global/firewalls", firewall | {"sourceRanges": ["10.128.0.0/9"]})
        address = {"name": "private-ip-address", "purpose": "VPC_PEERING", "addressType": "INTERNAL"}
        call("POST", f"{COMPUTE}/global/addresses", address | {"prefixLength": 16, "network": link})
        number = call("GET", f"cloudresourcemanager.googleapis.com/v1/projects/{PROJECT}")["projectNumber"]
        peering = {
            "network": f"projects/{number}/global/networks/{NETWORK}",
            "reservedPeeringRanges": ["private-ip-address"],
        }
        call(
            "POST", "servicenetworking.googleapis.com/v1/services/servicenetworking.googleapis.com/connections", peering
        )
        connector = {"network": NETWORK, "ipCidrRange": "10.8.0.0/28"}
        place = f"vpcaccess.googleapis.com/v1/projects/{PROJECT}/locations/{REGION}/connectors"
        call("POST", f"{place}?connectorId=vpc-mlflow-connector", connector)

    def data(self) -> None:
        call = self.cloud.call
        rule = {"action": {"type": "Delete"}, "condition": {"age": 1}}
        bucket = {
            "name": self.bucket,
            "location": "EUROPE-WEST2",
            "storageClass": "STANDARD",
            "versioning": {"enabled": True},
            "lifecycle": {"rule": [rule]},
            "iamConfiguration": {"uniformBucketLevelAccess": {"enabled": True}},
        }
        call("POST", f"storage.googleapis.com/storage/v1/b?project={PROJECT}", bucket)
        secret = f"secretmanager.googleapis.com/v1/projects/{PROJECT}/secrets"
        call("POST", f"{secret}?secretId=mlflow-db-pwd", {"replication": {"automatic": {}}})
        value = {"payload": {"data": base64.b64encode(self.password.encode()).decode()}}
        call("POST", f"{secret}/mlflow-db-pwd:addVersion", value)
        settings = {
            "tier": self.tier,
            "edition": "ENTERPRISE",
            "availabilityType": "ZONAL",
            "backupConfiguration": {"enabled": True},
            "ipConfiguration": {
                "ipv4Enabled": False,
                "privateNetwork": f"projects/{PROJECT}/global/networks/{NETWORK}",
            },
        }
        instance = {"name": self.instance, "region": REGION, "databaseVersion": "POSTGRES_13", "settings": settings}
        call("POST", f"{SQL}/instances", instance)
        call("POST", f"{SQL}/instances/{self.instance}/databases", {"name": "mlflow_db"})
        call("POST", f"{SQL}/instances/{self.instance}/users", {"name": "mlflowuser", "password": self.password})
        account = {"accountId": "mlflow-logger", "serviceAccount": {"displayName": "mlflow logger"}}
        call("POST", f"iam.googleapis.com/v1/projects/{PROJECT}/serviceAccounts", account)
        self.bind("GET", f"storage.googleapis.com/storage/v1/b/{self.bucket}/iam", "roles/storage.objectAdmin", LOGGER)
        # Instead of a key of the account, so that the tests can sign in as it.
        url = f"iam.googleapis.com/v1/projects/{PROJECT}/serviceAccounts/{LOGGER}"
        self.bind("POST", url, "roles/iam.serviceAccountTokenCreator", DEPLOYER)

    def bind(self, method: str, url: str, role: str, *accounts: str) -> None:
        """Add service accounts to a role of a policy."""
        bare = method == "GET" and "storage" in url
        policy = self.cloud.call(method, url if bare else f"{url}:getIamPolicy", None if method == "GET" else {})
        members = [name if ":" in name else f"serviceAccount:{name}" for name in accounts]
        policy["bindings"] = [*policy.get("bindings", ()), {"role": role, "members": members}]
        if bare:
            self.cloud.call("PUT", url, policy)
        else:
            self.cloud.call("POST", f"{url}:setIamPolicy", {"policy": policy})

    def service(self) -> None:
        call, project = self.cloud.call, f"cloudresourcemanager.googleapis.com/v1/projects/{PROJECT}"
        # What Google grants the account that the service runs as when Compute Engine is enabled.
        number = call("GET", project)["projectNumber"]
        self.bind("POST", project, "roles/editor", f"{number}-compute@developer.gserviceaccount.com")
        for role in ("roles/cloudsql.client", "roles/secretmanager.secretAccessor", "roles/storage.admin"):
            self.bind("POST", project, role, f"{PROJECT}@appspot.gserviceaccount.com")
        found = call("GET", f"{SQL}/instances/{self.instance}")
        address = next(entry["ipAddress"] for entry in found["ipAddresses"] if entry["type"] == "PRIVATE")
        env = {
            "DB_PASSWORD": self.password,
            "DB_USERNAME": "mlflowuser",
            "DB_NAME": "mlflow_db",
            "DB_PRIVATE_IP": address,
            "GCP_BUCKET": f"gs://{self.bucket}",
        }
        container = {
            "image": IMAGE,
            "env": [{"name": name, "value": value} for name, value in env.items()],
            "resources": {"limits": {"memory": "2Gi", "cpu": "1"}},
        }
        template = {
            "autoscaling.knative.dev/maxScale": "5",
            "run.googleapis.com/cloudsql-instances": found["connectionName"],
            "run.googleapis.com/vpc-access-connector": "vpc-mlflow-connector",
        }
        body = {
            "apiVersion": "serving.knative.dev/v1",
            "kind": "Service",
            "metadata": {
                "name": "mlflow-service",
                "namespace": PROJECT,
                "annotations": {"run.googleapis.com/ingress": "internal-and-cloud-load-balancing"},
            },
            "spec": {"template": {"metadata": {"annotations": template}, "spec": {"containers": [container]}}},
        }
        call("POST", RUN, body)
        agent = self.cloud.service_agent(PROJECT, "iap")
        self.wait_until_ready()
        self.bind("GET", RUN_V2, "roles/run.invoker", agent)

    def zone(self) -> None:
        """A zone with the record of the domain, which Terraform's users keep themselves."""
        call, zones = self.cloud.call, f"dns.googleapis.com/dns/v1/projects/{PROJECT}/managedZones"
        apis = {"serviceIds": ["dns.googleapis.com"]}
        call("POST", f"serviceusage.googleapis.com/v1/projects/{PROJECT}/services:batchEnable", apis)
        address = call("GET", f"{COMPUTE}/global/addresses/mlflow-lb-address")["address"]
        call("POST", zones, {"name": "example", "dnsName": "example.com.", "description": "all"})
        record = {"name": f"{DOMAIN}.", "type": "A", "ttl": 300, "rrdatas": [address]}
        call("POST", f"{zones}/example/rrsets", record)

    def destroy(self) -> None:
        """What `terraform destroy` deletes after it has forgotten what stays."""
        name = "mlflow-lb"
        for path in (
            f"{COMPUTE}/global/forwardingRules/{name}",
            f"{COMPUTE}/global/forwardingRules/{name}-https",
            f"{COMPUTE}/global/targetHttpProxies/{name}-http-proxy",
            f"{COMPUTE}/global/targetHttpsProxies/{name}-https-proxy",
            f"{COMPUTE}/global/urlMaps/{name}-https-redirect",
            f"{COMPUTE}/global/urlMaps/{name}-url-map",
            f"{COMPUTE}/global/backendServices/{name}-backend-default",
            f"{COMPUTE}/global/sslCertificates/{name}-cert",
            f"{COMPUTE}/global/addresses/{name}-address",
            f"{COMPUTE}/regions/{REGION}/networkEndpointGroups/mlflow-serverless-neg",
            f"vpcaccess.googleapis.com/v1/projects/{PROJECT}/locations/{REGION}/connectors/vpc-mlflow-connector",
        ):
            self.cloud.call("DELETE", path)
        project = f"cloudresourcemanager.googleapis.com/v1/projects/{PROJECT}"
        policy = self.cloud.call("POST", f"{project}:getIamPolicy", {})
        app_engine = f"serviceAccount:{PROJECT}@appspot.gserviceaccount.com"
        for binding in policy["bindings"]:
            binding["members"] = [member for member in binding["members"] if member != app_engine]
        policy["bindings"] = [binding for binding in policy["bindings"] if binding["members"]]
        self.cloud.call("POST", f"{project}:setIamPolicy", {"policy": policy})

    def wait_until_ready(self) -> None:
        for _ in range(240):
            state = self.cloud.call("GET", RUN_V2)["terminalCondition"]
            if state["state"] in ("CONDITION_SUCCEEDED", "CONDITION_FAILED"):
                assert state["state"] == "CONDITION_SUCCEEDED", state
                return
            time.sleep(0.25)
        raise AssertionError(state)

    def balancer(self) -> None:
        """The module lb-http 6.2.0, serverless_negs."""
        call, name, everywhere = self.cloud.call, "mlflow-lb", f"{LINKS}/global"
        groups = f"{COMPUTE}/regions/{REGION}/networkEndpointGroups"
        group = {"name": "mlflow-serverless-neg", "networkEndpointType": "SERVERLESS"}
        call("POST", groups, group | {"cloudRun": {"service": "mlflow-service"}})
        backend = {
            "name": f"{name}-backend-default",
            "description": "mlflow-serverless-neg",
            "loadBalancingScheme": "EXTERNAL",
            "backends": [{"group": f"{LINKS}/regions/{REGION}/networkEndpointGroups/mlflow-serverless-neg"}],
            "enableCDN": False,
            "iap": {
                "enabled": True,
                "oauth2ClientId": "977178309684-7gcg.apps.googleusercontent.com",
                "oauth2ClientSecret": CLIENT_SECRET,
            },
            "logConfig": {"enable": True, "sampleRate": 1.0},
        }
        call("POST", f"{COMPUTE}/global/backendServices", backend)
        certificate = {"name": f"{name}-cert", "type": "MANAGED", "managed": {"domains": [DOMAIN]}}
        call("POST", f"{COMPUTE}/global/sslCertificates", certificate)
        default = {"defaultService": f"{everywhere}/backendServices/{name}-backend-default"}
        call("POST", f"{COMPUTE}/global/urlMaps", {"name": f"{name}-url-map"} | default)
        redirect = {"httpsRedirect": True, "redirectResponseCode": "MOVED_PERMANENTLY_DEFAULT", "stripQuery": False}
        call("POST", f"{COMPUTE}/global/urlMaps", {"name": f"{name}-https-redirect", "defaultUrlRedirect": redirect})
        https = {
            "name": f"{name}-https-proxy",
            "urlMap": f"{everywhere}/urlMaps/{name}-url-map",
            "sslCertificates": [f"{everywhere}/sslCertificates/{name}-cert"],
        }
        call("POST", f"{COMPUTE}/global/targetHttpsProxies", https)
        http = {"name": f"{name}-http-proxy", "urlMap": f"{everywhere}/urlMaps/{name}-https-redirect"}
        call("POST", f"{COMPUTE}/global/targetHttpProxies", http)
        call("POST", f"{COMPUTE}/global/addresses", {"name": f"{name}-address", "ipVersion": "IPV4"})
        address = call("GET", f"{COMPUTE}/global/addresses/{name}-address")["address"]
        for rule, proxy, port in ((name, "Http", "80"), (f"{name}-https", "Https", "443")):
            target = f"{everywhere}/target{proxy}Proxies/{name}-{proxy.lower()}-proxy"
            call(
                "POST",
                f"{COMPUTE}/global/forwardingRules",
                {
                    "name": rule,
                    "target": target,
                    "IPAddress": address,
                    "portRange": port,
                    "loadBalancingScheme": "EXTERNAL",
                },
            )
        number = call("GET", f"cloudresourcemanager.googleapis.com/v1/projects/{PROJECT}")["projectNumber"]
        who = [*USERS, f"serviceAccount:{LOGGER}"]
        policy = {"bindings": [{"role": "roles/iap.httpsResourceAccessor", "members": who}]}
        url = f"iap.googleapis.com/v1/projects/{number}/iap_web/compute/services/{name}-backend-default:setIamPolicy"
        call("POST", url, {"policy": policy})
