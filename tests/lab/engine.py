"""Runs of the real engine on lab hosts, for tests: plain (without Prefect), with records of their own."""

import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from flows.execution import execute_run
from flows.local_run import LocalRunner
from flows.ports.caller import Caller
from flows.request.patch_request import PatchRequest, UpdatesRequest, WavesRequest, WindowRequest
from tasks.domain.model import Outcome, RunReport, UpdateResult
from tasks.domain.states import Step
from tasks.steps.context.run_control import LoggingListener, ProgressListener, StopToken
from tests.lab.fleet import LabHost


@dataclass
class Telling(LoggingListener):
    """A watcher that remembers what it was told, and calls back at the first progress of the installation."""

    steps: list[tuple[str, Step, str]] = field(default_factory=list)
    on_install: Any = None
    messages: list[str] = field(default_factory=list)

    def on_message(self, message: str) -> None:
        """Remember it."""
        self.messages.append(message)

    def on_progress(self, machine: str, step: Step, fraction: float | None, message: str) -> None:
        """Call back once, at the first sign that something is being installed."""
        if step is Step.INSTALL and message.startswith("installing") and self.on_install is not None:
            call, self.on_install = self.on_install, None
            call()

    def on_step_finished(self, machine: str, step: Step, state: str, message: str) -> None:
        """Remember it."""
        self.steps.append((machine, step, state))


@dataclass
class Fleet:
    """Some hosts, the inventory that describes them, and records that remember what was done to them."""

    hosts: Sequence[LabHost]
    place: Path

    @property
    def inventory(self) -> Path:
        """The inventory file."""
        return self.place / "fleet.yaml"

    @property
    def records_url(self) -> str:
        """Of the records."""
        return f"sqlite:///{self.place / 'records.db'}"

    def describe(self, sets: Sequence[dict[str, Any]] = (), /, **changes: dict[str, Any]) -> None:
        """Write the inventory; ``changes`` are merged into the machine of that name (``-`` written as ``_``)."""
        wanted = {host.name for host in self.hosts}
        data = yaml.safe_load(self.hosts[0].lab.inventory_text())
        data["machines"] = [machine for machine in data["machines"] if machine["name"] in wanted]
        for machine in data["machines"]:
            machine.update(changes.get(machine["name"].replace("-", "_"), {}))
            machine.update(changes.get("every", {}))
        if sets:
            data["sets"] = list(sets)
        self.inventory.write_text(yaml.safe_dump(data))

    def patch(
        self,
        *masks: str,
        minutes: float = 60,
        waves: dict[str, Any] | None = None,
        watch: ProgressListener | None = None,
        control: StopToken | None = None,
        **fields: Any,
    ) -> RunReport:
        """Patch the fleet: only updates that match a mask; with none, what is critical or security."""
        if not self.inventory.exists():
            self.describe()
        updates = UpdatesRequest(classifications=[], include=list(masks)) if masks else UpdatesRequest()
        options: dict[str, Any] = {"reboot_reserve_minutes": 2, "updates": updates}
        options |= {"settle_seconds": 0, "come_back_seconds": 20, **fields}
        request = PatchRequest(
            scope="*",
            inventory=self.inventory,
            window=WindowRequest(minutes=minutes),
            waves=WavesRequest(**{"percent": 100, **(waves or {})}),
            **options,
        )
        who = Caller(
            listener=watch or LoggingListener(), stop_token=control or StopToken(), records_url=self.records_url
        )
        return execute_run(request, who, lambda request, ports: LocalRunner())


COUNT_LOGINS = """
for _ in $(seq 50); do
  journalctl --sync
  journalctl -t sshd --no-pager | grep 'Accepted publickey for patch' >/run/logins
  ! grep -q " port $2 " /run/logins || break
  sleep 0.2
done
wc -l </run/logins; rm /run/logins
"""


@contextmanager
def expect_logins(host: LabHost, count: int) -> Iterator[None]:
    """Check at the end of the block how many logins of fleetpatch the host's sshd accepted in it."""

    def count_accepted() -> int:  # with the login that asks: its line may come late on a host that has just booted
        return int(host.sh(f"sudo -n sh -c {shlex.quote(COUNT_LOGINS)} sh $SSH_CONNECTION"))

    before = count_accepted()
    yield
    accepted = count_accepted() - before - 1
    assert accepted == count, f"{accepted} logins instead of {count}"


def outcome_of(report: RunReport, host: LabHost) -> Outcome:
    """Return a host's one outcome."""
    (found,) = [outcome for outcome in report.outcomes if outcome.machine == host.name]
    return found


def result_of(outcome: Outcome, name: str) -> UpdateResult:
    """Return what became of an update, by its name."""
    (found,) = [result for result in outcome.updates if result.update.name == name]
    return found


@dataclass(frozen=True, slots=True)
class Installation:
    """A version of a package came to be installed, by the log of the machine's package manager."""

    at: datetime
    package: str
    version: str


_DPKG_INSTALLED = re.compile(r"^(\S+ \S+) status installed ([^:]+):\S+ (\S+)$", re.MULTILINE)
_ZYPPER_INSTALLED = re.compile(r"^([^|#\n]+)\|install\|([^|\n]+)\|([^|\n]+)\|", re.MULTILINE)
_DNF_INSTALLED = re.compile(r"^([^|\n]+)\|([^|\n]+)\|([^|\n]+)$", re.MULTILINE)
_DNF_HISTORY = """f=/var/lib/dnf/history.sqlite; [ ! -e $f ] || python3 -c "
import sqlite3
for row in sqlite3.connect('file:$f?mode=ro', uri=True).execute('''
    SELECT datetime(dt_end, 'unixepoch'), name, version || '-' || release FROM trans
    JOIN trans_item ON trans_id = trans.id JOIN rpm ON rpm.item_id = trans_item.item_id
    WHERE trans.state = 1 AND trans_item.state = 1 AND action IN (1, 6)'''):
    print(*row, sep='|')" # installed or upgraded, by a transaction that ended well"""


def read_installations(host: LabHost) -> list[Installation]:
    """Return what the log of the host's package manager says; the hosts' clocks are in UTC."""
    if host.flavour == "apt":
        rows = _DPKG_INSTALLED.findall(host.dpkg_log())
    elif host.flavour == "dnf":
        rows = _DNF_INSTALLED.findall(host.sh(_DNF_HISTORY, root=True))
    else:
        log = host.root / "var/log/zypp/history"
        rows = _ZYPPER_INSTALLED.findall(log.read_text() if log.exists() else "")
    return [Installation(datetime.fromisoformat(at).replace(tzinfo=UTC), *row) for at, *row in rows]


def configured_times(host: LabHost, package: str, version: str) -> int:
    """Return how often the host's own log says that this version of a package came to be installed."""
    wanted = version if host.flavour == "apt" else f"{version}-1"
    return sum((each.package, each.version) == (package, wanted) for each in read_installations(host))
