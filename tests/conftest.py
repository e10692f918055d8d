"""How hard the property tests look: the default at every save, "ci" for every change, "thorough" before a release.

HYPOTHESIS_PROFILE names it. Tests whose examples are expensive take a share: ``settings().max_examples // 2``. Tests
that interfere at each call of a run take every third by default (tests/support/mortal.py).
"""

import functools
import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

settings.register_profile("default", max_examples=20, deadline=None)
settings.register_profile("ci", max_examples=50, deadline=None, derandomize=True)
settings.register_profile("thorough", max_examples=1000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

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
MACHINES = (
    "tests/faults/test_on_machines.py",
    "tests/lab/",
    "tests/contract/test_manager_contract_",
    "tests/flows/test_cancel_served.py",
)
"""Tests that wait for machines most of their time: they run beside those that need the cores."""
LONG = (
    "tests/faults/test_on_machines.py",
    "tests/contract/test_manager_contract_",
    "tests/lab/test_resume.py",
    "tests/lab/test_scheduled.py",
    "tests/lab/test_windows_kept.py",
    "tests/lab/test_losing_parts.py",
    "tests/lab/test_secrets.py",
    "tests/flows/test_cancel_served.py",
    "tests/lab/test_hostile.py",
    "tests/lab/test_demo.py",
    "tests/lab/test_dnf.py",
    "tests/lab/test_zypper.py",
    "tests/lab/",
    "tests/flows/test_buttons.py",
    "tests/flows/",
    "tests/contract/test_deploy",
    "tests/contract/test_bad_environment.py",
    "tests/contract/test_records_",
    "tests/faults/",
    "tests/contract/",
)
"""What takes longest begins first: the last process to end decides how long it all takes."""


class _Groups(LoadScopeScheduling):  # type: ignore[misc]  # xdist tells no types
    """Divides tests among processes, and keeps together what shares something that is dear to make.

    xdist's own groups are names in test ids, which pytest 9.2 does not let it change: they keep nothing together.
    """

    def _split_scope(self, nodeid: str) -> str:
        place = nodeid.partition("::")[0]
        if place.startswith("tests/flows/") and place not in OWN_SERVER:
            return "prefect"  # one server for all of them
        return nodeid if place in SPREAD else place

    def _reschedule(self, node: WorkerController) -> None:
        """Give a process no more than it needs to go on: what it is given no other can take any more."""
        if not self.workqueue or self._pending_of(self.assigned_work[node]) < 2:
            super()._reschedule(node)

    def _assign_work_unit(self, node: WorkerController) -> None:
        """Have every other process wait for machines, and the rest use the cores, while there is work of both kinds."""
        waits = self.nodes.index(node) % 2 == 0
        fits = next((scope for scope in self.workqueue if scope.startswith(MACHINES) is waits), None)
        if fits is not None:
            self.workqueue.move_to_end(fits, last=False)
        super()._assign_work_unit(node)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> _Groups:
    """Have tests divided by what they share."""
    return _Groups(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put what takes long before the rest."""
    items.sort(key=lambda item: next((n for n, each in enumerate(LONG) if item.nodeid.startswith(each)), len(LONG)))


def pytest_collection_finish() -> None:
    """Keep the collector from looking again and again through all that was imported: that is there to stay."""
    gc.freeze()


@pytest.fixture(scope="session")
def empty_records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of empty records to copy, since migrating one takes longer than most tests."""
    from tasks.records.setup import open_records

    path = tmp_path_factory.mktemp("records") / "records.db"
    open_records(f"sqlite:///{path}").close()
    assert [file.name for file in path.parent.iterdir()] == [path.name]  # nothing is left in a journal beside it
    return path


@pytest.fixture(scope="session")
def built_command() -> Iterator[None]:
    """Let the command's parser be built once, not at every call: a process has but one anyway."""
    import typer.main

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer.main, "get_command", functools.cache(typer.main.get_command))
        yield
