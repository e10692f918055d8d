"""An owner with hooks, for the simulated fleet: what was asked of him, in order, and what he does about it."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from flows.engine.fleet_run import FleetRun
from flows.engine.resume_state import parse_recorded_request, read_resume_state
from flows.local_run import LocalRunner
from flows.ports.ports import GateDecision, Ports
from flows.request.patch_request import PatchRequest
from flows.request.request_parts import HooksRequest
from tasks.domain.errors import FleetpatchError
from tasks.domain.model import Hook, HookResult, RunReport
from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.transport import Script, ScriptRecord
from tasks.domain.states import HookPoint, NotificationOccasion
from tasks.steps.context.run_control import StopToken
from tests.support.fake_packages import FakePackage
from tests.support.fake_records import FakeHistory
from tests.support.fleet import SimFleet
from tests.support.mortal import Life, mortal_machine, mortal_records

RUN = "20260310-010000-aaaaaa"


@dataclass
class Owner:
    """Somebody whose hooks are called.

    Attributes:
        asked: "place/name/subject" of each hook that was called, and "install NAME", in order.
        fails: hook name -> why it fails.
        takes: hook name -> seconds.
        does: hook name -> what happens while it runs.
        raises: hook name -> what is raised through the port.
        told: occasions.
        decision: what the gate says.
    """

    fleet: SimFleet
    asked: list[str] = field(default_factory=list)
    fails: dict[str, str] = field(default_factory=dict)
    takes: dict[str, float] = field(default_factory=dict)
    does: dict[str, Callable[[], None]] = field(default_factory=dict)
    raises: dict[str, Exception] = field(default_factory=dict)
    told: list[NotificationOccasion] = field(default_factory=list)
    gates: list[RunReport] = field(default_factory=list)
    decision: GateDecision = field(default_factory=GateDecision)
    deadlines: dict[str, datetime] = field(default_factory=dict)
    reports: dict[str, RunReport] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for machine in self.fleet.machines.values():
            machine.answer("hook", self._on_machine)

    def call(self, hook: Hook, report: RunReport, subject: str, deadline: Deadline) -> HookResult:
        """See HookCaller."""
        began = self.fleet.clock.now()
        self.deadlines[hook.name], self.reports[hook.name] = deadline.expires_at, report
        code, text = self._run(hook.place.value, hook.name, subject)
        return HookResult(hook, subject, code == 0, text, began, self.fleet.clock.now())

    def gate(self, planned: RunReport, control: StopToken) -> GateDecision:
        """See Gate."""
        self.gates.append(planned)
        self.asked.append("gate")
        return self.decision

    def tell(self, occasion: NotificationOccasion, report: RunReport) -> None:
        """See Herald."""
        self.told.append(occasion)

    def ports(self, ports: Ports | None = None) -> Ports:
        """Return the fleet's ports, with this owner's."""
        return replace(ports or self.fleet.ports(), call_hook=self.call, gate=self.gate, notify=self.tell)

    def _on_machine(self, script: Script) -> ScriptRecord:
        params = script.params
        code, text = self._run(str(params["place"]), str(params["name"]), str(params["machine"]))
        return {"kind": "hook", "exit_code": code, "text": text}

    def _run(self, place: str, name: str, subject: str) -> tuple[int, str]:
        self.asked.append(f"{place}/{name}/{subject}")
        if name in self.does:
            self.does[name]()
        if name in self.takes:
            self.fleet.clock.sleep(self.takes[name])
        if name in self.raises:
            raise self.raises[name]
        return (1, self.fails[name]) if name in self.fails else (0, f"{name} done")


def hook(name: str, kind: str = "http", **more: Any) -> dict[str, Any]:
    """Return a hook's form, of a kind that calls the port unless said otherwise."""
    targets = {"http": "http://hooks.example/x", "machine-command": f"run-{name}", "python": "owner.hooks:go"}
    targets |= {"controller-command": f"run-{name}", "deployment": "flow/dep"}
    return {"name": name, "kind": kind, "target": targets[kind], **more}


def every_place(kind: str = "http") -> dict[str, Any]:
    """Return one hook at each place, named for it."""
    of_machines = {"before_machine", "after_machine"}
    asked = {place.value: [hook(place.value, kind if place.value in of_machines else "http")] for place in HookPoint}
    return HooksRequest.model_validate(asked).model_dump()


def small_fleet(*names: str) -> SimFleet:
    """Return machines with an update each."""
    fleet = SimFleet()
    for name in names or ("first", "second"):
        fleet.add(name, [FakePackage("a", seconds=20, asks_reboot=name == "second")])
    return fleet


def run(owner: Owner, request: PatchRequest, *, life: Life | None = None, again: bool = False) -> RunReport:
    """Carry a run out, or take it up again, for as long as the controller lives."""
    fleet, life = owner.fleet, life or Life()
    past = read_resume_state(FakeHistory(fleet.records), RUN) if again else None  # type: ignore[arg-type]  # as the real one
    if past is not None:
        fleet.control = StopToken()  # a new process
        request = parse_recorded_request(past.run)
    ports = fleet.ports()
    mortal = replace(
        owner.ports(ports),
        stop_token=fleet.control,
        records=mortal_records(ports.records, life),
        connect=lambda machine: mortal_machine(ports.connect(machine), life),
        call_hook=lambda *args: life.spend(owner.call, *args),
    )
    return FleetRun(request, mortal, LocalRunner(), run_id=RUN, resume_state=past).execute()


def asked_for(fleet: SimFleet, hooks: dict[str, Any], **fields: Any) -> PatchRequest:
    """Return a request with hooks, a machine a wave unless said otherwise."""
    fields.setdefault("waves", {"size": 1, "failure_budget_count": 9})
    return fleet.request(hooks=hooks, **fields)


class Broken(FleetpatchError):
    """Something that a hook's way may raise."""
