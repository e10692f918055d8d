"""The schema of an inventory: the maps, their keys, and the rules between keys.

Errors of these models have a message and a hint. inventory/schema/validation.py adds the place.
"""

import ast
import inspect
import re
import textwrap
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from inventory.addresses import find_action_target_fault, parse_tcp_target, parse_url, render_without_login
from inventory.event_delivery import EventDelivery
from inventory.machine import (
    CheckKind,
    FailedCheckEffect,
    HostKeyPolicy,
    IdentityPolicy,
    OsFamily,
    PrivilegeMethod,
    SetActionKind,
    TransportKind,
    WinrmAuthentication,
    WinrmScheme,
)
from inventory.schema.guest_entry import GuestsEntry
from inventory.schema.validation import StrictModel
from inventory.schema.value_types import (
    ControllerCommand,
    Label,
    MacAddress,
    MachineName,
    Minutes,
    NameList,
    Owner,
    PasswordReference,
    SiteName,
    ThumbprintList,
    UrlPath,
    build_validation_error,
    validate_address,
    validate_credential,
    validate_ipv4,
    validate_provider,
    validate_tag_key,
    validate_user,
    validate_zone,
)

OTHERS = "others"
"""The name in a limit that means all resources of its kind that are not named."""
MAX_CHECK_TARGET_LENGTH = 16_000
"""Maximum length of a check's command. The command is one argument on the machine, and arguments have a limit."""


class CheckEntry(StrictModel):
    """A check of a machine: before patching (pre-check), or before and after (probe)."""

    name: Label
    """Its name in reports."""
    kind: CheckKind
    """command: good when it exits 0; tcp: good when it connects; http: good when it answers 200 to 399."""
    target: Annotated[str, Field(min_length=1, max_length=MAX_CHECK_TARGET_LENGTH)]
    """The command, "host:port" or "port", or a URL."""
    level: FailedCheckEffect = FailedCheckEffect.BLOCK
    """What a failure does: block the machine, or warn."""
    timeout_seconds: Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)] = 30.0

    @model_validator(mode="after")
    def _validate_target(self) -> "CheckEntry":
        if "\x00" in self.target:
            raise build_validation_error("its target contains NUL", "Remove that character.")
        try:
            if self.kind is CheckKind.TCP:
                parse_tcp_target(self.target)
            elif self.kind is CheckKind.HTTP:
                parse_url(self.target)
        except ValueError as error:
            message = f"{self.target[:200]!r} is no TCP target: {error}"
            hint = "Give host:port, or a port of the machine itself."
            if self.kind is CheckKind.HTTP:
                path, _, query = self.target.partition("?")
                # Do not show a login or a query: they may contain secrets.
                subject = "this" if "@" in query else render_without_login(path)
                message = f"{subject} is no URL that can be asked: {error}"
                hint = "Give one that begins with http:// or https://, such as http://host:8080/health."
            raise build_validation_error(message, hint) from None
        return self


class LimitsEntry(StrictModel):
    """Limits of the owner. For a missing limit, the value of the run applies."""

    reboot_reserve_minutes: Minutes | None = None
    """Part of the window that is kept for a reboot."""
    reboot_timeout_minutes: Annotated[float, Field(gt=0, le=24 * 60, allow_inf_nan=False)] | None = None
    """How long the machine may take to go down, and then to come back."""
    max_reboots: Annotated[int, Field(ge=0, le=10)] | None = None
    """Reboots in one run."""


class WinrmEntry(StrictModel):
    """How a machine is reached over WinRM. An empty value resets the value of a weaker level."""

    scheme: WinrmScheme | None = None
    """https (default), or http: then the messages are encrypted by ntlm, kerberos or credssp."""
    authentication: WinrmAuthentication | None = None
    """Default: ntlm. certificate and basic need https."""
    ca_file: Annotated[str, Field(min_length=1)] | None = None
    """Path of the certificates (PEM) that may sign the machine's certificate. Default: those of the system."""
    certificate_thumbprint: ThumbprintList | None = None
    """SHA-256 or SHA-1 of the machine's certificate; a list while it is replaced."""
    client_certificate: Annotated[str, Field(min_length=1)] | None = None
    """Path of the login's certificate (PEM) for authentication: certificate. Its key is the credential, key:PATH."""
    path: UrlPath | None = None
    """Path of the URL. Default: wsman."""
    kerberos_hostname: Annotated[str, AfterValidator(validate_address)] | None = None
    """Host name in the machine's service principal, if it is not its address."""


