"""A pytest plugin: no test begins that would end after a moment. What did not begin is counted by its file.

python -m pytest -p tests.ci.latest_start --end=1764100000 …    # seconds since 1970

It also keeps the files in the order in which they were given: those that come first begin first.
"""

import os
import time
from collections import Counter

import pytest
from xdist.workermanage import WorkerController

from tests import conftest

OUT_OF_TIME = 6
"""The exit code if no test failed, and some did not begin. pytest's own codes end with 5."""
NOT_BEGUN = pytest.StashKey[Counter[str]]()
"""File -> how many of its tests did not begin."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --end."""
    parser.addoption("--end", type=float, default=float("inf"), help="begin no test that would end after this moment")


def pytest_configure(config: pytest.Config) -> None:
    """Begin to count."""
    config.stash[NOT_BEGUN] = Counter()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Restore the order of the files."""
    places = {os.path.relpath(file): place for place, file in enumerate(config.args)}
    items.sort(key=lambda item: places.get(find_file(item), len(places)))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> bool | None:
    """Leave a test out if it would end too late, and all that come after it in this process.

    pytest takes down what a test has set up only as far as the next one does not need it, which must then begin.
    """
    file, not_begun = find_file(item), item.config.stash[NOT_BEGUN]
    if not not_begun and time.time() + conftest.find_test_seconds(file) <= item.config.getoption("--end"):
        return None
    not_begun[file] += 1
    return True


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tell the pool's controller, if this is a process of a pool; else have an exit code that is no success."""
    files = session.config.stash[NOT_BEGUN]
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["not_begun"] = dict(files)
    elif files and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        session.exitstatus = OUT_OF_TIME


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: WorkerController) -> None:
    """Add what a process of the pool tells."""
    node.config.stash[NOT_BEGUN].update(getattr(node, "workeroutput", {}).get("not_begun", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say how many tests of which files did not begin."""
    files = config.stash[NOT_BEGUN]
    if files:
        terminalreporter.write_line(f"out of time: {files.total()} tests did not begin, so nothing is known of them:")
        for file, tests in sorted(files.items()):
            terminalreporter.write_line(f"{tests:5}  {file}")


def find_file(item: pytest.Item) -> str:
    """Return a test's file, from the top of the checkout."""
    return item.nodeid.partition("::")[0]
