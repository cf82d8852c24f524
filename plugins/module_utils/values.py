# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""
Validation rules: one rule for each kind of value, with a description of what is allowed.

A module attaches a rule to an option by the key "kind" of its argument specification. The action check_variables applies
the rules to the variables of the roles: KINDS maps a variable to its rule, TOGETHER lists the rules for several variables
that must be consistent. The filters domains and members use the same rules.
"""

from __future__ import annotations

import ast
import ipaddress
import json
import re
import shlex
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compare import LABEL_RECORD, RECORD_KEY
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import InvalidInput
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.source import CONTAINERFILES


class Refused(ValueError):
    """An invalid value. value: its invalid part, or all of it. allowed: a description of what is allowed."""

    def __init__(self, value: Any, allowed: str) -> None:
        self.value, self.allowed = value, allowed
        super().__init__(f"{value!r} is not allowed; give {allowed}")


HIDDEN = "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER"
"""What Ansible shows in place of a secret."""


@dataclass(frozen=True)
class Kind:
    """A kind of value, with its rule."""

    valid: Callable[[Any], Any]
    """Tells whether a value, or one part of it, is valid; must not raise."""
    allowed: str | Callable[[Any], str]
    """Describes what is allowed, as a phrase after "give" or "allowed:"; it can be a function of the invalid value."""
    parts: Callable[[Any], Any] | None = None
    """Splits a value into the parts to validate; listed() for lists."""
    optional: bool = False
    """Whether an empty value is valid, meaning "none" or "Google chooses"."""
    doubt: Callable[[Any], str | None] | None = None
    """Describes what is unusual about a valid value, as a phrase after the value; returns None if nothing is."""
    mapping: bool = False
    """Whether the value is a dictionary, or text for one; PARTS then takes the dictionary."""
    secret: bool = False
    """Whether messages do not show the value."""

    @property
    def container(self) -> type | None:
        """What the value is besides text: list, dict, or None if it is neither."""
        return dict if self.mapping else list if self.parts is listed else None

    def convert(self, value: Any) -> Any:
        """Return VALUE, the list or dictionary if it is text for one; raise Refused if it can be read as neither."""
        if self.container is None:
            return value
        found = mapped(value) if self.mapping else listed(value)
        if found is None:
            raise Refused(value, f"{MAPPING_WORDS if self.mapping else LIST_WORDS}: {self.words(value)}")
        return found

    def check(self, value: Any) -> list[Any]:
        """Return the parts of a valid value; raise Refused for an invalid one."""
        if self.optional and value in (None, ""):
            return []
        value = self.convert(value)
        parts = list(self.parts(value)) if self.parts else [value]
        for part in parts:
            if not self.valid(part):
                raise Refused(HIDDEN if self.secret else part, self.words(part))
        return parts

    def words(self, value: Any) -> str:
        """Return the description of what is allowed instead of VALUE."""
        return self.allowed if isinstance(self.allowed, str) else self.allowed(value)


def check_option(option: str, value: Any, kind: Kind) -> None:
    """Raise InvalidInput, naming the module's option, if its value is invalid."""
    try:
        kind.check(value)
    except Refused as refused:
        raise InvalidInput(option, refused.value, f"give {refused.allowed}") from None


def check_together(params: Mapping[str, Any], rule: Callable[..., str | None], *options: str) -> None:
    """Raise InvalidInput, naming the first of OPTIONS, if all are given and RULE finds them inconsistent."""
    given = [params[option] for option in options]
    if None not in given and (wrong := rule(*given)):
        raise InvalidInput(options[0], given[0], wrong)


def matching(pattern: str) -> Callable[[Any], bool]:
    """Return a function that tells whether a value is a string that PATTERN matches as a whole."""
    compiled = re.compile(pattern)
    return lambda value: isinstance(value, str) and bool(compiled.fullmatch(value))


def text(value: Any) -> str:
    """Return VALUE as the text that Google's APIs take for it: YAML's true is "true", its null is ""."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


LIST_WORDS = "a list, or text with commas or line ends between the entries"
MAPPING_WORDS = 'a dictionary, or text such as {"team": "ml"}, team=ml, or team: ml with an entry a line'


def listed(value: Any) -> list[Any] | None:
    """
    Return the entries of a list, or of a text: JSON, YAML, or separated by commas or line ends; None for anything else.

    Inventories give lists; AWX surveys and the command line give text.
    """
    if not isinstance(value, str):
        return list(value) if isinstance(value, (list, tuple)) else None
    value = value.strip()
    if value.startswith("["):
        found = _literal(value)
        if found is not None or not value.endswith("]"):
            return found if isinstance(found, list) else None
        value = value[1:-1]
    lines = [line.strip().removeprefix("- ") for line in value.split("\n")]
    parts = [part.strip() for line in lines for part in line.split(",")]
    return [_unquoted(part) for part in parts if part not in ("", "---")]


def mapped(value: Any) -> dict[Any, Any] | None:
    """
    Return a dictionary, also one in a text: JSON, YAML of one level, or key=value with commas, spaces or line ends between them.

    None is no entries, and the result is None for anything else.
    """
    if value is None or isinstance(value, Mapping):
        return dict(value or {})
    if not isinstance(value, str):
        return None
    value = textwrap.dedent(value).strip()
    if value.startswith("{"):
        found = _literal(value)
        if found is not None or not value.endswith("}"):
            return found if isinstance(found, dict) else None
        value = "\n".join(part.strip() for part in value[1:-1].split(","))
    entries: dict[Any, Any] = {}
    for line in value.split("\n"):
        if not line.strip() or line.startswith("#") or line.strip() == "---":
            continue
        if pair := re.fullmatch(r"(\"[^\"]+\"|'[^']+'|[^\s:=\"']+):(?:\s+(.*))?", line.rstrip()):
            entries[_unquoted(pair[1])] = _scalar(pair[2] or "")
        elif (pairs := _pairs(line)) is not None:
            entries |= pairs
        else:
            return None
    return entries


def _literal(text: str) -> Any:
    """The value of a text in JSON, or in the notation in which templates of Ansible print values; None without one."""
    try:
        return json.loads(text)
    except ValueError:
        pass
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def _pairs(line: str) -> dict[str, str] | None:
    """The entries of a line such as "a=1, b=2"; None if it has anything else."""
    words = shlex.shlex(line, posix=True)
    words.whitespace, words.whitespace_split, words.commenters, words.escape = ", \t\r", True, "", ""
    try:
        pairs = [word.partition("=") for word in words]
    except ValueError:
        return None
    return {key: part for key, _sign, part in pairs} if all(key and sign for key, sign, _part in pairs) else None


def _scalar(text: str) -> str | None:
    """A value in a line of YAML, as text: what it stands for is up to the receiver."""
    if text[:1] not in "\"'":
        text = re.split(r"\s+#|^#", text)[0]
        return None if text in ("null", "~") else text
    return _unquoted(re.sub(r"(?<=[\"'])\s+#.*", "", text))


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text


def between(low: float, high: float) -> Kind:
    """The numbers from LOW to HIGH, both included."""
    return Kind(lambda value: isinstance(value, (int, float)) and low <= value <= high, f"{low} to {high}")


def at_least(low: int) -> Kind:
    """The numbers from LOW on."""
    return Kind(lambda value: isinstance(value, (int, float)) and value >= low, f"{low} or more")


def name(longest: int, optional: bool = False) -> Kind:
    """Names of at most LONGEST characters, as most of Google's APIs have them (RFC 1035)."""
    return Kind(
        matching(rf"[a-z](?:[a-z0-9-]{{0,{longest - 2}}}[a-z0-9])?"),
        f"1 to {longest} lower-case letters, digits and hyphens, beginning with a letter and not ending with a hyphen",
        optional=optional,
    )


