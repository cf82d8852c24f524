"""Load balancer and Identity-Aware Proxy, as seen by a browser and a program."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sys
import time
from types import SimpleNamespace

import jwt
import pytest
import requests

REGION = "europe-west2"
IMAGE = "europe-docker.pkg.dev/test/images/echo:1"
ECHO = """
import http.server, json, os

class Echo(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"path": self.path, "headers": dict(self.headers)}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

http.server.ThreadingHTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Echo).serve_forever()
"""
DOMAIN = "app.example.com"


@pytest.fixture(scope="module")
def stack(api, enable, done, project, sandbox, tmp_path_factory):
    """A Cloud Run service that returns the headers it receives, behind a load balancer with IAP."""
    folder = tmp_path_factory.mktemp("echo")
    (folder / "echo.py").write_text(ECHO)
    (folder / "Containerfile").write_text('FROM python:3\nCOPY echo.py /app/\nENTRYPOINT ["python", "/app/echo.py"]\n')
    sandbox.command("image", "add", IMAGE, str(folder), "--python", sys.executable)
    enable(
        project,
        "compute.googleapis.com",
        "run.googleapis.com",
        "iap.googleapis.com",
        "iam.googleapis.com",
        "iamcredentials.googleapis.com",
        "cloudresourcemanager.googleapis.com",
    )
    # These APIs count as used by the caller's project, which is the deployer's.
    enable(
        "sandbox-project", "iam.googleapis.com", "iamcredentials.googleapis.com", "cloudresourcemanager.googleapis.com"
    )
    compute = f"https://compute.googleapis.com/compute/v1/projects/{project}"
    run = f"https://run.googleapis.com/v2/projects/{project}/locations/{REGION}/services"
    number = api("GET", f"https://cloudresourcemanager.googleapis.com/v1/projects/{project}").json()["projectNumber"]

    service = {"template": {"containers": [{"image": IMAGE}]}, "ingress": "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER"}
    operation = done(api("POST", f"{run}?serviceId=hello", json=service))
    assert "error" not in operation, operation

    def make(path: str, body: dict) -> str:
        operation = done(api("POST", f"{compute}/{path}", json=body))
        assert "error" not in operation, operation
        return f"{compute}/{path}/{body['name']}"

    address = make("global/addresses", {"name": "lb"})
    neg = make(
        f"regions/{REGION}/networkEndpointGroups",
        {"name": "neg", "networkEndpointType": "SERVERLESS", "cloudRun": {"service": "hello"}},
    )
    certificate = make("global/sslCertificates", {"name": "cert", "type": "MANAGED", "managed": {"domains": [DOMAIN]}})
    backend = make(
        "global/backendServices",
        {
            "name": "backend",
            "loadBalancingScheme": "EXTERNAL_MANAGED",
            "protocol": "HTTPS",
            "backends": [{"group": neg}],
            "iap": {"enabled": True},
            "logConfig": {"enable": True, "sampleRate": 1.0},
        },
    )
    url_map = make("global/urlMaps", {"name": "map", "defaultService": backend})
    proxy = make("global/targetHttpsProxies", {"name": "proxy", "urlMap": url_map, "sslCertificates": [certificate]})
    ip = api("GET", address).json()["address"]
    make(
        "global/forwardingRules",
        {
            "name": "rule",
            "IPAddress": ip,
            "portRange": "443",
            "target": proxy,
            "loadBalancingScheme": "EXTERNAL_MANAGED",
        },
    )
    redirect = make(
        "global/urlMaps",
        {
            "name": "redirect",
            "defaultUrlRedirect": {
                "httpsRedirect": True,
                "stripQuery": False,
                "redirectResponseCode": "MOVED_PERMANENTLY_DEFAULT",
            },
        },
    )
    plain = make("global/targetHttpProxies", {"name": "plain", "urlMap": redirect})
    make(
        "global/forwardingRules",
        {
            "name": "plain",
            "IPAddress": ip,
            "portRange": "80",
            "target": plain,
            "loadBalancingScheme": "EXTERNAL_MANAGED",
        },
    )

    done(
        api(
            "POST",
            f"https://serviceusage.googleapis.com/v1beta1/projects/{project}/services/iap.googleapis.com"
            ":generateServiceIdentity",
            json={},
        )
    )
    agent = f"serviceAccount:service-{number}@gcp-sa-iap.iam.gserviceaccount.com"
    _policy(api, f"{run}/hello", [{"role": "roles/run.invoker", "members": [agent]}])
    accounts = f"https://iam.googleapis.com/v1/projects/{project}/serviceAccounts"
    account = api("POST", accounts, json={"accountId": "robot-one"}).json()["email"]
    key = api("POST", f"{accounts}/{account}/keys", json={}).json()
    out = SimpleNamespace(
        project=project,
        number=number,
        compute=compute,
        run=f"{run}/hello",
        ip=ip,
        agent=agent,
        account=account,
        key=json.loads(base64.b64decode(key["privateKeyData"])),
        backend=backend,
        neg=neg,
        iap=f"https://iap.googleapis.com/v1/projects/{number}/iap_web/compute/services/backend",
    )
    out.backend_id = api("GET", backend).json()["id"]
    _policy(
        api,
        out.iap,
        [
            {
                "role": "roles/iap.httpsResourceAccessor",
                "members": ["user:alice@example.com", f"serviceAccount:{account}"],
            }
        ],
    )
    return out


def _policy(api, resource: str, bindings: list[dict]) -> None:
    answer = api("POST", f"{resource}:setIamPolicy", json={"policy": {"bindings": bindings}})
    assert answer.status_code == 200, answer.text


@pytest.fixture
def browser(sessions):
    """A client without any token, with cookies."""
    session = requests.Session()
    session.trust_env = False
    session.proxies, session.verify = sessions(None).proxies, sessions(None).verify
    return session


def _jwt(stack, audience=f"https://{DOMAIN}/*", *, email: str = "", lifetime: int | None = 600, key: str = "") -> str:
    when = int(time.time())
    claims = {"iss": email or stack.account, "sub": email or stack.account, "aud": audience, "iat": when}
    if lifetime is not None:
        claims["exp"] = when + lifetime
    return jwt.encode(
        claims, key or stack.key["private_key"], algorithm="RS256", headers={"kid": stack.key["private_key_id"]}
    )


def _with(token: str, header: str = "Authorization") -> dict[str, str]:
    return {header: f"Bearer {token}"}


def test_http_is_redirected_to_https(stack, browser):
    answer = browser.get(f"http://{DOMAIN}/a?b=c", allow_redirects=False, timeout=10)
    assert answer.status_code == 301
    assert answer.headers["Location"] == f"https://{DOMAIN}/a?b=c"


def test_without_a_token_to_the_sign_in_page(stack, browser):
    answer = browser.get(f"https://{DOMAIN}/", allow_redirects=False, timeout=10)
    assert answer.status_code == 302
    assert answer.headers["Location"].startswith("https://accounts.google.com/o/oauth2/v2/auth?")
    assert answer.headers["X-Goog-IAP-Generated-Response"] == "true"


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("GET", {"X-Requested-With": "XMLHttpRequest"}),
        ("GET", {"Accept": "application/json"}),
        ("POST", {}),
        ("OPTIONS", {}),
    ],
)
def test_who_does_not_follow_redirects_is_401(stack, browser, method, headers):
    answer = browser.request(method, f"https://{DOMAIN}/", headers=headers, timeout=10)
    assert answer.status_code == 401
    assert answer.text == "Invalid IAP credentials: empty token"


def test_preflight_requests_pass_where_settings_say_so(stack, api, browser):
    settings = f"{stack.iap}:iapSettings"
    mask = {"updateMask": "iapSettings.accessSettings.corsSettings"}
    body = {"accessSettings": {"corsSettings": {"allowHttpOptions": True}}}
    assert api("PATCH", settings, json=body, params=mask).status_code == 200
    assert browser.options(f"https://{DOMAIN}/", timeout=10).status_code == 501  # the service's own response
    assert browser.get(f"https://{DOMAIN}/", allow_redirects=False, timeout=10).status_code == 302
    api("PATCH", settings, json={"accessSettings": {}}, params=mask)


def test_special_urls(stack, browser):
    headers = _with(_jwt(stack))
    for url in ("/_gcp_iap/identity", "/any?gcp-iap-mode=IDENTITY"):
        who = browser.get(f"https://{DOMAIN}{url}", headers=headers, timeout=10).json()
        assert who["email"] == f"accounts.google.com:{stack.account}"
    assert (
        "do_session_refresh"
        in browser.get(f"https://{DOMAIN}/_gcp_iap/session_refresher", headers=headers, timeout=10).text
    )
    again = browser.get(
        f"https://{DOMAIN}/_gcp_iap/do_session_refresh", headers=headers, allow_redirects=False, timeout=10
    )
    assert again.headers["Location"].startswith("https://accounts.google.com/")
    for path, after in (("/a", "/a"), ("//elsewhere.example", "/elsewhere.example")):
        out = browser.get(f"https://{DOMAIN}{path}?gcp-iap-mode=CLEAR_LOGIN_COOKIE", allow_redirects=False, timeout=10)
        assert (out.status_code, out.headers["Location"]) == (302, after)


@pytest.mark.parametrize(
    ("test", "error"),
    [
        ("NOT_SET", None),
        ("SIGNATURE", jwt.InvalidSignatureError),
        ("AUDIENCE", jwt.InvalidAudienceError),
        ("ISSUER", jwt.InvalidIssuerError),
        ("PAST_EXPIRATION", jwt.ExpiredSignatureError),
        ("FUTURE_ISSUE", jwt.ImmatureSignatureError),
    ],
)
def test_assertions_that_a_service_must_refuse(stack, browser, test, error):
    keys = browser.get("https://www.gstatic.com/iap/verify/public_key", timeout=10).json()
    query = {"gcp-iap-mode": "SECURE_TOKEN_TEST", "iap-secure-token-test-type": test}
    answer = browser.get(f"https://{DOMAIN}/", headers=_with(_jwt(stack)), params=query, timeout=10)
    assertion = answer.json()["headers"]["X-Goog-IAP-JWT-Assertion"]
    wanted = {
        "audience": f"/projects/{stack.number}/global/backendServices/{stack.backend_id}",
        "issuer": "https://cloud.google.com/iap",
    }
    key = keys[jwt.get_unverified_header(assertion)["kid"]]
    if error is None:
        assert jwt.decode(assertion, key, algorithms=["ES256"], **wanted)["email"] == stack.account
    else:
        with pytest.raises(error):
            jwt.decode(assertion, key, algorithms=["ES256"], **wanted)


def test_headers_on_the_way_there_and_back(stack, browser):
    sent = _with(_jwt(stack), "Proxy-Authorization") | {
        "Authorization": "Bearer eyJhIjoxfQ.eyJiIjoxfQ.mine",
        "X-Goog-Authenticated-User-Email": "accounts.google.com:evil",
        "X-Goog-Whatever": "1",
        "X-Forwarded-For": "192.0.2.7",
        "X-Cloud-Trace-Context": f"{'ab' * 16}/1;o=1",
    }
    answer = browser.get(f"https://{DOMAIN}/", headers=sent, timeout=10)
    told = answer.json()["headers"]
    assert told["X-Goog-Authenticated-User-Email"] == f"accounts.google.com:{stack.account}"
    assert "X-Goog-Whatever" not in told
    assert told["Authorization"] == sent["Authorization"]  # IAP has consumed the other one, this one is for the service
    assert told["X-Forwarded-For"].split(",") == ["192.0.2.7", "127.0.0.1", stack.ip]
    assert told["X-Cloud-Trace-Context"] == sent["X-Cloud-Trace-Context"]
    assert answer.headers["Via"] == "1.1 google"
    refused = browser.get(f"https://{DOMAIN}/", headers={"Accept": "text/plain"}, timeout=10)
    assert refused.headers["Via"] == "1.1 google"
    assert "Server" not in refused.headers


def test_a_fault_of_the_load_balancer(stack, sandbox, browser):
    sandbox.command("fault", "add", f"{DOMAIN}/*", "502")
    answer = browser.get(f"https://{DOMAIN}/", timeout=10)
    sandbox.command("fault", "clear")
    assert (answer.status_code, answer.headers["Via"]) == (502, "1.1 google")
    assert "temporary error" in answer.text


def test_the_url_map_decides_for_every_host(stack, browser):
    headers = _with(_jwt(stack, "https://other.example.com/*")) | {"Host": "other.example.com"}
    answer = browser.get(f"https://{DOMAIN}/", headers=headers, timeout=10)
    assert answer.json()["headers"]["Host"] == "other.example.com"


def test_browser_signs_in(stack, browser):
    page = browser.get(f"https://{DOMAIN}/path?x=1", timeout=10)
    assert "Choose an account" in page.text
    assert "alice@example.com" in page.text
    done = browser.post(page.url, data={"email": "alice@example.com"}, timeout=20)
    assert done.status_code == 200
    assert done.url == f"https://{DOMAIN}/path?x=1"
    again = browser.get(f"https://{DOMAIN}/", allow_redirects=False, timeout=10)
    assert again.status_code == 200
    out = browser.get(f"https://{DOMAIN}/_gcp_iap/clear_login_cookie", allow_redirects=False, timeout=10)
    assert out.status_code == 302
    assert browser.get(f"https://{DOMAIN}/", allow_redirects=False, timeout=10).status_code == 302


def test_browser_of_an_unknown_user_is_rejected(stack, browser):
    page = browser.get(f"https://{DOMAIN}/", timeout=10)
    answer = browser.post(page.url, data={"other": "bob@example.com"}, timeout=20)
    assert answer.status_code == 403
    assert "bob@example.com" in answer.text


def test_managed_client_is_for_the_organisation_alone(stack, browser):
    page = browser.get(f"https://{DOMAIN}/", timeout=10)
    answer = browser.post(page.url, data={"other": "eve@elsewhere.example"}, timeout=20)
    assert answer.status_code == 403
    assert "org_internal" in answer.text


@pytest.mark.parametrize("header", ["Authorization", "Proxy-Authorization"])
def test_service_account_jwt(stack, browser, header):
    answer = browser.get(f"https://{DOMAIN}/", headers=_with(_jwt(stack), header), timeout=10)
    assert answer.status_code == 200


def test_service_account_jwt_by_sign_jwt(stack, api, browser):
    when = int(time.time())
    claims = {"iss": stack.account, "sub": stack.account, "aud": f"https://{DOMAIN}/", "iat": when, "exp": when + 60}
    url = f"https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{stack.account}:signJwt"
    refused = api("POST", url, json={"payload": json.dumps(claims)})
    assert refused.status_code == 403  # an owner may not sign as the account
    account = f"https://iam.googleapis.com/v1/projects/{stack.project}/serviceAccounts/{stack.account}"
    _policy(api, account, [{"role": "roles/iam.serviceAccountTokenCreator", "members": ["user:alice@example.com"]}])
    signed = api("POST", url, json={"payload": json.dumps(claims)}, as_="alice@example.com").json()["signedJwt"]
    assert browser.get(f"https://{DOMAIN}/", headers=_with(signed), timeout=10).status_code == 200
    assert browser.get(f"https://{DOMAIN}/other", headers=_with(signed), timeout=10).status_code == 401


@pytest.mark.parametrize(
    ("token", "said"),
    [
        (lambda s: "nonsense", "Unable to parse JWT"),
        (lambda s: _jwt(s, "https://elsewhere.example/*"), "aud"),
        (lambda s: _jwt(s, lifetime=-10), "Expired"),
        (lambda s: _jwt(s, lifetime=7200), "hour"),
        (lambda s: _jwt(s, key=_other_key()), "signature"),
        (lambda s: _jwt(s, [f"https://{DOMAIN}/*"]), "'aud' claim isn't a string"),
        (lambda s: _jwt(s, lifetime=None), "'exp' claim is missing"),
    ],
)
def test_bad_credentials_are_401(stack, browser, token, said):
    answer = browser.get(f"https://{DOMAIN}/", headers=_with(token(stack)), timeout=10)
    assert answer.status_code == 401
    assert answer.text.startswith("Invalid IAP credentials: ")
    assert said in answer.text


def _other_key() -> str:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def test_account_off_the_list_is_403(stack, api, browser):
    keep = [{"role": "roles/iap.httpsResourceAccessor", "members": ["user:alice@example.com"]}]
    both = [
        {
            "role": "roles/iap.httpsResourceAccessor",
            "members": ["user:alice@example.com", f"serviceAccount:{stack.account}"],
        }
    ]
    _policy(api, stack.iap, keep)
    try:
        assert browser.get(f"https://{DOMAIN}/", headers=_with(_jwt(stack)), timeout=10).status_code == 403
    finally:
        _policy(api, stack.iap, both)


def test_conditions_on_path_and_host(stack, api, browser):
    expression = f'request.path.startsWith("/open/") && request.host == "{DOMAIN}"'
    accessor = {"role": "roles/iap.httpsResourceAccessor", "members": ["user:alice@example.com"]}
    mine = accessor | {"members": [f"serviceAccount:{stack.account}"]}
    condition = {"title": "open", "expression": expression}
    policy = {"version": 3, "bindings": [accessor, mine | {"condition": condition}]}
    assert api("POST", f"{stack.iap}:setIamPolicy", json={"policy": policy}).status_code == 200
    try:
        assert browser.get(f"https://{DOMAIN}/open/door", headers=_with(_jwt(stack)), timeout=10).status_code == 200
        assert browser.get(f"https://{DOMAIN}/shut", headers=_with(_jwt(stack)), timeout=10).status_code == 403
    finally:
        _policy(api, stack.iap, [accessor | {"members": [*accessor["members"], *mine["members"]]}])


def test_agent_without_the_invoker_role_is_403(stack, api, browser):
    _policy(api, stack.run, [])
    try:
        answer = browser.get(f"https://{DOMAIN}/", headers=_with(_jwt(stack)), timeout=10)
        assert answer.status_code == 403
        assert "Your client does not have permission" in answer.text
    finally:
        _policy(api, stack.run, [{"role": "roles/run.invoker", "members": [stack.agent]}])


def test_openid_token_needs_an_allowed_client(stack, api, browser):
    account = f"https://iam.googleapis.com/v1/projects/{stack.project}/serviceAccounts/{stack.account}"
    _policy(api, account, [{"role": "roles/iam.serviceAccountTokenCreator", "members": ["user:alice@example.com"]}])
    url = f"https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{stack.account}:generateIdToken"
    client = "1234-abc.apps.googleusercontent.com"
    token = api("POST", url, json={"audience": client, "includeEmail": True}, as_="alice@example.com").json()["token"]
    assert browser.get(f"https://{DOMAIN}/", headers=_with(token), timeout=10).status_code == 401
    settings = {"accessSettings": {"oauthSettings": {"programmaticClients": [client]}}}
    for name in (stack.iap, stack.iap.partition("/iap_web")[0]):  # settings of the project apply to its services
        api("PATCH", f"{name}:iapSettings", json=settings)
        try:
            assert browser.get(f"https://{DOMAIN}/", headers=_with(token), timeout=10).status_code == 200
        finally:
            api("PATCH", f"{name}:iapSettings", json={"accessSettings": {"oauthSettings": {"programmaticClients": []}}})
        assert browser.get(f"https://{DOMAIN}/", headers=_with(token), timeout=10).status_code == 401


def test_identity_headers_for_the_service(stack, sandbox, browser):
    answer = browser.get(f"https://{DOMAIN}/", headers=_with(_jwt(stack)), timeout=10)
    told = {k.lower(): v for k, v in answer.json()["headers"].items()}
    assert told["x-goog-authenticated-user-email"] == f"accounts.google.com:{stack.account}"
    keys = browser.get("https://www.gstatic.com/iap/verify/public_key", timeout=10).json()
    assertion = told["x-goog-iap-jwt-assertion"]
    audience = f"/projects/{stack.number}/global/backendServices/"
    claims = jwt.decode(
        assertion,
        keys[jwt.get_unverified_header(assertion)["kid"]],
        algorithms=["ES256"],
        options={"verify_aud": False},
    )
    assert re.fullmatch(re.escape(audience) + r"\d+", claims["aud"])
    assert claims["email"] == stack.account


def test_run_url_is_shut(stack, api, browser):
    url = api("GET", stack.run).json()["uri"]
    assert browser.get(url, timeout=10).status_code == 404


def test_unknown_name_is_refused_by_the_proxy(stack, browser):
    with pytest.raises(requests.exceptions.ProxyError):
        browser.get("https://other.example.com/", timeout=10)


def test_neg_for_a_missing_service(stack, api, done, browser):
    broken = f"{stack.compute}/regions/{REGION}/networkEndpointGroups"
    done(
        api(
            "POST",
            broken,
            json={"name": "broken", "networkEndpointType": "SERVERLESS", "cloudRun": {"service": "nobody"}},
        )
    )
    done(api("PATCH", stack.backend, json={"backends": [{"group": f"{broken}/broken"}]}))
    try:
        assert browser.get(f"https://{DOMAIN}/", headers=_with(_jwt(stack)), timeout=10).status_code in (404, 502)
    finally:
        done(api("PATCH", stack.backend, json={"backends": [{"group": stack.neg}]}))


def test_requests_are_logged(stack, sandbox, browser, api):
    browser.get(f"https://{DOMAIN}/logged", headers=_with(_jwt(stack)), timeout=10)
    file = sandbox.state / "logs" / "load-balancer.jsonl"
    for _ in range(500):  # the entry is written after the response has been sent
        found = [json.loads(line) for line in file.read_text().splitlines() if "/logged" in line]
        if found:
            break
        time.sleep(0.01)
    last = found[-1]
    assert last["httpRequest"]["status"] == 200
    assert last["resource"]["labels"]["backend_service_name"] == "backend"
    body = {
        "resourceNames": [f"projects/{stack.project}"],
        "orderBy": "timestamp desc",
        "filter": 'resource.type="http_load_balancer" AND httpRequest.requestUrl:"/logged"',
    }
    entry = api("POST", "https://logging.googleapis.com/v2/entries:list", json=body).json()["entries"][0]
    assert entry["logName"] == f"projects/{stack.project}/logs/requests" and entry["severity"] == "INFO"
    assert entry["resource"]["labels"] == {
        "project_id": stack.project,
        "zone": "global",
        "forwarding_rule_name": "rule",
        "target_proxy_name": "proxy",
        "url_map_name": "map",
        "backend_service_name": "backend",
    }
    assert entry["jsonPayload"]["@type"].endswith(".LoadBalancerLogEntry")
    assert entry["jsonPayload"]["statusDetails"] == "response_sent_by_backend"
    body["filter"] = 'jsonPayload.statusDetails="handled_by_identity_aware_proxy"'
    browser.get(f"https://{DOMAIN}/stranger", timeout=10, allow_redirects=False)
    assert "entries" in api("POST", "https://logging.googleapis.com/v2/entries:list", json=body).json()


@pytest.fixture
def armored(stack, api, done):
    """``armored(rule, …)``: a security policy with these rules in front of the backend service, for one test."""
    policies = f"{stack.compute}/global/securityPolicies"

    def put(*rules: dict) -> None:
        operation = done(api("POST", policies, json={"name": "armor", "rules": list(rules)}))
        assert "error" not in operation, operation
        done(api("POST", f"{stack.backend}/setSecurityPolicy", json={"securityPolicy": f"{policies}/armor"}))

    yield put
    done(api("POST", f"{stack.backend}/setSecurityPolicy", json={}))
    done(api("DELETE", f"{policies}/armor"))


def rule(priority: int, action: str, *ranges: str, expr: str = "", **more) -> dict:
    """A rule for source ranges, or with an expression."""
    match = (
        {"expr": {"expression": expr}} if expr else {"versionedExpr": "SRC_IPS_V1", "config": {"srcIpRanges": ranges}}
    )
    return {"priority": priority, "action": action, "match": match, **more}


def test_a_security_policy_decides_before_the_sign_in(stack, armored, browser, api):
    armored(
        rule(10, "allow", expr="request.path.startsWith('/open') && inIpRange(origin.ip, '127.0.0.0/8')"),
        rule(20, "deny(404)", expr="has(request.headers['x-scanner']) && request.method == 'GET'"),
        rule(30, "deny(502)", "127.0.0.0/8", preview=True),
        rule(
            40,
            "redirect",
            expr="request.query.contains('away')",
            redirectOptions={"type": "EXTERNAL_302", "target": "https://example.com/"},
        ),
        rule(50, "deny(403)", "192.0.2.0/24", "127.0.0.0/8"),
    )
    headers = _with(_jwt(stack))

    def status(path: str, **more: str) -> int:
        return browser.get(
            f"https://{DOMAIN}{path}", headers=headers | more, timeout=10, allow_redirects=False
        ).status_code

    assert status("/open") == 200
    assert status("/open", **{"X-Scanner": "1"}) == 200
    assert status("/closed", **{"X-Scanner": "1"}) == 404
    assert status("/closed?away") == 302
    assert status("/closed") == 403
    body = {
        "resourceNames": [f"projects/{stack.project}"],
        "filter": 'jsonPayload.statusDetails="denied_by_security_policy"',
    }
    (entry, *_) = api("POST", "https://logging.googleapis.com/v2/entries:list", json=body).json()["entries"]
    assert entry["jsonPayload"]["enforcedSecurityPolicy"]["outcome"] == "DENY"


def test_without_a_matching_rule_the_default_one_decides(stack, armored, browser):
    deny = rule(2147483647, "deny(403)", "*")
    armored(rule(1000, "allow", expr="request.headers['user-agent'].lower().contains('friend')"), deny)
    ask = {"timeout": 10, "allow_redirects": False}
    assert browser.get(f"https://{DOMAIN}/", headers={"User-Agent": "A Friend"}, **ask).status_code == 302
    answer = browser.get(f"https://{DOMAIN}/", headers={"User-Agent": "other"}, **ask)
    assert (answer.status_code, answer.text.endswith("403 Forbidden")) == (403, True)


# -- a Cloud Run service with Identity-Aware Proxy of its own -------------------


@pytest.fixture(scope="module")
def direct(stack, api, done):
    """The same image as a service with IAP of its own, which one person and the robot may pass."""
    run = stack.run.rpartition("/")[0]
    service = {"template": {"containers": [{"image": IMAGE}]}, "ingress": "INGRESS_TRAFFIC_ALL", "iapEnabled": True}
    assert "error" not in done(api("POST", f"{run}?serviceId=direct", json=service))
    iap = f"https://iap.googleapis.com/v1/projects/{stack.number}/iap_web/cloud_run-{REGION}/services/direct"
    members = ["user:alice@example.com", f"serviceAccount:{stack.account}"]
    _policy(api, iap, [{"role": "roles/iap.httpsResourceAccessor", "members": members}])
    _policy(api, f"{run}/direct", [{"role": "roles/run.invoker", "members": [stack.agent]}])
    urls = api("GET", f"{run}/direct").json()["urls"]
    assert urls[0] == f"https://direct-{stack.number}.{REGION}.run.app"
    return SimpleNamespace(run=f"{run}/direct", iap=iap, url=urls[0], urls=urls)


def test_the_run_app_address_asks_to_sign_in(direct, browser):
    for url in direct.urls:
        answer = browser.get(f"{url}/a?b=c", allow_redirects=False, timeout=10)
        assert answer.status_code == 302 and answer.headers["Location"].startswith("https://accounts.google.com/")
    page = browser.get(f"{direct.url}/a?b=c", timeout=10)
    done = browser.post(page.url, data={"email": "alice@example.com"}, timeout=20)
    assert (done.status_code, done.url) == (200, f"{direct.url}/a?b=c")


def test_who_is_not_named_for_the_service_is_refused(direct, browser):
    page = browser.get(direct.url, timeout=10)
    assert browser.post(page.url, data={"other": "bob@example.com"}, timeout=20).status_code == 403


def test_a_jwt_is_for_the_run_app_address(stack, direct, browser):
    answer = browser.get(direct.url, headers=_with(_jwt(stack, f"{direct.url}/*")), timeout=10)
    told = {k.lower(): v for k, v in answer.json()["headers"].items()}
    assert answer.status_code == 200 and told["x-goog-authenticated-user-email"].endswith(stack.account)
    claims = jwt.decode(told["x-goog-iap-jwt-assertion"], options={"verify_signature": False})
    assert claims["aud"] == f"/projects/{stack.number}/locations/{REGION}/services/direct"
    assert browser.get(direct.url, headers=_with(_jwt(stack)), timeout=10).status_code == 401


def test_the_agent_needs_the_invoker_role_of_a_service_with_iap(stack, direct, api, browser):
    _policy(api, direct.run, [])
    try:
        answer = browser.get(direct.url, headers=_with(_jwt(stack, f"{direct.url}/*")), timeout=10)
        assert answer.status_code == 403 and "Your client does not have permission" in answer.text
    finally:
        _policy(api, direct.run, [{"role": "roles/run.invoker", "members": [stack.agent]}])


def test_ingress_comes_before_iap(direct, api, done, browser):
    for ingress, status in (("INGRESS_TRAFFIC_INTERNAL_ONLY", 404), ("INGRESS_TRAFFIC_ALL", 302)):
        done(api("PATCH", direct.run, params={"updateMask": "ingress"}, json={"ingress": ingress}))
        assert browser.get(direct.url, allow_redirects=False, timeout=10).status_code == status


def test_a_custom_client_of_the_settings_lets_others_sign_in(direct, api, browser):
    client = {"clientId": "77-abc.apps.googleusercontent.com", "clientSecret": "GOCSPX-not-shown"}
    url, mask = f"{direct.iap}:iapSettings", {"updateMask": "iapSettings.accessSettings.oauthSettings"}
    half = {"accessSettings": {"oauthSettings": {"clientId": client["clientId"]}}}
    assert api("PATCH", url, params=mask, json=half).status_code == 400
    shown = api("PATCH", url, params=mask, json={"accessSettings": {"oauthSettings": client}})
    assert client["clientSecret"] not in shown.text and client["clientSecret"] not in api("GET", url).text
    hashed = shown.json()["accessSettings"]["oauthSettings"]["clientSecretSha256"]
    assert hashed == hashlib.sha256(client["clientSecret"].encode()).hexdigest()
    policy = api("POST", f"{direct.iap}:getIamPolicy", json={}).json()["bindings"]
    try:
        bob = {"role": "roles/iap.httpsResourceAccessor", "members": ["user:bob@elsewhere.example"]}
        _policy(api, direct.iap, [*policy, bob])
        page = browser.get(direct.url, timeout=10)
        assert client["clientId"] in page.url
        assert browser.post(page.url, data={"other": "bob@elsewhere.example"}, timeout=20).status_code == 200
    finally:
        _policy(api, direct.iap, policy)
        api("PATCH", url, params=mask, json={})
    assert set(api("GET", url).json()) == {"name"}


def test_only_one_of_them_has_iap(stack, direct, api, done):
    """A load balancer may lead to a service with IAP, but not have it too."""
    refused = api("PATCH", stack.run, params={"updateMask": "iapEnabled"}, json={"iapEnabled": True})
    assert refused.status_code == 400 and "cannot be enabled on both" in refused.text
    neg = {"name": "direct", "networkEndpointType": "SERVERLESS", "cloudRun": {"service": "direct"}}
    place = f"{stack.compute}/regions/{REGION}/networkEndpointGroups"
    assert "error" not in done(api("POST", place, json=neg))
    body = {
        "name": "direct",
        "loadBalancingScheme": "EXTERNAL_MANAGED",
        "protocol": "HTTPS",
        "backends": [{"group": f"{place}/direct"}],
    }
    url = f"{stack.compute}/global/backendServices"
    assert "on both" in api("POST", url, json={**body, "iap": {"enabled": True}}).text
    assert "error" not in done(api("POST", url, json=body))
    assert "on both" in api("PATCH", f"{url}/direct", json={"iap": {"enabled": True}}).text
    done(api("DELETE", f"{url}/direct"))
    done(api("DELETE", f"{place}/direct"))
