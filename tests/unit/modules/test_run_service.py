# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module run_service."""

from __future__ import annotations

import copy
import importlib
import json
from pathlib import Path

import googleapiclient
import pytest
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compare import with_record

HOST = "https://run.googleapis.com/v2"
PARENT = "projects/demo/locations/europe-west2"
SERVICES, URL = f"{HOST}/{PARENT}/services", f"{HOST}/{PARENT}/services/mlflow"
OPERATION = f"{PARENT}/operations/op1"
SERVER = "mlflow-server@demo.iam.gserviceaccount.com"
OPTIONS = {
    "name": "mlflow",
    "region": "europe-west2",
    "image": "registry.example.com/mlflow:1",
    "service_account": SERVER,
    "env": {"WORKERS": 1, "DEBUG": False},
    "secret_env": {"PASSWORD": {"secret": "projects/demo/secrets/pw", "version": 2}},
    "cpu": "1",
    "memory": "1Gi",
    "max_instances": 2,
    "timeout_seconds": 300,
    "labels": {"team": "ml"},
    "network": "projects/demo/global/networks/net",
    "subnetwork": "subnet",
    "ingress": "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER",
    "startup_probe": {"path": "/health", "period_seconds": 5, "failure_threshold": 24},
}
LABELS = {"team": "ml", "mlflow-gcp-labels": "team"}
SENT = {
    "labels": LABELS,
    "ingress": "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER",
    "template": {
        "labels": LABELS,
        "serviceAccount": SERVER,
        "timeout": "300s",
        "scaling": {"minInstanceCount": 0, "maxInstanceCount": 2},
        "vpcAccess": {
            "networkInterfaces": [{"network": "projects/demo/global/networks/net", "subnetwork": "subnet"}],
            "egress": "PRIVATE_RANGES_ONLY",
        },
        "containers": [
            {
                "image": "registry.example.com/mlflow:1",
                "command": [],
                "args": [],
                "env": [
                    {"name": "DEBUG", "value": "false"},
                    {"name": "WORKERS", "value": "1"},
                    {
                        "name": "PASSWORD",
                        "valueSource": {"secretKeyRef": {"secret": "projects/demo/secrets/pw", "version": "2"}},
                    },
                ],
                "ports": [{"name": "http1", "containerPort": 8080}],
                "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "cpuIdle": True, "startupCpuBoost": False},
                "startupProbe": {
                    "httpGet": {"path": "/health", "port": 8080},
                    "periodSeconds": 5,
                    "failureThreshold": 24,
                },
            }
        ],
    },
    "traffic": [{"type": "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST", "percent": 100}],
}
FAILURE = "Revision 'mlflow-00001-abc' is not ready and cannot serve traffic. The container exited."
NO_GRANT = (
    "Revision 'mlflow-00001-abc' is not ready and cannot serve traffic. spec.template.spec.containers[0].env: "
    "Permission denied on secret: projects/1/secrets/pw/versions/1 for Revision service account x@y."
)
NO_ACCOUNT = f"Permission 'iam.serviceaccounts.actAs' denied on service account {SERVER} (or it may not exist)."


def live(**more):
    """The service as Google returns it: defaults filled in, in Google's spelling."""
    body = copy.deepcopy(SENT)
    template = body["template"]
    container = template["containers"][0]
    for key in ("command", "args"):
        del container[key]
    del template["scaling"]["minInstanceCount"], container["resources"]["startupCpuBoost"]
    container["resources"]["limits"] = {"cpu": "1000m", "memory": "1024Mi"}
    container["env"].reverse()
    container["env"][0]["valueSource"]["secretKeyRef"]["secret"] = "projects/123456789012/secrets/pw"
    container["startupProbe"] |= {"timeoutSeconds": 1}
    template |= {"maxInstanceRequestConcurrency": 80, "executionEnvironment": "EXECUTION_ENVIRONMENT_GEN2"}
    template["vpcAccess"]["networkInterfaces"][0]["subnetwork"] = (
        "projects/demo/regions/europe-west2/subnetworks/subnet"
    )
    return (
        body
        | {
            "name": f"{PARENT}/services/mlflow",
            "uid": "u",
            "generation": "1",
            "observedGeneration": "1",
            "etag": '"e"',
            "creator": "me@example.com",
            "launchStage": "GA",
            "uri": "https://mlflow-x-nw.a.run.app",
            "terminalCondition": {"type": "Ready", "state": "CONDITION_SUCCEEDED"},
            "latestReadyRevision": f"{PARENT}/services/mlflow/revisions/mlflow-00001-abc",
            "trafficStatuses": [{"type": "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST", "percent": 100}],
        }
        | more
    )