# ---- places

# Only for hints: a region that is missing here is still accepted. https://cloud.google.com/compute/docs/regions-zones
KNOWN_REGIONS = frozenset(
    f"{area}{number}"
    for area, numbers in {
        "africa-south": (1,),
        "asia-east": (1, 2),
        "asia-northeast": (1, 2, 3),
        "asia-south": (1, 2),
        "asia-southeast": (1, 2, 3),
        "australia-southeast": (1, 2),
        "europe-central": (2,),
        "europe-north": (1, 2),
        "europe-southwest": (1,),
        "europe-west": (1, 2, 3, 4, 6, 8, 9, 10, 12),
        "me-central": (1, 2),
        "me-west": (1,),
        "northamerica-northeast": (1, 2),
        "northamerica-south": (1,),
        "southamerica-east": (1,),
        "southamerica-west": (1,),
        "us-central": (1,),
        "us-east": (1, 4, 5),
        "us-south": (1,),
        "us-west": (1, 2, 3, 4),
    }.items()
    for number in numbers
)


def near(region: Any) -> str:
    """The known regions with the most similar names, such as "europe-west9 or europe-west8"; "" when there is none."""
    return " or ".join(get_close_matches(str(region).lower(), sorted(KNOWN_REGIONS), n=3, cutoff=0.5))


def region_words(value: Any) -> str:
    """Describe what is allowed instead of a string that cannot be a region."""
    return f"a region of Google Cloud{f', perhaps {near(value)}' if near(value) else ' such as europe-west2'}"


def unknown_region(value: Any) -> str | None:
    """Describe what is unusual about a string that could be a region."""
    if value in KNOWN_REGIONS:
        return None
    return f"is not a region that this release knows of{f'; did you mean {near(value)}?' if near(value) else ''}"


# An area, a compass direction and a number. Google numbers the regions of an area in order; the highest so far is 12.
REGION = Kind(
    matching(r"[a-z]+-(?:central|east|west|(?:north|south)(?:east|west)?)(?:[1-9]|[1-3][0-9])"),
    region_words,
    doubt=unknown_region,
)
# https://cloud.google.com/storage/docs/locations
MULTI_REGIONS = ("ASIA", "EU", "US")
DUAL_REGIONS = ("ASIA1", "EUR4", "EUR5", "EUR7", "EUR8", "NAM4")
# The API of Cloud Storage takes either case.
BUCKET_LOCATION = Kind(
    lambda value: (
        isinstance(value, str) and (value.upper() in (*MULTI_REGIONS, *DUAL_REGIONS) or REGION.valid(value.lower()))
    ),
    lambda value: f"{region_words(str(value).lower())}, or {', '.join((*MULTI_REGIONS, *DUAL_REGIONS))}",
    doubt=lambda value: None if value.upper() in (*MULTI_REGIONS, *DUAL_REGIONS) else unknown_region(value.lower()),
)
LOCATIONS = Kind(REGION.valid, region_words, listed)
CIDR_WORDS = "an IPv4 range of /26 or larger, its first address before the slash, such as 10.10.0.0/24"


def is_subnetwork_range(value: Any) -> bool:
    """Whether there is room for direct VPC egress (https://cloud.google.com/run/docs/configuring/vpc-direct-vpc)."""
    try:
        return isinstance(value, str) and ipaddress.IPv4Network(value).prefixlen <= 26
    except ValueError:
        return False


def is_ipv4_range(value: Any) -> bool:
    """Whether it is an IPv4 range, written with its first address."""
    try:
        return isinstance(value, str) and "/" in value and bool(ipaddress.IPv4Network(value))
    except ValueError:
        return False


def is_ipv4(value: Any) -> bool:
    """Whether it is an IPv4 address."""
    try:
        return isinstance(value, str) and bool(ipaddress.IPv4Address(value))
    except ValueError:
        return False


IPV4_RANGE = Kind(is_ipv4_range, "an IPv4 range, its first address before the slash, such as 10.10.0.0/24")
SUBNETWORK_RANGE = Kind(is_subnetwork_range, CIDR_WORDS)
IPV4 = Kind(is_ipv4, "an IPv4 address such as 10.20.0.0", optional=True)


def is_client_range(value: Any) -> bool:
    """Whether it is an address, or a range written with its first address, of IPv4 or IPv6."""
    try:
        return isinstance(value, str) and bool(ipaddress.ip_network(value))
    except ValueError:
        return False


def client_range_words(value: Any) -> str:
    """What to give instead of VALUE; for a range with bits of a host, the range."""
    try:
        meant = f"{ipaddress.ip_network(str(value), strict=False)}, or another" if "/" in str(value) else "a"
    except ValueError:
        meant = "a"
    return f"{meant} range, its first address before the slash, such as 203.0.113.0/24 or 2001:db8::/48, or a single address"


def canonical_range(value: str) -> str:
    """A range of addresses as Cloud Armor spells it; "*" stands for all."""
    return value if value == "*" else str(ipaddress.ip_network(value, strict=False))


CLIENT_RANGES = Kind(is_client_range, client_range_words, listed)
MOST_CLIENT_RANGES = 100

# ---- people, accounts and domains

_DOMAIN = r"(?=.{1,253}\Z)(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])"
_EMAIL = rf"[A-Za-z0-9.!#$%&'*+/=?^_`{{|}}~-]+@{_DOMAIN}"
# https://cloud.google.com/iam/docs/principal-identifiers#allow

_KUBERNETES_NAME = r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?"
_KUBERNETES_ACCOUNT = (
    rf"serviceAccount:(?:{_DOMAIN}:)?[a-z][a-z0-9-]*\.svc\.id\.goog\[{_KUBERNETES_NAME}/{_KUBERNETES_NAME}\]"
)
_WORKLOAD = r"iam\.googleapis\.com/projects/\d+/locations/global/workloadIdentityPools/\S+"
_MEMBER = (
    rf"(?:user|group|serviceAccount):{_EMAIL}"
    rf"|{_KUBERNETES_ACCOUNT}"
    rf"|domain:{_DOMAIN}"
    # principal://goog/… and …/projects/-/serviceAccounts/… are the names of deny policies, which allow policies do not have.
    r"|principal(?:Set)?://(?!goog/|iam\.googleapis\.com/projects/-/)[a-z0-9-]+(?:\.[a-z0-9-]+)+/\S*[^\s/]"
)
_MEMBER_WORDS = (
    "user:, group:, serviceAccount: or domain: and the address, such as user:jane@example.com, or principal:// or "
    "principalSet:// and the path that IAM has for it"
)


