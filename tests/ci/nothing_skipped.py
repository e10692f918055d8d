"""Fails when a test was skipped: in CI a skipped test must not look like a passed one.

    python -m tests.ci.nothing_skipped REPORT.xml

REPORT.xml is what ``pytest --junit-xml`` wrote. A module in LEFT_OUT may be skipped, and is named.
"""

import sys
import xml.etree.ElementTree as ET
from pathlib import Path

LEFT_OUT = {
    "tests.contract.winrm.test_kerberos": "its Python libraries have no wheels, and only wheels are installed here",
}


def skipped(report: Path) -> list[tuple[str, str]]:
    """Return the module and "test: reason" of every skipped test."""
    return [
        (case.get("classname", ""), f"{case.get('classname')}.{case.get('name')}: {skip.get('message')}")
        for case in ET.parse(report).getroot().iter("testcase")
        for skip in case.iter("skipped")
        if skip.get("type") == "pytest.skip"  # an expected failure is another type
    ]


def main(arguments: list[str]) -> int:
    """Print what was skipped; return 1 when there is any."""
    found = skipped(Path(arguments[0]))
    for module, why in LEFT_OUT.items():
        if number := sum(name == module for name, _ in found):
            print(f"left out: {number} of {module}: {why}")
    lines = [test for module, test in found if module not in LEFT_OUT]
    for line in lines:
        print(f"skipped: {line}")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