def changed(path, value):
    """A live service that differs at PATH of its template or, from "0." on, of its container."""
    body = live()
    target = body["template"]["containers"][0] if path.startswith("0.") else body["template"]
    *parents, last = path.removeprefix("0.").split(".")
    for key in parents:
        target = target[key]
    target[last] = value
    return body


def sent(body, **more):
    """What an update of BODY to the declaration sends: Google's spelling where it is equal, and what is not declared."""
    out = copy.deepcopy(SENT)
    template, container = body["template"], body["template"]["containers"][0]
    for key in ("executionEnvironment", "maxInstanceRequestConcurrency", "vpcAccess"):
        out["template"][key] = template[key]
    out["template"]["containers"][0] |= {key: container[key] for key in ("env", "startupProbe")}
    out["template"]["containers"][0]["resources"]["limits"] = container["resources"]["limits"]
    return out | {"launchStage": "GA", "etag": '"e"'} | more


def failed(message=FAILURE, **more):
    return live(
        terminalCondition={"type": "Ready", "state": "CONDITION_FAILED", "message": message},
        conditions=[{"type": "RoutesReady", "state": "CONDITION_SUCCEEDED"}],
        **{"latestReadyRevision": "", **more},
    )


def absent(google):
    return google.error(
        404, "NOT_FOUND", "Resource 'mlflow' of kind 'SERVICE' in region 'europe-west2' does not exist."
    )


def done(**more):
    return {"name": OPERATION, "done": True, "response": live(), **more}


def test_creates_and_waits(google, run_module):
    google.expect("GET", URL, absent(google))
    google.expect("POST", SERVICES, {"name": OPERATION, "metadata": {}}, params={"serviceId": "mlflow"}, body=SENT)
    google.expect("GET", f"{HOST}/{OPERATION}", {"name": OPERATION}).expect("GET", f"{HOST}/{OPERATION}", done())
    google.expect("GET", URL, live())
    result = run_module("run_service", **OPTIONS)
    assert (result["changed"], result["uri"]) == (True, "https://mlflow-x-nw.a.run.app")
    assert result["latest_ready_revision"] == "mlflow-00001-abc"


def test_second_run_changes_nothing_with_one_request(google, run_module):
    google.expect("GET", URL, live())
    assert run_module("run_service", **OPTIONS)["changed"] is False


def test_an_update_sends_the_whole_service_with_undeclared_fields(google, run_module):
    old = changed("0.image", "registry.example.com/mlflow:0") | {"annotations": {"note": "x"}, "iapEnabled": True}
    google.expect("GET", URL, old)
    google.expect("PATCH", URL, done(), params={}, body=sent(live(), annotations={"note": "x"}, iapEnabled=True))
    google.expect("GET", URL, live())
    result = run_module("run_service", **OPTIONS)
    images = [result["diff"][side]["template"]["containers"][0]["image"] for side in ("before", "after")]
    assert images == ["registry.example.com/mlflow:0", "registry.example.com/mlflow:1"]


def test_identity_aware_proxy_of_the_service_itself(google, run_module):
    google.expect("GET", URL, live())
    assert run_module("run_service", **OPTIONS, iap_enabled=False)["changed"] is False
    for before, wanted in ((live(), True), (live() | {"iapEnabled": True}, False)):
        google.expect("GET", URL, before)
        google.expect("PATCH", URL, done(), params={}, body=sent(live(), iapEnabled=wanted))
        google.expect("GET", URL, live())
        assert run_module("run_service", **OPTIONS, iap_enabled=wanted)["changed"] is True


