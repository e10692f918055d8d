"""Controllers as processes of their own, for tests that kill them: the plain command on lab hosts."""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fleetpatch.cli.runtime.run_lookup import find_unfinished_acts
from tasks.domain.model import RunReport
from tasks.domain.protocols.leases import LeaseStatus
from tasks.domain.protocols.records import JournalEntry, JournalMark
from tasks.records.queries.history import History
from tasks.records.setup import open_records
from tasks.records.sql_records import SqlRecords
from tests.lab.engine import Fleet
from tests.lab.fleet import PATIENCE, LabHost
from tests.support.environment import PYTHONPATH, without_ours
from tests.support.forked import ForkedProcess, start_forked
from tests.support.patience import wait_until

Seen = Callable[[tuple[JournalEntry, ...]], object]
COMMAND = "fleetpatch.cli.main"
SHORT_LEASES = "tests.lab.short_leases"
MASKS = ("lab-plain", "lab-slow", "lab-reboot", "lab-conffile", "lab-dep-*", "lab-sec")
REQUEST: dict[str, Any] = {
    "scope": "*",
    "updates": {"classifications": [], "include": list(MASKS)},
    "window": {"minutes": 60},
    "waves": {"percent": 100, "failure_budget_count": 3},
    "reboot_reserve_minutes": 2,
    "settle_seconds": 0,
    "come_back_seconds": 20,
}


@dataclass
class Controllers:
    """Processes of the command that work on one fleet, with the records of that fleet.

    Attributes:
        kind: of the runs that are looked at: "patch", or "stage" for those that only download.
        module: what a process runs: the command itself, or with leases that are over sooner when it dies.
    """

    fleet: Fleet
    kind: str = "patch"
    module: str = SHORT_LEASES
    begun: list[ForkedProcess] = field(default_factory=list)

    def start(self, *words: str, records: str | None = None) -> "Controller":
        """Start the command."""
        kept = without_ours()
        place = self.fleet.place
        surroundings = {
            **kept,
            "PYTHONPATH": PYTHONPATH,
            "FLEETPATCH_RECORDS_URL": records or self.fleet.records_url,
            "FLEETPATCH_INVENTORY": str(self.fleet.inventory),
            "XDG_DATA_HOME": str(place / "data"),
        }
        out, err = (place / f"controller-{len(self.begun)}.{stream}.txt" for stream in ("out", "err"))
        process = start_forked(self.module, words, place=place, environment=surroundings, out=out, err=err)
        self.begun.append(process)
        return Controller(process)

    def patch(self, records: str | None = None, **changes: Any) -> "Controller":
        """Start to patch the fleet; ``changes`` are keys of the request."""
        if not self.fleet.inventory.exists():
            self.fleet.describe()
        request = self.fleet.place / f"request-{len(self.begun)}.json"
        request.write_text(json.dumps(REQUEST | changes))
        return self.start("patch", "--request", str(request), "--no-prefect", "--yes", "--json", records=records)

    def resume(self, *words: str) -> "Told":
        """Take the newest run up, to its end."""
        return self.start("resume", "last", "--no-prefect", "--json", *words).end()

    def journal(self) -> tuple[JournalEntry, ...]:
        """The journal of the newest run; empty before there is one."""
        with open_records(self.fleet.records_url) as records:
            return self._journal(records)

    def _journal(self, records: SqlRecords) -> tuple[JournalEntry, ...]:
        runs = History(records).read_runs(1, kind=self.kind)
        return records.read_entries(runs[0].id) if runs else ()

    def wait_until(self, seen: Seen, what: str, seconds: float = PATIENCE) -> None:
        """Wait until the journal shows something."""
        with open_records(self.fleet.records_url) as records:
            wait_for(lambda: seen(self._journal(records)), what, seconds)

    def wait_for_lease(self, seen: Callable[[LeaseStatus], object], what: str, seconds: float = PATIENCE) -> None:
        """Wait until the lease of the newest run shows something."""
        run = self.newest().run.id
        with open_records(self.fleet.records_url) as records:
            wait_for(lambda: (lease := records.leases.find_lease(run)) is not None and seen(lease), what, seconds)

    def wait_for_dpkg(self, seconds: float = PATIENCE) -> None:
        """Wait until a host installs one of the lab's packages: a job that is stopped before has changed nothing."""
        wait_for(
            lambda: any(" upgrade lab-" in host.dpkg_log() for host in self.fleet.hosts),
            "that a package was touched",
            seconds,
        )

    def newest(self) -> RunReport:
        """The newest run, as the records have it."""
        with open_records(self.fleet.records_url) as records:
            history = History(records)
            return history.read_report(history.read_runs(1, kind=self.kind)[0].id)

    def end(self) -> None:
        """Kill those that still run."""
        for process in self.begun:
            process.kill()
            process.wait()


