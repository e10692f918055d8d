"""The schema of an inventory: the maps, their keys, and the rules between keys.

Errors of these models have a message and a hint. inventory/schema/validation.py adds the place.
"""

from collections import Counter
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from inventory.checks import CheckKind, CheckLevel
from inventory.machine import HostKeyPolicy, OsFamily, PrivilegeMethod, TransportKind, WinrmAuthentication, WinrmScheme
from inventory.network_targets import parse_tcp_target, parse_url
from inventory.schema.power_values import ControllerCommand, MacAddress, validate_ipv4
from inventory.schema.value_types import (
    Label,
    MachineName,
    Minutes,
    NameList,
    Owner,
    PasswordReference,
    ThumbprintList,
    UrlPath,
    build_validation_error,
    render_without_login,
    validate_address,
    validate_credential,
    validate_tag_key,
    validate_user,
    validate_zone,
)

MAX_CHECK_TARGET_LENGTH = 16_000
"""Maximum length of a check's command. The command is one argument on the machine, and arguments have a limit."""


class StrictModel(BaseModel):
    """Base class of maps that reject unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class CheckEntry(StrictModel):
    """A check of a machine: before patching (pre-check), or before and after (probe)."""

    name: Label
    """Its name in reports."""
    kind: CheckKind
    """command: good when it exits 0; tcp: good when it connects; http: good when it answers 200 to 399."""
    target: Annotated[str, Field(min_length=1, max_length=MAX_CHECK_TARGET_LENGTH)]
    """The command, "host:port" or "port", or a URL."""
    level: CheckLevel = CheckLevel.BLOCK
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
            raise build_validation_error(*_describe_invalid_target(self.kind, self.target, str(error))) from None
        return self


def _describe_invalid_target(kind: CheckKind, target: str, why: str) -> tuple[str, str]:
    if kind is CheckKind.TCP:
        return f"{target[:200]!r} is no TCP target: {why}", "Give host:port, or a port of the machine itself."
    path, _, query = target.partition("?")
    # Do not show a login or a query: they may contain secrets.
    named = "this" if "@" in query else render_without_login(path)
    return (
        f"{named} is no URL that can be asked: {why}",
        "Give one that begins with http:// or https://, such as http://host:8080/health.",
    )


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
    location: Label | None = None
    """Site or region; waves keep apart what must not fail together."""
    availability_zone: Label | None = None
    """Part of the location that fails by itself. Automatic patching never patches two of them at the same time."""
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


class MachineEntry(MachineSettings):
    """One machine. A name with a range (web-[01:20]) describes several."""

    name: MachineName
    address: Annotated[str, AfterValidator(validate_address)] | None = None
    """Host name or IP address. Default: the name."""
    groups: NameList | None = None

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
