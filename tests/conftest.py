"""How hard the property tests look: the default at every save, "ci" for every change, "thorough" before a release.

HYPOTHESIS_PROFILE names it. Tests whose examples are expensive take a share: ``settings().max_examples // 2``. Tests
that interfere at each call of a run take every third but before a release (tests/support/mortal.py).
"""

import functools
import gc
import json
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

from tests.ci.release_tests import is_release_test
from tests.support.environment import KEYS_VARIABLE, OWNERS_VARIABLE, QUICK_PYTHON, SETTINGS_VARIABLE, TEST_RUN_VARIABLE
from tests.support.memory_folder import use_memory_folder

settings.register_profile("default", max_examples=10, deadline=None)
settings.register_profile("ci", max_examples=20, deadline=None, derandomize=True)
settings.register_profile("thorough", max_examples=1000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

use_memory_folder(sys.argv[1:])
os.environ.setdefault("PYTHONPATH", QUICK_PYTHON)
os.environ.setdefault(TEST_RUN_VARIABLE, str(os.getpid()))
if (owner := Path(__file__).stat().st_uid) not in {0, os.geteuid()}:
    os.environ.setdefault(OWNERS_VARIABLE, str(owner))

DATA: tempfile.TemporaryDirectory[str] | None = None
"""The keys and default records of all programs that the tests start, in the process that made the folder."""
if KEYS_VARIABLE not in os.environ:
    DATA = tempfile.TemporaryDirectory(prefix="fleetpatch-data-")
    Path(DATA.name, "fleetpatch.env").touch(0o600)  # never the user's own settings
    os.environ |= {KEYS_VARIABLE: f"{DATA.name}/keys", "XDG_DATA_HOME": f"{DATA.name}/data"}
    os.environ[SETTINGS_VARIABLE] = f"{DATA.name}/fleetpatch.env"

COSTS: dict[str, list[float]] = json.loads((Path(__file__).parent / "ci/costs.json").read_text())
"""Of each file whose tests are dear: seconds of processor time and of waiting, and how many tests it has.

`python -m tests.ci.costs DIR --save` writes it anew.
"""
SPREAD = (
    "tests/faults/test_on_machines.py",
    "tests/lab/windows/test_patching_broken.py",
    "tests/lab/windows/test_patching_windows.py",
    *(
        f"tests/lab/test_{name}.py"
        for name in ("dnf", "hooks", "patch", "resume", "scheduled", "services", "ssh_shared", "updaters", "zypper")
    ),
)
"""Files whose tests share nothing but the lab and take long: each may go to another process."""
OWN_SERVER = tuple(f"tests/flows/test_{name}.py" for name in ("buttons", "cancel_served", "cli_process", "readme"))
"""Files of flows that use no Prefect server of others."""
LAST_WAIT = 0.85
"""The share of the run in which the last group that mostly waits begins."""
SHARED: Mapping[str, tuple[int, Sequence[str]]] = {
    "prefect": (2, ("flows/test_*.py",)),
    "powershell": (
        2,
        ("contract/windows/test_*.py", "contract/winrm/test_*.py", "contract/test_machine_lock_script.py"),
    ),
}
"""What is dear to start, how many there are of it, and the files of which each uses one, test after test."""


def _find_costs(path: str) -> Sequence[float]:
    return COSTS.get(path, (0.5, 0.0, 1))


def _find_seconds(path: str) -> float:
    return sum(_find_costs(path)[:2])


def find_test_seconds(path: str) -> float:
    """Return how long one test of a file takes, about, on a machine that has nothing else to do."""
    return _find_seconds(path) / max(1.0, _find_costs(path)[2])


def _share(name: str, number: int, paths: Iterable[str]) -> dict[str, str]:
    """Return which of several shared things each file uses: the longest first, that one which has least to do."""
    loads = {f"{name} {index}": 0.0 for index in range(number)}
    users = {}
    for path in sorted(paths, key=lambda path: (-_find_seconds(path), path)):
        shared = min(loads, key=lambda key: loads[key])
        loads[shared] += _find_seconds(path)
        users[path] = shared
    return users


def _find_users(patterns: Sequence[str]) -> Iterator[str]:
    folder = Path(__file__).parent
    for pattern in patterns:
        paths = (f"tests/{file.relative_to(folder).as_posix()}" for file in folder.glob(pattern))
        yield from (path for path in paths if path not in OWN_SERVER)


_SHARED = {
    path: shared
    for name, (number, patterns) in SHARED.items()
    for path, shared in _share(name, number, _find_users(patterns)).items()
}


def _find_scope(nodeid: str) -> str:
    """Return the group of a test: a group is run by one process."""
    path = nodeid.partition("::")[0]
    return _SHARED.get(path) or (nodeid if path in SPREAD else path)


def _find_scope_costs(scope: str) -> tuple[float, float]:
    """Return how many seconds a group computes and waits, about."""
    if scope in _SHARED.values():
        rows = [_find_costs(path) for path, shared in _SHARED.items() if shared == scope]
        return sum(row[0] for row in rows), sum(row[1] for row in rows)
    path, _, test = scope.partition("::")
    processor, waiting, tests = _find_costs(path)
    return (processor / tests, waiting / tests) if test else (processor, waiting)


def order_scopes(costs: Mapping[str, tuple[float, float]]) -> dict[str, tuple[float, str]]:
    """Return a key for each group that sorts them: so the processors always have something to do.

    Groups that mostly wait, and groups that mostly compute, are mixed in proportion to the time they take. Of each
    kind, the longest comes first.
    """
    keys = {}
    for waits, end in ((True, LAST_WAIT), (False, 1.0)):
        seconds = {scope: sum(cost) for scope, cost in costs.items() if (cost[1] > cost[0]) is waits}
        total, elapsed = sum(seconds.values()) or 1.0, 0.0
        for scope in sorted(seconds, key=lambda scope: (-seconds[scope], scope)):
            keys[scope] = (end * elapsed / total, scope)
            elapsed += seconds[scope]
    return keys


class _Groups(LoadScopeScheduling):  # type: ignore[misc]  # xdist tells no types
    """Divides tests among processes, and keeps together what shares something that is dear to make.

    xdist's own groups are names in test ids, which pytest 9.2 does not let it change: they keep nothing together.
    """

    def _split_scope(self, nodeid: str) -> str:
        return _find_scope(nodeid)

    def _reschedule(self, node: WorkerController) -> None:
        """Give a process no more than it needs to go on: what it is given no other can take any more."""
        if not self.workqueue or self._pending_of(self.assigned_work[node]) < 2:
            super()._reschedule(node)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> _Groups:
    """Have tests divided by what they share."""
    return _Groups(config, log)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --release."""
    told = "play the tests of tests/ci/release_tests.py also, or only them"
    parser.addoption("--release", choices=("also", "only"), help=told)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is for releases, and order the rest: the last process to end decides how long it all takes."""
    chosen = config.getoption("--release")
    if chosen != "also":
        left_out = [item for item in items if is_release_test(item.nodeid) is not (chosen == "only")]
        items[:] = [item for item in items if is_release_test(item.nodeid) is (chosen == "only")]
        config.hook.pytest_deselected(items=left_out)
    keys = order_scopes({scope: _find_scope_costs(scope) for scope in {_find_scope(item.nodeid) for item in items}})
    items.sort(key=lambda item: keys[_find_scope(item.nodeid)])


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Keep the collector from looking again and again through all that is collected: that is there to stay."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="session")
def empty_records() -> Path:
    """A file of empty records to copy."""
    from tests.support.empty_records import make_empty_records

    return make_empty_records()


@pytest.fixture(scope="session")
def built_command() -> Iterator[None]:
    """Let the command's parser be built once, not at every call: a process has but one anyway."""
    import typer.main

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer.main, "get_command", functools.cache(typer.main.get_command))
        yield
