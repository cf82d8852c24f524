"""Certificate maps, and their entries, which give each host name its certificates.

https://cloud.google.com/certificate-manager/docs/maps
"""

from __future__ import annotations

from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.core.resources import serve
from gcp_sandbox.core.service import Call
from gcp_sandbox.services.certificatemanager import certificates
from gcp_sandbox.services.certificatemanager.common import (
    BASE,
    CERTIFICATES,
    ENTRIES,
    MAPS,
    Doc,
    Resources,
    absent,
    begin,
    ident,
    in_use,
    invalid,
    key_of,
    numbered,
    refer,
    stamped,
)

_MOST = 4  # certificates of one entry


# -- maps ------------------------------------------------------------------


def _targets(cloud: Cloud, key: str) -> list[Doc]:
    """The proxies that serve a map, as far as forwarding rules lead to them."""
    out: dict[str, list[Doc]] = {}
    for _, rule in cloud.store.list("compute.forwardingRules"):
        target = rule.get("target", "")
        path = target[target.find("projects/") :]
        proxy = cloud.store.peek("compute.targetHttpsProxies", path)
        if proxy and _attached(cloud, proxy) == key:
            port = int(rule.get("portRange", "443").partition("-")[0])
            out.setdefault(path, []).append({"ipAddress": rule.get("IPAddress", ""), "ports": [port]})
    return [
        {"targetHttpsProxy": f"//compute.googleapis.com/{path}", "ipConfigs": configs} for path, configs in out.items()
    ]


def _attached(cloud: Cloud, proxy: Doc) -> str:
    return key_of(cloud, proxy.get("certificateMap", "").partition("googleapis.com/")[2])


def _shown_map(cloud: Cloud, key: str, doc: Doc) -> Doc:
    targets = _targets(cloud, key)
    return doc | ({"gclbTargets": targets} if targets else {})


def _map_operation(call: Call, method: str, key: str) -> Doc:
    if method == "delete":
        if call.cloud.store.list(ENTRIES, f"{key}/"):
            raise in_use(key, "can't delete CertificateMap that has CertificateMapEntries")
        if any(_attached(call.cloud, proxy) == key for _, proxy in call.cloud.store.list("compute.targetHttpsProxies")):
            raise in_use(key, "can't delete CertificateMap that is referenced by a target proxy")
    return begin(call, method, key)


serve(
    Resources(
        f"{BASE}.certificateMaps",
        MAPS,
        permission="certificatemanager.certmaps",
        type="google.cloud.certificatemanager.v1.CertificateMap",
        mutable=("description", "labels"),
        ident=ident("certificateMapId"),
        prepare=lambda call, key, new, old: stamped(new, old),
        shown=_shown_map,
        operation=_map_operation,
    ),
    "create get list patch delete",
)


# -- entries ---------------------------------------------------------------


def _prepare(call: Call, key: str, new: Doc, old: Doc | None) -> Doc:
    parent = key.partition("/certificateMapEntries/")[0]
    if call.cloud.store.peek(MAPS, parent) is None:
        raise absent(parent)
    names = new.get("certificates", [])
    if not 1 <= len(names) <= _MOST:
        raise invalid("certificates", f"an entry has 1 to {_MOST} certificates")
    keys = refer(call, CERTIFICATES, names, "certificates", "certificatemanager.certs.use")
    host = new.get("hostname", "").lower()
    if bool(host) == (new.get("matcher", "MATCHER_UNSPECIFIED") != "MATCHER_UNSPECIFIED"):
        raise invalid("hostname", "exactly one of hostname and matcher must be set")
    for other, doc in call.cloud.store.list(ENTRIES, f"{parent}/"):
        if other != key and (doc.get("hostname"), doc.get("matcher")) == (host or None, new.get("matcher")):
            raise ApiError(409, f"CertificateMapEntry with hostname {host!r} already exists in the CertificateMap")
    return stamped(new | {"certificates": keys, "state": "ACTIVE"} | ({"hostname": host} if host else {}), old)


def _shown(cloud: Cloud, key: str, doc: Doc) -> Doc:
    return doc | {"certificates": [numbered(cloud, name) for name in doc["certificates"]]}


def served(cloud: Cloud, link: str) -> list[tuple[str, Doc]]:
    """(host name, certificate) of the entries of a proxy's map; an entry without a host name has those of its certificate."""
    key = key_of(cloud, link.partition("googleapis.com/")[2])
    out = []
    for _, entry in cloud.store.list(ENTRIES, f"{key}/certificateMapEntries/"):
        for name in entry["certificates"]:
            if (certificate := certificates.current(cloud, name)) is not None:
                hosts = [entry["hostname"]] if "hostname" in entry else certificate.get("sanDnsnames", [])
                out += [(host, certificate) for host in hosts]
    return out


serve(
    Resources(
        f"{BASE}.certificateMaps.certificateMapEntries",
        ENTRIES,
        permission="certificatemanager.certmapentries",
        type="google.cloud.certificatemanager.v1.CertificateMapEntry",
        mutable=("description", "labels", "certificates"),
        key=lambda call: key_of(call.cloud, call.params["name"]),
        ident=ident("certificateMapEntryId"),
        prepare=_prepare,
        shown=_shown,
    ),
    "create get list patch delete",
)
