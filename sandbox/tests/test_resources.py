"""The engine for resources: one of Memorystore for Redis, which is not played, served by a table alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import make_mocked_request
from gcp_sandbox.core import projects
from gcp_sandbox.core.auth import Principal
from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.core.operations import LONGRUNNING, Operation
from gcp_sandbox.core.resources import Collection, parameter, serve, serve_locations, serve_operations
from gcp_sandbox.core.service import Call, Service
from gcp_sandbox.core.settings import Settings

Doc = dict[str, Any]
Play = Callable[..., Any]
BASE = "redis.projects.locations"
PARENT = "projects/redis-1/locations/us-east1"
OWNER, NOBODY = Principal("owner@example.com"), Principal("nobody@example.com")
SERVICE = Service("redis", "v1")
serve(
    Collection(
        SERVICE,
        f"{BASE}.instances",
        "redis.instances",
        operates="create patch delete",
        states={"create": "CREATING", "patch": "UPDATING", "delete": "DELETING", "done": "READY"},
        type="google.cloud.redis.{version}.Instance",
        ident=parameter("instanceId", "[a-z][a-z0-9-]{0,39}"),
        prepare=lambda call, key, new, old: {"tier": "BASIC", "port": 6379} | new,
    ),
    "create get list patch delete",
)
serve_operations(SERVICE, f"{BASE}.operations", "get list delete", permission="redis.operations")
serve_locations(SERVICE, BASE, "get list", {"us-east1": {}, "us-west1": {"displayName": "Oregon"}})


@pytest.fixture
def play(tmp_path: Path) -> Iterator[Play]:
    """``play("instances.get", name=…, body=…, principal=…)``: what a method answers."""
    cloud = Cloud(Settings(tmp_path, network=64))
    cloud.operations.dialect(LONGRUNNING)
    for name, action in SERVICE.actions.items():
        cloud.operations.action(name, partial(action, cloud))
    project = projects.create(cloud, "redis-1", OWNER.member, number="77")

    def call(method: str, *, body: Doc | None = None, principal: Principal = OWNER, **params: Any) -> Any:
        api, key = SERVICE.api("v1"), f"{BASE}.{method}"
        asked = api.methods[key]
        request, checked = make_mocked_request("GET", "/"), api.body(asked, body or {})
        made = Call(cloud, SERVICE, request, asked, params, checked, principal, project)
        answer = SERVICE.handlers[key](made)
        return cloud.operations.render(answer, SERVICE.host) if isinstance(answer, Operation) else answer

    yield call
    cloud.store.close()


async def _done(play: Play, operation: Doc) -> Doc:
    while not operation.get("done"):
        await asyncio.sleep(0)
        operation = play("operations.get", name=operation["name"])
    return operation


def refusal(play: Play, method: str, **kwargs: Any) -> int:
    """The code that a call is refused with."""
    with pytest.raises(ApiError) as caught:
        play(method, **kwargs)
    return caught.value.code


def test_a_life_by_operations(play):
    async def life() -> None:
        body = {"memorySizeGb": 1, "host": "10.0.0.1", "state": "READY", "labels": {"a_b": "1", "c": "2"}}
        begun = play("instances.create", parent="projects/77/locations/us-east1", instanceId="one", body=body)
        assert begun["name"].startswith(f"{PARENT}/operations/")
        assert begun["metadata"] == {"@type": "type.googleapis.com/google.cloud.redis.v1.OperationMetadata"}
        one = {"tier": "BASIC", "port": 6379, "name": f"{PARENT}/instances/one", "memorySizeGb": 1}
        one["labels"] = body["labels"]
        assert play("instances.get", name=f"{PARENT}/instances/one") == one | {"state": "CREATING"}
        made = await _done(play, begun)
        assert (
            made["response"] == {"@type": "type.googleapis.com/google.cloud.redis.v1.Instance", "state": "READY"} | one
        )
        assert refusal(play, "instances.create", parent=PARENT, instanceId="one", body=body) == 409

        change = {"labels": {"a_b": "3"}, "persistenceConfig": {"persistenceMode": "RDB"}, "memorySizeGb": 2}
        mask = "labels.a_b,labels.c,persistence_config.persistence_mode"
        patched = await _done(
            play, play("instances.patch", name=f"{PARENT}/instances/one", updateMask=mask, body=change)
        )
        one |= {"labels": {"a_b": "3"}, "persistenceConfig": {"persistenceMode": "RDB"}, "state": "READY"}
        assert patched["response"].items() >= one.items()
        for wrong in ("host", "bogus", "persistenceConfig.bogus", "labels.a,name"):
            path = {"name": f"{PARENT}/instances/one", "updateMask": wrong}
            assert refusal(play, "instances.patch", **path, body={}) == 400
        play("instances.patch", name=f"{PARENT}/instances/one", body={"memorySizeGb": 4})
        assert play("instances.get", name=f"{PARENT}/instances/one")["memorySizeGb"] == 4

        operations = play("operations.list", name=PARENT)["operations"]
        assert made in operations and len(operations) == 3
        assert play("operations.delete", name=made["name"]) == {}
        assert refusal(play, "operations.get", name=made["name"]) == 404
        assert refusal(play, "operations.get", name=patched["name"].replace("us-east1", "us-west1")) == 404

        begun = play("instances.delete", name=f"{PARENT}/instances/one")
        assert play("instances.get", name=f"{PARENT}/instances/one")["state"] == "DELETING"
        assert (await _done(play, begun))["response"] == {"@type": "type.googleapis.com/google.protobuf.Empty"}
        assert refusal(play, "instances.get", name=f"{PARENT}/instances/one") == 404

    asyncio.run(life())


def test_lists_of_one_place_and_of_all(play):
    async def lists() -> None:
        for place, name in (("us-west1", "a"), ("us-east1", "b"), ("us-east1", "c")):
            play("instances.create", parent=f"projects/redis-1/locations/{place}", instanceId=name)

        def names(place: str, **params: Any) -> list[str]:
            found = play("instances.list", parent=f"projects/redis-1/locations/{place}", **params)
            return [doc["name"].rpartition("/")[2] for doc in found.get("instances", ())]

        assert names("us-east1") == ["b", "c"] and names("us-east1", pageSize=1) == ["b"]
        assert names("-") == ["b", "c", "a"] and names("europe-west1") == []

    asyncio.run(lists())


def test_who_may_not_and_what_is_not(play):
    methods = {"get": "name", "list": "parent", "create": "parent", "patch": "name", "delete": "name"}
    for method, param in methods.items():
        assert refusal(play, f"instances.{method}", principal=NOBODY, **{param: f"{PARENT}/instances/x"}) == 403
    for method in ("get", "patch", "delete"):
        assert refusal(play, f"instances.{method}", name=f"{PARENT}/instances/x") == 404
    assert refusal(play, "instances.create", parent=PARENT, instanceId="Upper") == 400


def test_locations(play):
    west = {"name": "projects/redis-1/locations/us-west1", "locationId": "us-west1", "displayName": "Oregon"}
    assert play("get", name="projects/77/locations/us-west1") == west
    assert [place["locationId"] for place in play("list", name="projects/redis-1")["locations"]] == [
        "us-east1",
        "us-west1",
    ]
    assert refusal(play, "get", name="projects/redis-1/locations/mars") == 404
