"""Plays the situations from public bug reports, and prints each with its source and verdict.

Further words are pytest's, for example ``-k kernel``.
"""

import sys
from pathlib import Path

import pytest


class ReportTable:
    """Collects the verdict of each situation, and of each report about it."""

    def __init__(self) -> None:
        self.verdicts: list[tuple[str, str, str]] = []

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item):  # pytest's generator
        """Add the verdict of a test."""
        made = (yield).get_result()
        if made.when != "call" and made.passed:
            return
        verdict, situation = "holds" if made.passed else made.outcome, item.nodeid.rpartition("/")[2]
        sources = [str(marker.args[0]) for marker in item.iter_markers("public_report")]
        self.verdicts += [(verdict, situation, source) for source in sources or [""]]

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the table."""
        terminalreporter.section("public reports")
        for verdict, situation, source in self.verdicts:
            terminalreporter.write_line(f"{verdict:8} {situation}  {source}")


if __name__ == "__main__":
    here = str(Path(__file__).parent)
    sys.exit(pytest.main([here, "-q", "-p", "no:xdist", "--release=also", *sys.argv[1:]], plugins=[ReportTable()]))