def test_labels_of_others_stay_on_the_service_and_its_revisions(google, run_module):
    others = {"cost-center": "4711"}
    before = changed("0.image", "registry.example.com/mlflow:0") | {"labels": others}
    before["template"]["labels"] = others | {"old": "1", "mlflow-gcp-labels": "old"}
    google.expect("GET", URL, before)
    body = sent(live(), labels=LABELS | others)
    body["template"]["labels"] = LABELS | others
    google.expect("PATCH", URL, done(), body=body).expect("GET", URL, live())
    assert run_module("run_service", **OPTIONS)["changed"]
    # Without the option, nothing changes.
    google.expect("GET", URL, before)
    body["labels"], body["template"]["labels"] = others, before["template"]["labels"]
    google.expect("PATCH", URL, done(), body=body).expect("GET", URL, live())
    assert run_module("run_service", **{**OPTIONS, "labels": None})["changed"]


def test_what_others_have_set_beside_the_declaration_stays(google, run_module):
    old = live(customAudiences=["https://other"], client="console", scaling={"minInstanceCount": 1})
    template = old["template"]
    own = template["containers"][0]
    own |= {
        "image": "old",
        "name": "server",
        "dependsOn": ["proxy"],
        "volumeMounts": [{"name": "v", "mountPath": "/v"}],
    }
    own["resources"]["limits"]["nvidia.com/gpu"] = "1"
    proxy = {"image": "registry.example.com/proxy:1", "name": "proxy", "env": [{"name": "A", "value": "1"}]}
    beside = {
        "annotations": {"run.googleapis.com/client-name": "gcloud"},
        "sessionAffinity": True,
        "volumes": [{"name": "v", "emptyDir": {}}],
        "encryptionKey": "key",
    }
    template |= beside | {"containers": [proxy, own], "revision": "mlflow-named"}
    template["vpcAccess"]["networkInterfaces"][0]["tags"] = ["audited"]
    google.expect("GET", URL, old).expect("PATCH", URL, done()).expect("GET", URL, live())
    run_module("run_service", **OPTIONS)
    body = google.writes[0].body
    assert {key: body[key] for key in ("customAudiences", "client", "scaling")} == {
        key: old[key] for key in ("customAudiences", "client", "scaling")
    }
    assert {key: body["template"].get(key) for key in beside} == beside
    assert body["template"]["containers"][0] == proxy
    assert body["template"]["containers"][1]["image"] == OPTIONS["image"]
    for key in ("name", "dependsOn", "volumeMounts"):
        assert body["template"]["containers"][1][key] == own[key]
    assert body["template"]["containers"][1]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert body["template"]["vpcAccess"] == template["vpcAccess"]
    # The name of a revision cannot be used twice.
    assert "revision" not in body["template"]


def test_another_network_keeps_the_tags(google, run_module):
    old = changed("vpcAccess.networkInterfaces", [{"network": "net", "subnetwork": "other", "tags": ["audited"]}])
    google.expect("GET", URL, old).expect("PATCH", URL, done()).expect("GET", URL, live())
    run_module("run_service", **OPTIONS)
    (interface,) = google.writes[0].body["template"]["vpcAccess"]["networkInterfaces"]
    assert (interface["subnetwork"], interface["tags"]) == ("subnet", ["audited"])


# Each of these pairs excludes the other one.
@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("0.env", [{"name": "DEBUG", "valueSource": {"secretKeyRef": {"secret": "s", "version": "1"}}}]),
        ("0.startupProbe", {"tcpSocket": {"port": 8080}}),
        ("vpcAccess", {"connector": f"{PARENT}/connectors/c", "egress": "PRIVATE_RANGES_ONLY"}),
    ],
)
def test_alternatives_are_replaced(google, run_module, path, value):
    google.expect("GET", URL, changed(path, value)).expect("PATCH", URL, done()).expect("GET", URL, live())
    run_module("run_service", **OPTIONS)
    template = google.writes[0].body["template"]
    key = path.removeprefix("0.")
    body = template["containers"][0] if path != key else template
    assert body[key] == (SENT["template"]["containers"][0] if path != key else SENT["template"])[key]


