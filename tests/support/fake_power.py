"""The power of a simulated machine: somebody takes and gives it, and the machine itself may be told to go off."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from tasks.domain.protocols.transport import Script, ScriptRecord
from tasks.steps.machine.machine_lock import split_lock_holder

if TYPE_CHECKING:
    from tests.support.sim_machine import SimMachine


@dataclass
class PowerSupply:
    """The power of one machine.

    Attributes:
        people: who is logged in at a terminal, or "".
        inhibited_until: until when something keeps the machine from going off.
        goes_off: whether it does go off when it was told to.
        changes: when it was powered "on" and "off".
    """

    machine: "SimMachine"
    people: str = ""
    inhibited_until: datetime | None = None
    goes_off: bool = True
    changes: list[tuple[datetime, str]] = field(default_factory=list)

    def off(self) -> None:
        """Take its power away, until somebody gives it back."""
        if not self.goes_off:
            return
        self.machine.world.crash(self.machine)
        self.changes.append((self.machine.fake_clock.now(), "off"))
        self.machine.is_off = True

    def on(self, seconds: float = 0.0) -> None:
        """Give it power; a login works after so many seconds. A machine that is on is left as it is."""
        if not self.machine.is_off:
            return
        self.machine.is_off = False
        self.changes.append((self.machine.fake_clock.now(), "on"))
        self.machine.begin_boot()
        self.machine.cut(seconds)

    def answer(self, script: Script) -> list[ScriptRecord]:
        """Answer the script "power"."""
        machine, work = self.machine, script.params["work"]
        power: ScriptRecord = {"kind": "power", "boot_id": machine.boot_id, "up_seconds": machine.uptime}
        if work == "look":
            return [power]
        if refusal := self._refuse(split_lock_holder(script.params["run"])[0]):
            return [power, refusal]
        if work == "off":
            machine.at(2.0, self.off)
        return [power, {"kind": "ordered" if work == "off" else "allowed"}]

    def _refuse(self, run: str) -> ScriptRecord | None:
        lock, until = self.machine.locked_by, self.inhibited_until
        if self.people:
            return {"kind": "refused", "why": f"somebody is logged in: {self.people}", "about": "people"}
        if lock is not None and lock[0] != run:
            return {"kind": "refused", "why": f"run {lock[0]} has it", "about": "machine_lock"}
        if until is not None and self.machine.fake_clock.now() < until:
            return {"kind": "refused", "why": "systemd-inhibit (pid 7) keeps it on", "about": "inhibitor"}
        return None
