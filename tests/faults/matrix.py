"""The generated tables of docs/explanation/faults.md: which fault, which family, which test or mutant finds it.

python -m tests.faults.matrix --write
"""

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final

import yaml

from tests.ci.tree import TOP
from tests.faults.lab_cases import cases
from tests.faults.mutations import MUTANTS
from tests.faults.on_machines import BEFORE_RELEASE, ON_FAMILIES, ON_WINDOWS, ONLY_APT
from tests.faults.windows_cases import windows_cases
from tests.faults.windows_exclusions import NOT_ON_WINDOWS

PAGE: Final = TOP / "docs/explanation/faults.md"
DATA: Final = TOP / "tests/data/faults"
STEPS: Final = {
    "assess": "assess, pre-check",
    "install": "download, installation",
    "reboot": "reboot",
    "validate": "validation",
}
FAMILIES: Final = ("apt", "dnf", "zypper", "Windows")
EACH_RUN, BEFORE_A_RELEASE, NEVER = "●", "○", "-"
SIMULATED: Final = frozenset({"faults/kinds.py", "faults/abandoned.py"})
_ON_MACHINES = re.compile(r"faults/lab_\w+\.py")
_PART = re.compile(r"(<!-- begin: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Proof:
    """A file below tests, and the name of the case, kind or test in it ("": the whole file)."""

    path: str
    name: str

    @property
    def kind(self) -> str:
        """S: simulated, L: on machines in each run of all tests, R: on machines before a release, T: another test."""
        if self.path in SIMULATED:
            return "S"
        if _ON_MACHINES.fullmatch(self.path):
            return "R" if self.name in BEFORE_RELEASE else "L"
        return "T"


@dataclass(frozen=True, slots=True)
class Promise:
    """What a run does at one step of a fault, or of a button for one party, and what shows it."""

    text: str
    proofs: tuple[Proof, ...]


def read_promises(part: str) -> dict[str, dict[str, Promise]]:
    """Return the promises of each fault by step (``faults``), or of each button by party (``buttons``)."""
    document = yaml.safe_load((DATA / "faults.yaml").read_text(encoding="utf-8"))
    title = part.removesuffix("s")
    return {
        row[title]: {key: _read_promise(value) for key, value in row.items() if key != title} for row in document[part]
    }


def _read_promise(value: Mapping[str, Any]) -> Promise:
    parts = (proof.partition(": ") for proof in value["proofs"])
    return Promise(value["text"], tuple(Proof(path, name) for path, _, name in parts))


def read_found_mutants() -> dict[str, dict[str, Any]]:
    """Return by mutant the ``case`` of the seed ``mut`` that found it last, and the first ``violation``."""
    found: dict[str, dict[str, Any]] = json.loads((DATA / "found_mutants.json").read_text(encoding="utf-8"))
    return found


def find_mark(case: str, family: str) -> str:
    """Return how often a case is played on machines of a family."""
    if family == "Windows":
        is_played, is_each_run = case in dict(windows_cases()), case in ON_WINDOWS
    elif case not in dict(cases()):
        is_played, is_each_run = False, False
    elif family == "apt":
        is_played, is_each_run = True, case not in BEFORE_RELEASE
    else:
        is_played, is_each_run = case not in ONLY_APT, case in ON_FAMILIES[family]  # type: ignore[index]
    return EACH_RUN if is_each_run else BEFORE_A_RELEASE if is_played else NEVER


def build_tables() -> dict[str, list[list[str]]]:
    """Return the generated tables by name, each with its headings first."""
    return {
        "behaviour": _build_behaviour(),
        "matrix": _build_matrix(),
        "cases": _build_cases(),
        "exclusions": _build_exclusions(),
        "buttons": _build_buttons(),
        "mutants": _build_mutants(),
        "ends": _build_ends(),
    }


def _build_behaviour() -> list[list[str]]:
    rows = [["fault", *STEPS.values()]]
    for fault, promises in read_promises("faults").items():
        rows.append([fault, *(promises[step].text if step in promises else "" for step in STEPS)])
    return rows


def _build_matrix() -> list[list[str]]:
    rows = [["fault", *STEPS.values(), *FAMILIES, "simulated as", "other tests"]]
    for fault, promises in read_promises("faults").items():
        proofs = [proof for promise in promises.values() for proof in promise.proofs]
        kinds = ({proof.kind for proof in promises[step].proofs} if step in promises else set() for step in STEPS)
        rows.append(
            [
                fault,
                *(" ".join(sorted(kinds_of_step)) for kinds_of_step in kinds),
                *(_find_best_mark(proofs, family) for family in FAMILIES),
                ", ".join(dict.fromkeys(proof.name for proof in proofs if proof.kind == "S")),
                _build_links(proofs),
            ]
        )
    return rows


def _find_best_mark(proofs: Iterable[Proof], family: str) -> str:
    marks = {find_mark(proof.name, family) for proof in proofs if proof.kind in "LR"}
    return next((mark for mark in (EACH_RUN, BEFORE_A_RELEASE) if mark in marks), "")


def _build_links(proofs: Iterable[Proof]) -> str:
    paths = dict.fromkeys(proof.path for proof in proofs if proof.kind == "T")
    return ", ".join(f"[{PurePosixPath(path).stem.removeprefix('test_')}](../../tests/{path})" for path in paths)


def _build_cases() -> list[list[str]]:
    names = sorted({*dict(cases()), *dict(windows_cases())})
    return [["case", *FAMILIES], *([name, *(find_mark(name, family) for family in FAMILIES)] for name in names)]


def _build_exclusions() -> list[list[str]]:
    reasons: dict[str, list[str]] = {}
    for case, reason in sorted(NOT_ON_WINDOWS.items()):
        reasons.setdefault(reason, []).append(case)
    return [["why not on Windows", "cases"], *([reason, "<br>".join(names)] for reason, names in reasons.items())]


def _build_buttons() -> list[list[str]]:
    rows = [["button", "run", "machines", "records", "tests"]]
    for button, promises in read_promises("buttons").items():
        proofs = [proof for promise in promises.values() for proof in promise.proofs]
        rows.append([button, *(promise.text for promise in promises.values()), _build_links(proofs)])
    return rows


def _build_mutants() -> list[list[str]]:
    found = read_found_mutants()
    rows = [["mutant", "breaks", "found by case", "first violation"]]
    for name, (law, _) in MUTANTS.items():
        result = found.get(name, {"case": "", "violation": ""})
        rows.append([name, f"law {law}" if law.isdigit() else law, str(result["case"]), f"`{result['violation']}`"])
    return rows


def _build_ends() -> list[list[str]]:
    ends: dict[str, dict[str, str]] = json.loads((DATA / "ends.json").read_text(encoding="utf-8"))
    faults = list(next(iter(ends.values())))
    return [["moment", *faults], *([moment, *(row[fault] for fault in faults)] for moment, row in ends.items())]


def format_table(rows: list[list[str]]) -> Iterator[str]:
    """Return the lines of a table in Markdown."""
    yield f"| {' | '.join(rows[0])} |"
    yield "|---" * len(rows[0]) + "|"
    for cells in rows[1:]:
        yield f"| {' | '.join(cells)} |"


def render(page: str) -> str:
    """Return the page with its generated tables up to date."""
    tables = build_tables()

    def write(part: re.Match[str]) -> str:
        return "\n".join((part[1], *format_table(tables[part[2]]), "", part[3]))

    return _PART.sub(write, page)


def main(arguments: list[str]) -> int:
    """Write the page, or (without ``--write``) return 1 when it is not up to date."""
    text = PAGE.read_text(encoding="utf-8")
    if arguments == ["--write"]:
        PAGE.write_text(render(text), encoding="utf-8")
        return 0
    return int(render(text) != text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
