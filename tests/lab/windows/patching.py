"""Runs of the real engine on Windows machines of the tests: real WinRM, real PowerShell, stand-ins for the rest."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from flows.execution import execute_run
from flows.local_run import LocalRunner
from flows.ports.caller import Caller
from flows.request.patch_request import PatchRequest, UpdatesRequest, WavesRequest, WindowRequest
from flows.request.read_requests import AssessRequest
from tasks.domain.model import MachinePlan, Outcome, RunReport, UpdateResult
from tasks.domain.protocols.package_manager import Rates
from tasks.domain.protocols.records import JournalMark
from tasks.domain.states import RebootState, Step, UpdateState
from tasks.records.queries.history import History
from tasks.records.setup import open_records
from tasks.steps.context.run_control import LoggingListener, StopToken
from tests.lab.windows.certificates import Authority
from tests.lab.windows.scenario import Scenario, Update
from tests.lab.windows.served_machine import ServedMachine
from tests.lab.windows.windows_host import Options

RUN = "20260310-010000-aaaaaa"
QUICK = Rates(
    transaction_seconds=1.0,
    install_seconds_per_update=5.0,
    download_bytes_per_second=1e9,
    reboot_seconds=1.0,
    validate_seconds=1.0,
    max_transaction_updates=1,
)
"""What a machine is predicted to need whose windows are seconds long."""


def guid(number: int) -> str:
    """Return the id of an update."""
    return f"{number:08x}-0000-4000-8000-000000000000"


def offer(number: int, title: str = "2026-03 Update for Windows Server 2022", **changes: Any) -> Update:
    """Return an update that a machine is offered; it is called KB50 and the number."""
    return Update(guid(number), f"{title} (KB{5000000 + number})", kbs=(str(5000000 + number),), **changes)


def cumulative(number: int, **changes: Any) -> Update:
    """Return a cumulative update: it needs a reboot, and changes the build's revision."""
    given = {"needs_reboot": True, "reboot_behavior": 2, "ubr_after": 2800, **changes}
    return offer(number, "2026-03 Cumulative Update for Microsoft server operating system version 21H2", **given)


def kb(number: int) -> str:
    """Return its name."""
    return f"KB{5000000 + number}"


@dataclass
class Strike(LoggingListener):
    """Calls back once, when a step begins, or is over ("validate is over"), or a message begins with a word."""

    at: str = ""
    then: Callable[[], object] = lambda: None
    struck: threading.Event = field(default_factory=threading.Event)
    messages: list[str] = field(default_factory=list)

    def on_progress(self, machine: str, step: Step, fraction: float | None, message: str) -> None:
        """Call back when it is so far."""
        self.messages.append(f"{step.value}: {message}")
        begins = fraction == 0.0 and not message and step.value == self.at
        if self.at and (begins or message.startswith(self.at)):
            self._strike()

    def on_step_finished(self, machine: str, step: Step, state: str, message: str) -> None:
        """Call back when it is so far."""
        if self.at == f"{step.value} is over":
            self._strike()

    def _strike(self) -> None:
        if not self.struck.is_set():
            self.struck.set()
            self.then()