def test_an_empty_variable_replaces_one_from_a_secret(google, run_module):
    source = {"name": "DEBUG", "valueSource": {"secretKeyRef": {"secret": "s", "version": "1"}}}
    google.expect("GET", URL, changed("0.env", [source]))
    assert run_module("run_service", check=True, **{**OPTIONS, "env": {"DEBUG": ""}, "secret_env": {}})["changed"]


REVISION = "TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION"
OLD = {"type": REVISION, "revision": "mlflow-00001-abc"}
NEWEST = SENT["traffic"][0]


def test_traffic_goes_to_the_newest_revision_and_tags_stay(google, run_module):
    google.expect("GET", URL, live(traffic=[{**OLD, "percent": 90, "tag": "old"}, {**NEWEST, "percent": 10}]))
    google.expect("PATCH", URL, done()).expect("GET", URL, live(traffic=[NEWEST, {**OLD, "tag": "old"}]))
    run_module("run_service", **OPTIONS)
    assert google.writes[0].body["traffic"] == [NEWEST, {**OLD, "tag": "old"}]
    google.expect("GET", URL, live(traffic=[NEWEST, {**OLD, "tag": "old"}]))
    assert run_module("run_service", **OPTIONS)["changed"] is False


def test_a_service_that_is_open_to_everyone_is_closed(google, run_module):
    for given, expected in ((False, True), (True, False), (None, False)):
        google.expect("GET", URL, live(invokerIamDisabled=True))
        options = {} if given is None else {"invoker_iam_disabled": given}
        assert run_module("run_service", check=True, **options, **OPTIONS)["changed"] is expected


def test_a_concurrent_change_is_kept(google, run_module):
    conflict = google.error(409, "ABORTED", "Conflict for resource 'mlflow': version 'e' was specified.")
    google.expect("GET", URL, changed("0.image", "old")).expect("PATCH", URL, conflict)
    newer = changed("0.image", "old") | {"etag": '"f"', "description": "by somebody else"}
    google.expect("GET", URL, newer).expect("PATCH", URL, done()).expect("GET", URL, live())
    run_module("run_service", **OPTIONS)
    first, second = google.writes
    assert (first.body["etag"], second.body["etag"]) == ('"e"', '"f"')
    assert "description" not in first.body and second.body["description"] == "by somebody else"


def test_what_is_not_sent_is_output_only():
    service = importlib.import_module("ansible_collections.mlops.mlflow_gcp.plugins.module_utils.cloudrun")
    with (Path(googleapiclient.__file__).parent / "discovery_cache/documents/run.v2.json").open() as file:
        schemas = json.load(file)["schemas"]
    fields = {
        key: value
        for kind in ("Service", "Job")
        for key, value in schemas[f"GoogleCloudRunV2{kind}"]["properties"].items()
    }
    output_only = {key for key, value in fields.items() if value.get("readOnly")}
    assert output_only | {"name", "startExecutionToken", "runExecutionToken"} == service.NOT_SENT


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("0.env", [{"name": "WORKERS", "value": "1"}]),
        ("0.env", [*SENT["template"]["containers"][0]["env"], {"name": "EXTRA", "value": "1"}]),
        ("0.env", [*SENT["template"]["containers"][0]["env"][:2], {"name": "PASSWORD", "value": "plain"}]),
        ("0.command", ["sh"]),
        ("0.livenessProbe", {"httpGet": {"path": "/"}}),
        ("0.readinessProbe", {"httpGet": {"path": "/"}}),
        ("0.resources.limits.memory", "2Gi"),
        ("0.ports", [{"name": "h2c", "containerPort": 8080}]),
        ("scaling", {"maxInstanceCount": 100}),
        ("serviceAccount", "123456789012-compute@developer.gserviceaccount.com"),
        ("vpcAccess.networkInterfaces", [{"network": "net", "subnetwork": "other"}]),
        ("vpcAccess", {"connector": f"{PARENT}/connectors/c", "egress": "PRIVATE_RANGES_ONLY"}),
    ],
)
def test_differences(google, run_module, path, value):
    google.expect("GET", URL, changed(path, value))
    assert run_module("run_service", check=True, **OPTIONS)["changed"] is True


