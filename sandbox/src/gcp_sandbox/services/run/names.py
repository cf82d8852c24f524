"""Regions, resource names, URLs and etags of Cloud Run."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
import string
import time
from typing import Any

# https://cloud.google.com/run/docs/locations, with the two letters that stand for a region in *.a.run.app names.
REGIONS = {
    "africa-south1": "bq",
    "asia-east1": "de",
    "asia-east2": "df",
    "asia-northeast1": "an",
    "asia-northeast2": "dt",
    "asia-northeast3": "du",
    "asia-south1": "el",
    "asia-south2": "em",
    "asia-southeast1": "as",
    "asia-southeast2": "et",
    "asia-southeast3": "eu",
    "australia-southeast1": "ts",
    "australia-southeast2": "km",
    "europe-central2": "lm",
    "europe-north1": "lz",
    "europe-north2": "ly",
    "europe-southwest1": "no",
    "europe-west1": "ew",
    "europe-west2": "nw",
    "europe-west3": "ey",
    "europe-west4": "ez",
    "europe-west6": "oa",
    "europe-west8": "oc",
    "europe-west9": "od",
    "europe-west10": "oe",
    "europe-west12": "og",
    "me-central1": "ww",
    "me-central2": "wx",
    "me-west1": "zf",
    "northamerica-northeast1": "nn",
    "northamerica-northeast2": "pd",
    "northamerica-south1": "pv",
    "southamerica-east1": "rj",
    "southamerica-west1": "tl",
    "us-central1": "uc",
    "us-east1": "ue",
    "us-east4": "uk",
    "us-east5": "ul",
    "us-south1": "vp",
    "us-west1": "uw",
    "us-west2": "wl",
    "us-west3": "wm",
    "us-west4": "wn",
}
_ALPHABET = string.ascii_lowercase + string.digits
# A random suffix must not be read as a word: no vowels.
_CONSONANTS = "bcdfghjklmnpqrstvwxz2456789"
NAME = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")


def parts(key: str) -> dict[str, str]:
    """{"projects": …, "locations": …, "services": …} of a resource name."""
    words = key.split("/")
    return dict(zip(words[::2], words[1::2], strict=False))


def suffix(length: int) -> str:
    """Letters that Google ends a generated name with."""
    return "".join(secrets.choice(_CONSONANTS) for _ in range(length))


def image(reference: str) -> str:
    """The last part of an image's name, without tag and digest: a container without a name is called after it."""
    return reference.partition("@")[0].rpartition("/")[2].partition(":")[0]


def urls(service_key: str, number: str) -> list[str]:
    """The URLs of a service: the deterministic one, and the older one with a hash of the project and region."""
    name = parts(service_key)
    region, service = name["locations"], name["services"]
    digest = hashlib.sha256(f"{number}/{region}".encode()).digest()
    mark = "".join(_ALPHABET[byte % 36] for byte in digest[:10])
    return [f"https://{service}-{number}.{region}.run.app", f"https://{service}-{mark}-{REGIONS[region]}.a.run.app"]


def tagged(url: str, tag: str) -> str:
    """The URL of a traffic tag."""
    return url.replace("https://", f"https://{tag}---", 1)


def etag(key: str) -> str:
    """A new etag of a resource: the time (a google.protobuf.Timestamp) and the resource's name."""
    seconds, nanos = divmod(time.time_ns(), 10**9)
    stamp = b"\x08" + _varint(seconds) + b"\x10" + _varint(nanos)
    return f'"{_base64(stamp)}/{_base64(key.encode())}"'


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def public(doc: dict[str, Any], kind: str = "") -> dict[str, Any]:
    """A document without its private keys; kind ("Service") makes it the Any of an operation."""
    out = {k: v for k, v in doc.items() if not k.startswith("_")}
    return {"@type": f"type.googleapis.com/google.cloud.run.v2.{kind}"} | out if kind else out
