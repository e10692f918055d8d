"""The whole command over a machine that could be reached, and what every refusal of it has in common."""

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
import typer

from fleetpatch.cli.app import app
from tests.contract.cli.conftest import Said, Stage, fresh_consoles, security, stage
from tests.support.sim_machine import SimMachine

__all__ = ["fresh_consoles", "refused", "stage"]

MOST_SHOWN = 4000
"""Characters of an error; more than that nobody reads."""

Refused = Callable[..., Said]


def contents(folder: Path) -> dict[str, bytes]:
    """What stands in a folder, beside what every use of the command writes there."""
    ours = ("records.db", "fleet.yaml")
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(ours)]
    return {str(path): path.read_bytes() for path in files}


@cache
def built() -> object:
    """The command's tree of verbs and options; typer builds it at every call, which is most of what a refusal takes."""
    return typer.main.get_command(app)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fleetpatch.cli.main.app", built())


@pytest.fixture
def web(stage: Stage) -> SimMachine:
    """The one machine, with something to install."""
    return stage.add("web", security("openssl"))


@pytest.fixture
def refused(stage: Stage, web: SimMachine) -> Iterator[Refused]:
    """Run the command and see that it refuses as it should: code, one error, remedy, nothing asked, nothing lost."""

    def run(*words: str, told: str = "", code: int = 2) -> Said:
        before = contents(stage.folder)
        said = stage.run(*words)
        assert said.code == code, said
        assert "Traceback" not in said.out + said.err
        assert "fault in fleetpatch" not in said.err
        assert said.err.count("error: ") == 1, said.err
        assert "hint: " in said.err
        assert told in said.err, said.err
        assert not set(said.err) & {"\x1b", "\x9b", "\u202e"}
        assert len(said.err) < MOST_SHOWN
        assert web.calls == []
        assert contents(stage.folder) == before
        return said

    return run  # type: ignore[return-value]  # pytest hands out what is returned
