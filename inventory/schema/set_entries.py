"""The schema of machine sets in fleet.yaml. inventory/set_builder.py checks them against the machines."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from inventory.action_targets import find_action_target_fault
from inventory.checks import CheckKind, CheckLevel
from inventory.machine_sets import SetActionKind
from inventory.network_targets import parse_tcp_target, parse_url
from inventory.schema.entries import CheckEntry, CheckList, StrictModel
from inventory.schema.value_types import MachineName, NameList, build_validation_error, validate_tag_key

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
        if check.level is CheckLevel.WARN:
            raise build_validation_error(f"{check.name!r} can't make a member unhealthy", "Leave out `level: warn`.")
        if _find_host(check) in _OWN_HOSTS:
            message = f"{check.name!r} asks the controller, and not the member"
            raise build_validation_error(message, "Give the port alone, or ask on the member with `kind: command`.")
    return checks


def _find_host(check: CheckEntry) -> str:
    if check.kind is CheckKind.COMMAND:
        return ""
    return parse_tcp_target(check.target)[0] if check.kind is CheckKind.TCP else parse_url(check.target).hostname or ""


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