class WakeEntry(StrictModel):
    """How a machine that is powered off is started. An empty value resets the value of a weaker level."""

    mac: MacAddress | None = None
    """Its hardware address, for Wake-on-LAN."""
    broadcast: Annotated[str, AfterValidator(validate_ipv4)] | None = None
    """IPv4 address to which the magic packet goes. Default: 255.255.255.255."""
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """UDP port of the magic packet. Default: 9."""
    command: ControllerCommand | None = None
    """A command on the controller that powers it on."""
    off_command: ControllerCommand | None = None
    """A command on the controller that powers it off again. Default: a shutdown on the machine."""
    off_again: bool | None = None
    """Whether a machine that fleetpatch powered on is powered off after its turn. Default: true."""
    minutes: Annotated[float, Field(gt=0, le=240, allow_inf_nan=False)] | None = None
    """How long it may take until a login works. Default: 10."""


def _validate_unique_names(checks: list[CheckEntry]) -> list[CheckEntry]:
    for name, count in Counter(check.name for check in checks).items():
        if count > 1:
            raise build_validation_error(f"{count} checks are named {name!r}", "Give each check a name of its own.")
    return checks


CheckList = Annotated[list[CheckEntry], AfterValidator(_validate_unique_names)]


class MachineSettings(StrictModel):
    """Settings for `defaults`, a group or a machine. An empty value resets the value of a weaker level."""

    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """Default: 22 for ssh, 5986 for winrm (5985 with scheme http)."""
    transport: TransportKind | None = None
    os: OsFamily | None = None
    """Default: windows with the transport winrm, else linux."""
    user: Annotated[str, AfterValidator(validate_user)] | None = None
    credential: Annotated[str, AfterValidator(validate_credential)] | None = None
    """A reference (inventory/credential_references.py has the grammar), never a secret."""
    privilege: PrivilegeMethod | None = None
    """How the login gets administrator rights; auto finds out."""
    privilege_password: PasswordReference | None = None
    """A reference to the password for sudo or doas."""
    jump: NameList | None = None
    """Machines of this inventory to go through, nearest to the controller first."""
    zone: Annotated[str, AfterValidator(validate_zone)] | None = None
    """IANA time zone of the machine's own windows."""
    environment: Label | None = None
    site: SiteName | None = None
    """The place from which it is reached: only workers of that site connect to it. Default: default."""
    location: Label | None = None
    """Building or region; waves keep apart what must not fail together."""
    availability_zone: Label | None = None
    """Part of the location that fails by itself. Automatic patching never patches two of them at the same time."""
    mirror: Label | None = None
    """The package mirror that it downloads from, for `limits`."""
    hypervisor: Label | None = None
    """The host that it is a virtual machine of, for `limits`."""
    scheduled_events: EventDelivery | None = None
    """How its programs learn of scheduled events: endpoint, forwarder (may be laid down) or file. Default: endpoint."""
    tags: dict[Annotated[str, AfterValidator(validate_tag_key)], Label] | None = None
    owner: Owner | None = None
    """Who may patch it: fleetpatch (or schedules, which is the same), managed, os or manual."""
    legacy_crypto: bool | None = None
    """Speak algorithms that are out of date, to machines that know no others."""
    winrm: WinrmEntry | None = None
    """How it is reached if its transport is winrm."""
    limits: LimitsEntry | None = None
    pre_checks: CheckList | None = None
    probes: CheckList | None = None
    wake: WakeEntry | None = None
    """How it is started for its turn if it is powered off. It has `mac` or `command`."""
    guests: GuestsEntry | None = None
    """What becomes of the guests of a hypervisor host before it reboots."""
    provider: Annotated[str, AfterValidator(validate_provider)] | None = None
    """Who holds its disks: a name of providers.yaml, or NAME/ID if that calls the machine otherwise."""


