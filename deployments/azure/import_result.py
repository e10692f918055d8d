"""The result of an import from Azure: configurations and notes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

AzureObject = Mapping[str, object]


ConfigurationData = dict[str, object]


@dataclass(slots=True)
class AzureImport:
    """What became of Azure's configurations.

    Attributes:
        configurations: ours, as they are written to a file.
        notes: what could not be carried over, or was decided here; each names its configuration.
        source_files: the file of each configuration, when they were read from files.
    """

    configurations: list[ConfigurationData] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    source_files: list[Path] = field(default_factory=list)