@dataclass
class WindowsFleet:
    """Some machines, the inventory that describes them, and records that remember what was done to them."""

    served: Sequence[ServedMachine]
    place: Path
    control: StopToken = field(default_factory=StopToken)
    watch: Strike = field(default_factory=Strike)
    judged: set[str] = field(default_factory=set)

    @classmethod
    @contextmanager
    def opened(
        cls, place: Path, *scenarios: Scenario, options: Mapping[str, Options] | None = None
    ) -> Iterator["WindowsFleet"]:
        """Switch machines on; ``options`` are by their names."""
        place.mkdir(exist_ok=True)
        authority = Authority(place)
        with ExitStack() as stack:
            served = [
                stack.enter_context(
                    ServedMachine(
                        place / scenario.name,
                        scenario,
                        authority=authority,
                        options=(options or {}).get(scenario.name),
                    )
                )
                for scenario in scenarios
            ]
            fleet = cls(served, place)
            fleet.describe()
            yield fleet

    @property
    def one(self) -> ServedMachine:
        """The first machine."""
        return self.served[0]

    def find(self, name: str) -> ServedMachine:
        """Return a machine by its name."""
        (found,) = [served for served in self.served if served.host.name == name]
        return found

    @property
    def state(self) -> dict[str, Any]:
        """What became of the first machine, by its own state."""
        return self.one.machine.read_state()

    @property
    def inventory(self) -> Path:
        """The inventory file."""
        return self.place / "fleet.yaml"

    @property
    def records_url(self) -> str:
        """Of the records."""
        return f"sqlite:///{self.place / 'records.db'}"

    def entries(self, scheme: str = "https") -> list[dict[str, Any]]:
        """Return the machines' lines of an inventory."""
        found = []
        for served in self.served:
            host = served.host
            secret = self.place / f"{host.name}.password"
            secret.write_text(host.password)
            secret.chmod(0o600)
            winrm = {"scheme": scheme, **({"ca_file": str(host.ca_file)} if scheme == "https" else {})}
            found.append(
                {
                    "name": host.name,
                    "address": host.address,
                    "transport": "winrm",
                    "port": host.https_port if scheme == "https" else host.http_port,
                    "user": host.user,
                    "credential": f"file:{secret}",
                    "winrm": winrm,
                }
            )
        return found

    def describe(self, scheme: str = "https", **changes: Mapping[str, Any]) -> None:
        """Write the inventory; ``changes`` are merged into the machine of that name (``-`` written as ``_``)."""
        entries = [{**entry, **changes.get(entry["name"].replace("-", "_"), {})} for entry in self.entries(scheme)]
        self.inventory.write_text(yaml.safe_dump({"machines": entries}))

    def close_network(self, seconds: float) -> None:
        """Let the first machine not be reached for so long; it works on, and its shells are lost."""
        host = self.one.host
        cut, restore = host.before_power_off, host.before_power_on
        host.before_power_off, host.before_power_on = lambda: None, lambda: True
        host.power_off()

        def again() -> None:
            host.power_on()
            host.before_power_off, host.before_power_on = cut, restore

        threading.Timer(seconds, again).start()

    def open_gate_when(self, name: str, condition: Callable[[], object]) -> None:
        """Let what waits at a gate of the first machine go on as soon as something is so."""

        def body() -> None:
            self.one.machine.wait_until(lambda _: condition())
            self.one.machine.open_gate(name)

        threading.Thread(target=body, daemon=True).start()

    def open_gate_when_asked_again(self, name: str) -> None:
        """Let what waits at a gate go on when the controller has connected again, and run a script."""
        host, before = self.one.host, self.one.host.connected
        began = host.schedule.counts.get("Command", 0)
        self.open_gate_when(
            name, lambda: host.connected > before and host.schedule.counts.get("Command", 0) > began + 1
        )

    def stop_has_arrived(self) -> bool:
        """Whether a job of the first machine was told to stop."""
        return any((self.one.machine.folder / "C").rglob("FleetPatch/jobs/*/stop"))

    def calm(self) -> None:
        """Forget that a run was asked to stop."""
        self.control = StopToken()

    def request(self, *masks: str, minutes: float = 60, **fields: Any) -> PatchRequest:
        """Return a request: for updates that match a mask; with none, for what is critical or security."""
        options: dict[str, Any] = {
            "reboot_reserve_minutes": 0.5,
            "going_down_minutes": 1.5,
            "coming_up_minutes": 1.5,
            "settle_seconds": 0,
            "come_back_seconds": 5,
            "updates": UpdatesRequest(classifications=[], include=list(masks)) if masks else UpdatesRequest(),
            **fields,
        }
        return PatchRequest(
            scope="*",
            inventory=self.inventory,
            window=WindowRequest(minutes=minutes),
            waves=WavesRequest(percent=100, failure_budget_count=99),
            **options,
        )

    def caller(self, run: str = RUN) -> Caller:
        """Return who asks for it."""
        return Caller(self.watch, self.control, records_url=self.records_url, run_id=run)

    def patch(
        self, *masks: str, at: str = "", then: Callable[[], object] = lambda: None, run: str = RUN, **fields: Any
    ) -> RunReport:
        """Patch the machines, and let something happen at a step."""
        self.watch = Strike(at, then)
        report = execute_run(self.request(*masks, **fields), self.caller(run), lambda request, ports: LocalRunner())
        assert not at or self.watch.struck.is_set(), f"the run did not reach {at}: {self.watch.messages}"
        self.judge(run)
        return report

    def assess(self, run: str = RUN) -> RunReport:
        """Assess the machines."""
        request = AssessRequest(scope="*", inventory=self.inventory)
        return execute_run(request, self.caller(run), lambda request, ports: LocalRunner())

    def outcome(self, run: str = RUN, name: str = "") -> Outcome:
        """Return a machine's outcome by the records."""
        with open_records(self.records_url) as records:
            report = History(records).read_report(run)
        (found,) = [each for each in report.outcomes if each.machine == (name or self.one.host.name)]
        return found

    def plans(self, run: str = RUN) -> Sequence[MachinePlan]:
        """Return the plans of a run by the records."""
        with open_records(self.records_url) as records:
            return History(records).read_report(run).plans

    def judge(self, run: str = RUN) -> None:
        """Hold what was reported against what the machines are like."""
        for served in self.served:
            judge(served, self.outcome(run, served.host.name))
            self._judge_orders(served, run)

    def _judge_orders(self, served: ServedMachine, run: str) -> None:
        self.judged.add(run)
        with open_records(self.records_url) as records:
            entries = [entry for each in self.judged for entry in History(records).read_journal(each)]
        mine = [each for each in entries if each.machine == served.host.name and each.mark is JournalMark.BEFORE]
        ordered = {each.key for each in mine if each.act == "reboot"}
        boots = count(served, "boot", clean=True)
        assert boots <= len(ordered), f"{served.host.name} was rebooted {boots} times; ordered: {ordered}"