def member_words(value: Any) -> str:
    """Describe what is allowed instead of a member that may not be named."""
    text = str(value)
    if text in ("allUsers", "allAuthenticatedUsers"):
        return f"members by name, because {text} stands for everybody: {_MEMBER_WORDS}"
    if text.startswith("deleted:"):
        return f"members that exist, because a deleted one cannot sign in: {_MEMBER_WORDS}"
    if re.match("project(?:Owner|Editor|Viewer):", text):
        return f"members by name, because this stands for all who have a basic role on a project: {_MEMBER_WORDS}"
    if re.match(r"principal(?:Set)?://(?:goog/|iam\.googleapis\.com/projects/-/)", text):
        return f"a member of an allow policy, because this is one of deny policies: {_MEMBER_WORDS}"
    return _MEMBER_WORDS


def cannot_sign_in(value: Any) -> str | None:
    """Describe which members of a list cannot pass Identity-Aware Proxy, although IAM accepts them."""
    # https://cloud.google.com/iap/docs/authentication-howto: only accounts of Google and workforce identities sign in.
    pods = [
        member
        for member in listed(value) or ()
        if re.fullmatch(rf"{_KUBERNETES_ACCOUNT}|principal(?:Set)?://{_WORKLOAD}", str(member))
    ]
    if not pods:
        return None
    return (
        f"contains {', '.join(pods)}: identities of workloads cannot sign in through Identity-Aware Proxy themselves; name "
        "them in mlflow_logger_token_creators, so that they sign in as the service account for programs"
    )


def domain_words(value: Any) -> str:
    """Describe what is allowed instead of a string that is no domain of a managed certificate."""
    if "*" in str(value):
        return (
            "every domain name in full, such as mlflow.example.com: a Google-managed certificate has no wildcards (one of "
            "your own, attached to the HTTPS proxy, may have them and stays attached)"
        )
    return "a domain name of at most 64 characters in lower case, without https:// or path, such as mlflow.example.com"


# https://cloud.google.com/load-balancing/docs/quotas#ssl_certificates
DOMAIN = Kind(matching(rf"(?=[^A-Z]{{1,64}}\Z){_DOMAIN}"), domain_words)
DOMAINS = Kind(DOMAIN.valid, DOMAIN.allowed, listed)
EMAIL = Kind(matching(_EMAIL), "an e-mail address such as ml@example.com")
# For roles: no allUsers and the like, because only people who are named get in.
MEMBERS = Kind(matching(_MEMBER), member_words, listed)
# For those who sign in through Identity-Aware Proxy.
USERS = Kind(MEMBERS.valid, member_words, listed, doubt=cannot_sign_in)
# For modules: everything that an IAM policy can contain.
ANY_MEMBERS = Kind(
    matching(
        rf"{_MEMBER}|project(?:Owner|Editor|Viewer):\S+|deleted:(?:user|group|serviceAccount|principal(?:Set)?):\S+"
        r"|allUsers|allAuthenticatedUsers"
    ),
    member_words,
    listed,
)
# https://cloud.google.com/dns/docs/reference/rest/v1/managedZones
_ZONE = r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?"
DNS_ZONE = Kind(
    matching(rf"(?:projects/[a-z0-9.:-]+/managedZones/)?{_ZONE}"),
    "the name of a managed zone (not its domain name) such as example-com, or projects/PROJECT/managedZones/NAME",
    optional=True,
)
RECORD_NAME = Kind(
    matching(r"(?=.{1,254}\Z)(?:\*\.)?(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*[A-Za-z0-9-]+\.?"),
    "a domain name such as mlflow.example.com",
)
CERTIFICATE_MAP = Kind(
    matching(r"(?:projects/[^/\s]+/locations/global/certificateMaps/)?[a-z][a-z0-9-]*"),
    "the name of a certificate map, or projects/PROJECT/locations/global/certificateMaps/NAME",
    optional=True,
)
AUTH_KINDS = ("application", "serviceaccount", "accesstoken", "machineaccount")
IMPORT_SOURCE = Kind(
    matching(r"https?://[^\s/?#@]+(?:/[^\s?#]*)?|sqlite:///[^\s].*|file:///[^\s].*|(?!\w+:)[^\s-].*"),
    "the URL of an MLflow server without user and password, sqlite:///PATH, or the path of a file store",
    optional=True,
)
TERRAFORM_MODULE = Kind(
    matching(r"(?:module\.[A-Za-z_][\w-]*(?:\[(?:\d+|\"[^\"']+\")\])?(?:\.(?=m)|\Z))+"),
    "the address of a module such as module.mlflow",
    optional=True,
)
SERVICE_ACCOUNT_EMAIL = Kind(EMAIL.valid, "the e-mail address of a service account, without a prefix", optional=True)
ACCOUNT_ID = Kind(
    matching(r"[a-z][a-z0-9-]{4,28}[a-z0-9]"),
    "6 to 30 lower-case letters, digits and hyphens, beginning with a letter and not ending with a hyphen",
)
# Some old projects belong to a domain: example.com:my-project. https://cloud.google.com/iam/docs/service-accounts-create
PROJECT_ID = Kind(
    matching(r"[a-z][a-z0-9-]{4,28}[a-z0-9]|(?:[a-z0-9-]+\.)+[a-z]+:[a-z](?:[a-z0-9-]{0,28}[a-z0-9])?"),
    lambda value: (
        "a project id (not its name or number): 6 to 30 lower-case letters, digits and hyphens"
        + ("" if value else "; the default is GCP_PROJECT in the environment")
    ),
)


def service_account_email(account_id: str, project: str) -> str:
    """Return the e-mail address of a project's service account; one of example.com:my-project is at my-project.example.com."""
    domain, _colon, name = project.rpartition(":")
    return f"{account_id}@{f'{name}.{domain}' if domain else name}.iam.gserviceaccount.com"


def project_of(email: str) -> str | None:
    """Return the project of a service account, the opposite of service_account_email(); None for any other address."""
    found = re.fullmatch(r"[^@]+@([^.@]+)(?:\.([^@]+))?\.iam\.gserviceaccount\.com", email)
    return (f"{found[2]}:{found[1]}" if found[2] else found[1]) if found else None


BRAND = Kind(matching(r"projects/[^/]+/brands/[^/]+"), "a name such as projects/123456789012/brands/123456789012")
OAUTH_CLIENT_ID = Kind(
    matching(r"[0-9]+-[a-z0-9]+\.apps\.googleusercontent\.com"),
    "a client id such as 123456789012-abc123.apps.googleusercontent.com",
    optional=True,
)

# ---- names and labels

NAME = name(63)
# https://cloud.google.com/run/docs/reference/rest/v2/projects.locations.services/create
RUN_NAME = name(49)
# https://cloud.google.com/sql/docs/postgres/instance-settings: 98 with the project's id and a colon
SQL_NAME = name(97)
SQL_IDENTIFIER = Kind(
    matching(r"[A-Za-z_][A-Za-z0-9_.@-]{0,62}"),
    "1 to 63 letters, digits, underscores, hyphens, dots and @, beginning with a letter or underscore",
)
# https://cloud.google.com/secret-manager/docs/reference/rest/v1/projects.secrets/create
SECRET_NAME = Kind(
    matching(r"(?:projects/[^/\s]+/secrets/)?[A-Za-z0-9_-]{1,255}"),
    "1 to 255 letters, digits, hyphens and underscores, or projects/PROJECT/secrets/NAME",
)
_KMS_KEY = r"projects/(?:[\w.-]+:)?[\w-]+/locations/([a-z0-9-]+)/keyRings/[\w-]{1,63}/cryptoKeys/[\w-]{1,63}"
KMS_KEY = Kind(
    matching(_KMS_KEY),
    "a key of Cloud KMS such as projects/my-project/locations/europe-west2/keyRings/mlflow/cryptoKeys/mlflow, without a version",
    optional=True,
)


