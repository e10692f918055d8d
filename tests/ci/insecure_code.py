"""Runs bandit over the four packages. What was found harmless stands in pyproject.toml, line by line, with why.

    python -m tests.ci.insecure_code

An entry names a file (or a mask of files), a rule and a part of the line, so that it excuses that line and no other;
one that excuses nothing any more is an error itself, unless its file is gone.
"""

import json
import subprocess
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from tests.ci import tree

ROOMS = ("inventory", "tasks", "flows", "deployments", "fleetpatch")


@dataclass(frozen=True)
class Finding:
    """What bandit has against a line."""

    file: str
    line: int
    rule: str
    says: str
    code: str


def excuses(entry: Mapping[str, str], finding: Finding) -> bool:
    """Whether an entry of the baseline speaks of this line."""
    here = fnmatchcase(finding.file, entry["file"]) and entry["rule"] == finding.rule
    return here and entry["line"] in finding.code


def verdict(
    findings: Sequence[Finding], baseline: Sequence[Mapping[str, str]], there: Callable[[str], bool] = lambda _: True
) -> list[str]:
    """Return what is to be said: findings without an excuse, excuses without a finding (in files that are there)."""
    lines = [
        f"{each.file}:{each.line}: {each.rule} {each.says}: {each.code}"
        for each in findings
        if not any(excuses(entry, each) for entry in baseline)
    ]
    lines += [
        f"pyproject.toml: {entry['rule']} in {entry['file']} is excused ({entry['line']!r}) and isn't found any more"
        for entry in baseline
        if there(entry["file"]) and not any(excuses(entry, each) for each in findings)
    ]
    return lines


def _findings() -> list[Finding]:
    words = ["--quiet", "--recursive", "--format", "json", "--ignore-nosec", *ROOMS]
    done = subprocess.run(
        [sys.executable, "-m", "bandit", *words], cwd=tree.TOP, capture_output=True, text=True, check=False
    )
    if done.returncode not in {0, 1}:
        raise RuntimeError(f"bandit failed (exit code {done.returncode}): {done.stderr[-500:]}")
    answer: dict[str, Any] = json.loads(done.stdout)
    if answer["errors"]:
        raise RuntimeError(f"bandit could not read everything: {answer['errors']}")
    return [
        Finding(
            file=each["filename"].removeprefix("./"),
            line=each["line_number"],
            rule=each["test_id"],
            says=each["issue_text"],
            code=_line(each["filename"], each["line_number"]),
        )
        for each in answer["results"]
    ]


def _line(file: str, number: int) -> str:
    return (tree.TOP / file).read_text().splitlines()[number - 1].strip()


def main() -> int:
    """Run it, and print what is wrong."""
    settings = tomllib.loads((tree.TOP / "pyproject.toml").read_text())["tool"]["fleetpatch-checks"]
    lines = verdict(_findings(), settings["bandit"], lambda file: (tree.TOP / file).exists())
    for line in lines:
        print(line)
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
