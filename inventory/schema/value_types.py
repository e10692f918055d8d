"""Types of single values in an inventory: names, addresses, users, zones, credentials, and those of `wake`."""

import ipaddress
import re
import socket
import zoneinfo
from functools import lru_cache
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from inventory.addresses import find_command_fault, parse_ip_address, parse_url, render_without_login
from inventory.credential_references import KEY_REFERENCES, parse_reference, require_foreign_reference
from inventory.errors import PASSWORD_FORMS, CredentialError
from inventory.files.problems import did_you_mean
from inventory.machine import PatchOwner
from inventory.sites import SITE_NAME_HINT, SITE_PATTERN

NAME_PATTERN = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}"
_NAME_PATTERN = re.compile(NAME_PATTERN)
_TAG_KEY_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}")
_HOST_PATTERN = re.compile(
    r"(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*\.?"
)
_AZURE_SCHEDULES_OWNER = "schedules"
"""Azure's term for customer managed schedules: ``fleetpatch``."""
_FORBIDDEN_IN_LABELS = frozenset(",|*?[]")


def build_validation_error(message: str, hint: str) -> PydanticCustomError:
    """Return a validation error with a hint."""
    # The template reads both texts from the context. Otherwise pydantic would read braces in a value as fields.
    return PydanticCustomError("inventory", "{message}", {"message": message, "hint": hint})


def _validate_name(value: str) -> str:
    if not _NAME_PATTERN.fullmatch(value):
        hint = "Use up to 128 letters, digits, '.', '_' and '-', beginning with a letter, a digit or '_'."
        raise build_validation_error(f"{value[:200]!r} is no usable name", hint)
    return value


def validate_address(value: str) -> str:
    """Return a host without brackets: a name, an IPv4 or an IPv6 address. An error has a hint."""
    host = value[1:-1] if value.startswith("[") and value.endswith("]") else value
    if (parsed := parse_ip_address(host)) is not None:
        return str(parsed)
    try:
        socket.inet_aton(host)
        is_legacy_ipv4 = True  # as the system's resolver reads a text such as 0x7f.1
    except (OSError, ValueError):
        is_legacy_ipv4 = False
    if not _HOST_PATTERN.fullmatch(host) or re.fullmatch(r"[0-9.]+", host) or is_legacy_ipv4:
        raise build_validation_error(f"{render_without_login(value)} is no address", _build_address_hint(value))
    return host


def _build_address_hint(value: str) -> str:
    if "://" in value:
        return "Give the host alone, without a scheme such as https://."
    if "@" in value:
        return "Give the host alone; the login goes under `user`."
    if "/" in value:
        return "Give one host; a whole network can't be a machine."
    if re.fullmatch(r"[^:]+:[0-9]+", value):
        return "Give the host alone; the port goes under `port`."
    return "Give a host name, an IPv4 or an IPv6 address."


def _validate_label(value: str) -> str:
    if value != value.strip() or len(value) > 256 or not value.isprintable():
        raise build_validation_error(
            f"{value[:80]!r} is no usable label", "Use up to 256 printable characters, no blanks at the ends."
        )
    if not _FORBIDDEN_IN_LABELS.isdisjoint(value):
        hint = "Leave out the characters , | * ? [ ] as a scope gives them a meaning."
        raise build_validation_error(f"{value!r} holds a character that scopes use", hint)
    return value


def validate_tag_key(value: str) -> str:
    """Return a valid tag name. Raise PydanticCustomError if the name is invalid."""
    if not _TAG_KEY_PATTERN.fullmatch(value):
        raise build_validation_error(
            f"{value[:80]!r} is no usable tag name", "Use letters, digits, '.', '_', '/' and '-'."
        )
    return value


def validate_user(value: str) -> str:
    """Return a valid login name. Raise PydanticCustomError if the name is invalid."""
    if not value.strip() or value.startswith("-") or not value.isprintable() or len(value) > 256:
        raise build_validation_error(
            f"{value[:80]!r} is no usable user name", "Give the login name; DOMAIN\\user and user@domain are fine."
        )
    return value


@lru_cache(maxsize=1)
def load_zone_names() -> frozenset[str]:
    """Return the IANA names of all time zones."""
    return frozenset(zoneinfo.available_timezones())


def validate_zone(value: str) -> str:
    """Return a valid IANA time zone name. Raise PydanticCustomError if there is no such zone."""
    if value not in load_zone_names():
        near = did_you_mean(value, load_zone_names())
        raise build_validation_error(
            f"{value[:80]!r} is no time zone", f"{near}Give an IANA name such as Europe/Berlin or UTC."
        )
    return value


def validate_credential(value: str) -> str:
    """Return a valid credential reference in its full form.

    Raises:
        PydanticCustomError: the text is not a reference.
    """
    try:
        reference = parse_reference(value)
        require_foreign_reference(reference)
    except CredentialError as error:
        raise build_validation_error(error.message, error.hint) from error
    return str(reference)


def _validate_password_reference(value: str) -> str:
    if parse_reference(validate_credential(value)).kind in KEY_REFERENCES:
        raise build_validation_error("a password is wanted here, no key", f"Give {PASSWORD_FORMS}.")
    return value.strip()