def location_of(key: str) -> str:
    """The location of a key of Cloud KMS, "" for anything else."""
    found = re.fullmatch(_KMS_KEY, key or "")
    return found[1] if found else ""


# The names of the load balancer's parts end with up to 9 more characters.
CA_POOL = Kind(
    matching(r"projects/(?:[\w.-]+:)?[\w-]+/locations/[a-z0-9-]+/caPools/[\w-]{1,63}"),
    "a CA pool such as projects/my-project/locations/europe-west2/caPools/internal",
    optional=True,
)
_PEM = r"-----BEGIN {0}-----\s[A-Za-z0-9+/=\s]+-----END {0}-----"
CERTIFICATE_CHAIN = Kind(
    matching(rf"\s*(?:{_PEM.format('CERTIFICATE')}\s*)+"),
    "certificates in PEM, that of the server first, each from -----BEGIN CERTIFICATE----- to -----END CERTIFICATE-----",
    optional=True,
    secret=True,
)
PRIVATE_KEY = Kind(
    matching(
        rf"\s*(?:-----BEGIN EC PARAMETERS-----[^-]*-----END EC PARAMETERS-----\s*)?{_PEM.format('(?:RSA |EC )?PRIVATE KEY')}\s*"
    ),
    "a private key in PEM without a passphrase, from -----BEGIN PRIVATE KEY----- to -----END PRIVATE KEY-----",
    optional=True,
    secret=True,
)
BALANCER_NAME = name(54)
API_NAMES = Kind(
    matching(r"[a-z][a-z0-9-]*(?:\.[a-z0-9-]+)+"),
    "the full name of an API such as run.googleapis.com",
    listed,
)


def is_bucket_name(value: Any) -> bool:
    """Whether a bucket can have this name (https://cloud.google.com/storage/docs/buckets#naming)."""
    return (
        isinstance(value, str)
        and bool(re.fullmatch(r"[a-z0-9][a-z0-9_.-]{1,220}[a-z0-9]", value))
        and all(len(part) <= 63 for part in value.split("."))
        and not re.fullmatch(r"\d+\.\d+\.\d+\.\d+", value)
        and not value.startswith("goog")
        and "google" not in value
    )


# Letters of every language are allowed.
_is_label = matching(rf"(?!{RECORD_KEY.pattern}:)[^\W\d_][\w-]{{0,62}}: [\w-]{{0,63}}")


def entries(value: Mapping[Any, Any]) -> list[str]:
    """Return each entry of a dictionary as "key: value"."""
    return [f"{key}: {text(part)}" for key, part in value.items()]


BUCKET_NAME = Kind(
    is_bucket_name,
    "3 to 63 lower-case letters, digits, hyphens, underscores and dots, beginning and ending with a letter or digit, "
    "not beginning with goog nor containing google",
)
# https://cloud.google.com/compute/docs/labeling-resources#requirements; the record of compare.with_record() is not for users.
LABELS = Kind(
    lambda part: _is_label(part) and part == part.lower(),
    "keys and values of at most 63 lower-case letters, digits, hyphens and underscores, keys beginning with a letter "
    f"and other than {LABEL_RECORD}",
    entries,
    mapping=True,
)
_OF_DOMAIN = re.compile(r"/[\w-]+(?:\.[\w-]+)+:[^/]+/")
IMAGE = Kind(
    matching(r"(?!https?:)[a-z0-9][a-z0-9.-]*(?::\d+)?(?:/[A-Za-z0-9._-]+)+(?::[\w.-]+)?(?:@sha256:[0-9a-f]{64})?"),
    lambda value: (
        "an image such as europe-west2-docker.pkg.dev/my-project/mlflow/server:3.17.2"
        + (
            "; the project of a domain, example.com:my-project, is example.com/my-project in it"
            if _OF_DOMAIN.search(str(value))
            else ""
        )
    ),
)
# https://cloud.google.com/artifact-registry/docs/repositories/repo-locations
REGISTRY_LOCATION = Kind(
    lambda value: value in ("asia", "europe", "us") or REGION.valid(value),
    lambda value: f"{region_words(value)}, or asia, europe or us",
    doubt=lambda value: None if value in ("asia", "europe", "us") else unknown_region(value),
)
REPOSITORY = Kind(
    matching(r"projects/[^/\s]+/locations/[a-z0-9-]+/repositories/[a-z](?:[a-z0-9-]*[a-z0-9])?"),
    "projects/PROJECT/locations/LOCATION/repositories/NAME",
)
IMAGE_TAGS = Kind(
    matching(r"[A-Za-z0-9_][\w.-]{0,127}"),
    "at most 128 letters, digits, underscores, dots and hyphens, not beginning with a dot or hyphen",
    listed,
)
# https://cloud.google.com/build/docs/locations
BUILD_REGION = Kind(
    lambda value: value == "global" or REGION.valid(value),
    lambda value: f"{region_words(value)}, or global",
    doubt=lambda value: None if value == "global" else unknown_region(value),
)
BUILD_TIMEOUT = between(60, 86_400)
# https://packaging.python.org/en/latest/specifications/version-specifiers/
PACKAGES = Kind(
    matching(r"[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?(?:\[[\w., -]+\])?==[A-Za-z0-9][A-Za-z0-9.!+_-]*(?: ?; ?[^;\n]+)?"),
    "Python packages, each with one version, such as boto3==1.42.0",
    listed,
)


def is_source(value: Any) -> bool:
    """Whether it is the path of a folder with a Containerfile on this host."""
    folder = Path(str(value)).expanduser()
    return isinstance(value, str) and any((folder / name).is_file() for name in CONTAINERFILES)


SOURCE = Kind(is_source, f"the path of a folder with a {' or '.join(CONTAINERFILES)}", optional=True)
# https://cloud.google.com/run/docs/container-contract#env-vars
RESERVED_VARIABLES = (
    "PORT",
    "K_SERVICE",
    "K_REVISION",
    "K_CONFIGURATION",
    "CLOUD_RUN_JOB",
    "CLOUD_RUN_EXECUTION",
    "CLOUD_RUN_TASK_INDEX",
    "CLOUD_RUN_TASK_ATTEMPT",
    "CLOUD_RUN_TASK_COUNT",
)
SCALAR = (str, int, float)
SECRET_ENVIRONMENT = Kind(
    lambda key: key not in RESERVED_VARIABLES and matching(r"[A-Za-z_][\w.-]*")(key),
    f"a variable's name other than {', '.join(RESERVED_VARIABLES)}",
    list,
    mapping=True,
)
ENVIRONMENT = Kind(
    SECRET_ENVIRONMENT.valid,
    f"{SECRET_ENVIRONMENT.allowed}, with text, a number or a boolean as its value",
    # The values are not shown, unless they are what is wrong.
    lambda value: [
        key if isinstance(part, SCALAR) or part is None else f"{key}: {part}" for key, part in value.items()
    ],
    mapping=True,
)


def is_flag(entry: str) -> bool:
    """Whether a flag has a value, and the one that is used here has a number."""
    key, _colon, value = entry.partition(": ")
    if key == "max_connections":
        return value.isdecimal() and 14 <= int(value) <= 262_143
    return bool(re.fullmatch(r"[a-z][a-z0-9_.]*", key)) and value[:1] not in ("", "[", "{")


