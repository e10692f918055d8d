"""What may stand in an inventory: the keys, their types, and the rules of each value.

Errors that these models raise carry a message and a remedy; inventory/checking.py gives them their place.
"""

import ipaddress
import re
import zoneinfo
from collections import Counter
from functools import lru_cache
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from inventory.addresses import odd_ipv4
from inventory.credentials import ReferenceKind, parse_reference
from inventory.errors import CredentialError
from inventory.machine import (
    CheckKind,
    CheckLevel,
    HostKeyPolicy,
    OsFamily,
    PatchOwner,
    PrivilegeMethod,
    TransportKind,
)
from inventory.places import did_you_mean
from inventory.targets import read_tcp, read_url

NAME_PATTERN = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}"
_NAME = re.compile(NAME_PATTERN)
_TAG_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}")
_HOST = re.compile(
    r"(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*\.?"
)
MAX_TARGET = 16_000
"""Characters of a check's command: it travels to the machine as one argument, and those have a limit."""
_SCHEDULES = "schedules"
_FORBIDDEN_IN_LABELS = ",|*?[]"


def fault(message: str, hint: str) -> PydanticCustomError:
    """Return an error that carries its remedy along."""
    # The template takes both from the context, as braces in a value must not be taken for fields.
    return PydanticCustomError("inventory", "{message}", {"message": message, "hint": hint})


def _name(value: str) -> str:
    if not _NAME.fullmatch(value):
        hint = "Use up to 128 letters, digits, '.', '_' and '-', beginning with a letter, a digit or '_'."
        raise fault(f"{value[:200]!r} is no usable name", hint)
    return value


def _address(value: str) -> str:
    host = value[1:-1] if value.startswith("[") and value.endswith("]") else value
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass  # then it must be a host name
    if not _HOST.fullmatch(host) or re.fullmatch(r"[0-9.]+", host) or odd_ipv4(host):
        raise fault(f"{_shown(value)} is no address", _address_hint(value))
    return host


def _shown(value: str) -> str:
    """Return a value that may be a URL for a message, without the login: it may hold a password."""
    _, at, rest = value.rpartition("@")
    return repr(f"***@{rest}"[:200] if at else value[:200])


def _address_hint(value: str) -> str:
    if "://" in value:
        return "Give the host alone, without a scheme such as https://."
    if "@" in value:
        return "Give the host alone; the login goes under `user`."
    if "/" in value:
        return "Give one host; a whole network can't be a machine."
    if re.fullmatch(r"[^:]+:[0-9]+", value):
        return "Give the host alone; the port goes under `port`."
    return "Give a host name, an IPv4 or an IPv6 address."


def _label(value: str) -> str:
    if value != value.strip() or len(value) > 256 or not value.isprintable():
        raise fault(f"{value[:80]!r} is no usable label", "Use up to 256 printable characters, no blanks at the ends.")
    if any(character in _FORBIDDEN_IN_LABELS for character in value):
        hint = "Leave out the characters , | * ? [ ] as a scope gives them a meaning."
        raise fault(f"{value!r} holds a character that scopes use", hint)
    return value


def _tag_key(value: str) -> str:
    if not _TAG_KEY.fullmatch(value):
        raise fault(f"{value[:80]!r} is no usable tag name", "Use letters, digits, '.', '_', '/' and '-'.")
    return value


def _user(value: str) -> str:
    if not value.strip() or value.startswith("-") or not value.isprintable() or len(value) > 256:
        raise fault(
            f"{value[:80]!r} is no usable user name", "Give the login name; DOMAIN\\user and user@domain are fine."
        )
    return value


@lru_cache(maxsize=1)
def _zones() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones())


def _zone(value: str) -> str:
    if value not in _zones():
        near = did_you_mean(value, _zones())
        raise fault(f"{value[:80]!r} is no time zone", f"{near}Give an IANA name such as Europe/Berlin or UTC.")
    return value


def _credential(value: str) -> str:
    try:
        return str(parse_reference(value))
    except CredentialError as error:
        raise fault(error.message, error.hint) from error


def _password(value: str) -> str:
    if parse_reference(_credential(value)).kind in {ReferenceKind.AGENT, ReferenceKind.KEY}:
        raise fault("a password is wanted here, no key", "Give env:NAME, file:PATH or prefect:BLOCK.")
    return value.strip()


def _split(value: object) -> object:
    """Take one name, or several in one text, for a list of names."""
    return re.split(r"[;\s]+", value.strip(" ;")) if isinstance(value, str) and value.strip(" ;") else value


def _owner(value: object) -> object:
    """Take Azure's word, customer managed schedules, for what is called fleetpatch here."""
    return PatchOwner.FLEETPATCH if value == _SCHEDULES else value


Name = Annotated[str, AfterValidator(_name)]
Label = Annotated[str, AfterValidator(_label)]
_TEXT = {"type": "string"}
NameList = Annotated[
    list[Name], BeforeValidator(_split), WithJsonSchema({"anyOf": [_TEXT, {"type": "array", "items": _TEXT}]})
]
Owner = Annotated[
    PatchOwner,
    BeforeValidator(_owner),
    WithJsonSchema({**_TEXT, "enum": [*(each.value for each in PatchOwner), _SCHEDULES]}),
]
Password = Annotated[str, AfterValidator(_password)]
Minutes = Annotated[float, Field(ge=0, le=24 * 60, allow_inf_nan=False)]


