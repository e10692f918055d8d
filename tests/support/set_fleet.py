"""The simulated fleet with machine sets, on records whose slots tests may read."""

from dataclasses import dataclass, field, replace
from typing import Any

from flows.engine.fleet_run import FleetRun
from flows.engine.resume_state import parse_recorded_request, read_resume_state
from flows.local_run import LocalRunner
from flows.ports.ports import Ports
from flows.request.patch_request import PatchRequest
from inventory.machine import Check, CheckKind, Inventory, MachineSet, SetAction, SetActionKind
from tasks.domain.model import RunReport
from tasks.domain.protocols.transport import Script, ScriptRecord
from tasks.steps.context.run_control import LoggingListener, StopToken
from tests.support.fake_packages import FakePackage
from tests.support.fake_records import FakeHistory
from tests.support.fake_set_slots import FakeSetSlots
from tests.support.fleet import SimFleet
from tests.support.mortal import Life, mortal_machine, mortal_records

RUN = "20260310-010000-aaaaaa"
UP = Check("up", CheckKind.COMMAND, "check-up")
DRAIN = SetAction(SetActionKind.MACHINE_COMMAND, "leave")
UNDRAIN = SetAction(SetActionKind.MACHINE_COMMAND, "join")


class Messages(LoggingListener):
    """Remembers what the run told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def on_message(self, message: str) -> None:
        self.told.append(message)

    def waits(self) -> list[str]:
        """Return why machines waited."""
        return [each for each in self.told if " waits: " in each]


@dataclass
class SetFleet(SimFleet):
    """Machines in sets.

    Attributes:
        sets: of the inventory.
        slots: of the records.
        roles: machine -> what its role's command says now.
        sick: machine -> why its set's check fails.
        drained: machine -> how often; the number of drains minus that of undrains.
        story: what happened to machines, in order: "drain web-1", "install web-1", "undrain web-1".
        fails: "drain web-1" -> what it says when it fails.
    """

    sets: tuple[MachineSet, ...] = ()
    slots: FakeSetSlots = field(init=False)
    roles: dict[str, str] = field(default_factory=dict)
    sick: dict[str, str] = field(default_factory=dict)
    drained: dict[str, int] = field(default_factory=dict)
    story: list[str] = field(default_factory=list)
    fails: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.slots = FakeSetSlots(self.records, self.clock)
        self.watch = Messages()

    def ports(self) -> Ports:
        return replace(
            super().ports(), inventory=Inventory(tuple(self.described), sets=self.sets), set_slots=self.slots
        )

    def add_members(self, *names: str, asks_reboot: bool = True, **described: Any) -> None:
        """Add machines with an update each, whose hooks and checks this fleet answers."""
        for name in names:
            machine = self.add(name, [FakePackage("a", seconds=20, asks_reboot=asks_reboot)], **described)
            machine.answer("hook", self._hook)
            machine.answer("probe", lambda script, name=name: self._probe(name, script))  # type: ignore[misc]

    def add_set(self, name: str, *members: str, **fields: Any) -> None:
        """Add a set of these members, whose health is the fleet's ``sick``."""
        options: dict[str, Any] = {"healthy": (UP,), "drain": DRAIN, "undrain": UNDRAIN, **fields}
        self.sets = (*self.sets, MachineSet(name=name, scope="*", members=members, **options))

    def waits(self) -> list[str]:
        """Return why machines waited."""
        assert isinstance(self.watch, Messages)
        return self.watch.waits()

    def _hook(self, script: Script) -> ScriptRecord:
        verb, machine = str(script.params["name"]).rpartition(" ")[2], str(script.params["machine"])
        what = f"{verb} {machine}"
        self.story.append(what)
        if what in self.fails:
            return {"kind": "hook", "exit_code": 1, "text": self.fails[what]}
        self.drained[machine] = self.drained.get(machine, 0) + (1 if verb == "drain" else -1)
        return {"kind": "hook", "exit_code": 0, "text": "done"}

    def _probe(self, name: str, script: Script) -> ScriptRecord:
        command = str(script.params["command"])
        if command == "ask-role":
            return {"kind": "probe", "exit_code": 0, "text": f"{self.roles.get(name, 'none')} of db\n"}
        why = self.sick.get(name, "")
        return {"kind": "probe", "exit_code": 1 if why else 0, "text": why}

    def run(
        self,
        request: PatchRequest,
        *,
        life: Life | None = None,
        again: bool = False,
        run_id: str = RUN,
        finalize: str = "",
    ) -> RunReport:
        """Carry a run out in a new process, or resume it, for as long as the controller lives."""
        life, self.control = life or Life(), StopToken()
        past = read_resume_state(FakeHistory(self.records), run_id) if again else None  # type: ignore[arg-type]  # as the real one
        if past is not None:
            request = parse_recorded_request(past.run)
        if finalize:
            self.control.request_stop(finalize)
        ports = self.ports()
        mortal = replace(
            ports,
            records=mortal_records(ports.records, life),
            connect=lambda machine: mortal_machine(ports.connect(machine), life),
        )
        return FleetRun(request, mortal, LocalRunner(), run_id=run_id, resume_state=past).execute()