def count(served: ServedMachine, what: str, **fields: Any) -> int:
    """Return how often something happened on a machine, by its journal."""
    entries = [each for each in served.machine.read_state()["journal"] if each["what"] == what]
    return sum(all(entry.get(name) == value for name, value in fields.items()) for entry in entries)


def judge(served: ServedMachine, outcome: Outcome) -> None:
    """Hold an outcome against the machine's own state."""
    state = served.machine.read_state()
    assert not served.machine.stand_in_errors(), served.machine.stand_in_errors()
    for result in outcome.updates:
        there = state["updates"].get(result.update.id)
        assert there is not None, f"{result.update.name} is no update of the machine"
        if result.state is UpdateState.INSTALLED:
            assert there["installed"] or there["pending"], f"{result.update.name} is reported as installed, and is not"
        elif result.state is not UpdateState.NOT_SELECTED:
            assert result.reason, f"{result.update.name} is {result.state} without a reason"
        if result.state in (UpdateState.NOT_ATTEMPTED, UpdateState.EXCLUDED):
            is_there = there["installed"] or there["pending"]
            assert not is_there, f"{result.update.name} was not to be installed"
    if outcome.reboot is RebootState.COMPLETED:
        assert state["boot"]["number"] > 1, "the report says that it was rebooted"
    # that of a job which a power cut has ended stays until the next job begins; it has no trigger
    in_doubt = outcome.error is not None or count(served, "boot", clean=False) > 0
    assert in_doubt or not state["tasks"], f"tasks are left on {outcome.machine}: {state['tasks']}"
    twice = [update for update, there in state["updates"].items() if there["installs"] > 1]
    assert not twice, f"installed more than once: {twice}"


def result_of(outcome: Outcome, number: int) -> UpdateResult:
    """Return what became of an update."""
    (found,) = [result for result in outcome.updates if result.update.name == kb(number)]
    return found


def states(outcome: Outcome) -> dict[str, UpdateState]:
    """Return what became of each update."""
    return {result.update.name: result.state for result in outcome.updates}