# https://cloud.google.com/sql/docs/postgres/flags
FLAGS = Kind(
    is_flag,
    "the names of flags in lower case, each with its value or null; max_connections is 14 to 262143",
    # A flag with null is left out or removed.
    lambda value: entries({key: part for key, part in value.items() if part is not None}),
    mapping=True,
)

# ---- times and sizes

AGE = Kind(
    matching(r"(?=.)(?:\d+d)?(?:\d+h)?(?:\d+m)?(?:\d+s)?"),
    "days, hours, minutes and seconds such as 30d or 1d12h",
)
TIME = Kind(matching(r"(?:[01]\d|2[0-3]):[0-5]\d"), "a time of day in UTC such as 03:00")
CPU = Kind(matching(r"(?=.*[1-9])(?:\d+m?|\d*\.\d+)"), "a number of CPUs such as 2 or 500m")
MEMORY = Kind(matching(r"(?=.*[1-9])\d+(?:\.\d+)?(?:[kMG]|[KMG]i)"), "a size such as 512Mi or 2Gi")
PORT = between(1, 65535)
TTL = between(1, 604_800)
REQUEST_TIMEOUT = between(1, 3600)
JOB_TIMEOUT = between(1, 604_800)
CONCURRENCY = between(1, 1000)
MIN_INSTANCES = between(0, 10_000)
MAX_INSTANCES = between(1, 10_000)
MAX_RETRIES = between(0, 10)
DISK_SIZE_GB = between(10, 65_536)
BACKUP_RETAINED = between(1, 365)
FINAL_BACKUP_DAYS = between(1, 365)
SECRET_LENGTH = between(8, 1024)
SECRET_BYTES = between(16, 1024)
SAMPLE_RATE = between(0, 1)
DAY = between(1, 7)
HOUR = between(0, 23)
WINDOW = {"day": DAY, "hour": HOUR}


def is_window(window: Mapping[str, Any]) -> bool:
    """Whether it is a maintenance window, or empty."""
    return not window or (
        window.keys() == WINDOW.keys()
        and all(str(window[key]).isdecimal() and kind.valid(int(str(window[key]))) for key, kind in WINDOW.items())
    )


MAINTENANCE_WINDOW = Kind(is_window, "day 1 (Monday) to 7 and hour 0 to 23, both or none", mapping=True)
SOFT_DELETE_SECONDS = Kind(
    lambda value: isinstance(value, int) and (value == 0 or 604_800 <= value <= 7_776_000),
    "0, or 604800 (7 days) to 7776000 (90 days)",
)

# ---- values that must be consistent: each function describes what is wrong, or returns None

TIERS = {
    "ENTERPRISE": (
        r"db-f1-micro|db-g1-small|db-custom-\d+-\d+",
        "db-f1-micro, db-g1-small or db-custom-CPUS-MEGABYTES",
    ),
    "ENTERPRISE_PLUS": (
        r"db-(?:perf-optimized-N|memory-optimized-N|c4a-highmem)-\d+(?:-lssd)?",
        "db-perf-optimized-N-CPUS, db-memory-optimized-N-CPUS or db-c4a-highmem-CPUS",
    ),
}
# Memory in GB from which on, connections. https://cloud.google.com/sql/docs/postgres/flags#postgres-m
CONNECTIONS = ((120, 1000), (60, 800), (30, 600), (15, 500), (7.5, 400), (6, 200), (3.75, 100), (1.7, 50), (0, 25))
# Connections that Cloud SQL keeps for itself and for superusers.
RESERVED_CONNECTIONS = 6
# Connections that one execution of the administration's job opens.
JOB_CONNECTIONS = 2


def memory_gb(tier: str) -> float:
    """Return the memory of a Cloud SQL tier in GB; 0 when its name does not tell."""
    if custom := re.fullmatch(r"db-custom-\d+-(\d+)", tier):
        return int(custom[1]) / 1024
    # The machines of Enterprise Plus have at least this much.
    if plus := re.fullmatch(r"db-(?:perf-optimized-N|memory-optimized-N|c4a-highmem)-(\d+)(?:-lssd)?", tier):
        return int(plus[1]) * 8
    return 1.7 if tier == "db-g1-small" else 0


def max_connections(tier: str, database_flags: Any = None) -> int:
    """Return the connections that PostgreSQL accepts: those of the flag max_connections, by default those of the tier."""
    if flag := (mapped(database_flags) or {}).get("max_connections"):
        return int(flag)
    memory = memory_gb(tier)
    return next(connections for least, connections in CONNECTIONS if memory >= least)


def tier_of_edition(tier: str, edition: str) -> str | None:
    """A tier that the edition has (https://cloud.google.com/sql/docs/postgres/editions-intro)."""
    pattern, words = TIERS[edition]
    if not re.fullmatch(pattern, tier):
        return f"edition {edition} has {words}"
    custom = re.fullmatch(r"db-custom-\d+-(\d+)", tier)
    if custom and (int(custom[1]) % 256 or int(custom[1]) < 3840):
        return "the memory is a multiple of 256 MB, at least 3840"
    return None


def log_days_of_edition(days: int, edition: str) -> str | None:
    """Days of transaction logs that the edition keeps."""
    most = 35 if edition == "ENTERPRISE_PLUS" else 7
    return None if 1 <= days <= most else f"edition {edition} keeps 1 to {most}"


def logs_need_backups(point_in_time_recovery: bool, backup_enabled: bool) -> str | None:
    """Point-in-time recovery starts from a backup."""
    return "it requires backup_enabled=true" if point_in_time_recovery and not backup_enabled else None


def standby_needs_logs(availability_type: str, point_in_time_recovery: bool) -> str | None:
    """A standby is fed by the logs of point-in-time recovery."""
    needs = availability_type == "REGIONAL" and not point_in_time_recovery
    return "it requires point_in_time_recovery=true" if needs else None


def zone_of_region(zone: str, region: str) -> str | None:
    """A zone of the region, or none."""
    if not zone or re.fullmatch(re.escape(region) + "-[a-z]", zone):
        return None
    return f"a zone of {region} is {region}-a, {region}-b or the like"


def key_of_region(kms_key: str, region: str) -> str | None:
    """A key in the region of what it encrypts, or none."""
    place = location_of(kms_key)
    return None if place in ("", region) else f"the key is in {place}: give one in {region}"


def key_of_bucket(kms_key: str, location: str) -> str | None:
    """A key in the location of the bucket, or none.  https://cloud.google.com/storage/docs/encryption/customer-managed-keys"""
    place, wanted = location_of(kms_key), {"EU": "europe"}.get(location.upper(), location.lower())
    return None if place in ("", wanted) else f"the key is in {place}, and a bucket in {location} needs one in {wanted}"


def key_of_secret(kms_key: str, locations: Any) -> str | None:
    """A key in the one region that stores the secret, or a global one if Google chooses the regions; or none."""
    place, regions = location_of(kms_key), listed(locations) or []
    if not place or regions == [place]:
        return None
    if regions:
        return f"the key is in {place}: store the secret only there, or give a key in {', '.join(regions)}"
    if place == "global" or REGION.valid(place):
        return None
    return f"the key is in {place}: give one in a region, or a global one"


