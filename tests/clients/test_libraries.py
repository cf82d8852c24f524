"""Google's libraries for Python."""

from __future__ import annotations

import datetime
import os

import pytest
import requests
from google.api_core import exceptions
from google.cloud import compute_v1, run_v2, secretmanager, storage
from google.cloud.storage import transfer_manager

from .conftest import BACKEND, BUCKET, INSTANCE, PROJECT, REGION, SECRET, SERVICE

PARENT = f"projects/{PROJECT}/locations/{REGION}"
MIB = 1024 * 1024


def test_storage(environment, tmp_path):
    client = storage.Client()
    bucket = client.bucket(BUCKET)
    data = os.urandom(MIB)
    blob = bucket.blob("client/resumable", chunk_size=MIB // 4)
    blob.upload_from_string(data)
    with pytest.raises(exceptions.PreconditionFailed):
        blob.upload_from_string(b"", if_generation_match=0)
    assert bucket.blob("client/resumable").download_as_bytes(start=5, end=9) == data[5:10]
    assert (
        requests.get(blob.generate_signed_url(datetime.timedelta(minutes=5), version="v4"), timeout=30).content == data
    )

    (tmp_path / "file").write_bytes(data * 6)
    parts = bucket.blob("client/parts")
    transfer_manager.upload_chunks_concurrently(
        str(tmp_path / "file"), parts, chunk_size=5 * MIB, max_workers=2, worker_type=transfer_manager.THREAD
    )
    joined = bucket.blob("client/joined")
    joined.compose([blob, parts])
    assert joined.size == 7 * MIB
    assert joined.download_as_bytes() == data * 7

    blobs = list(client.list_blobs(BUCKET, prefix="client/"))
    with client.batch():
        for each in blobs:
            each.delete()
    assert [each.name for each in blobs] == ["client/joined", "client/parts", "client/resumable"]
    assert list(client.list_blobs(BUCKET, prefix="client/")) == []


def test_run(environment):
    services = run_v2.ServicesClient(transport="rest")
    deployed = services.get_service(name=f"{PARENT}/services/{SERVICE}")
    assert deployed.terminal_condition.state == run_v2.Condition.State.CONDITION_SUCCEEDED
    revisions = run_v2.RevisionsClient(transport="rest").list_revisions(parent=deployed.name)
    assert deployed.latest_ready_revision in [revision.name for revision in revisions]

    # A second service of the same container, which finds the database only from inside the network.
    template = deployed.template
    template.revision = ""
    second = run_v2.Service(template=template, ingress=run_v2.IngressTraffic.INGRESS_TRAFFIC_ALL)
    made = services.create_service(parent=PARENT, service=second, service_id="client").result(timeout=120)
    try:
        assert made.terminal_condition.state == run_v2.Condition.State.CONDITION_SUCCEEDED
        assert requests.get(f"{made.uri}/health", timeout=60).status_code == 403
        policy = services.get_iam_policy(request={"resource": made.name})
        policy.bindings.add(role="roles/run.invoker", members=["allUsers"])
        services.set_iam_policy(request={"resource": made.name, "policy": policy})
        assert requests.get(f"{made.uri}/health", timeout=60).text == "OK"
    finally:
        services.delete_service(name=made.name).result(timeout=60)
    with pytest.raises(exceptions.NotFound):
        services.get_service(name=made.name)


def test_secret_manager(environment):
    client = secretmanager.SecretManagerServiceClient(transport="rest")
    (name,) = [
        each.name for each in client.list_secrets(parent=f"projects/{PROJECT}") if each.name.endswith(f"/{SECRET}")
    ]
    first = client.access_secret_version(name=f"{name}/versions/latest")
    made = client.create_secret(
        parent=f"projects/{PROJECT}", secret_id="client-copy", secret={"replication": {"automatic": {}}}
    )
    try:
        version = client.add_secret_version(parent=made.name, payload={"data": first.payload.data})
        assert client.access_secret_version(name=version.name).payload == first.payload
        client.disable_secret_version(name=version.name)
        with pytest.raises(exceptions.BadRequest, match="is in DISABLED state"):
            client.access_secret_version(name=version.name)
    finally:
        client.delete_secret(name=made.name)


def test_compute(environment):
    backend = compute_v1.BackendServicesClient().get(project=PROJECT, backend_service=BACKEND)
    groups = compute_v1.RegionNetworkEndpointGroupsClient().list(project=PROJECT, region=REGION)
    assert backend.iap.enabled
    assert backend.backends[0].group in [group.self_link for group in groups]

    addresses = compute_v1.AddressesClient()
    address = compute_v1.Address(name="client-address", description="made by a client")
    addresses.insert(project=PROJECT, region=REGION, address_resource=address).result(timeout=30)
    try:
        with pytest.raises(exceptions.Conflict):
            addresses.insert(project=PROJECT, region=REGION, address_resource=address).result(timeout=30)
        scopes = {
            scope: [each.name for each in found.addresses]
            for scope, found in addresses.aggregated_list(project=PROJECT)
        }
        assert scopes[f"regions/{REGION}"] == ["client-address"]
    finally:
        addresses.delete(project=PROJECT, region=REGION, address="client-address").result(timeout=30)


def test_api_python_client(environment):
    # httplib2 looks for HTTPLIB2_CA_CERTS when it is imported.
    from googleapiclient.discovery import build
    from googleapiclient.errors import HttpError

    sql = build("sqladmin", "v1")
    databases = sql.databases()
    name = {"project": PROJECT, "instance": INSTANCE}

    def wait(call) -> None:
        operation = call.execute()
        while operation["status"] != "DONE":
            operation = sql.operations().get(project=PROJECT, operation=operation["name"]).execute()
        assert "error" not in operation

    wait(databases.insert(**name, body={"name": "client-database"}))
    found = [each["name"] for each in databases.list(**name).execute()["items"]]
    wait(databases.delete(**name, database="client-database"))
    assert "client-database" in found and "mlflow" in found
    with pytest.raises(HttpError, match="404"):
        databases.get(**name, database="client-database").execute()

    number = build("cloudresourcemanager", "v1").projects().get(projectId=PROJECT).execute()["projectNumber"]
    resource = f"projects/{number}/iap_web/compute/services/{BACKEND}"
    policy = build("iap", "v1").v1().getIamPolicy(resource=resource, body={}).execute()
    assert "user:jane@example.com" in policy["bindings"][0]["members"]

    services = build("serviceusage", "v1").services()
    answers = []
    batch = build("serviceusage", "v1").new_batch_http_request(
        callback=lambda _, answer, error: answers.append(error or answer)
    )
    for api in ("run", "iap", "sqladmin"):
        batch.add(services.get(name=f"projects/{number}/services/{api}.googleapis.com"))
    batch.execute()
    assert [answer["state"] for answer in answers] == ["ENABLED"] * 3
