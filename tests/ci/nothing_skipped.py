"""Fails when a test was skipped: in CI a skipped test must not look like a passed one.

    python -m tests.ci.nothing_skipped REPORT.xml

REPORT.xml is what ``pytest --junit-xml`` wrote.
"""

import sys
import xml.etree.ElementTree as ET
from pathlib import Path


def skipped(report: Path) -> list[str]:
    """Return "test: reason" of every skipped test."""
    return [
        f"{case.get('classname')}.{case.get('name')}: {skip.get('message')}"
        for case in ET.parse(report).getroot().iter("testcase")
        for skip in case.iter("skipped")
        if skip.get("type") == "pytest.skip"  # an expected failure is another type
    ]


def main(arguments: list[str]) -> int:
    """Print what was skipped; return 1 when there is any."""
    lines = skipped(Path(arguments[0]))
    for line in lines:
        print(f"skipped: {line}")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
