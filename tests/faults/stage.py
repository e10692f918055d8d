"""One lab case: a host or two, a run of the real engine on them, a fault at a step, and what is asked afterwards."""

import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from flows.execution import execute_run
from flows.local_run import LocalRunner
from flows.ports.caller import Caller
from flows.request.patch_request import PatchRequest, UpdatesRequest, WavesRequest, WindowRequest
from tasks.domain.errors import FleetpatchError
from tasks.domain.model import Outcome, RunReport
from tasks.domain.protocols.records import JournalMark
from tasks.domain.states import OperationState, RebootState, Step, UpdateState
from tasks.records.queries.history import History
from tasks.records.setup import open_records
from tasks.steps.context.run_control import LoggingListener, StopToken
from tests.faults.controllers import LAST, RUN, Broken, Controllers, NotReached
from tests.faults.families import FAMILIES, Family
from tests.lab.engine import read_installations
from tests.lab.fleet import LabError, LabHost
from tests.lab.killing import set_slow
from tests.support.forked import ForkedProcess

MASKS = ("lab-slow", "lab-plain", "lab-conffile")


@dataclass
class Strikes(LoggingListener):
    """Calls back once, when a step of any machine begins or ("installing") something is being installed."""

    at: str
    then: Callable[[], object]
    struck: threading.Event = field(default_factory=threading.Event)
    lead_seconds: float | None = None  # from here to the beginning of the installation
    created_at: float = field(default_factory=time.monotonic)

    def on_progress(self, machine: str, step: Step, fraction: float | None, message: str) -> None:
        """Call back when it is so far."""
        if step is Step.INSTALL and self.lead_seconds is None:
            self.lead_seconds = time.monotonic() - self.created_at
        begins = fraction == 0.0 and not message and step.value == self.at
        verb = {"stage": "downloading", "installing": "installing"}.get(self.at, "no such verb")
        if (begins or message.startswith(verb)) and not self.struck.is_set():
            self.struck.set()
            self.then()


