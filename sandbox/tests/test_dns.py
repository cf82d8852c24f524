"""Cloud DNS zones and records."""

from __future__ import annotations

from collections.abc import Callable

import requests

Api = Callable[..., requests.Response]



def test_zone_records_and_changes(api: Api, project: str, enable: Callable[..., None]) -> None:
    enable(project, "dns.googleapis.com")
    url = f"https://dns.googleapis.com/dns/v1/projects/{project}/managedZones"
    body = {"name": "zone", "dnsName": "example.com.", "description": "d"}
    zone = api("POST", url, json=body).json()
    assert zone["visibility"] == "public" and len(zone["nameServers"]) == 4
    assert api("POST", url, json=body).json()["error"]["errors"][0]["reason"] == "alreadyExists"
    assert api("POST", url, json=body | {"name": "other", "dnsName": "no-dot"}).status_code == 400
    record = {"name": "www.example.com.", "type": "A", "ttl": 300, "rrdatas": ["10.0.0.1"]}
    change = api("POST", f"{url}/zone/changes", json={"additions": [record]}).json()
    assert api("GET", f"{url}/zone/changes/{change['id']}").json()["status"] == "done"
    assert api("POST", f"{url}/zone/changes", json={"additions": [record]}).status_code == 409
    assert sorted(r["type"] for r in api("GET", f"{url}/zone/rrsets").json()["rrsets"]) == ["A", "NS", "SOA"]
    assert api("DELETE", f"{url}/zone").json()["error"]["errors"][0]["reason"] == "containerNotEmpty"
    assert api("PATCH", f"{url}/zone", json={"description": "new"}).json()["zoneContext"]["newValue"]["description"] == "new"
    assert api("DELETE", f"{url}/zone/rrsets/www.example.com./A").status_code == 200
    assert api("DELETE", f"{url}/zone").status_code == 200
    assert api("GET", f"{url}/zone").json()["error"]["errors"][0]["reason"] == "notFound"
