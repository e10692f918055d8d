"""Checks that an owner sets up for a machine: commands and addresses that tell whether it is well."""

from dataclasses import dataclass
from enum import StrEnum


class CheckLevel(StrEnum):
    """The effect of a failed check on its machine."""

    BLOCK = "block"
    WARN = "warn"


class CheckKind(StrEnum):
    """What a check does: run a command on the machine (good: exit code 0), or connect from the controller."""

    COMMAND = "command"
    TCP = "tcp"  # the target is "host:port" or "port"
    HTTP = "http"  # the target is a URL; good: status 200 to 399


@dataclass(frozen=True, slots=True)
class Check:
    """A test of the owner on a machine. A pre-check runs before patching; a probe runs before and after."""

    name: str
    kind: CheckKind
    target: str
    level: CheckLevel = CheckLevel.BLOCK
    timeout_seconds: float = 30.0
