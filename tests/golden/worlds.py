"""The fleets whose outputs are golden. What golden outputs need of the product and of other tests is imported here."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any

import pytest

from tasks.domain.protocols.clock import SystemClock
from tasks.records.setup import open_records
from tests.contract.web.page_urls import PAGES
from tests.golden.outputs import Outputs
from tests.support import compliance_month, web_fleet, web_fleet_runs
from tests.support.command import run_command
from tests.support.fake_clock import FakeClock
from tests.support.web_fleet import build_site
from tests.support.web_login import add_token
from tests.support.web_site import Site, serve_site

__all__ = ["PAGES", "World", "list_commands", "month_world", "sample_world", "serve_world", "take_commands"]


class _FarNow(datetime):
    """Leases and approvals of the sample end after this time, by the clock of the system too."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        return datetime(2036, 1, 1, tzinfo=tz)


@dataclass(frozen=True)
class World:
    """A fleet in a folder.

    Attributes:
        folder: has fleet.yaml, configurations and records.db.
        now: the present moment of all that looks at it.
        runs: the ids of runs by what they show.
    """

    folder: Path
    now: datetime
    runs: dict[str, str]

    def run(self, *words: str, columns: int = 100) -> str:
        """Run the command, and return what it printed and its exit code."""
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "COLUMNS": str(columns),
            "FLEETPATCH_RECORDS_URL": f"sqlite:///{self.folder / 'records.db'}",
            "FLEETPATCH_INVENTORY": str(self.folder / "fleet.yaml"),
            "FLEETPATCH_CONFIGURATIONS": str(self.folder / "configurations"),
        }
        done = run_command(words, environment, self.folder)
        error = f"--- stderr\n{done.stderr}" if done.stderr else ""
        return f"$ fleetpatch {' '.join(words)}\n{done.stdout}{error}--- exit code {done.returncode}\n"


@contextmanager
def _stopped_clock(now: datetime) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SystemClock, "now", lambda _self: now)
        patch.setattr(web_fleet_runs, "datetime", _FarNow)
        yield


@contextmanager
def sample_world(folder: Path) -> Iterator[World]:
    """The sample fleet of the pages: machines and runs of all kinds, and texts that attack."""
    with _stopped_clock(web_fleet.NOW):
        fleet = build_site(folder)
        yield World(folder, fleet.now, dict(fleet.runs))


@contextmanager
def month_world(folder: Path) -> Iterator[World]:
    """A small fleet with a month for auditors."""
    with _stopped_clock(compliance_month.NOW):
        (folder / "fleet.yaml").write_text(compliance_month.FLEET)
        (folder / "configurations").mkdir()
        text = "name: web\nscope: env=prod\nwindow: {start: 2030-01-01 22:00, length: 2h, zone: UTC}\n"
        (folder / "configurations/web.yaml").write_text(text)
        with open_records(f"sqlite:///{folder / 'records.db'}") as records:
            compliance_month.fill(records)
        yield World(folder, compliance_month.NOW, {})


@contextmanager
def serve_world(world: World) -> Iterator[tuple[Site, dict[str, str]]]:
    """Serve the pages of a fleet. The headers let a program read."""
    with serve_site(world.folder, clock=FakeClock(world.now), zone="Europe/Berlin") as site:
        yield site, {"Authorization": f"Bearer {add_token(site, 'golden')}"}


def take_commands(world: World, outputs: Outputs, commands: tuple[str, ...]) -> None:
    """Keep what commands print on a narrow and on a wide terminal, and their JSON; ``{failed}`` is a run's id."""
    for line in commands:
        words = line.format(**world.runs).split()
        for columns in (100, 200):
            outputs.add(f"{line}.{columns}", world.run(*words, columns=columns))
        outputs.add(f"{line}.json", world.run(*words, "--json"))


def list_commands() -> list[str]:
    """Return the names of all commands and groups of commands."""
    import typer.main

    import fleetpatch.cli.command  # noqa: F401 - adds its verbs
    from fleetpatch.cli.app import app

    def iterate(command: Any, path: str) -> Iterator[str]:
        yield path
        for name, inner in getattr(command, "commands", {}).items():
            yield from iterate(inner, f"{path} {name}".strip())

    return list(iterate(typer.main.get_command(app), ""))