def is_key(value: Any) -> bool:
    """VALUE is the key file of a service account, as text or as a dictionary."""
    try:
        found = value if isinstance(value, Mapping) else json.loads(value)
    except (TypeError, ValueError):
        return False
    return isinstance(found, Mapping) and bool(found.get("client_email")) and bool(found.get("private_key"))


def one_of_credentials(
    auth_kind: str, file: str, contents: Any, credentials_file: str, access_token: str, email: str
) -> str | None:
    """The credentials of a host: one kind, with what this kind needs."""
    given = {
        "mlflow_service_account_file": ("serviceaccount", file),
        "mlflow_service_account_contents": ("serviceaccount", contents),
        "mlflow_credentials_file": ("application", credentials_file),
        "mlflow_access_token": ("accesstoken", access_token),
        "mlflow_service_account_email": ("machineaccount", email),
    }
    found = {name: kind for name, (kind, value) in given.items() if value}
    if len(found) > 1:
        return f"only one of {', '.join(found)} can be set"
    wrong = [name for name, kind in found.items() if auth_kind and kind != auth_kind]
    if wrong:
        return f"{wrong[0]} is for mlflow_auth_kind {found[wrong[0]]}; leave one of them out"
    if auth_kind == "serviceaccount" and not found:
        return "it needs mlflow_service_account_file or mlflow_service_account_contents"
    if auth_kind == "accesstoken" and not found:
        return "it needs mlflow_access_token"
    return None


def delegates_of_account(delegates: Any, account: str) -> str | None:
    """Delegates lead to an account."""
    return None if account or not listed(delegates) else "it needs mlflow_impersonate_service_account"


def least_of_most(min_instances: int, max_instances: int) -> str | None:
    """The least number is no more than the greatest."""
    return None if min_instances <= max_instances else f"give at most max_instances, {max_instances}"


def connections(max_instances: int, pool_size: int, pool_overflow: int, database_connections: int) -> str | None:
    """
    Instances that fit into the database: while a rollout runs there are those of two revisions, and the administration's job.

    An instance opens its pool, all overflow, and one connection by which it tells whether the database is there.
    """
    needed = 2 * max_instances * (pool_size + pool_overflow + 1) + JOB_CONNECTIONS
    room = database_connections - RESERVED_CONNECTIONS
    if needed <= room:
        return None
    return (
        f"a rollout takes 2 x max_instances x (pool_size + pool_overflow + 1) + {JOB_CONNECTIONS} = {needed} connections, "
        f"the database has {room} to give: lower them or choose a larger tier"
    )


def subnetwork_of_network(subnetwork_name: str, network_name: str) -> str | None:
    """An existing subnetwork is named together with its network."""
    return "an existing subnetwork needs its network's name too" if subnetwork_name and not network_name else None


def range_of_network(reserved_range: str, prefix: str, name: str, private_access: str) -> str | None:
    """A range that is not made here, or any range of a peering, is one of an existing network."""
    if private_access != "peering" or name or reserved_range == f"{prefix}-services":
        return None
    return f"a new network has no peering: use {prefix}-services, or an existing network"


def subnetwork_of_endpoint(private_access: str, subnetwork: str) -> str | None:
    """An endpoint of Private Service Connect has an address of a subnetwork."""
    return "psc needs the subnetwork of the endpoint" if private_access == "psc" and not subnetwork else None


def given_or_built(reference: str, source: str, extra_packages: Any) -> str | None:
    """An image that is given is not built."""
    if not reference or not (source or listed(extra_packages)):
        return None
    return "an image that is given is not built: leave it out to build one, or leave out the source and the packages"


def domains_of_certificate(domain: str, extra_domains: Any) -> str | None:
    """The domains that one managed certificate covers."""
    count = len({domain, *(listed(extra_domains) or ())})
    return None if count <= 100 else f"these are {count} domains, and a certificate covers 100"


def existing_certificate(certificate: str, certificates: Any, certificate_map: str) -> str | None:
    """The certificates of others, exactly where they are used."""
    given = [
        name for name, value in (("certificates", listed(certificates)), ("certificate_map", certificate_map)) if value
    ]
    if certificate == "existing" and len(given) != 1:
        return "existing needs the names of certificates, or that of a certificate map" + (
            ", not both" if given else ""
        )
    if certificate != "existing" and given:
        return f"{certificate} takes no {given[0]}: leave it out or choose existing"
    return None


def most_client_ranges(allowed_ranges: Any) -> str | None:
    """The ranges of one Cloud Armor policy."""
    count = len(listed(allowed_ranges) or ())
    return None if count <= MOST_CLIENT_RANGES else f"these are {count} ranges, and a policy has {MOST_CLIENT_RANGES}"


def ranges_of_front_door(allowed_ranges: Any, front_door: str) -> str | None:
    """Cloud Armor looks at the requests of an external load balancer only."""
    if front_door == "load_balancer" or not listed(allowed_ranges):
        return None
    return f"{front_door} has no external load balancer, which would refuse other addresses: leave out the ranges"


def renamed(previous_name: str, name: str, certificate: str) -> str | None:
    """What a load balancer with another name can be made beside the previous one with."""
    if previous_name and certificate == "certificate_manager":
        return "a project authorizes a domain only once: change to managed first, and back when the previous one is deleted"
    return "this is the name that it has" if previous_name == name else None


def own_certificate(certificate: str, certificate_chain: str, private_key: str, ca_pool: str) -> str | None:
    """What each kind of certificate of an internal load balancer needs, and nothing that it would ignore."""
    if certificate == "ca_pool":
        if not ca_pool:
            return "ca_pool needs the CA pool that issues the certificate"
        if certificate_chain or private_key:
            return "ca_pool takes no certificate and key: leave them out or choose self_managed"
        return None
    if ca_pool:
        return "self_managed takes no CA pool: leave it out or choose ca_pool"
    missing = [word for word, value in (("chain", certificate_chain), ("private key", private_key)) if not value]
    return f"self_managed needs the certificate's {' and '.join(missing)}" if missing else None


def pool_of_region(ca_pool: str, region: str) -> str | None:
    """A CA pool in the region of the load balancer, or none."""
    place = ca_pool.split("/")[3] if ca_pool else region
    return None if place == region else f"the CA pool is in {place}: give one in {region}"


def oauth(oauth: str, oauth_client_id: str, oauth_client_secret: str, support_email: str | None = None) -> str | None:
    """What each way of signing in needs, and nothing that it would ignore."""
    if oauth == "custom":
        if bool(oauth_client_id) != bool(oauth_client_secret):
            return f"custom needs both, the client's {'secret' if oauth_client_id else 'id'} is missing"
        if not oauth_client_id:
            return "custom needs the client's id and secret"
    elif oauth_client_id or oauth_client_secret:
        return f"{oauth} takes no client id and secret: leave them out or choose custom"
    if oauth == "brand" and support_email == "":
        return "brand needs the support e-mail of the consent screen"
    return None


def without_brand(oauth: str) -> str | None:
    """The brand and its client are those of backend services."""
    return "Cloud Run's own Identity-Aware Proxy takes google_managed or custom" if oauth == "brand" else None


def door_of_service(front_door: str, iap_enabled: bool) -> str | None:
    """Identity-Aware Proxy is in one place only."""
    if iap_enabled == (front_door == "cloud_run"):
        return None
    return "Identity-Aware Proxy of Cloud Run itself is exactly that of the front door cloud_run: leave cloudrun_iap_enabled out"