@dataclass
class Controller:
    """One such process."""

    process: ForkedProcess

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait()

    def end(self, seconds: float = 300) -> "Told":
        """Wait for its end."""
        return Told(self.process.wait(seconds), *self.process.communicate())


@dataclass(frozen=True)
class Told:
    """What a controller that came to its end has said."""

    code: int
    out: str
    err: str

    @property
    def states(self) -> dict[str, str]:
        """Machine -> its status."""
        return {row["machineName"]: row["status"] for row in self.json["machines"]}

    @property
    def json(self) -> dict[str, Any]:
        """The one document."""
        document: dict[str, Any] = json.loads(self.out)
        return document


def wait_for(seen: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
    """Wait until something can be seen."""
    wait_until(seen, what, seconds)


def began(act: str) -> Callable[[tuple[JournalEntry, ...]], bool]:
    """Whether an act was begun that has no end yet."""
    return lambda entries: any(entry.act == act for entry in find_unfinished_acts(entries))


def ended(act: str) -> Callable[[tuple[JournalEntry, ...]], bool]:
    """Whether an act has ended."""
    return lambda entries: any(entry.act == act and entry.mark is JournalMark.AFTER for entry in entries)


def its_lease_is_over(controllers: Controllers) -> None:
    """Spare the minute that a dead process' lease is waited for."""
    run = controllers.newest().run.id
    with open_records(controllers.fleet.records_url) as records:
        lease = records.leases.find_lease(run)
        assert lease is not None
        assert lease.holder is not None
        records.leases.release(run, lease.holder)


def set_slow(hosts: Sequence[LabHost], seconds: int) -> None:
    """Say how long lab-slow takes."""
    for host in hosts:
        _slow(host).write_text(f"{seconds}\n")


def hold(hosts: Sequence[LabHost]) -> None:
    """Let lab-slow take until `let_go`: its script reads a pipe."""
    for host in hosts:
        _slow(host).unlink(missing_ok=True)
        os.mkfifo(_slow(host))


def let_go(hosts: Sequence[LabHost]) -> None:
    """Let lab-slow end where it is being installed, and take no time elsewhere."""
    for host in hosts:
        pipe = os.open(_slow(host), os.O_RDWR)
        new = _slow(host).with_name("lab-slow-seconds.new")
        new.write_text("0\n")
        new.replace(_slow(host))
        os.write(pipe, b"0\n")
        os.close(pipe)


def is_held(host: LabHost) -> bool:
    """Whether lab-slow is being installed now."""
    if host.flavour != "apt":  # rpm has no log: its script waits for the pipe
        return bool(host.sh("pgrep -fx 'cat /etc/lab-slow-seconds' || true").strip())
    return " status half-configured lab-slow:all 2.0" in host.dpkg_log() and "lab-slow 2.0" not in configured(host)


def _slow(host: LabHost) -> Path:
    return host.root / "etc/lab-slow-seconds"


def configured(host: LabHost) -> dict[str, int]:
    """How often each new version of the lab's own packages came to be installed, by the host's own log."""
    found: dict[str, int] = {}
    for line in host.dpkg_log().splitlines():
        words = line.split()
        if words[2:4] == ["status", "installed"] and words[4].startswith("lab-") and not words[5].startswith("1."):
            key = f"{words[4].split(':')[0]} {words[5]}"
            found[key] = found.get(key, 0) + 1
    return found


def boots(host: LabHost) -> int:
    """How often the host was booted, by its own wtmp."""
    return host.sh("last reboot").count("system boot")
