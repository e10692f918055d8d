"""Asks an advisory database about every package in requirements-dev.lock, which has those of production, too.

    python -m tests.ci.advisories

Exit codes: 0 nothing is known against any of them, 1 something is (or the question itself failed), 75 no database could
be reached, so that nothing is known at all. Advisories that were weighed and accepted are in pyproject.toml, with why.
"""

import json
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.ci import tree

LOCK = "requirements-dev.lock"
FIRST = "pip==24.0"
"""Asked about alone, and first: it has advisories, so that an answer without any is no answer."""
UNREACHABLE = 75
SECONDS = 90
_NO_WAY = (
    "ConnectionError",
    "ConnectTimeout",
    "ReadTimeout",
    "ProxyError",
    "NameResolutionError",
    "SSLError",
    "ServiceError",
)


@dataclass
class Verdict:
    """What the database said."""

    asked: int = 0
    found: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


def judge(answer: Mapping[str, Any], accepted: Mapping[str, str]) -> Verdict:
    """Read pip-audit's JSON.

    Args:
        answer: the whole document.
        accepted: id of an advisory → why it does no harm here.
    """
    verdict = Verdict()
    for package in answer["dependencies"]:
        if "skip_reason" in package:
            verdict.unknown.append(package["name"])
            continue
        verdict.asked += 1
        for advisory in package["vulns"]:
            if not {advisory["id"], *advisory["aliases"]} & set(accepted):
                mended = ", ".join(advisory["fix_versions"]) or "no version yet"
                verdict.found.append(f"{package['name']} {package['version']}: {advisory['id']}; mended in {mended}")
    return verdict


def reachable(first: Verdict) -> bool:
    """Whether the answer about FIRST shows that a database was behind it."""
    return bool(first.found)


def _ask(*words: str) -> dict[str, Any] | str:
    """Return pip-audit's answer, or why nobody could be asked. Whatever else goes wrong raises."""
    command = [sys.executable, "-m", "pip_audit", "--progress-spinner=off", "--format=json", "--timeout=10", *words]
    try:
        done = subprocess.run(command, cwd=tree.TOP, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return f"no answer within {SECONDS} s"
    if done.returncode in {0, 1} and done.stdout.startswith("{"):
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer
    last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
    if any(word in done.stderr for word in _NO_WAY):
        return last
    raise RuntimeError(f"pip-audit failed (exit code {done.returncode}): {last}")


def _untold(why: str) -> int:
    print(f"NOT CHECKED against advisories: {why}. Nothing is known about the packages in {LOCK}.")
    return UNREACHABLE


def main() -> int:
    """Ask, and say what came of it."""
    settings = tomllib.loads((tree.TOP / "pyproject.toml").read_text())["tool"]["fleetpatch-checks"]
    single = tree.TOP / "build" / "advisories-first.txt"
    single.parent.mkdir(exist_ok=True)
    single.write_text(f"{FIRST}\n")
    first = _ask("--disable-pip", "--no-deps", "--requirement", str(single))
    if isinstance(first, str):
        return _untold(first)
    if not reachable(judge(first, {})):
        return _untold(f"the package index in use knows no advisories (none for {FIRST}, which has some)")
    answer = _ask("--disable-pip", "--require-hashes", "--requirement", LOCK)
    if isinstance(answer, str):
        return _untold(answer)
    verdict = judge(answer, settings["accepted-advisories"])
    for line in verdict.found:
        print(f"advisory: {line}")
    if verdict.unknown:
        print(f"NOT CHECKED against advisories: {', '.join(verdict.unknown)} (unknown to the database)")
    return 1 if verdict.found else 0


if __name__ == "__main__":
    sys.exit(main())
