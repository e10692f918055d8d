"""The result of an import from Azure: configurations and notes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

AzureObject = Mapping[str, object]


ConfigurationData = dict[str, object]


@dataclass(slots=True)
class AzureImport:
    """The converted configurations and the notes of an import.

    Attributes:
        configurations: fleetpatch configurations in the form of their file.
        notes: values that were not converted, and decisions of the import; each note names its configuration.
        source_files: the source file of each configuration, if the import read files.
    """

    configurations: list[ConfigurationData] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    source_files: list[Path] = field(default_factory=list)