class Strict(BaseModel):
    """A map in which no unknown key may stand."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class CheckEntry(Strict):
    """A question asked of a machine before patching (pre-check), or before and after (probe)."""

    name: Label
    """Its name in reports."""
    kind: CheckKind
    """command: good when it exits 0; tcp: good when it connects; http: good when it answers 200 to 399."""
    target: Annotated[str, Field(min_length=1, max_length=MAX_TARGET)]
    """The command, "host:port" or "port", or a URL."""
    level: CheckLevel = CheckLevel.BLOCK
    """What a failure does: block the machine, or warn."""
    timeout_seconds: Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)] = 30.0

    @model_validator(mode="after")
    def _target_fits_kind(self) -> "CheckEntry":
        if "\x00" in self.target:
            raise fault("its target holds NUL", "Remove that character.")
        try:
            if self.kind is CheckKind.TCP:
                read_tcp(self.target)
            elif self.kind is CheckKind.HTTP:
                read_url(self.target)
        except ValueError as error:
            raise fault(*_no_target(self.kind, self.target, str(error))) from None
        return self


def _no_target(kind: CheckKind, target: str, why: str) -> tuple[str, str]:
    if kind is CheckKind.TCP:
        return f"{target[:200]!r} is no TCP target: {why}", "Give host:port, or a port of the machine itself."
    path, _, query = target.partition("?")
    named = "this" if "@" in query else _shown(path)  # neither a login nor a query is repeated
    return (
        f"{named} is no URL that can be asked: {why}",
        "Give one that begins with http:// or https://, such as http://host:8080/health.",
    )


class LimitsEntry(Strict):
    """What the owner allows; what is left out is as the run says."""

    reboot_reserve_minutes: Minutes | None = None
    """Part of the window that is kept for a reboot."""
    reboot_timeout_minutes: Annotated[float, Field(gt=0, le=24 * 60, allow_inf_nan=False)] | None = None
    """How long the machine may take to go down and come back."""
    max_reboots: Annotated[int, Field(ge=0, le=10)] | None = None
    """Reboots in one run."""


def _unique_names(checks: list[CheckEntry]) -> list[CheckEntry]:
    for name, count in Counter(check.name for check in checks).items():
        if count > 1:
            raise fault(f"{count} checks are named {name!r}", "Give each check a name of its own.")
    return checks


Checks = Annotated[list[CheckEntry], AfterValidator(_unique_names)]


class Settings(Strict):
    """What `defaults`, a group and a machine may say. An empty value takes back what a wider one said."""

    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """Default: 22 for ssh, 5986 for winrm."""
    transport: TransportKind | None = None
    os: OsFamily | None = None
    user: Annotated[str, AfterValidator(_user)] | None = None
    credential: Annotated[str, AfterValidator(_credential)] | None = None
    """A reference: agent, key:PATH, key:PATH?passphrase=REF, env:NAME, file:PATH or prefect:BLOCK. Never a secret."""
    privilege: PrivilegeMethod | None = None
    """How the login becomes root; auto finds out."""
    privilege_password: Password | None = None
    """A reference to the password for sudo or doas: env:NAME, file:PATH or prefect:BLOCK."""
    jump: NameList | None = None
    """Machines of this inventory to go through, nearest to the controller first."""
    zone: Annotated[str, AfterValidator(_zone)] | None = None
    """IANA time zone of the machine's own windows."""
    environment: Label | None = None
    location: Label | None = None
    """Site or availability zone; waves keep apart what must not fail together."""
    tags: dict[Annotated[str, AfterValidator(_tag_key)], Label] | None = None
    owner: Owner | None = None
    """Who may patch it: fleetpatch (or schedules, which is the same), managed, os or manual."""
    legacy_crypto: bool | None = None
    """Speak algorithms that are out of date, to machines that know no others."""
    limits: LimitsEntry | None = None
    pre_checks: Checks | None = None
    probes: Checks | None = None


class MachineEntry(Settings):
    """One machine, or with a range in its name (web-[01:20]) several."""

    name: Name
    address: Annotated[str, AfterValidator(_address)] | None = None
    """Host name or IP address. Default: the name."""
    groups: NameList | None = None

    @model_validator(mode="after")
    def _has_an_address(self) -> "MachineEntry":
        if self.address is None:
            try:
                _address(self.name)
            except PydanticCustomError:
                raise fault(f"the name {self.name!r} is no address", "Give its `address`.") from None
        return self


class HostKeysEntry(Strict):
    """Where host keys are pinned, and what to do with one that isn't."""

    policy: HostKeyPolicy = HostKeyPolicy.PINNED
    known_hosts: Annotated[str, Field(min_length=1)] | None = None
    """Path, relative to the inventory. Default: ~/.ssh/known_hosts."""


class FleetFile(Strict):
    """An inventory of fleetpatch."""

    defaults: Settings | None = None
    """What holds for every machine of this file."""
    groups: dict[Name, Settings | None] | None = None
    """What holds for every machine of a group. Where this stands, a machine can be in no other groups."""
    machines: list[MachineEntry] | None = None
    host_keys: HostKeysEntry | None = None


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of fleet.yaml, for editors."""
    schema = FleetFile.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "fleetpatch inventory"}
