"""Writes files of configurations and reads them back."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from deployments.configuration.loader import InvalidConfigurations, load_configurations
from deployments.configuration.model import Configuration, Configurations, Inventories
from inventory.machine import Inventory, Machine, PatchOwner

TODAY = date(2026, 11, 20)
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)

FLEET = Inventory(
    (
        Machine("web-1", "10.0.0.1", environment="prod", groups=("web",), zone="Europe/Berlin", tags={"ring": "a"}),
        Machine("web-2", "10.0.0.2", environment="prod", groups=("web",), zone="Europe/Berlin"),
        Machine("db-1", "10.0.0.3", environment="prod", groups=("db",), zone="Europe/Berlin"),
        Machine("nyc-1", "10.0.0.4", environment="shop", zone="America/New_York"),
        Machine("tok-1", "10.0.0.5", environment="shop", zone="Asia/Tokyo"),
        Machine("old-1", "10.0.0.6", environment="old", owner=PatchOwner.MANUAL),
    )
)
FLEETS = Inventories({None: FLEET})

WEEKLY = "window: {start: 2026-12-06 22:00, length: 2h, zone: Europe/Berlin, recurrence: Week Sunday}"


def wall(text: str) -> datetime:
    """Return what a clock on the wall shows."""
    return datetime.fromisoformat(text)


@dataclass(frozen=True)
class Folder:
    """A folder of configurations."""

    path: Path

    def write(self, files: Mapping[str, str]) -> Path:
        for name, text in files.items():
            (self.path / name).write_text(text, encoding="utf-8")
        return self.path / next(iter(files)) if len(files) == 1 else self.path

    def read(self, text: str, **others: str) -> Configurations:
        place = self.write({"one.yaml": text})
        self.write({name.replace("_", "."): content for name, content in others.items()})
        return load_configurations(place, TODAY)

    def one(self, text: str) -> Configuration:
        (found,) = self.read(text).all_configurations
        return found

    def faults(self, text: str) -> list[tuple[int | None, str | None, str]]:
        """Return line, key and words of every fault, the remedy behind a slash."""
        with pytest.raises(InvalidConfigurations) as caught:
            self.read(text)
        words = [each.message.partition(f"{each.key}: ")[2] or each.message for each in caught.value.problems]
        return [
            (each.line, each.key, f"{said} / {each.hint}")
            for each, said in zip(caught.value.problems, words, strict=True)
        ]
