"""The guests of a simulated host: they leave and come back in their time, and the host's reboot takes all that run."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from tasks.domain.protocols.transport import Script, ScriptRecord
from tests.support.sim_machine import SimMachine


@dataclass
class SimGuest:
    """One guest.

    Attributes:
        leaves_after: seconds from the order until it is away; None: it ignores the order.
        off_at: when it is away.
        was_cut: whether it ran, or was only ordered away, when its host went down; or was switched off hard.
    """

    is_running: bool = True
    is_paused: bool = False
    disks: str = "alike"
    leaves_after: float | None = 20.0
    comes_back: bool = True
    off_at: datetime | None = None
    was_cut: bool = False


@dataclass
class SimHypervisor:
    """The guests of a host, by id. It answers the script ``guests``.

    Attributes:
        orders: "work id" of each order, in order.
        unread: why the hypervisor does not tell.
    """

    host: SimMachine
    guests: dict[str, SimGuest] = field(default_factory=dict)
    orders: list[str] = field(default_factory=list)
    unread: str = ""
    _boot: str = ""

    def __post_init__(self) -> None:
        self._boot = self.host.boot_id
        self.host.answer("guests", self._answer)

    @property
    def running(self) -> set[str]:
        """Ids of those that run now."""
        self._pass_time()
        return {name for name, guest in self.guests.items() if guest.is_running}

    @property
    def cut(self) -> set[str]:
        """Ids of those that lost what they were doing."""
        self._pass_time()
        return {name for name, guest in self.guests.items() if guest.was_cut}

    def _pass_time(self) -> None:
        now = self.host.fake_clock.now()
        for guest in self.guests.values():
            if guest.off_at is not None and guest.off_at <= now:
                guest.is_running, guest.off_at = False, None
        if self.host.boot_id != self._boot:
            self._boot = self.host.boot_id
            for guest in self.guests.values():
                guest.was_cut |= guest.is_running or guest.is_paused
                guest.is_running, guest.is_paused, guest.off_at = False, False, None

    def _answer(self, script: Script) -> list[ScriptRecord]:
        self._pass_time()
        params = script.params
        if params["work"] == "list":
            listed: list[ScriptRecord] = [
                {
                    "kind": "guest",
                    "id": name,
                    "name": name.partition(":")[2],
                    "state": "paused" if guest.is_paused else "running",
                    "disks": guest.disks,
                }
                for name, guest in self.guests.items()
                if guest.is_running or guest.is_paused
            ]
            unread: list[ScriptRecord] = [{"kind": "unread", "why": self.unread}] if self.unread else []
            return [*listed, *unread, {"kind": "listed"}]
        return [self._order(str(params["work"]), name) for name in str(params["guests"]).split()]

    def _order(self, work: str, name: str) -> ScriptRecord:
        self.orders.append(f"{work} {name}")
        guest = self.guests[name]
        now = self.host.fake_clock.now()
        if work == "away" and guest.leaves_after is not None:
            guest.off_at = now + timedelta(seconds=guest.leaves_after)
        elif work == "force":
            guest.is_running, guest.was_cut, guest.off_at = False, True, None
        elif work == "back" and guest.comes_back:
            guest.is_running, guest.off_at = True, None
        return {"kind": "ordered", "id": name}
