"""A simulated machine for the real engine: it keeps locks, runs jobs, reboots and gets into trouble as told."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol, runtime_checkable

from tasks.domain.errors import FleetpatchError, Unreachable
from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.transport import Job, JobStatus, Script, ScriptRecord
from tasks.rules.machine_checks.precheck import NEXT_BOOT_CHECK
from tasks.steps.machine.machine_lock import split_lock_holder
from tests.support.fake_clock import FakeClock
from tests.support.fake_manager import PackageWorld
from tests.support.fake_packages import FakePackage
from tests.support.fake_power import PowerSupply
from tests.support.fake_transport import Call, FakeTransport
from tests.support.fake_updaters import Updaters
from tests.support.reboot_guard import RebootGuard


@runtime_checkable
class Waking(Protocol):
    """A clock on which something happens at its very moment."""

    def call_at(self, when: datetime, what: Callable[[], None]) -> None:
        """Have something happen then."""
        ...


KNOCK_SECONDS = 3.0  # what a try to reach a machine that is not there costs


@dataclass(frozen=True, slots=True)
class Begun:
    """A transaction that a job really began on a machine, whatever anybody was told of it."""

    job_id: str
    work: str
    number: int
    at: datetime
    ended_at: datetime | None


@dataclass
class Boots:
    """How a machine reboots.

    Attributes:
        down_after: seconds from the order until it stops answering; None: it never goes down.
        up_after: seconds from then until it answers; None: it never comes back.
        same_id: it comes back with the boot id that it had, as if it had never gone down.
        refuses: why its script refuses the order, or "".
        count: how often it went down.
        orders: boot ids that were expected by the orders that reached it, and ``ordered_at`` when they did.
    """

    down_after: float | None = 2.0
    up_after: float | None = 20.0
    same_id: bool = False
    refuses: str = ""
    can: bool = True
    count: int = 0
    orders: list[str] = field(default_factory=list)
    ordered_at: list[datetime] = field(default_factory=list)


class SimMachine(FakeTransport):
    """One machine of the fleet: a FakeTransport that goes away, comes back, reboots and runs packages' rules.

    Attributes:
        world: its packages.
        boots: how it reboots.
        listening: sockets that answer now; ``gone_after_reboot`` are lost with the next reboot.
        trouble: (when, what then) still to come, by the one clock.
        locked_by: (run, who, until) of the run that has it; lock_holder is that run with a name of the machine.
        updaters: what updates it by itself.
        guard: its look at what others do, before it is rebooted.
    """

    def __init__(self, clock: FakeClock, name: str, packages: Sequence[FakePackage], skew_seconds: float = 0.0) -> None:
        super().__init__(clock, name)
        self.fake_clock = clock
        self.world = PackageWorld(clock, list(packages), skew_seconds=skew_seconds)
        self.boots = Boots()
        self.listening: tuple[str, ...] = ("tcp/22", "tcp/443")
        self.failed_services: tuple[str, ...] = ()
        self.list_runs: Callable[[], list[ScriptRecord]] = lambda: self.world.services.list_runs(self.boot_id)
        self.gone_after_reboot: tuple[str, ...] = ()
        self.free_kib = 20_000_000
        self.trouble: list[tuple[datetime, Callable[[], None]]] = []
        self._plans_by_work: list[tuple[str, float, Callable[[], None]]] = []
        self._away_until: datetime | None = None
        self.is_off = False
        self._boot = 1
        self._booted_at = clock.now() - timedelta(days=10)
        self.locked_by: tuple[str, str, float] | None = None
        self.lock_attempt = 1
        self.lock_holder = ""
        self.world.move_in(self)
        self.world.lasting_skew = self.lasting_skew
        self.answer("facts", lambda _: self._facts())
        self.answer("reboot", self._reboot)
        self.guard = RebootGuard(self.world)
        self.answer("reboot_obstacles", lambda _: self.guard.records(self.boot_id))
        self.updaters = Updaters()
        self.answer("machine_lock", self._take_lock)
        self.answer("lock", self._show_lock)
        self.answer("fake_updaters", self._order_updaters)
        self.power = PowerSupply(self)
        self.answer("power", self.power.answer)
        self.answer("next_boot", {"kind": "survey", "ignores_devices": False, "fstab_is_proven": True})
        self.answer("probe", {"kind": "probe", "exit_code": 0, "text": ""})

    @property
    def boot_id(self) -> str:
        """Of the boot that it runs."""
        return f"{self.name}-boot-{self._boot}"

    @property
    def rests_for(self) -> str:
        """Id of the run for which its updaters rest in this boot, or ""."""
        resting = self.updaters.resting and self.updaters.boot == self.boot_id
        return self.updaters.by if resting else ""

    @property
    def uptime(self) -> float:
        """How long it has been up, which nobody can set."""
        return (self.fake_clock.now() - self._booted_at).total_seconds()

    def lasting_skew(self, script: Script) -> float:
        """Return how far its clock was off when an order's sender compared it, unless it has rebooted since."""
        boot, _, base = str(script.params.get("clock", "")).rpartition(" ")
        return float(base) - self._booted_at.timestamp() if boot == self.boot_id else float("-inf")

    def begin_boot(self) -> None:
        self._boot += 1
        self._booted_at = self.fake_clock.now()

    def cut(self, seconds: float) -> None:
        """Take it off the network for so long; jobs go on."""
        self._away_until = self.fake_clock.now() + timedelta(seconds=seconds)
        self._is_open = False

    def power_cut(self) -> None:
        """What runs is lost half-way, and it boots anew at once."""
        self.world.crash(self)
        self.begin_boot()

    def on_start(self, work: str, seconds: float, then: Callable[[], None]) -> None:
        """So many seconds after the next job of that work was started, do this."""
        self._plans_by_work.append((work, seconds, then))

    def at(self, seconds: float, then: Callable[[], None]) -> None:
        """So many seconds from now, do this; on a clock that can wake it at that very moment, else at its next call."""
        when = self.fake_clock.now() + timedelta(seconds=seconds)
        self.trouble.append((when, then))
        if isinstance(self.fake_clock, Waking):
            self.fake_clock.call_at(when, self._let_trouble_come)

    def lock_at_reboot_question(self, seconds: float) -> None:
        """Let somebody else change packages from the first question before a reboot, for so many seconds."""

        def answer(script: Script) -> list[ScriptRecord]:
            if not self.world.locks:
                now = self.fake_clock.now()
                self.world.locks = ((now, now + timedelta(seconds=seconds)),)
            return self.guard.records(self.boot_id)

        self.answer("reboot_obstacles", answer)

    def jobs(self) -> list[Job]:
        """Return the jobs that were started, each once."""
        return [started.job for started in self._jobs.values()]

    def installs(self) -> list[Job]:
        """Return the installing ones."""
        return [job for job in self.jobs() if job.script.params["work"] == "install"]

    def start_job(self, job: Job, *, deadline: Deadline) -> JobStatus:
        """See Transport; an order prolongs its run's lock."""
        view, mine = super().start_job(job, deadline=deadline), self.locked_by
        if mine is not None and mine[2] and mine[0] == split_lock_holder(job.script.params.get("lock_run"))[0]:
            self.locked_by = (*mine[:2], max(mine[2], float(str(job.script.params.get("lock_until", 0)))))
        return view

    def begun(self) -> list[Begun]:
        """Return the transactions that jobs really began."""
        found: list[Begun] = []
        for job_id, started in self._jobs.items():
            until = started.lost_at or self.fake_clock.now()
            events: list[tuple[datetime, ScriptRecord]] = [
                (started.at + timedelta(seconds=after), record) for after, record in started.plan.steps
            ]
            ends = {record["number"]: at for at, record in events if record["kind"] == "transaction_ended"}
            found += [
                Begun(job_id, str(started.job.script.params["work"]), int(str(r["number"])), at, ends.get(r["number"]))
                for at, r in events
                if r["kind"] == "transaction_started" and at <= until
            ]
        return found

    def _begin(self, call: Call, deadline: Deadline) -> FleetpatchError | None:
        self._let_trouble_come()
        away = self._away_until is not None and self.fake_clock.now() < self._away_until
        if self.is_off or away:
            self.calls.append(call)
            self._is_open = False
            self._pass(min(KNOCK_SECONDS, max(0.1, deadline.remaining_seconds(self.clock))), deadline)
            raise Unreachable(f"no answer from {self.name}", machine=self.name)
        fault = super()._begin(call, deadline)
        if call.verb == "start" and call.name not in self._jobs and call.script is not None:
            for plan in [p for p in self._plans_by_work if p[0] == call.script.params.get("work")]:
                self._plans_by_work.remove(plan)
                self.at(plan[1], plan[2])
        return fault

    def _let_trouble_come(self) -> None:
        if not self.trouble:
            return
        for due in [due for due in self.trouble if due[0] <= self.fake_clock.now()]:
            self.trouble.remove(due)
            due[1]()

    def _order_updaters(self, script: Script) -> list[ScriptRecord]:
        work, run = str(script.params["work"]), split_lock_holder(script.params["lock_run"])[0]
        told = self.updaters.order(work, run, self.boot_id)
        if work == "pause" and self.locked_by is not None:
            left = self.locked_by[2] - self.fake_clock.now().timestamp() - self.world.skew_seconds
            when = self.fake_clock.now() + timedelta(seconds=max(60.0, left))
            if isinstance(self.fake_clock, Waking):
                self.fake_clock.call_at(when, partial(self.lock_ends, run, self.boot_id))
        return told

    def lock_ends(self, run: str, boot: str) -> None:
        """Bring back what a run had rest in a boot, as the machine's own timer does."""
        if (self.updaters.by, self.updaters.boot, self.boot_id) == (run, boot, boot):
            self.updaters.order("restore", run, boot)

    def _take_lock(self, script: Script) -> ScriptRecord:
        holder, now = str(script.params["run"]), self.fake_clock.now().timestamp() + self.world.skew_seconds
        run, whose = split_lock_holder(holder)[0], self.lock_holder or (self.locked_by or ("",))[0]
        if self.locked_by is not None and self.locked_by[2] > now and whose not in {run, holder}:
            return {"kind": "taken", "run": whose, "by": self.locked_by[1], "until": self.locked_by[2]}
        if script.params.get("release"):
            self.locked_by, self.lock_holder = None, ""
            return {"kind": "released", "run": run}
        self.lock_holder = holder
        self.locked_by = (run, str(script.params["by"]), float(str(script.params["until"])))
        self.lock_attempt = int(str(script.params["attempt"]))
        return {"kind": "locked", "run": run}

    def _show_lock(self, script: Script) -> list[ScriptRecord]:
        run, by, until = self.locked_by or ("", "", 0.0)
        now = self.fake_clock.now().timestamp() + self.world.skew_seconds
        lock: dict[str, object] = {
            "run": self.lock_holder or run,
            "by": by,
            "until": until,
            "attempt": self.lock_attempt,
        }
        told: list[ScriptRecord] = [{"kind": "lock", "job": "", "label": "", "began": None, "now": now, **lock}]
        if script.params.get("lift"):
            is_it = (script.params["run"], script.params["until"]) == (lock["run"], f"{until:.0f}")
            if is_it:
                self.locked_by, self.lock_holder = None, ""
            told.append({"kind": "lifted" if is_it else "changed", "run": run})
        return told

    def _facts(self) -> list[ScriptRecord]:
        epoch = self.fake_clock.now().timestamp() + self.world.skew_seconds
        return [
            {"kind": "os", "id": "fake", "version": "1", "name": "Fake 1"},
            {"kind": "kernel", "release": "6.1", "arch": "x86_64", "boot_id": self.boot_id, "uptime": self.uptime},
            {"kind": "clock", "epoch": epoch},
            {"kind": "privilege", "way": "root"},
            {"kind": "runner", "name": "systemd", "can_reboot": self.boots.can},
            {"kind": "manager", "name": "fake"},
            *(self._disk(role) for role in ("system", "packages")),
            {"kind": "services", "failed_known": True, "listening_known": True},
            *(
                {"kind": "finding", "check": NEXT_BOOT_CHECK, "level": "warn", "message": why}
                for why in filter(None, [self.world.unbootable])
            ),
            *({"kind": "socket", "name": name} for name in self.listening),
            *self.list_runs(),
            *({"kind": "service", "name": name} for name in (*self.failed_services, *self.world.services.failed)),
        ]

    def _disk(self, role: str) -> ScriptRecord:
        total = 40_000_000
        return {
            "kind": "disk",
            "role": role,
            "mount": "/",
            "total_kib": total,
            "free_kib": self.free_kib,
            "free_files": None,
            "read_only": False,
        }

    def _reboot(self, script: Script) -> ScriptRecord:
        expected = str(script.params["expected_boot_id"])
        self.boots.orders.append(expected)
        self.boots.ordered_at.append(self.fake_clock.now())
        refused = self.boots.refuses or ("" if expected == self.boot_id else "it has rebooted already")
        if refused:
            return {"kind": "refused", "why": refused, "boot_id": self.boot_id}
        if self.world.unbootable:
            return {"kind": "refused", "why": self.world.unbootable, "boot_id": self.boot_id, "about": "boot"}
        skew = max(self.world.skew_seconds, self.lasting_skew(script))
        if self.fake_clock.now().timestamp() + skew > float(str(script.params.get("latest", "inf"))):
            why = "the order came after the last moment at which a reboot fits into the window"
            return {"kind": "refused", "why": why, "boot_id": self.boot_id, "about": "window"}
        again = any(what == self._go_down for _, what in self.trouble)  # as the real one: one order is enough
        if not again and (others := self.guard.refusal(self.boot_id)):
            return others
        if self.boots.down_after is not None and not again:
            self.at(self.boots.down_after, self._go_down)
        return {"kind": "ordered", "boot_id": self.boot_id, "again": again}

    def _go_down(self) -> None:
        boots = self.boots
        if self.guard.gives_up():
            return
        boots.count += 1
        self.world.crash(self)
        if boots.up_after is None:
            self.is_off = True
            return
        self.cut(boots.up_after)
        if not boots.same_id:
            self.begin_boot()
            self.world.rebooted()
        self.listening = tuple(name for name in self.listening if name not in self.gone_after_reboot)