# ---- the variables of the roles

# The front doors, and the role that makes each.
FRONT_DOORS = {"load_balancer": "iap_lb", "cloud_run": "iap_cloud_run", "internal": "iap_internal_lb"}
# The variables of a deployment that only some front doors have.
ONLY_WITH = dict.fromkeys(("mlflow_domain", "mlflow_extra_domains"), ("load_balancer", "internal"))
# The variables of a front door's role, without its prefix, that may be set with another front door too: what exists of the former is
# found, and taken away, by them; and those that the playbooks set.
FOR_REMOVAL = frozenset(
    {
        "project_id",
        "region",
        "name",
        "address_name",
        "dns_zone",
        "network_project_id",
        "service",
        "network",
        "subnetwork",
    }
)

KINDS: dict[str, Kind] = {
    # by full name, where the rest of the name means something else in another role
    "bucket_location": BUCKET_LOCATION,
    "bucket_name": BUCKET_NAME,
    "cloudrun_domain": Kind(DOMAIN.valid, DOMAIN.allowed, optional=True),
    "cloudrun_name": RUN_NAME,
    "cloudsql_name": SQL_NAME,
    "iap_internal_lb_name": BALANCER_NAME,
    "iap_lb_name": BALANCER_NAME,
    "mlflow_auth_kind": Kind(
        lambda value: value in AUTH_KINDS,
        f"{', '.join(AUTH_KINDS)}, or empty for that of the environment",
        optional=True,
    ),
    "mlflow_service_account_contents": Kind(
        is_key,
        "the JSON of a service account's key file, with client_email and private_key",
        optional=True,
        secret=True,
    ),
    "mlflow_access_token": Kind(
        matching(r"[!-~]+"), "an access token, without blanks and line ends", optional=True, secret=True
    ),
    "mlflow_service_account_email": SERVICE_ACCOUNT_EMAIL,
    "mlflow_impersonate_service_account": SERVICE_ACCOUNT_EMAIL,
    "mlflow_impersonate_delegates": Kind(EMAIL.valid, EMAIL.allowed, listed),
    "mlflow_quota_project": Kind(PROJECT_ID.valid, PROJECT_ID.allowed, optional=True),
    "mlflow_domain": Kind(DOMAIN.valid, DOMAIN.allowed, optional=True),
    "mlflow_import_from": IMPORT_SOURCE,
    "image_reference": Kind(IMAGE.valid, IMAGE.allowed, optional=True),
    "mlflow_image": Kind(IMAGE.valid, IMAGE.allowed, optional=True),
    "services_names": API_NAMES,
    # by the name without the prefix, mlflow_ or the role's
    "accepted_members": MEMBERS,
    "adopt_module": TERRAFORM_MODULE,
    "account_id": ACCOUNT_ID,
    "address_name": NAME,
    "allowed_ranges": CLIENT_RANGES,
    "backup_retained": BACKUP_RETAINED,
    "backup_start_time": TIME,
    "ca_pool": CA_POOL,
    "certificate_chain": CERTIFICATE_CHAIN,
    "certificate_map": CERTIFICATE_MAP,
    "certificates": Kind(NAME.valid, NAME.allowed, listed),
    "dns_replaces": Kind(RECORD_NAME.valid, "addresses or names that existing records lead to", listed),
    "dns_zone": DNS_ZONE,
    "brand_name": Kind(BRAND.valid, BRAND.allowed, optional=True),
    "bucket": BUCKET_NAME,
    "build_account_id": ACCOUNT_ID,
    "build_region": BUILD_REGION,
    "build_timeout_seconds": BUILD_TIMEOUT,
    "certificate_timeout": at_least(1),
    "concurrency": CONCURRENCY,
    "cpu": CPU,
    "database": SQL_IDENTIFIER,
    "database_flags": FLAGS,
    "database_name": SQL_IDENTIFIER,
    "database_user": SQL_IDENTIFIER,
    "disk_size_gb": DISK_SIZE_GB,
    "domain": DOMAIN,
    "env": ENVIRONMENT,
    "extra_domains": DOMAINS,
    "extra_packages": PACKAGES,
    "final_backup_days": FINAL_BACKUP_DAYS,
    "gc_older_than": AGE,
    "image": IMAGE,
    "job_name": RUN_NAME,
    "job_timeout_seconds": JOB_TIMEOUT,
    "keep_newest": between(1, 1000),
    "keys_locations": LOCATIONS,
    "keys_prefix": NAME,
    "keys_kms_key": KMS_KEY,
    "kms_key": KMS_KEY,
    "labels": LABELS,
    "lb_name": BALANCER_NAME,
    "log_sample_rate": SAMPLE_RATE,
    "logger_account_id": ACCOUNT_ID,
    "logger_service_account": ACCOUNT_ID,
    "logger_token_creators": MEMBERS,
    "maintenance_window": MAINTENANCE_WINDOW,
    "max_instances": MAX_INSTANCES,
    "memory": MEMORY,
    "min_instances": MIN_INSTANCES,
    "name": NAME,
    "network_name": name(63, optional=True),
    "network_project_id": PROJECT_ID,
    "reserved_range": name(63, optional=True),
    "noncurrent_days": at_least(0),
    "oauth_client_id": OAUTH_CLIENT_ID,
    "password_length": SECRET_LENGTH,
    "password_secret": SECRET_NAME,
    "password_secret_kms_key": KMS_KEY,
    "password_secret_locations": LOCATIONS,
    "peering_address": IPV4,
    "pool_overflow": at_least(1),
    "pool_size": at_least(1),
    "prefix": NAME,
    "previous_name": Kind(BALANCER_NAME.valid, BALANCER_NAME.allowed, optional=True),
    "private_key": PRIVATE_KEY,
    "project_id": PROJECT_ID,
    "proxy_range": SUBNETWORK_RANGE,
    "readers": MEMBERS,
    "region": REGION,
    "release_timeout": at_least(0),
    "repository": NAME,
    "replaces": Kind(NAME.valid, NAME.allowed, listed),
    "rollout_timeout": at_least(1),
    "secret_locations": LOCATIONS,
    "service": RUN_NAME,
    "source": SOURCE,
    "source_bucket": BUCKET_NAME,
    "soft_delete_retention_seconds": SOFT_DELETE_SECONDS,
    "ssl_policy": name(63, optional=True),
    "startup_failure_threshold": at_least(1),
    "startup_period_seconds": at_least(1),
    "subnetwork_name": name(63, optional=True),
    "subnetwork_range": SUBNETWORK_RANGE,
    "support_email": Kind(EMAIL.valid, EMAIL.allowed, optional=True),
    "timeout": at_least(1),
    "timeout_seconds": REQUEST_TIMEOUT,
    "unfinished_upload_days": at_least(0),
    "user": SQL_IDENTIFIER,
    "users": USERS,
    "webapp_users": USERS,
}


@dataclass(frozen=True)
class Name:
    """A name that a role derives from variables."""

    what: str
    pattern: str
    longest: int
    """The most characters that Google allows."""
    when: tuple[str, str] | None = None
    """A variable and its value with which the name is used, None for always."""