def test_leaving_the_network(google, run_module):
    options = {key: value for key, value in OPTIONS.items() if key not in ("network", "subnetwork")}
    google.expect("GET", URL, live()).expect("PATCH", URL, done()).expect("GET", URL, live())
    assert "vpcAccess" in run_module("run_service", **options)["diff"]["after"]["template"]
    assert "vpcAccess" not in google.writes[0].body["template"]


def test_a_readiness_probe(google, run_module):
    probe = {"path": "/ready", "period_seconds": 10, "timeout_seconds": 3, "failure_threshold": 3}
    sent = {
        "httpGet": {"path": "/ready", "port": 8080},
        "periodSeconds": 10,
        "timeoutSeconds": 3,
        "failureThreshold": 3,
    }
    google.expect("GET", URL, live()).expect("PATCH", URL, done()).expect("GET", URL, live())
    run_module("run_service", **OPTIONS, readiness_probe=probe)
    assert google.writes[0].body["template"]["containers"][0]["readinessProbe"] == sent
    google.expect("GET", URL, changed("0.readinessProbe", sent)).expect("PATCH", URL, done()).expect("GET", URL, live())
    run_module("run_service", **OPTIONS)
    assert "readinessProbe" not in google.writes[1].body["template"]["containers"][0]


HOST_CONNECTOR = "projects/network-host/locations/europe-west2/connectors/c1"


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ("c1", f"{PARENT}/connectors/c1"),
        (HOST_CONNECTOR, HOST_CONNECTOR),
    ],
)
def test_a_connector(google, run_module, given, path):
    options = {key: value for key, value in OPTIONS.items() if key not in ("network", "subnetwork")}
    google.expect("GET", URL, changed("vpcAccess", {"connector": path, "egress": "ALL_TRAFFIC"}))
    assert run_module("run_service", vpc_connector=given, vpc_egress="ALL_TRAFFIC", **options)["changed"] is False
    google.expect("GET", URL, changed("vpcAccess", {"connector": f"{path}2", "egress": "ALL_TRAFFIC"}))
    result = run_module("run_service", check=True, vpc_connector=given, vpc_egress="ALL_TRAFFIC", **options)
    assert result["diff"]["after"]["template"]["vpcAccess"]["connector"] == path


def test_check_mode_writes_nothing(google, run_module):
    google.expect("GET", URL, absent(google))
    result = run_module("run_service", check=True, **OPTIONS)
    assert (result["changed"], result["uri"], result["diff"]["before"]) == (True, "", {})


@pytest.mark.parametrize("verb", ["create", "update"])
def test_a_revision_that_fails(google, run_module, verb):
    if verb == "create":
        google.expect("GET", URL, absent(google)).expect("POST", SERVICES, {"name": OPERATION})
    else:
        google.expect("GET", URL, changed("0.image", "old")).expect("PATCH", URL, {"name": OPERATION})
    google.expect(
        "GET", f"{HOST}/{OPERATION}", {"name": OPERATION, "done": True, "error": {"code": 9, "message": "Failed."}}
    )
    serving = f"{PARENT}/services/mlflow/revisions/mlflow-00007-xyz" if verb == "update" else ""
    google.expect("GET", URL, failed(latestReadyRevision=serving))
    with pytest.raises(Exception) as caught:
        run_module("run_service", **OPTIONS)
    hint = " Revision mlflow-00007-xyz still receives all requests" if serving else ""
    assert str(caught.value) == f"Cannot {verb} Cloud Run service mlflow: {FAILURE}{hint}"


