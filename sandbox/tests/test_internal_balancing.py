"""A regional internal load balancer: what it needs, who reaches it, and certificates of a CA pool."""

from __future__ import annotations

import datetime
from types import SimpleNamespace

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

REGION, OTHER = "europe-west2", "europe-west1"
DOMAIN = "app.corp.example"
HELLO = "us-docker.pkg.dev/cloudrun/container/hello"


@pytest.fixture(scope="module")
def stack(api, enable, done, project, sandbox):
    """A Cloud Run service, two peered networks with a subnet, and a third one."""
    apis = ("compute", "run", "dns", "iap", "certificatemanager", "privateca")
    enable(project, *(f"{name}.googleapis.com" for name in apis))
    compute = f"https://compute.googleapis.com/compute/v1/projects/{project}"
    regional = f"{compute}/regions/{REGION}"

    def post(url: str, body: dict) -> dict:
        return done(api("POST", url, json=body))

    def make(url: str, body: dict) -> str:
        operation = post(url, body)
        assert "error" not in operation, operation
        return f"{url}/{body['name']}"

    def refused(url: str, body: dict) -> str:
        answer = api("POST", url, json=body)
        assert answer.status_code == 400, answer.text
        return answer.json()["error"]["message"]

    for number, name in enumerate(("corp", "peer", "stranger")):
        make(f"{compute}/global/networks", {"name": name, "autoCreateSubnetworks": False})
        subnet = {"name": name, "ipCidrRange": f"10.{number}.0.0/24", "network": f"{compute}/global/networks/{name}"}
        make(f"{regional}/subnetworks", subnet)
    for one, other in (("corp", "peer"), ("peer", "corp")):
        peering = {"name": other, "network": f"{compute}/global/networks/{other}", "exchangeSubnetRoutes": True}
        done(api("POST", f"{compute}/global/networks/{one}/addPeering", json={"networkPeering": peering}))
    services = f"https://run.googleapis.com/v2/projects/{project}/locations/{REGION}/services"
    service = {
        "template": {"containers": [{"image": HELLO}]},
        "ingress": "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER",
        "invokerIamDisabled": True,
    }
    assert "error" not in post(f"{services}?serviceId=hello", service)
    return SimpleNamespace(
        project=project,
        compute=compute,
        regional=regional,
        service=f"{services}/hello",
        network=f"{compute}/global/networks/corp",
        make=make,
        refused=refused,
    )


@pytest.fixture(scope="module")
def proxies(stack):
    """The proxy-only subnet of the network."""
    subnet = {"name": "proxies", "ipCidrRange": "10.9.0.0/23", "network": stack.network}
    return stack.make(f"{stack.regional}/subnetworks", subnet | {"purpose": "REGIONAL_MANAGED_PROXY", "role": "ACTIVE"})