class MachineEntry(MachineSettings):
    """One machine. A name with a range (web-[01:20]) describes several."""

    name: MachineName
    address: Annotated[str, AfterValidator(validate_address)] | None = None
    """Host name or IP address. Default: the name."""
    groups: NameList | None = None
    identity: IdentityPolicy | None = None
    """Whether it must be proven to be the machine of its provider: proven (the default) or unverified."""

    @model_validator(mode="after")
    def _validate_has_address(self) -> "MachineEntry":
        if self.address is None:
            try:
                validate_address(self.name)
            except PydanticCustomError:
                raise build_validation_error(f"the name {self.name!r} is no address", "Give its `address`.") from None
        return self


class HostKeysEntry(StrictModel):
    """The known_hosts file, and the policy for host keys that are not pinned."""

    policy: HostKeyPolicy = HostKeyPolicy.PINNED
    known_hosts: Annotated[str, Field(min_length=1)] | None = None
    """Path, relative to the inventory. Default: ~/.ssh/known_hosts."""


_SHARE_PATTERN = re.compile(r"([0-9]{1,6})|([0-9]{1,3}(?:\.[0-9]{1,6})?)\s*%")
_OWN_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
_SHARE_HINT = "Give a number of members from 1, or a share such as 25%."


def _validate_share(value: str) -> str:
    """Return a valid count or share of members."""
    match = _SHARE_PATTERN.fullmatch(value.strip())
    if match is None:
        raise build_validation_error(f"{value[:80]!r} is neither a number of machines nor a percentage", _SHARE_HINT)
    count, percent = match.groups()
    if count is not None and int(count) < 1:
        raise build_validation_error("with no member out of service, none could be patched", _SHARE_HINT)
    if percent is not None and not 0 < float(percent) <= 100:
        hint = "Give more than 0% and at most 100%. The share is rounded down, and is at least one member."
        raise build_validation_error(f"{value[:80]!r} is out of range", hint)
    return value.strip()


MemberShare = Annotated[
    str,
    AfterValidator(_validate_share),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": r"^[0-9.]+\s*%?$"}]}),
]


def split_share(share: str) -> tuple[int | None, float | None]:
    """Return a checked share as a count, or as a percentage."""
    return (None, float(share.removesuffix("%"))) if share.endswith("%") else (int(share), None)


class SetActionEntry(StrictModel):
    """What takes a member out of service, or brings it back."""

    kind: SetActionKind
    """A command on the member or on the controller, an HTTP call, a Python function, or a Prefect deployment."""
    target: Annotated[str, Field(min_length=1, max_length=4000)]
    """The command line, the URL (POST), package.module:function, or flow/deployment."""
    timeout_minutes: Annotated[float, Field(gt=0, le=240, allow_inf_nan=False)] = 5
    """After that it counts as failed."""
    repeatable: bool = True
    """Whether a resumed run may run it again when it can't know whether it ran."""

    @model_validator(mode="after")
    def _validate_target(self) -> "SetActionEntry":
        if fault := find_action_target_fault(self.kind, self.target):
            raise build_validation_error(fault, f"Correct `target`, or `kind`, which is {self.kind}.")
        return self


class SetRoleEntry(StrictModel):
    """How the role of a member is found: from a tag, or by a command on the member. The first word is the role."""

    tag: Annotated[str, AfterValidator(validate_tag_key)] | None = None
    command: Annotated[str, Field(min_length=1, max_length=4000)] | None = None
    """It is asked again just before the turn of each member."""
    timeout_seconds: Annotated[float, Field(gt=0, le=600, allow_inf_nan=False)] = 30.0

    @model_validator(mode="after")
    def _validate_one_source(self) -> "SetRoleEntry":
        if (self.tag is None) is (self.command is None):
            raise build_validation_error("a role comes from a tag or from a command", "Give `tag` or `command`.")
        if self.command is not None and ("\x00" in self.command or not self.command.strip()):
            raise build_validation_error("its command is empty or contains NUL", "Correct `command`.")
        return self