def _validate_thumbprint(value: str) -> str:
    digits = re.sub(r"[\s:\u200e-]", "", value).lower()  # Windows' dialog puts an invisible mark before it
    if not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", digits):
        raise build_validation_error(
            f"{value[:100]!r} is no thumbprint of a certificate",
            "Give its SHA-256 (64 hexadecimal digits) or SHA-1 (40); colons and blanks are allowed.",
        )
    return digits


def _validate_url_path(value: str) -> str:
    path = value.strip("/")
    if not re.fullmatch(r"[A-Za-z0-9._~-]+(/[A-Za-z0-9._~-]+)*", path):
        raise build_validation_error(f"{value[:80]!r} is no path of a URL", "Write it as wsman or proxy/wsman.")
    return path


def _split_names(value: object) -> object:
    """Return a list of names. The value may be one text with several names."""
    return re.split(r"[;\s]+", value.strip(" ;")) if isinstance(value, str) and value.strip(" ;") else value


def _validate_site(value: str) -> str:
    if not SITE_PATTERN.fullmatch(value):
        raise build_validation_error(f"{value[:80]!r} is no usable name for a site", SITE_NAME_HINT)
    return value


MachineName = Annotated[str, AfterValidator(_validate_name)]
SiteName = Annotated[str, AfterValidator(_validate_site)]
Label = Annotated[str, AfterValidator(_validate_label)]
_TEXT_SCHEMA = {"type": "string"}
NameList = Annotated[
    list[MachineName],
    BeforeValidator(_split_names),
    WithJsonSchema({"anyOf": [_TEXT_SCHEMA, {"type": "array", "items": _TEXT_SCHEMA}]}),
]
ThumbprintList = Annotated[
    tuple[Annotated[str, AfterValidator(_validate_thumbprint)], ...],
    BeforeValidator(lambda value: [value] if isinstance(value, str) else value),
    Field(min_length=1),
    WithJsonSchema({"anyOf": [_TEXT_SCHEMA, {"type": "array", "items": _TEXT_SCHEMA, "minItems": 1}]}),
]
UrlPath = Annotated[str, AfterValidator(_validate_url_path)]
Owner = Annotated[
    PatchOwner,
    BeforeValidator(lambda value: PatchOwner.FLEETPATCH if value == _AZURE_SCHEDULES_OWNER else value),
    WithJsonSchema({**_TEXT_SCHEMA, "enum": [*(owner.value for owner in PatchOwner), _AZURE_SCHEDULES_OWNER]}),
]
PasswordReference = Annotated[str, AfterValidator(_validate_password_reference)]
Minutes = Annotated[float, Field(ge=0, le=24 * 60, allow_inf_nan=False)]
_MULTICAST_BIT = 1


def _validate_mac(value: str) -> str:
    """Return a hardware address as aa:bb:cc:dd:ee:ff."""
    digits = re.sub(r"[:.-]", "", value.strip()).lower()
    if not re.fullmatch(r"[0-9a-f]{12}", digits):
        raise build_validation_error(
            f"{value[:80]!r} is no hardware address", "Give six pairs of hexadecimal digits such as 52:54:00:12:34:56."
        )
    if int(digits, 16) == 0 or int(digits[:2], 16) & _MULTICAST_BIT:
        hint = "Give the hardware address of its network card: `ip link` on the machine shows it."
        raise build_validation_error(f"{value[:80]!r} is the address of no single machine", hint)
    return ":".join(digits[index : index + 2] for index in range(0, 12, 2))


def validate_url(text: str) -> str:
    """Return a URL without a login in it. Raise PydanticCustomError if the text is no such URL."""
    try:
        parts = parse_url(text)
    except ValueError as error:
        raise build_validation_error(f"this is no URL: {error}", "Begin it with https:// or http://.") from None
    if parts.username or parts.password:
        raise build_validation_error("this URL has a login in it", "Leave the login out: a secret never stands here.")
    return text


def validate_provider(value: str) -> str:
    """Return a valid reference to the provider of a machine: NAME, or NAME/ID.

    Raises:
        PydanticCustomError: the text is no such reference.
    """
    name, has_id, machine_id = value.partition("/")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name) or (has_id and not machine_id.strip()):
        hint = "Give a name of providers.yaml, or NAME/ID: behind the slash, what that provider calls the machine."
        raise build_validation_error(f"{value[:80]!r} is no provider of a machine", hint)
    if len(machine_id) > 1000 or not machine_id.isprintable() or machine_id.startswith("-"):
        raise build_validation_error(f"{machine_id[:80]!r} is no id of a machine", "Give it as the provider does.")
    return value


def validate_ipv4(value: str) -> str:
    """Return a valid IPv4 address. Raise PydanticCustomError if the text is no IPv4 address."""
    try:
        return str(ipaddress.IPv4Address(value.strip()))
    except ValueError:
        hint = "Give the broadcast address of the machine's network, such as 192.0.2.255."
        raise build_validation_error(f"{value[:80]!r} is no IPv4 address", hint) from None


def _validate_command(value: str) -> str:
    if fault := find_command_fault(value):
        raise build_validation_error(f"this command {fault}", "Write it as one command line. No shell reads it.")
    return value


MacAddress = Annotated[str, AfterValidator(_validate_mac)]
ControllerCommand = Annotated[str, Field(min_length=1, max_length=4000), AfterValidator(_validate_command)]