# All names that the roles derive.
NAMES = (
    Name("the bucket", "{bucket_name}", 63),
    Name("the server's service account", "{cloudrun_account_id}", 30),
    Name("the Cloud Run job", "{cloudrun_job_name}", 49),
    Name("the secret of a key", "{cloudrun_keys_prefix}-kek-passphrase", 255),
    Name("the secret of a key", "{cloudrun_keys_prefix}-session-key", 255),
    Name("the secret of a key", "{cloudrun_keys_prefix}-webhook-key", 255),
    Name("the Cloud Run service", "{cloudrun_name}", 49),
    Name("the Cloud SQL instance with its project", "{cloudsql_project_id}:{cloudsql_name}", 98),
    Name("the endpoint of the Cloud SQL instance", "{cloudsql_name}-psc", 63, ("cloudsql_private_access", "psc")),
    Name("the database", "{cloudsql_database}", 63),
    Name("the database user", "{cloudsql_user}", 63),
    Name("the secret of the database password", "{cloudsql_password_secret}", 255),
    Name("the service account for programs", "{iap_internal_lb_logger_account_id}", 30),
    Name("the backend service", "{iap_internal_lb_name}-backend", 63),
    Name("the certificate", "{iap_internal_lb_name}-00000000", 63),
    Name("the serverless NEG", "{iap_internal_lb_name}-neg-0000", 63),
    Name("the URL map", "{iap_internal_lb_name}", 63),
    Name("the URL map that redirects HTTP", "{iap_internal_lb_name}-redirect", 63),
    Name("the HTTPS proxy", "{iap_internal_lb_name}-https", 63),
    Name("the HTTP proxy", "{iap_internal_lb_name}-http", 63),
    Name("the address", "{iap_internal_lb_name}-ip", 63),
    Name("the proxy-only subnetwork", "{iap_internal_lb_name}-proxies", 63),
    Name("the service account for programs", "{iap_lb_logger_account_id}", 30),
    Name("the service account for programs", "{iap_cloud_run_logger_account_id}", 30),
    Name("the Cloud Run service", "{iap_cloud_run_service}", 49),
    Name("the address of the load balancer", "{iap_lb_address_name}", 63),
    Name("the address of a previous load balancer", "{iap_lb_name}-ip", 63),
    Name("the backend service", "{iap_lb_name}-backend", 63),
    Name("the Cloud Armor policy", "{iap_lb_name}-allowed", 63),
    # Certificates and NEGs are replaced by others, whose names end with a part that is computed.
    Name("the certificate", "{iap_lb_name}-00000000", 63),
    Name("the certificate map", "{iap_lb_name}", 63, ("iap_lb_certificate", "certificate_manager")),
    Name("the serverless NEG", "{iap_lb_name}-neg-0000", 63),
    Name("the URL map", "{iap_lb_name}", 63),
    Name("the URL map that redirects HTTP", "{iap_lb_name}-redirect", 63),
    Name("the HTTPS proxy", "{iap_lb_name}-https", 63),
    Name("the HTTP proxy", "{iap_lb_name}-http", 63),
    Name("the service account that builds the image", "{image_build_account_id}", 30, ("image_reference", "")),
    Name("the image", "{image_name}", 63, ("image_reference", "")),
    Name("the repository of the image", "{image_repository}", 63, ("image_reference", "")),
    Name("the bucket for the source of the image", "{image_source_bucket}", 63, ("image_reference", "")),
    Name("the network", "{network_prefix}", 63, ("network_name", "")),
    Name("the subnetwork", "{network_prefix}-{network_region}", 63, ("network_subnetwork_name", "")),
    Name("the range for private services access", "{network_reserved_range}", 63),
    Name("the firewall rule", "{network_prefix}-allow-internal", 63),
)
# A rule, and the variables that are its arguments.
TOGETHER: tuple[tuple[Callable[..., str | None], tuple[str, ...]], ...] = (
    (
        one_of_credentials,
        (
            "mlflow_auth_kind",
            "mlflow_service_account_file",
            "mlflow_service_account_contents",
            "mlflow_credentials_file",
            "mlflow_access_token",
            "mlflow_service_account_email",
        ),
    ),
    (delegates_of_account, ("mlflow_impersonate_delegates", "mlflow_impersonate_service_account")),
    (tier_of_edition, ("cloudsql_tier", "cloudsql_edition")),
    (log_days_of_edition, ("cloudsql_transaction_log_retention_days", "cloudsql_edition")),
    (logs_need_backups, ("cloudsql_point_in_time_recovery", "cloudsql_backup_enabled")),
    (standby_needs_logs, ("cloudsql_availability_type", "cloudsql_point_in_time_recovery")),
    (zone_of_region, ("cloudsql_zone", "cloudsql_region")),
    (key_of_bucket, ("bucket_kms_key", "bucket_location")),
    (key_of_region, ("cloudsql_kms_key", "cloudsql_region")),
    (key_of_region, ("cloudrun_kms_key", "cloudrun_region")),
    (key_of_secret, ("cloudsql_password_secret_kms_key", "cloudsql_password_secret_locations")),
    (key_of_secret, ("cloudrun_keys_kms_key", "cloudrun_keys_locations")),
    (least_of_most, ("cloudrun_min_instances", "cloudrun_max_instances")),
    (
        connections,
        ("cloudrun_max_instances", "cloudrun_pool_size", "cloudrun_pool_overflow", "cloudrun_database_connections"),
    ),
    (subnetwork_of_network, ("network_subnetwork_name", "network_name")),
    (range_of_network, ("network_reserved_range", "network_prefix", "network_name", "network_private_access")),
    (subnetwork_of_endpoint, ("cloudsql_private_access", "cloudsql_subnetwork")),
    (given_or_built, ("image_reference", "image_source", "image_extra_packages")),
    (domains_of_certificate, ("iap_lb_domain", "iap_lb_extra_domains")),
    (domains_of_certificate, ("iap_internal_lb_domain", "iap_internal_lb_extra_domains")),
    (
        own_certificate,
        (
            "iap_internal_lb_certificate",
            "iap_internal_lb_certificate_chain",
            "iap_internal_lb_private_key",
            "iap_internal_lb_ca_pool",
        ),
    ),
    (pool_of_region, ("iap_internal_lb_ca_pool", "iap_internal_lb_region")),
    (oauth, ("iap_internal_lb_oauth", "iap_internal_lb_oauth_client_id", "iap_internal_lb_oauth_client_secret")),
    (existing_certificate, ("iap_lb_certificate", "iap_lb_certificates", "iap_lb_certificate_map")),
    (renamed, ("iap_lb_previous_name", "iap_lb_name", "iap_lb_certificate")),
    (most_client_ranges, ("iap_lb_allowed_ranges",)),
    (ranges_of_front_door, ("mlflow_allowed_ranges", "mlflow_front_door")),
    (oauth, ("iap_lb_oauth", "iap_lb_oauth_client_id", "iap_lb_oauth_client_secret", "iap_lb_support_email")),
    (without_brand, ("iap_cloud_run_oauth",)),
    (
        oauth,
        ("iap_cloud_run_oauth", "iap_cloud_run_oauth_client_id", "iap_cloud_run_oauth_client_secret"),
    ),
    (door_of_service, ("mlflow_front_door", "cloudrun_iap_enabled")),
)


def kind_of(variable: str, role: str) -> Kind | None:
    """The kind of a role's variable (ROLE is "mlflow" for those of a whole deployment), None if its type is enough."""
    return KINDS.get(variable) or KINDS.get(variable.removeprefix(f"{role}_"))