def _validate_health_checks(checks: list[CheckEntry]) -> list[CheckEntry]:
    for check in checks:
        if check.level is FailedCheckEffect.WARN:
            raise build_validation_error(f"{check.name!r} can't make a member unhealthy", "Leave out `level: warn`.")
        host: str | None = None
        if check.kind is not CheckKind.COMMAND:
            is_tcp = check.kind is CheckKind.TCP
            host = parse_tcp_target(check.target)[0] if is_tcp else parse_url(check.target).hostname
        if host in _OWN_HOSTS:
            message = f"{check.name!r} asks the controller, and not the member"
            raise build_validation_error(message, "Give the port alone, or ask on the member with `kind: command`.")
    return checks


class SetEntry(StrictModel):
    """Machines of which only some may be out of service at a time, such as the members of a cluster."""

    name: MachineName
    scope: Annotated[str, Field(min_length=1, max_length=10_000)]
    """Selects the members, such as tag.cluster=web."""
    max_unavailable: MemberShare | None = None
    """Members out of service together, with those that are down anyway: a number, or a share such as 25%. Default: 20%,
    and one in a set of fewer than ten."""
    update_domain: Annotated[str, AfterValidator(validate_tag_key)] | None = None
    """A tag. Members with different values are never out of service together."""
    role: SetRoleEntry | None = None
    order: NameList | None = None
    """Roles in the order of their turns. A role that is not in the list comes first."""
    quorum: Annotated[int, Field(ge=1)] | None = None
    """Members that must be healthy at any time."""
    drain: SetActionEntry | None = None
    """Takes a member out of service, before its first change."""
    undrain: SetActionEntry | None = None
    """Brings it back, after its last step."""
    healthy: Annotated[CheckList, AfterValidator(_validate_health_checks)] | None = None
    """How a member is known to be healthy. Default: it answers at its port."""
    healthy_minutes: Annotated[float, Field(ge=0, le=24 * 60, allow_inf_nan=False)] = 5
    """How long a member may take to be healthy after its turn."""


ResourceLimit = Annotated[
    dict[str, Annotated[int, Field(ge=1)]],
    BeforeValidator(lambda value: value if isinstance(value, dict) else {OTHERS: value}),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1},
                {"type": "object", "additionalProperties": {"type": "integer", "minimum": 1}},
            ]
        }
    ),
]


class ResourceLimitsEntry(StrictModel):
    """How many machines that share something a run works on at once: a number, or numbers by name and for `others`."""

    site: ResourceLimit | None = None
    jump_host: ResourceLimit | None = None
    """Each jump host on the way to a machine counts."""
    mirror: ResourceLimit | None = None
    """Package mirrors: the key `mirror` of machines."""
    hypervisor: ResourceLimit | None = None
    """Hosts of virtual machines: the key `hypervisor` of machines."""


class FleetFile(StrictModel):
    """An inventory of fleetpatch."""

    defaults: MachineSettings | None = None
    """What holds for every machine of this file."""
    groups: dict[MachineName, MachineSettings | None] | None = None
    """What holds for every machine of a group. Where this stands, a machine can be in no other groups."""
    machines: list[MachineEntry] | None = None
    host_keys: HostKeysEntry | None = None
    limits: ResourceLimitsEntry | None = None
    """How many machines that share a site, a jump host, a mirror or a hypervisor a run works on at once."""
    sets: list[SetEntry] | None = None
    """Machines that must not be out of service together. Their scopes select from all files of a folder."""


def build_json_schema() -> dict[str, Any]:
    """Return the JSON Schema of fleet.yaml, for editors. The docstrings of keys are their descriptions."""
    schema = FleetFile.model_json_schema()
    models = {model.__name__: model for model in globals().values() if isinstance(model, type)}
    for name, described in {FleetFile.__name__: schema, **schema["$defs"]}.items():
        for key, text in _read_docstrings(models[name]) if name in models else ():
            described["properties"][key].setdefault("description", text)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "fleetpatch inventory"}


def _read_docstrings(model: type) -> Iterator[tuple[str, str]]:
    """Yield the keys of a model that have a docstring. pydantic could do it too, at each start of the command."""
    for base in model.__mro__:
        if not issubclass(base, StrictModel) or base is StrictModel:
            continue
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        for statement, behind in pairwise(definition.body if isinstance(definition, ast.ClassDef) else ()):
            match statement, behind:
                case ast.AnnAssign(target=ast.Name(id=key)), ast.Expr(value=ast.Constant(value=str(text))):
                    yield key, inspect.cleandoc(text)
