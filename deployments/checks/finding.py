"""The finding type of configuration checks."""

from inventory.data_class import dataclass
from tasks.rules.calendar.checks import FindingSeverity


@dataclass(frozen=True, slots=True)
class ConfigurationFinding:
    """A finding about a configuration."""

    configuration: str
    severity: FindingSeverity  # a blocking finding prevents a deployment
    key: str  # the key in the file, such as "window", "scope" or "freezes"
    message: str
    remedy: str


def warn(configuration: str, key: str, message: str, remedy: str) -> ConfigurationFinding:
    """Return a finding that does not prevent a deployment."""
    return ConfigurationFinding(configuration, FindingSeverity.WARNS, key, message, remedy)


def block(configuration: str, key: str, message: str, remedy: str) -> ConfigurationFinding:
    """Return a finding that prevents a deployment."""
    return ConfigurationFinding(configuration, FindingSeverity.BLOCKS, key, message, remedy)
