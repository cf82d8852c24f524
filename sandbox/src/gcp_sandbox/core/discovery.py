"""Google's discovery documents: find the method of a request, and validate its parameters and body.

The documents are shipped with google-api-python-client; each one is read when a request first needs it.
https://developers.google.com/discovery/v1/reference/apis
"""

from __future__ import annotations

import functools
import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from gcp_sandbox.core.errors import ApiError, bad_request, error_info

Schema = dict[str, Any]
_PROSE = {"description", "enumDescriptions", "documentationLink", "scopes", "annotations", "enumDeprecated"}
# Parameters of every method of every API.
_ALWAYS = {
    "alt",
    "key",
    "fields",
    "prettyPrint",
    "quotaUser",
    "userIp",
    "access_token",
    "oauth_token",
    "callback",
    "returnPartialSuccess",  # accepted by every list method of Compute Engine, regardless of the document (gcloud sends it)
    "uploadType",
    "upload_protocol",
    "$.xgafv",
    "upload_id",
    "$alt",
}

# Numbers of enums other than 0, 1, 2, …, by their first value.
# https://github.com/googleapis/googleapis: google/api/launch_stage.proto, google/cloud/run/v2/condition.proto
_NUMBERS = {
    "LAUNCH_STAGE_UNSPECIFIED": (0, 6, 7, 1, 2, 3, 4, 5),
    "COMMON_REASON_UNDEFINED": (0, 1, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17),
}


def documents() -> Path:
    """The folder of the discovery documents."""
    spec = importlib.util.find_spec("googleapiclient")
    if spec is None or spec.origin is None:
        raise RuntimeError("google-api-python-client is not installed: its discovery documents are needed")
    return Path(spec.origin).parent / "discovery_cache" / "documents"