def test_a_successful_operation_with_a_failed_revision(google, run_module):
    google.expect("GET", URL, absent(google)).expect("POST", SERVICES, done(response=failed()))
    with pytest.raises(Exception, match="The container exited"):
        run_module("run_service", **OPTIONS)


def test_waits_for_the_grant_on_the_secret(google, run_module, clock):
    google.expect("GET", URL, absent(google)).expect("POST", SERVICES, done(response=failed(NO_GRANT)))
    body = sent(live())
    body["template"]["revision"] = "mlflow-00002-retry"
    google.expect("GET", URL, failed(NO_GRANT)).expect("PATCH", URL, done(), body=body).expect("GET", URL, live())
    assert run_module("run_service", **OPTIONS)["changed"] is True
    assert 3 < sum(clock.slept) < 10


def test_a_grant_that_is_never_made(google, run_module):
    google.expect("GET", URL, absent(google)).expect("POST", SERVICES, done(response=failed(NO_GRANT)))
    google.expect("GET", URL, failed(NO_GRANT)).expect("PATCH", URL, done(response=failed(NO_GRANT)))
    with pytest.raises(Exception) as caught:
        run_module("run_service", timeout=8, **OPTIONS)
    assert str(caught.value) == f"Cannot create Cloud Run service mlflow: {NO_GRANT}"


def test_waits_for_a_new_service_account(google, run_module):
    google.expect("GET", URL, absent(google)).expect(
        "POST", SERVICES, google.error(403, "PERMISSION_DENIED", NO_ACCOUNT)
    )
    google.expect(
        "POST", SERVICES, google.error(400, "FAILED_PRECONDITION", f"Service account {SERVER} does not exist.")
    )
    google.expect("POST", SERVICES, done()).expect("GET", URL, live())
    assert run_module("run_service", **OPTIONS)["changed"] is True


def test_a_failed_service_gets_a_new_revision(google, run_module):
    google.expect("GET", URL, failed(generation="3"))
    body = sent(live())
    body["template"]["revision"] = "mlflow-00004-retry"
    google.expect("PATCH", URL, done(), body=body).expect("GET", URL, live())
    assert run_module("run_service", **OPTIONS)["changed"] is True


def test_waits_for_a_rollout_of_an_earlier_run(google, run_module):
    google.expect("GET", URL, live(reconciling=True, terminalCondition={"state": "CONDITION_RECONCILING"}))
    google.expect("GET", URL, live(reconciling=True)).expect("GET", URL, live())
    assert run_module("run_service", **OPTIONS)["changed"] is False


def test_absent(google, run_module):
    google.expect("GET", URL, live()).expect("DELETE", URL, {"name": OPERATION})
    google.expect("GET", f"{HOST}/{OPERATION}", done())
    assert run_module("run_service", name="mlflow", region="europe-west2", state="absent")["changed"] is True
    google.expect("GET", URL, absent(google))
    assert run_module("run_service", name="mlflow", region="europe-west2", state="absent")["changed"] is False
    google.expect("GET", URL, live())
    with pytest.raises(Exception, match="it is protected; give deletion_protection=false"):
        run_module("run_service", name="mlflow", region="europe-west2", state="absent", deletion_protection=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "Mlflow"}, "option name: 'Mlflow' is not allowed"),
        (
            {"region": "europe"},
            "option region: 'europe' is not allowed; give a region of Google Cloud, perhaps europe-",
        ),
        ({"port": 0}, "option port: 0 is not allowed; give 1 to 65535"),
        ({"min_instances": 3}, "option min_instances: 3 is not allowed; give at most max_instances, 2"),
        ({"memory": "1 GB"}, "option memory: '1 GB' is not allowed; give a size such as 512Mi or 2Gi"),
        ({"env": {"PORT": "1"}}, "option env: 'PORT' is not allowed"),
        ({"env": {"PASSWORD": "x"}}, "option env: 'PASSWORD' is not allowed; it is also in secret_env"),
        ({"secret_env": {"PASSWORD": "pw"}}, "option secret_env.PASSWORD: "),
        ({"vpc_connector": "c"}, "parameters are mutually exclusive: network|vpc_connector"),
        ({"image": None}, "option image: None is not allowed; it is required for state=present"),
        ({"ingress": "internal"}, "value of ingress must be one of: INGRESS_TRAFFIC_ALL"),
    ],
)
def test_invalid_options_make_no_request(google, run_module, options, message):
    with pytest.raises(Exception) as caught:
        run_module("run_service", **{**OPTIONS, **options})
    assert str(caught.value).startswith(message)


