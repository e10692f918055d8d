"""The options that apt gets with each command, and the table that lists them (docs/reference/platforms.md)."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ci import tree

SCRIPTS = tree.TOP / "tasks/machines/managers/apt/scripts"
PAGE = tree.TOP / "docs/reference/platforms.md"
OPTION = re.compile(r"-o ([\w:-]+)=(\S+?)'?\s")


def read_options() -> dict[str, str]:
    return dict(OPTION.findall((SCRIPTS / "apt_options.sh").read_text().partition("fp_apt_options=")[2]))


def read_table(fourth: str) -> Iterator[tuple[list[str], str]]:
    """Yield the options and the second column of each row of the table with this title."""
    _, _, after = PAGE.read_text().partition(f"| option | {fourth} |")
    for row in after.partition("\n\n")[0].splitlines()[2:]:
        cells = row.split("|")
        yield re.findall(r"`([^`]+)`", cells[1]), cells[2]


def test_the_table_has_what_is_set() -> None:
    told: dict[str, str] = {}
    for options, values in read_table("fleetpatch sets"):
        given = re.findall(r"`([^`]+)`", values)
        told |= dict(zip(options, given if len(given) > 1 else given * len(options), strict=False))
    assert told.pop("Dpkg::Options") == "--force-confdef"
    assert told == read_options()


def test_nothing_is_both_set_and_left_to_the_machine() -> None:
    left = {option for options, _ in read_table("stays the machine's") for option in options}
    assert left
    assert not left & set(read_options())


@pytest.mark.parametrize("script", sorted(SCRIPTS.glob("*.sh")), ids=lambda path: path.stem)
def test_every_apt_get_has_them(script: Path) -> None:
    code = [line for line in script.read_text().splitlines() if not line.lstrip().startswith("#")]
    calls = [line for line in code if re.search(r"(?<![\w\"])apt-get (?!-f install would)", line)]
    assert all("apt-get $fp_apt_options" in line for line in calls)
