"""Runs the few tests that failed beside others again, by themselves, and names each that passes then: a fragile test.

    python -m tests.ci.rerun REPORT.xml

REPORT.xml is what ``pytest --junit-xml`` wrote. A fragile test depends on how busy the machine is. It does not stop a
change, and it is a defect: CI's last lines name it. A fault of the product fails again, and stops the change.
"""

import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from pathlib import Path

MOST = 3
"""More failures than that are no accident: they are not tried again."""
TIMES = 3
"""How often a test must pass by itself, each time in a new process."""
FAILED = Path(".pytest_cache/v/cache/lastfailed")
"""Where pytest keeps the ids of the tests that failed."""

Run = Callable[[str], bool]


def count_failures(report: Path) -> int:
    """Return how many failures and errors pytest reported; a test that fails and can't be torn down has two."""
    suites = ET.parse(report).getroot().iter("testsuite")
    return sum(int(suite.get("failures", 0)) + int(suite.get("errors", 0)) for suite in suites)


def run_alone(test: str) -> bool:
    """Run one test without any beside it; return whether it passed."""
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test]
    return subprocess.run(words, check=False).returncode == 0


def rerun(failures: int, tests: Sequence[str], run: Run = run_alone) -> list[str]:
    """Return the tests that are fragile. All of them are, or the change fails.

    Args:
        failures: how many failures pytest reported.
        tests: the ids of the tests that failed.
        run: runs one test by itself, and returns whether it passed.

    Raises:
        SystemExit: a test failed again, or what failed is more, or other, than a few tests.
    """
    if not 0 < len(tests) <= MOST or failures < len(tests):
        raise SystemExit(f"not run again: {failures} failures of {len(tests)} tests; at most {MOST} tests are")
    for test in tests:
        for number in range(1, TIMES + 1):
            print(f"{test}: by itself, {number} of {TIMES}", flush=True)
            if not run(test):
                raise SystemExit(f"failed again: {test}")
    return list(tests)


def main(arguments: list[str]) -> int:
    """Run the failed tests again; write the fragile ones to fragile.txt beside the report."""
    report = Path(arguments[0])
    tests = sorted(json.loads(FAILED.read_text(encoding="utf-8"))) if FAILED.exists() else []
    fragile = rerun(count_failures(report), tests)
    (report.parent / "fragile.txt").write_text("".join(f"{test}\n" for test in fragile), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