def _without_prose(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # A property may itself be named "description": then its value is an object, and it is kept.
    return {k: v for k, v in pairs if k not in _PROSE or isinstance(v, dict)}


class Method:
    """One method of an API, for example compute.networks.insert."""

    def __init__(self, api: Api, doc: dict[str, Any]) -> None:
        self.api = api
        self.id: str = doc["id"]
        self.http: str = doc["httpMethod"]
        self.path: str = doc["path"]
        self.parameters: dict[str, Schema] = doc.get("parameters", {})
        self.request: str | None = doc.get("request", {}).get("$ref")
        self.response: str | None = doc.get("response", {}).get("$ref")
        self.pattern, self.weight = self._parse(api.base + self.path)

    @functools.cached_property
    def _regex(self) -> re.Pattern[str]:
        return re.compile(self.pattern)  # on first use: compiling a thousand methods at once takes too long

    def _parse(self, template: str) -> tuple[str, int]:
        out, at, literal = [], 0, 0
        names: list[str] = []
        for found in re.finditer(r"\{(\+?)([^}]+)\}", template):
            text = template[at : found.start()]
            literal += len(text)
            out.append(re.escape(text))
            name = found.group(2)
            names.append(name)
            if found.group(1):
                pattern = self.parameters.get(name, {}).get("pattern", "^.+$")
                out.append(f"({pattern.removeprefix('^').removesuffix('$')})")
                literal += len(re.sub(r"\[\^/\]\+|\.\*", "", pattern))
            else:
                out.append("([^/]+)")
            at = found.end()
        text = template[at:]
        out.append(re.escape(text))
        self.names = names
        return "".join(out), literal + len(text)

    def match(self, path: str) -> dict[str, str] | None:
        """The path parameters, percent-decoded, or None if the path belongs to another method."""
        found = self._regex.fullmatch(path)
        return {n: unquote(v) for n, v in zip(self.names, found.groups(), strict=True)} if found else None

    def query(self, pairs: list[tuple[str, str]]) -> dict[str, Any]:
        """Query parameters, converted to their types.  Raises ApiError 400."""
        out: dict[str, Any] = {}
        for name, text in pairs:
            schema = self.parameters.get(name)
            if schema is None or schema.get("location") != "query":
                camel = re.sub(r"_([a-z])", lambda m: m.group(1).upper(), name)
                if camel in self.parameters and self.api.family != "legacy":
                    name, schema = camel, self.parameters[camel]
                elif name in _ALWAYS or name in self.api.parameters or self.api.lenient or self.api.lenient_query:
                    continue
                else:
                    text = (
                        f'Invalid JSON payload received. Unknown name "{name}": Cannot bind query parameter. '
                        f"Field '{name}' could not be found in request message."
                    )
                    raise ApiError(400, text, status="INVALID_ARGUMENT", details=[bad_request("", text)])
            value = self._parameter(name, schema, text)
            if schema.get("repeated"):
                out.setdefault(name, []).append(value)
            else:
                out[name] = value
        for name, schema in self.parameters.items():
            if schema.get("required") and schema.get("location") == "query" and name not in out:
                raise ApiError(
                    400, f"Required parameter: {name}", reason="required", location=name, location_type="parameter"
                )
        return out

    def _parameter(self, name: str, schema: Schema, text: str) -> Any:
        kind = schema.get("type")
        if kind == "boolean":
            if text.lower() in ("true", "1"):
                return True
            if text.lower() in ("false", "0"):
                return False
        elif kind == "integer":
            if re.fullmatch(r"-?\d+", text):
                return int(text)
        elif "enum" in schema and text not in schema["enum"]:
            pass
        else:
            return text
        shown = "enum" if "enum" in schema else str(schema.get("format", kind)).upper()
        raise ApiError(
            400,
            f"Invalid value at '{name}' (TYPE_{shown}), \"{text}\"",
            status="INVALID_ARGUMENT",
            details=[bad_request(name, f"Invalid value at '{name}', \"{text}\"")],
        )


class Api:
    """One discovery document.

    family: the format of its errors (see errors.py). lenient: unknown query parameters and body fields are ignored,
    as Cloud Storage does.  lenient_query: only the former.
    """

    def __init__(
        self, name: str, version: str, family: str, lenient: bool = False, lenient_query: bool = False
    ) -> None:
        self.name, self.version, self.family = name, version, family
        self.lenient, self.lenient_query = lenient, lenient_query
        path = documents() / f"{name}.{version}.json"
        doc = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_without_prose)
        self.title: str = doc["title"]
        self.host: str = doc["rootUrl"].removeprefix("https://").rstrip("/")
        self.base = "/" + doc["servicePath"]
        # Regional hosts ("europe-west2-run.googleapis.com"), if the API has them.
        self.regional = frozenset(
            e["endpointUrl"].removeprefix("https://").rstrip("/") for e in doc.get("endpoints", ())
        )
        self.parameters: dict[str, Schema] = doc.get("parameters", {})
        self.schemas: dict[str, Schema] = doc["schemas"]
        self.methods: dict[str, Method] = {m["id"]: Method(self, m) for m in self._walk(doc)}
        self._by_shape: dict[tuple[str, int], list[Method]] = {}
        self._open: list[Method] = []
        self.find = functools.lru_cache(maxsize=4096)(self._find)
        for method in sorted(self.methods.values(), key=lambda m: -m.weight):
            if re.search(r"\.\*|\.\+", method.pattern):
                self._open.append(method)
            else:
                self._by_shape.setdefault((method.http, self._slashes(method)), []).append(method)

    def _walk(self, node: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield from node.get("methods", {}).values()
        for child in node.get("resources", {}).values():
            yield from self._walk(child)

    @staticmethod
    def _slashes(method: Method) -> int:
        return re.sub(r"\[\^/\]", "", method.pattern).count("/")

    def _find(self, http: str, path: str) -> tuple[Method, dict[str, str]] | None:
        """The method and path parameters (read-only) of a request, or None."""
        for method in (*self._by_shape.get((http, path.count("/")), ()), *self._open):
            if method.http == http and (params := method.match(path)) is not None:
                return method, params
        return None

    def other_verb(self, http: str, path: str) -> bool:
        """Whether the path exists under another HTTP method."""
        return any(self.find(other, path) for other in ("GET", "POST", "PUT", "PATCH", "DELETE") if other != http)

    # -- bodies ------------------------------------------------------------

    def body(self, method: Method, value: Any) -> dict[str, Any]:
        """A request body, validated and normalized (int64 as strings, camelCase keys, no nulls).  Raises ApiError 400."""
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise self._invalid("", 'Invalid JSON payload received. Unknown name "": Root element must be a message.')
        if method.request is None:
            return value
        root = re.sub(r"^Google[A-Za-z]*?V\d+(?:(?:alpha|beta)\d+)?", "", method.request)
        root = root[:1].lower() + root[1:]
        if method.request.endswith("Request") or self.family == "legacy":
            root = ""
            if self.family != "legacy":  # the message has the path parameters too, but the document omits them
                value = {k: v for k, v in value.items() if k not in method.names}
        return self._object(self.schemas[method.request], value, root)

    def _object(self, schema: Schema, value: Any, where: str) -> Any:
        if "$ref" in schema:
            return self._object(self.schemas[schema["$ref"]], value, where)
        kind = schema.get("type")
        if kind == "object":
            return self._fields(schema, value, where)
        if kind == "array":
            if not isinstance(value, list):
                value = [value]
            if None in value:
                raise self._invalid(where, f"Invalid value at '{_snake(where)}[{value.index(None)}]', null")
            return [self._object(schema["items"], v, f"{where}[{i}]") for i, v in enumerate(value)]
        if kind == "any" or kind is None:
            return value
        return self._scalar(schema, value, where)

    def _fields(self, schema: Schema, value: Any, where: str) -> Any:
        properties: dict[str, Schema] = schema.get("properties", {})
        extra = schema.get("additionalProperties")
        if not isinstance(value, dict):
            raise self._invalid(where, f"Invalid value at '{_snake(where)}' (type.googleapis.com), {json.dumps(value)}")
        out: dict[str, Any] = {}
        for key, item in value.items():
            if item is None:
                continue
            name = key
            if name not in properties and "_" in name:
                name = re.sub(r"_([a-z0-9])", lambda m: m.group(1).upper(), name)
            inner = f"{where}.{name}" if where else name
            if item == "" and self.name == "compute" and "enum" in properties.get(name, {}):
                continue  # unset, like the loadBalancingScheme of Private Service Connect endpoints
            if name == "initialNatIps" and not item and schema.get("id") == "RouterNat":
                continue  # Terraform's name for the first natIps, which Google accepts when empty
            if name in properties:
                out[name] = self._object(properties[name], item, inner)
            elif extra is not None:
                out[key] = self._object(extra, item, f"{where}[{key!r}]") if isinstance(extra, dict) else item
            elif not properties and self.family == "legacy":
                out[key] = item
            elif not self.lenient:
                at = f" at '{_snake(where)}'" if where else ""
                text = f'Invalid JSON payload received. Unknown name "{key}"{at}: Cannot find field.'
                raise self._invalid(where, text)
        return out

    def _scalar(self, schema: Schema, value: Any, where: str) -> Any:
        kind, form = schema["type"], schema.get("format")
        if kind == "string":
            if form in ("int64", "uint64"):
                if isinstance(value, int) and not isinstance(value, bool) or re.fullmatch(r"-?\d+", str(value)):
                    return str(value)
                raise self._wrong(where, form.upper(), value)
            if "enum" in schema and type(value) is int and value in (numbers := _numbers(schema["enum"])):
                return schema["enum"][numbers.index(value)]
            if isinstance(value, bool | int | float | dict | list):
                if self.family == "legacy" and isinstance(value, bool | int | float):
                    return json.dumps(value)
                raise self._wrong(where, "STRING", value)
            if "enum" in schema and value not in schema["enum"] and self.family != "legacy":
                folded = value.upper().replace("-", "_")  # as gcloud sends the values of cleanup policy files
                value = folded if folded in schema["enum"] else value
            if "enum" in schema and value not in schema["enum"] and not self.lenient and not schema.get("readOnly"):
                raise self._enum(schema, where, value)
            if form == "google-duration" and (found := re.fullmatch(r"(-?\d+)\.(\d{1,9})s", value)):
                digits = found[2].ljust(9, "0")  # formatted with 0, 3, 6 or 9 decimals
                while digits.endswith("000"):
                    digits = digits[:-3]
                return f"{found[1]}.{digits}s" if digits else f"{found[1]}s"
            if form == "google-duration" and not self.lenient and not re.fullmatch(r"-?\d+s", value):
                raise self._illegal(where, "Duration", "duration must end with 's'")
            return value
        if kind == "boolean":
            if isinstance(value, bool):
                return value
            if value in ("true", "false"):
                return value == "true"
            raise self._wrong(where, "BOOL", value)
        if kind == "integer":
            if isinstance(value, bool) or not re.fullmatch(r"-?\d+(\.0+)?", str(value)):
                raise self._wrong(where, (form or "int32").upper(), value)
            return int(float(value))
        if kind == "number":
            if isinstance(value, bool) or not isinstance(value, int | float):
                try:
                    return float(value)
                except (TypeError, ValueError):
                    raise self._wrong(where, (form or "double").upper(), value) from None
            return value
        return value

    def numbered(self, name: str | None, value: Any) -> Any:
        """A response of the named schema with enums as numbers, as requested by ?$alt=json;enum-encoding=int."""
        return self._numbered({"$ref": name}, value) if name else value

    def _numbered(self, schema: Schema, value: Any) -> Any:
        if "$ref" in schema:
            schema = self.schemas[schema["$ref"]]
        if isinstance(value, dict):
            if "@type" in value:  # an Any, in an operation: its type's last part names the schema
                last = str(value["@type"]).rpartition(".")[2]
                schema = next(
                    (s for n, s in self.schemas.items() if re.fullmatch(rf"(Google\w*?V\d+\w*?)?{last}", n)), schema
                )
            known = schema.get("properties", {})
            other = schema.get("additionalProperties", {})
            return {k: self._numbered(known.get(k, other), v) for k, v in value.items()}
        if isinstance(value, list):
            return [self._numbered(schema.get("items", {}), v) for v in value]
        if value not in schema.get("enum", ()):
            return value
        return _numbers(schema["enum"])[schema["enum"].index(value)]

    def _wrong(self, where: str, kind: str, value: Any) -> ApiError:
        return self._invalid(where, f"Invalid value at '{_snake(where)}' (TYPE_{kind}), {json.dumps(value)}")

    def _illegal(self, where: str, kind: str, why: str) -> ApiError:
        text = (
            f"Invalid value at '{_snake(where)}' (type.googleapis.com/google.protobuf.{kind}), Field "
            f"'{where.rpartition('.')[2]}', Illegal {kind.lower()} format; {why}"
        )
        return self._invalid(where, text)

    def _enum(self, schema: Schema, where: str, value: Any) -> ApiError:
        if self.family == "legacy":
            text = (
                f"Invalid value for field 'resource.{where}': '{value}'. Must be one of [{', '.join(schema['enum'])}]."
            )
            return ApiError(400, text, reason="invalid")
        return self._invalid(where, f"Invalid value at '{_snake(where)}' (enum), {json.dumps(value)}")

    def _invalid(self, where: str, text: str) -> ApiError:
        return ApiError(
            400, text, reason="badRequest", status="INVALID_ARGUMENT", details=[bad_request(_snake(where), text)]
        )


def _numbers(values: list[str]) -> tuple[int, ...]:
    """The number of each value of an enum.

    Discovery documents list the values in the order of their declaration, which is that of their numbers except for _NUMBERS.
    """
    known = _NUMBERS.get(values[0], ())[: len(values)]
    return (*known, *range(len(known), len(values)))


def _snake(text: str) -> str:
    return re.sub(r"(?<=[a-z0-9])([A-Z])", lambda m: "_" + m.group(1).lower(), text)


def not_found_page(path: str) -> str:
    """The HTML page of Google's front end for a URL that belongs to no API."""
    return (
        "<!DOCTYPE html>\n<html lang=en>\n  <meta charset=utf-8>\n  <title>Error 404 (Not Found)!!1</title>\n"
        f"  <p><b>404.</b> <ins>That\u2019s an error.</ins>\n  <p>The requested URL <code>{path}</code> was not found on "
        "this server.  <ins>That\u2019s all we know.</ins>\n"
    )


def unsupported(method: Method) -> ApiError:
    """501 for a method that exists at Google but is not implemented here."""
    text = f"gcp-sandbox does not implement {method.id} ({method.api.version}): it only validates the request."
    return ApiError(
        501,
        text,
        reason="notImplemented",
        details=[error_info("METHOD_NOT_SUPPORTED", "gcp-sandbox", method=method.id)],
    )


@functools.lru_cache
def _available() -> frozenset[str]:
    return frozenset(p.name.removesuffix(".json") for p in documents().glob("*.json"))


def exists(name: str, version: str) -> bool:
    """Whether Google publishes a discovery document for this API and version."""
    return f"{name}.{version}" in _available()


@functools.lru_cache(maxsize=8)
def _unplayed(name: str, version: str) -> Api:
    return Api(name, version, "esf")


def elsewhere(host: str, http: str, path: str) -> Method | None:
    """The method of a request to an API, or a version of an API, that no service here emulates."""
    name = path.split("/")[1] if host == "www.googleapis.com" else host.removesuffix(".googleapis.com")
    for version in path.split("/")[1:3]:
        if exists(name, version) and (found := _unplayed(name, version).find(http, path)):
            return found[0]
    return None