def pair(*names: str) -> tuple[str, str]:
    """A self-signed certificate for these names, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, names[0])])
    when = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(when).not_valid_after(when + datetime.timedelta(days=1))
    alternatives = x509.SubjectAlternativeName(list(map(x509.DNSName, names)))
    certificate = builder.add_extension(alternatives, critical=False).sign(key, hashes.SHA256())
    form = serialization.PrivateFormat.PKCS8
    pem = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    return certificate.public_bytes(serialization.Encoding.PEM).decode(), pem.decode()


@pytest.fixture(scope="module")
def balancer(stack, tmp_path_factory):
    """A load balancer without forwarding rules, its trusted certificate, and the body of a rule."""
    certificate, key = pair(DOMAIN)
    trusted = tmp_path_factory.mktemp("ca") / "ca.pem"
    trusted.write_text(certificate)
    certificate = stack.make(
        f"{stack.regional}/sslCertificates", {"name": "own", "certificate": certificate, "privateKey": key}
    )
    neg = {"name": "neg", "networkEndpointType": "SERVERLESS", "cloudRun": {"service": "hello"}}
    backend = {
        "name": "backend",
        "loadBalancingScheme": "INTERNAL_MANAGED",
        "protocol": "HTTPS",
        "backends": [{"group": stack.make(f"{stack.regional}/networkEndpointGroups", neg)}],
        "logConfig": {"enable": True},
    }
    backend = stack.make(f"{stack.regional}/backendServices", backend)
    url_map = stack.make(f"{stack.regional}/urlMaps", {"name": "map", "defaultService": backend})
    proxy = {"name": "proxy", "urlMap": url_map, "sslCertificates": [certificate]}
    address = {"name": "vip", "subnetwork": f"{stack.regional}/subnetworks/corp", "addressType": "INTERNAL"}
    vip = stack.make(f"{stack.regional}/addresses", address | {"purpose": "SHARED_LOADBALANCER_VIP"})
    rule = {
        "name": "rule",
        "loadBalancingScheme": "INTERNAL_MANAGED",
        "network": stack.network,
        "subnetwork": f"{stack.regional}/subnetworks/corp",
        "IPAddress": vip,
        "portRange": "443",
        "target": stack.make(f"{stack.regional}/targetHttpsProxies", proxy),
    }
    return SimpleNamespace(rule=rule, vip=vip, trusted=str(trusted), url_map=url_map)


def test_a_rule_needs_a_proxy_only_subnet(stack, balancer):
    told = stack.refused(f"{stack.regional}/forwardingRules", balancer.rule)
    assert "An active proxy-only subnetwork is required in the same region and VPC as the forwarding rule." in told


def test_one_proxy_only_subnet_is_active(stack, proxies, api):
    subnets = f"{stack.regional}/subnetworks"
    more = {"name": "more", "network": stack.network, "purpose": "REGIONAL_MANAGED_PROXY", "ipCidrRange": "10.8.0.0/26"}
    assert "already an active subnetwork" in stack.refused(subnets, more | {"role": "ACTIVE"})
    assert "at most 26" in stack.refused(subnets, more | {"role": "BACKUP", "ipCidrRange": "10.8.0.0/27"})
    log = {"logConfig": {"enable": True}}
    assert "Invalid field set in subnetwork" in stack.refused(subnets, more | {"role": "BACKUP"} | log)
    stack.make(subnets, more | {"role": "BACKUP"})
    inside = {"name": "inside", "subnetwork": proxies, "addressType": "INTERNAL"}
    assert "purpose=PRIVATE" in stack.refused(f"{stack.regional}/addresses", inside)


@pytest.fixture(scope="module")
def rule(stack, proxies, balancer):
    """The forwarding rule for HTTPS."""
    return stack.make(f"{stack.regional}/forwardingRules", balancer.rule)


def test_an_address_is_shared_if_it_is_made_for_it(stack, rule, balancer):
    redirect = {"name": "redirect", "defaultUrlRedirect": {"httpsRedirect": True, "stripQuery": False}}
    proxy = {"name": "plain", "urlMap": stack.make(f"{stack.regional}/urlMaps", redirect)}
    proxy = stack.make(f"{stack.regional}/targetHttpProxies", proxy)
    plain = balancer.rule | {"name": "plain", "portRange": "80", "target": proxy}
    address = {"name": "single", "subnetwork": f"{stack.regional}/subnetworks/corp", "addressType": "INTERNAL"}
    single = stack.make(f"{stack.regional}/addresses", address)
    stack.make(f"{stack.regional}/forwardingRules", balancer.rule | {"name": "one", "IPAddress": single})
    told = stack.refused(f"{stack.regional}/forwardingRules", plain | {"IPAddress": single})
    assert "in-use" in told
    stack.make(f"{stack.regional}/forwardingRules", plain)


def ask(sandbox, balancer, url: str = f"https://{DOMAIN}/", **place: str) -> requests.Response:
    session = sandbox.session(anonymous=True, **place)
    return session.get(url, verify=balancer.trusted, timeout=10, allow_redirects=False)


def within(stack, network: str, region: str = REGION) -> dict[str, str]:
    return {"network": f"projects/{stack.project}/global/networks/{network}", "region": region}


@pytest.mark.parametrize("network", ["corp", "peer"])
def test_it_is_reached_from_its_network_and_from_peered_ones(stack, rule, balancer, sandbox, api, network):
    assert ask(sandbox, balancer, **within(stack, network)).status_code == 200
    body = {"resourceNames": [f"projects/{stack.project}"], "filter": 'resource.type="internal_http_lb_rule"'}
    (entry, *_more) = api("POST", "https://logging.googleapis.com/v2/entries:list", json=body).json()["entries"]
    assert entry["resource"]["labels"]["network_name"] == "corp"


def test_nobody_else_reaches_it(stack, rule, balancer, sandbox):
    for place in ({}, within(stack, "stranger"), within(stack, "corp", OTHER)):
        with pytest.raises(requests.exceptions.ConnectionError):
            ask(sandbox, balancer, **place)
    address = sandbox.session().get(balancer.vip).json()["address"]
    with pytest.raises(requests.exceptions.ConnectionError):
        ask(sandbox, balancer, f"https://{address}/")


def test_the_service_itself_may_be_internal_only(stack, rule, balancer, sandbox, api, done):
    for ingress in ("INGRESS_TRAFFIC_INTERNAL_ONLY", "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER"):
        done(api("PATCH", f"{stack.service}?updateMask=ingress", json={"ingress": ingress}))
        assert ask(sandbox, balancer, **within(stack, "corp")).status_code == 200


def test_global_access_is_decided_when_the_rule_is_made(stack, rule, balancer, sandbox, api, done):
    answer = api("PATCH", rule, json={"allowGlobalAccess": True})
    assert answer.status_code == 400 and "cannot be changed" in answer.text
    done(api("DELETE", rule))
    stack.make(f"{stack.regional}/forwardingRules", balancer.rule | {"allowGlobalAccess": True})
    assert ask(sandbox, balancer, **within(stack, "corp", OTHER)).status_code == 200


def test_a_private_zone_resolves_in_its_network(stack, rule, balancer, sandbox, api):
    zones = f"https://dns.googleapis.com/dns/v1/projects/{stack.project}/managedZones"
    zone = {
        "name": "corp",
        "dnsName": "corp.example.",
        "description": "",
        "visibility": "private",
        "privateVisibilityConfig": {"networks": [{"networkUrl": stack.network}]},
    }
    assert api("POST", zones, json=zone).status_code == 200
    with pytest.raises(requests.exceptions.ConnectionError):  # the zone has no such name
        ask(sandbox, balancer, **within(stack, "corp"))
    record = {"name": f"{DOMAIN}.", "type": "A", "ttl": 60, "rrdatas": [api("GET", balancer.vip).json()["address"]]}
    assert api("POST", f"{zones}/corp/rrsets", json=record).status_code == 200
    assert ask(sandbox, balancer, **within(stack, "corp")).status_code == 200
    with pytest.raises(requests.exceptions.ConnectionError):
        ask(sandbox, balancer)


def test_a_proxy_only_subnet_in_use_is_not_deleted(stack, proxies, rule, api):
    answer = api("DELETE", proxies)
    assert (
        answer.status_code == 400 and answer.json()["error"]["errors"][0]["reason"] == "resourceInUseByAnotherResource"
    )


def test_a_ca_pool_issues_the_certificate(stack, rule, balancer, sandbox, api, done, tmp_path):
    place = f"projects/{stack.project}/locations/{REGION}"
    pools = f"https://privateca.googleapis.com/v1/{place}/caPools"
    done(api("POST", f"{pools}?caPoolId=corp", json={"tier": "DEVOPS"}))
    subject = {"config": {"subjectConfig": {"subject": {"commonName": "Corp CA"}}}, "type": "SELF_SIGNED"}
    done(api("POST", f"{pools}/corp/certificateAuthorities?certificateAuthorityId=root", json=subject))
    manager = f"https://certificatemanager.googleapis.com/v1/{place}"
    config = {
        "certificateAuthorityConfig": {"certificateAuthorityServiceConfig": {"caPool": f"{place}/caPools/corp"}},
        "lifetime": "2592000s",
        "rotationWindowPercentage": 66,
        "keyAlgorithm": "ECDSA_P256",
    }
    done(api("POST", f"{manager}/certificateIssuanceConfigs?certificateIssuanceConfigId=corp", json=config))
    managed = {"domains": [DOMAIN], "issuanceConfig": f"{place}/certificateIssuanceConfigs/corp"}
    done(api("POST", f"{manager}/certificates?certificateId=corp", json={"managed": managed}))

    def issue() -> str:
        return (
            api("GET", f"{manager}/certificates/corp").json()["managed"].get("provisioningIssue", {}).get("details", "")
        )

    assert "privateca.certificates.create" in issue()
    agent = sandbox.service_agent(stack.project, "certificatemanager")
    bindings = [{"role": "roles/privateca.certificateRequester", "members": [f"serviceAccount:{agent}"]}]
    assert api("POST", f"{pools}/corp:setIamPolicy", json={"policy": {"bindings": bindings}}).status_code == 200
    assert "no enabled certificate authority" in issue()
    done(api("POST", f"{pools}/corp/certificateAuthorities/root:enable", json={}))
    certificate = api("GET", f"{manager}/certificates/corp").json()
    assert certificate["managed"]["state"] == "ACTIVE" and "PRIVATE" not in str(certificate)

    link = f"//certificatemanager.googleapis.com/{place}/certificates/corp"
    done(api("POST", f"{balancer.rule['target']}/setSslCertificates", json={"sslCertificates": [link]}))
    (chain,) = api("POST", f"{pools}/corp:fetchCaCerts", json={}).json()["caCerts"]
    (tmp_path / "ca.pem").write_text("".join(chain["certificates"]))
    session = sandbox.session(anonymous=True, **within(stack, "corp"))
    assert session.get(f"https://{DOMAIN}/", verify=str(tmp_path / "ca.pem"), timeout=10).status_code == 200
    for used in (f"{manager}/certificates/corp", f"{manager}/certificateIssuanceConfigs/corp"):
        assert api("DELETE", used).json()["error"]["status"] == "FAILED_PRECONDITION"