@dataclass
class Stage(Controllers):
    """What a case plays on."""

    hosts: Sequence[LabHost]
    place: Path
    records_url: str = ""
    control: StopToken = field(default_factory=StopToken)
    downs: int = 0  # power cuts that the case itself made
    asked: Sequence[str] = MASKS  # masks of the updates that the run was asked for
    begun: list[ForkedProcess] = field(default_factory=list)
    lead_seconds: float = 0.0  # of the last run, until it began to install; of all of it, if it did not

    def __post_init__(self) -> None:
        self.records_url = self.records_url or f"sqlite:///{self.place / 'records.db'}"
        data = yaml.safe_load(self.host.lab.inventory_text())
        mine = {host.name for host in self.hosts}
        data["machines"] = [machine for machine in data["machines"] if machine["name"] in mine]
        # Our own copy: the lab pins the keys of all its hosts anew whenever it boots one, changed ones as well.
        data["host_keys"]["known_hosts"] = str(shutil.copy(self.host.known_hosts, self.place / "known_hosts"))
        (self.place / "fleet.yaml").write_text(yaml.safe_dump(data))
        for host in self.hosts:
            self.slow(host, 3)

    @property
    def host(self) -> LabHost:
        """The first host."""
        return self.hosts[0]

    @property
    def family(self) -> Family:
        """What an administrator of the first host types."""
        return FAMILIES[self.host.flavour]

    def versions(self, *names: str) -> dict[str, str]:
        """Return what is installed of these, 1.0 or 2.0."""
        return {name: version.removesuffix("-1") for name, version in self.host.package_versions(*names).items()}

    def slow(self, host: LabHost, seconds: int) -> None:
        """Let lab-slow take so long."""
        set_slow([host], seconds)

    def request(self, *masks: str, minutes: float = 30, **fields: Any) -> PatchRequest:
        """Return a request for these updates."""
        options: dict[str, Any] = {
            "reboot_reserve_minutes": 0.5,
            "going_down_minutes": 0.7,
            "coming_up_minutes": 1.0,
            "settle_seconds": 0,
            "come_back_seconds": 15,
            **fields,
        }
        return PatchRequest(
            scope="*",
            inventory=self.place / "fleet.yaml",
            window=WindowRequest(minutes=minutes),
            waves=WavesRequest(percent=100, failure_budget_count=9),
            updates=UpdatesRequest(classifications=[], include=list(masks or MASKS)),
            **options,
        )

    def patch(
        self, *masks: str, at: str = "", then: Callable[[], object] = lambda: None, run: str = RUN, **fields: Any
    ) -> RunReport:
        """Patch the hosts in this process, and let the fault strike at a step."""
        if run == RUN:
            self.asked = masks or MASKS
        watch = Strikes(at, then)
        who = Caller(watch, self.control, records_url=self.records_url, run_id=run)
        report = execute_run(self.request(*masks, **fields), who, lambda request, ports: LocalRunner())
        self.lead_seconds = watch.lead_seconds or time.monotonic() - watch.created_at
        if at and not watch.struck.is_set():
            raise NotReached(f"the run did not reach {at}, so no fault was injected")
        return report

    def patch_in_a_short_window(self, *masks: str, **fields: Any) -> tuple[str, str]:
        """Patch in a window that has room for one update at a time, and that lab-slow outlasts.

        Return the run that began lab-slow, and the boot in which it was begun.

        A longer window would put several updates into one transaction. On cores that others use, lab-slow may be too
        late for it: then nothing was changed, and the next window is longer by what came before the installation.
        """
        for number, run in enumerate((RUN, *(f"20260310-01000{number}-aaaaaa" for number in range(1, 5)))):
            lead_minutes = min(self.lead_seconds / 60, 4.0) if number else 0.0
            minutes, boot = 0.7 + 0.1 * number + lead_minutes, self.host.boot_id()
            self.slow(self.host, round(60 * minutes) + 3)
            with suppress(NotReached):
                self.patch(*masks, run=run, minutes=minutes, stage=False, **fields)
                states = {each.update.name: each.state for each in self.outcome(run=run).updates}
                if states.get("lab-slow", UpdateState.NOT_ATTEMPTED) is not UpdateState.NOT_ATTEMPTED:
                    return run, boot
        raise Broken("no run began lab-slow in its window")

    def describe_request(self, *masks: str, **fields: Any) -> None:
        """Write the request where controllers look for it."""
        self.asked = masks or MASKS
        (self.place / "request.json").write_text(self.request(*masks, **fields).model_dump_json())

    def repack(self, package: str) -> None:
        """Let a package of the host have an update: the very same one, under a higher version."""
        script = Path(__file__).with_name("repack.sh").read_text()
        self.host.sh(f"set -- {package}\n{script}", root=True)

    def offer_after_slow(self) -> tuple[str, str]:
        """Let the host have two more updates, which come after lab-slow; return their names."""
        names = self.family.after_slow
        if self.host.flavour != "apt":
            self.host.sh("rpm -U /var/cache/lab/lab-reboot-sec-1.0*.rpm", root=True)
        else:
            for name in names:
                self.repack(name)
        return names

    def limit_downloads(self) -> Callable[[], object]:
        """Let the package manager download 20 kB a second; return what ends that."""
        path, line = self.family.limit
        place = self.host.root / path
        before = place.read_text() if place.exists() else ""
        place.write_text(f"{before}{line}\n")
        return lambda: place.write_text(before)

    def carried(self, strike: str, *masks: str, **fields: Any) -> None:
        """Let a controller process, which is struck by something, carry a run to its good end."""
        self.describe_request(*masks, **fields)
        process = self.controller("begin", strike)
        _, said = process.communicate(timeout=360)
        if process.returncode != 0:
            raise Broken(f"the controller ended with {process.returncode}: {said}")
        if not (self.place / "struck").exists():
            raise Broken(f"{strike} did not happen")
        self.judge()
        outcome = self.outcome()
        if outcome.state not in (OperationState.SUCCEEDED, OperationState.COMPLETED_WITH_WARNINGS):
            raise Broken(f"{outcome.state}: {outcome.reason}")

    # ---- what is asked afterwards

    def report(self, run: str = RUN) -> RunReport:
        """Return what the records tell."""
        with open_records(self.records_url) as records:
            return History(records).read_report(run)

    def outcome(self, host: LabHost | None = None, run: str = RUN) -> Outcome:
        """Return a host's outcome by the records."""
        wanted = (host or self.host).name
        found = [outcome for outcome in self.report(run).outcomes if outcome.machine == wanted]
        if len(found) != 1:
            raise Broken(f"{wanted} has {len(found)} outcomes")
        return found[0]

    def judge(self, run: str = RUN) -> None:
        """Ask the machines what became of them, and compare that with what was reported."""
        report = self.report(run)
        if report.run.state in (OperationState.IN_PROGRESS, OperationState.UNKNOWN):
            raise Broken(f"run {run} is still {report.run.state}")
        for host in self.hosts:
            self._judge(host, self.outcome(host, run), run)

    def _judge(self, host: LabHost, outcome: Outcome, run: str) -> None:
        there = host.package_versions()
        for result in outcome.updates:
            now = there.get(result.update.name)
            if result.state is UpdateState.INSTALLED and now != result.version_after:
                raise Broken(f"{result.update.name} is reported at {result.version_after}, and {now} is installed")
            if result.state is not UpdateState.INSTALLED and not result.reason:
                raise Broken(f"{result.update.name} is {result.state} without a reason")
        installed = Counter((each.package, each.version) for each in read_installations(host))
        twice = {each: n for each, n in installed.items() if n > 1 and each[0].startswith("lab-") and each[1] >= "2."}
        if twice:
            raise Broken(f"configured more than once: {twice}")
        with open_records(self.records_url) as records:
            entries = History(records).read_journal(run)
        ordered = {e.key for e in entries if (e.act, e.mark, e.machine) == ("reboot", JournalMark.BEFORE, host.name)}
        if len(ordered) > 1:
            raise Broken(f"rebooted {len(ordered)} times")
        if outcome.reboot is RebootState.COMPLETED and host.boot_id() in ordered:
            raise Broken("the report says that it was rebooted, and it runs the same boot as before")
        self._judge_jobs(host, outcome, run)

    def _judge_jobs(self, host: LabHost, outcome: Outcome, run: str) -> None:
        place = host.root / "var/lib/fleetpatch"
        known = list((place / "jobs").glob("*/meta"))
        with open_records(self.records_url) as records:
            told = {e.key for e in History(records).read_journal(run) if e.mark is JournalMark.BEFORE}
        strange = {meta.parent.name for meta in known if run in meta.parent.name} - told
        if strange:
            raise Broken(f"jobs that no journal entry announced: {strange}")
        doubt = (
            outcome.reboot is RebootState.FAILED
            or outcome.error is not None
            or any(r.state is UpdateState.PENDING for r in outcome.updates)
        )
        lock = place / "machine-lock"
        held = lock.exists() and lock.read_text().splitlines()[:2]
        if held and held[0] == run and held[1] != "0" and not doubt:
            raise Broken("the machine lock is left behind")

    def last_run_heals(self, *masks: str) -> None:
        """Patch once more, undisturbed and with repairs allowed: everything is installed, and whole.

        Where all that was asked for is installed already, the machine's own word is enough.
        """
        if not masks and self._is_whole():
            return
        for host in self.hosts:
            self.slow(host, 0)
        self.control = StopToken()
        for host in self.hosts:
            (host.root / "var/lib/fleetpatch/machine-lock").unlink(
                missing_ok=True
            )  # of a run in doubt; it would end by itself
        self.patch(*masks, run=LAST, repair=True)
        for host in self.hosts:
            audit = host.half_done_packages()
            there = host.package_versions(*(masks or MASKS))
            wrong = {name: version for name, version in there.items() if not version.startswith("2.")}
            if audit or wrong or len(there) != len(masks or MASKS):
                raise Broken(f"after the next run {host.name} has {there}; {audit}")
        self.judge(LAST)

    def _is_whole(self) -> bool:
        """Whether nothing is left for a next run, and none would be kept out."""
        for host in self.hosts:
            outcome = self.outcome(host)
            chosen = [result for result in outcome.updates if result.state is not UpdateState.NOT_SELECTED]
            if outcome.state is OperationState.FAILED or any(r.state is not UpdateState.INSTALLED for r in chosen):
                return False
            names = {result.update.name for result in chosen}
            if not all(any(fnmatchcase(name, mask) for name in names) for mask in self.asked):
                return False
            jobs = (host.root / "var/lib/fleetpatch/jobs").glob("*/meta")
            if not all((meta.parent / "rc").exists() for meta in jobs):  # one without an end
                return False
            lock = host.root / "var/lib/fleetpatch/machine-lock"
            if lock.exists() and lock.read_text().splitlines()[1:2] != ["0"]:
                return False
            if host.half_done_packages():
                return False
        return True


def later(seconds: float, then: Callable[[], object]) -> None:
    """Do something after a while, in a thread."""

    def body() -> None:
        time.sleep(seconds)
        try:
            then()
        except (LabError, FleetpatchError, subprocess.SubprocessError) as error:
            sys.stderr.write(f"{error}\n")

    threading.Thread(target=body, daemon=True).start()
