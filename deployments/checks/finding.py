"""Something about a configuration that a person should know."""

from dataclasses import dataclass

from tasks.rules.calendar.checks import FindingSeverity


@dataclass(frozen=True, slots=True)
class ConfigurationFinding:
    """Something about a configuration.

    Attributes:
        configuration: its name.
        severity: whether it can be deployed at all.
        key: what it is about, as it stands in the file: "window", "scope", "freezes".
        message: what is so.
        remedy: what to do about it.
    """

    configuration: str
    severity: FindingSeverity
    key: str
    message: str
    remedy: str