def test_values_of_annotations_labels_and_variables_are_converted_to_text(google, run_module):
    google.expect("GET", URL, google.error(404, "NOT_FOUND", "Resource 'mlflow' was not found"))
    google.expect("POST", SERVICES, google.error(400, "INVALID_ARGUMENT", "stop here"))
    mixed = {"yes": True, "number": 15, "empty": None}
    with pytest.raises(Exception, match="stop here"):
        run_module("run_service", **{**OPTIONS, "labels": mixed, "annotations": mixed, "env": mixed})
    body, expected = google.writes[0].body, {"yes": "true", "number": "15", "empty": ""}
    assert body["annotations"] == expected
    assert body["labels"] == body["template"]["labels"] == {**expected, "mlflow-gcp-labels": "empty--number--yes"}
    env = body["template"]["containers"][0]["env"]
    assert {entry["name"]: entry["value"] for entry in env if "value" in entry} == expected


RECORD = {"mlflow_name": "mlflow", "mlflow_domain": "mlflow.example.com"}
RECORDED = '{"mlflow_domain":"mlflow.example.com","mlflow_name":"mlflow"}'


def test_annotations_to_set_leave_those_of_others(google, run_module):
    google.expect("GET", URL, live(annotations={"note": "x", "mlflow-gcp-deployment": "{}"}))
    wanted = {"note": "x", "mlflow-gcp-deployment": RECORDED}
    google.expect("PATCH", URL, done(), params={}, body=sent(live(), annotations=wanted))
    google.expect("GET", URL, live(annotations=wanted))
    assert run_module("run_service", **OPTIONS, set_annotations={"mlflow-gcp-deployment": RECORD})["changed"]
    google.expect("GET", URL, live(annotations=wanted))
    assert not run_module("run_service", **OPTIONS, set_annotations={"mlflow-gcp-deployment": RECORD})["changed"]


def test_a_new_service_has_the_annotations_to_set(google, run_module):
    google.expect("GET", URL, absent(google))
    google.expect(
        "POST", SERVICES, google.error(400, "INVALID_ARGUMENT", "stop here"), body=SENT | {"annotations": {"a": "1"}}
    )
    with pytest.raises(Exception, match="stop here"):
        run_module("run_service", **OPTIONS, set_annotations={"a": 1})
    with pytest.raises(Exception, match="mutually exclusive: annotations\\|set_annotations"):
        run_module("run_service", **OPTIONS, set_annotations={"a": 1}, annotations={})


def test_the_label_of_a_deployment_stays_for_who_does_not_declare_it(google, run_module):
    """Such as a play with the role cloudrun alone, beside the play of the whole deployment."""
    body = live(labels=(labels := with_record({"team": "ml", "mlflow-gcp-deployment": "mlflow"})))
    body["template"]["labels"] = labels
    google.expect("GET", URL, body)
    assert not run_module("run_service", **OPTIONS)["changed"]


def test_what_others_have_put_into_a_variable_is_not_shown(google, run_module):
    body = live()
    body["template"]["containers"][0]["env"].append({"name": "DB_PASSWORD", "value": "not-to-be-seen"})
    google.expect("GET", URL, body)
    result = run_module("run_service", check=True, **OPTIONS)
    shown = {
        entry["name"]: entry.get("value") for entry in result["diff"]["before"]["template"]["containers"][0]["env"]
    }
    assert shown.items() >= {"DB_PASSWORD": "********", "WORKERS": "1"}.items()
