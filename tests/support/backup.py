"""Runs the commands of docs/how-to/backup.md as they stand there, on folders and databases of a test."""

import os
import re
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

from tests.ci.tree import TOP
from tests.support.environment import PYTHONPATH

PAGE = TOP / "docs/how-to/backup.md"
_DATA = "data=~/.local/share/fleetpatch "
_PREFECT = "prefect=postgresql://prefect@db.example.org/prefect "


def find_block(heading: str, subheading: str) -> str:
    """Return the indented block of a section of the page."""
    section = PAGE.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    text = section.split(f"\n### {subheading}\n")[1].split("\n### ")[0]
    (block,) = re.findall(r"^(?: {4}.*\n)+", text, re.MULTILINE)
    return textwrap.dedent(block)


@dataclass(frozen=True)
class BackupCommands:
    """The page's commands.

    Attributes:
        folder: gets the folders ``backup`` and ``vault``.
        data: stands for the user's data folder.
        prefect: URL of Prefect's database on PostgreSQL; None: SQLite.
        records: URL of the records on PostgreSQL; None: SQLite.
        programs: folder of the programs of PostgreSQL.
    """

    folder: Path
    data: Path
    prefect: str | None = None
    records: str | None = None
    programs: Path | None = None

    def back_up(self) -> None:
        """Run the commands of "Back up"."""
        self._run("Back up")

    def restore(self) -> None:
        """Run the commands of "Restore"."""
        self._run("Restore")

    def _run(self, heading: str) -> None:
        if self.prefect is None:
            text = self._replace(find_block(heading, "One user, SQLite"), _DATA, f"data={self.data} ")
        else:
            text = find_block(heading, "PostgreSQL")
            text = self._replace(text, _PREFECT, f"prefect='{self.prefect}' ")
        text = text.replace("/srv/", f"{self.folder}/")
        tools = self.folder / "tools"
        tools.mkdir(exist_ok=True)
        command = tools / "fleetpatch"
        command.write_text(f'#!/bin/sh\nexec {sys.executable} -m fleetpatch.cli.command "$@"\n')
        command.chmod(0o755)
        environment = {
            **os.environ,
            "PATH": f"{tools}:{self.programs or '/nowhere'}:{os.environ['PATH']}",
            "PYTHONPATH": PYTHONPATH,
            "FLEETPATCH_KEYS": str(self.data / "keys"),
            "FLEETPATCH_RECORDS_URL": self.records or f"sqlite:///{self.data / 'records.db'}",
        }
        done = subprocess.run(["bash", "-c", text], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    @staticmethod
    def _replace(text: str, old: str, new: str) -> str:
        assert text.count(old) == 1, text
        return text.replace(old, new)
