"""Tells which lines of the scripts for Windows the tests have executed, and fails if they are too few.

    python -m tests.ci.powershell_coverage FOLDER

FOLDER is what the tests wrote that ran with POWERSHELL_COVERAGE=FOLDER (tests/lab/windows/stand_ins/coverage.cs):
the scripts' texts, composed of the files of several scripts, and the statements that began in them. Each file is
found in these texts as it is. PowerShell's own parser says what can be executed (powershell_coverage.ps1). A line
counts as executed if every statement that begins in it was: ``if ($x) { return }`` has two.
"""

import bisect
import json
import os
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.ci import tree

LEAST_PERCENT = 90
ROOM = "tasks/"
FIND = Path(__file__).with_suffix(".ps1")
SECONDS = 300


@dataclass(frozen=True)
class Statement:
    """Where a statement is in its file, and the line in which it begins."""

    start: int
    end: int
    line: int


@dataclass(frozen=True)
class Covered:
    """What of a file's lines was executed."""

    name: str
    lines: int
    missing: tuple[int, ...]

    @property
    def executed(self) -> int:
        """How many lines."""
        return self.lines - len(self.missing)


def find_statements(pwsh: str, files: Iterable[Path]) -> dict[Path, list[Statement]]:
    """Return what can be executed in each file."""
    wanted = list(files)
    done = subprocess.run(
        [pwsh, "-NoProfile", "-NonInteractive", "-File", str(FIND)],
        input="".join(f"{path}\n" for path in wanted), capture_output=True, text=True, check=False, timeout=SECONDS,
        env={**os.environ, "TERM": "dumb", "NO_COLOR": "1"},
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"the parser failed (exit code {done.returncode}): {done.stderr[-1000:]}")
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    found = {Path(each["path"]): [Statement(*start) for start in each["statements"]] for each in answers}
    if set(found) != set(wanted):
        raise RuntimeError(f"the parser did not look at all files: {done.stderr[-1000:]}")
    return found


def read_hits(folder: Path) -> dict[str, set[int]]:
    """Return where statements began that were executed, for each text by its hash. A last line may be cut."""
    starts: dict[str, set[int]] = defaultdict(set)
    for path in folder.glob("*.hits"):
        for line in path.read_text().split("\n")[:-1]:
            text, start, _ = line.split(" ")
            starts[text].add(int(start))
    return starts


def find_places(text: str, part: str) -> Iterator[int]:
    """Return where a file's text is in a composed text."""
    at = text.find(part) if part else -1
    while at >= 0:
        if at == 0 or text[at - 1] == "\n":
            yield at
        at = text.find(part, at + 1)


def map_hits(folder: Path, contents: Mapping[Path, str]) -> dict[Path, set[int]]:
    """Return where statements began that were executed, for each file."""
    executed: dict[Path, set[int]] = {path: set() for path in contents}
    for text_hash, starts in read_hits(folder).items():
        text, ordered = (folder / "texts" / text_hash).read_text(), sorted(starts)
        for path, content in contents.items():
            for at in find_places(text, content):
                first, end = bisect.bisect_left(ordered, at), bisect.bisect_left(ordered, at + len(content))
                executed[path].update(start - at for start in ordered[first:end])
    return executed


def count_lines(name: str, statements: Iterable[Statement], executed: set[int]) -> Covered:
    """Return which lines of a file were executed.

    Of some statements PowerShell reports only a part, as of "return" what it returns. What is in a statement, script
    blocks too, is not executed without it.
    """
    lines: dict[int, bool] = {}
    ordered = sorted(executed)
    for each in statements:
        is_executed = bisect.bisect_left(ordered, each.start) < bisect.bisect_left(ordered, each.end)
        lines[each.line] = lines.get(each.line, True) and is_executed
    return Covered(name, len(lines), tuple(sorted(line for line, is_executed in lines.items() if not is_executed)))


def measure(pwsh: str, folder: Path, top: Path, files: Iterable[Path]) -> list[Covered]:
    """Return what was executed of each file below ``top``."""
    statements = find_statements(pwsh, files)
    executed = map_hits(folder, {path: path.read_text().rstrip("\n") for path in statements})
    return [
        count_lines(path.relative_to(top).as_posix(), found, executed[path])
        for path, found in sorted(statements.items())
    ]


def percent(covered: Iterable[Covered]) -> float:
    """Return the executed share of all lines."""
    known = list(covered)
    lines = sum(each.lines for each in known)
    return 100 * sum(each.executed for each in known) / lines if lines else 100.0


def name_lines(numbers: Iterable[int]) -> str:
    """Return numbers as text: 3, 5-7."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)


def render(covered: Iterable[Covered]) -> Iterator[str]:
    """Return the table, a line for each file, and a last one for all."""
    known = list(covered)
    width = max((len(each.name) for each in known), default=0)
    yield f"{'file':{width}}  lines  executed      %  missing"
    for each in known:
        row = f"{each.name:{width}}  {each.lines:5}  {each.executed:8}  {percent([each]):5.1f}  "
        yield (row + name_lines(each.missing)).rstrip()
    lines, executed = sum(each.lines for each in known), sum(each.executed for each in known)
    yield f"{'all':{width}}  {lines:5}  {executed:8}  {percent(known):5.1f}"


def main(arguments: list[str]) -> int:
    """Print the table; return 1 if too little was executed."""
    pwsh = shutil.which("pwsh")
    if pwsh is None:
        print("skipped: no pwsh on PATH")
        return 1 if os.environ.get("CI") else 0
    files = [path for path in tree.files() if path.suffix == ".ps1" and tree.name(path).startswith(ROOM)]
    covered = measure(pwsh, Path(arguments[0]), tree.TOP, files)
    print("\n".join(render(covered)))
    if percent(covered) < LEAST_PERCENT:
        print(f"FAILED: less than {LEAST_PERCENT} % of the lines were executed")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
