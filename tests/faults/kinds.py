"""The kinds of faults: what each does to the world, and when it may strike.

A fault of the first table strikes at a moment: at any call of a controller, at a step of a machine, seconds into a job.
One of the second table is how a machine is from the start, and shows when it reboots or installs.
"""

import random
from collections.abc import Callable
from datetime import timedelta
from functools import partial

from tasks.domain.errors import ManagerBusy
from tasks.rules.calendar.freezes import Freeze
from tests.faults.controller import Controller
from tests.faults.machine import FaultyMachine
from tests.faults.world import Strike, World
from tests.support.fake_packages import FakePackage

Do = Callable[[World, Controller | None, FaultyMachine], None]
Make = Callable[[random.Random], Do]

FOR_GOOD = 1e6
SERVICES = ("dbus.service", "nginx.service", "cron.service", "app@one.service")


def _kill(dice: random.Random) -> Do:
    after = dice.random() < 0.5

    def do(world: World, controller: Controller | None, machine: FaultyMachine) -> None:
        living = world.living()
        victim = controller if controller in living else (living[0] if living else None)
        if victim is not None:
            world.kill(victim, after_the_act=after and victim is controller)

    return do


def _freeze(dice: random.Random) -> Do:
    """Stop a controller for a while; when that outlasts its lease, somebody else is likely to take its run up."""
    seconds = dice.choice([5.0, 70.0, 200.0, 900.0])
    taken_after = dice.choice([None, 62.0, 65.0, 69.0, 150.0])

    def do(world: World, controller: Controller | None, machine: FaultyMachine) -> None:
        for each in [controller] if controller else world.living()[:1]:
            each.frozen_until = world.hub.now + timedelta(seconds=seconds)
            if taken_after is not None and taken_after < seconds:
                when = world.hub.now + timedelta(seconds=taken_after)
                world.clock.call_at(when, partial(world.take_up_too_early, each.run_id))

    return do


def _hold_up(dice: random.Random) -> Do:
    """Stop a controller with an order on its way, and let somebody else take its run up; to settle it, most often."""
    seconds, settled = dice.choice([90.0, 200.0, 900.0]), dice.random() < 0.7

    def do(world: World, controller: Controller | None, machine: FaultyMachine) -> None:
        if controller is None:
            return
        controller.frozen_until = world.hub.now + timedelta(seconds=seconds)
        if settled:
            world.leases.stops.setdefault(controller.run_id, world.stop_request())
        for after in (62.0, 75.0):  # the first one may come too early, since leases are renewed now and then
            when = world.hub.now + timedelta(seconds=after)
            world.clock.call_at(when, partial(world.take_up_too_early, controller.run_id))

    return do


def _jump(dice: random.Random) -> Do:
    by = timedelta(seconds=dice.choice([-3600, -240, 240, 3600]))

    def do(world: World, controller: Controller | None, machine: FaultyMachine) -> None:
        for each in world.controllers:
            each.offset += by
        world.clock_is_honest = False

    return do


def _records_away(*choices: float) -> Make:
    def make(dice: random.Random) -> Do:
        seconds = dice.choice(choices)

        def do(world: World, controller: Controller | None, machine: FaultyMachine) -> None:
            world.outage.until = world.hub.now + timedelta(seconds=seconds)

        return do

    return make


def _answer_lost(dice: random.Random) -> Do:
    count = dice.choice([1, 1, 3])

    def do(world: World, controller: Controller | None, machine: FaultyMachine) -> None:
        world.outage.lost_answers += count

    return do


def _on_machine(act: Callable[[FaultyMachine, float], None], *choices: float) -> Make:
    """Return a fault that does something to one machine, with one of these figures."""

    def make(dice: random.Random) -> Do:
        figure = dice.choice(choices or (0.0,))
        return lambda world, controller, machine: act(machine, figure)

    return make


def _refuse_login(machine: FaultyMachine, seconds: float) -> None:
    machine.refuses_login = True
    machine.at(seconds, lambda: setattr(machine, "refuses_login", False))


def _lists_locked(machine: FaultyMachine, seconds: float) -> None:
    machine.world.assess_error = ManagerBusy("apt-daily holds the lock")
    machine.at(seconds, lambda: setattr(machine.world, "assess_error", None))


def _administrator(dice: random.Random) -> Do:
    """Let somebody change packages with tools of their own; the last figure is a question that nobody answers."""
    seconds, after = dice.choice([8.0, 45.0, 400.0, 3000.0, FOR_GOOD]), dice.choice([0.0, 0.0, 1.0, 30.0])
    place = int(min(seconds, 5000) + after)

    def begin(machine: FaultyMachine) -> None:
        machine.lock(seconds)
        # he gets none as the machine goes down; and our jobs know only of what was there as they began
        if machine.guard.others_at_work and not machine.busy:
            undo = machine.world.reconfigure(place)
            machine.at(seconds, undo)

    return lambda world, controller, machine: machine.at(after, lambda: begin(machine))


def _inhibit(dice: random.Random) -> Do:
    """Let somebody ask that the machine stays up, for a while."""
    seconds, after = dice.choice([20.0, 400.0, FOR_GOOD]), dice.choice([0.0, 1.0, 1.0])

    def do(world: World, controller: Controller | None, machine: FaultyMachine) -> None:
        machine.at(after, lambda: setattr(machine.guard, "inhibitor", "backup (pid 7) keeps it up"))
        machine.at(after + seconds, lambda: setattr(machine.guard, "inhibitor", ""))

    return do


def _stop(dice: random.Random) -> Do:
    def do(world: World, controller: Controller | None, machine: FaultyMachine) -> None:
        run_id = controller.run_id if controller else next(iter(world.records.runs), "")
        if world.is_open(run_id):
            world.leases.stops.setdefault(run_id, world.stop_request())

    return do


def _declare_freeze(dice: random.Random) -> Do:
    """Declare a freeze that takes the window away, or (one in four) one that begins when the window is over."""
    hours = dice.choice([-1, 0, 1, 24])

    def do(world: World, controller: Controller | None, machine: FaultyMachine) -> None:
        start = world.hub.now + timedelta(hours=hours)
        world.freezes.append(Freeze(start, start + timedelta(days=2), "release"))

    return do


def _too_early(dice: random.Random) -> Do:
    def do(world: World, controller: Controller | None, machine: FaultyMachine) -> None:
        if controller is not None and world.is_open(controller.run_id):
            world.take_up_too_early(controller.run_id)

    return do


def _stall(dice: random.Random) -> Do:
    """Let the start of a job stall; often its controller dies meanwhile, and its run is settled by another one."""
    seconds, settled = dice.choice([30.0, 150.0, 400.0, 1500.0]), dice.random() < 0.5

    def do(world: World, controller: Controller | None, machine: FaultyMachine) -> None:
        machine.late_jobs.stall = seconds
        if settled and controller is not None:
            world.leases.stops.setdefault(controller.run_id, world.stop_request())
            world.kill(controller, after_the_act=True)

    return do


def _many_unreachable(dice: random.Random) -> Do:
    """Take the network away from all machines, or from all but one."""
    seconds, spared = dice.choice([8.0, 40.0, FOR_GOOD]), dice.random() < 0.7

    def do(world: World, controller: Controller | None, machine: FaultyMachine) -> None:
        for each in world.machines.values():
            if not (spared and each is machine):
                each.cut(seconds)

    return do


def _skew(machine: FaultyMachine, seconds: float) -> None:
    machine.world.skew_seconds += seconds


STRIKES: dict[str, Make] = {
    "controller killed": _kill,
    "controller frozen": _freeze,
    "order in transit": _hold_up,
    "controller's clock jumps": _jump,
    "resumed too early": _too_early,
    "stop requested": _stop,
    "freeze declared": _declare_freeze,
    "records unavailable": _records_away(3, 30, 90, 600),
    "records unavailable for good": _records_away(FOR_GOOD),
    "answer of the records lost": _answer_lost,
    "connection lost": _on_machine(FaultyMachine.cut, 0.5, 5, 40, 300),
    "unreachable for good": _on_machine(FaultyMachine.cut, FOR_GOOD),
    "many unreachable": _many_unreachable,
    "power cut": _on_machine(lambda machine, _: machine.power_cut()),
    "job's shell killed": _on_machine(lambda machine, _: machine.kill_job(whole=False)),
    "whole job killed": _on_machine(lambda machine, _: machine.kill_job(whole=True)),
    "job's directory deleted": _on_machine(lambda machine, _: machine.forget_jobs()),
    "disk full in a transaction": _on_machine(lambda machine, _: machine.fill_disk()),
    "disk full before": _on_machine(lambda machine, _: setattr(machine, "free_kib", 100)),
    "sshd restarted": _on_machine(lambda machine, _: machine.restart_sshd()),
    "login refused for a while": _on_machine(_refuse_login, 3, 25, 300),
    "other host key": _on_machine(lambda machine, _: setattr(machine, "stranger", True)),
    "root read-only": _on_machine(lambda machine, _: setattr(machine, "read_only", True)),
    "package lock held": _on_machine(FaultyMachine.lock, 20, 110, 400, 5000),
    "administrator's transaction": _administrator,
    "administrator begins during our order": _administrator,
    "inhibitor lock held": _inhibit,
    "package lists locked": _on_machine(_lists_locked, 20, 2000),
    "lock removed by a person": _on_machine(lambda machine, _: machine.lift_lock()),
    "machine's clock jumps": _on_machine(_skew, -3600, -100, 100, 3600),
    "job begins late": _on_machine(lambda machine, s: setattr(machine.late_jobs, "late", s), 5, 15, 35, 60, 300),
    "start of a job stalls": _stall,
    "machine's clock set back": _on_machine(_skew, -3600, -600, -60),
}
"""Faults that strike at a moment."""

WITH_AN_ORDER = frozenset(
    {
        "order in transit",
        "administrator begins during our order",
        "inhibitor lock held",
        "machine's clock set back",
        "job begins late",
        "start of a job stalls",
    }
)
"""Faults that strike when a job is being handed to the machine, or a reboot ordered."""

BREAKING = frozenset({"power cut", "whole job killed", "disk full in a transaction", "update fails"})
"""Faults that may leave a package half-configured: what else does is ours."""

CLOCKS = (
    frozenset({"controller's clock jumps"}),
    frozenset({"machine's clock jumps", "power cut"}),
    frozenset({"machine's clock set back", "power cut"}),
)
"""Faults after which, all of one group together, the window can't be kept by the true time: a machine whose clock jumps
is known by the time since its boot, until it has booted anew."""


def _after_boot(act: Callable[[FaultyMachine], None]) -> Callable[[FaultyMachine, random.Random], None]:
    return lambda machine, dice: machine.after_boot.append(lambda: act(machine))


def _some_package(machine: FaultyMachine, dice: random.Random) -> FakePackage | None:
    return dice.choice(machine.world.packages) if machine.world.packages else None


def _update_fails(machine: FaultyMachine, dice: random.Random) -> None:
    package = _some_package(machine, dice)
    if package is not None:
        package.fails = "maintainer-script: cannot migrate data"


def _update_ignored(machine: FaultyMachine, dice: random.Random) -> None:
    package = _some_package(machine, dice)
    if package is not None:
        package.ignored = True


def _half_configured(machine: FaultyMachine, dice: random.Random) -> None:
    package = _some_package(machine, dice)
    if package is not None:
        package.installed, package.broken = package.available, True


def _locked_after_boot(machine: FaultyMachine, dice: random.Random) -> None:
    seconds = dice.choice([100.0, 500.0, 5000.0, 5000.0, 5000.0])
    for package in machine.world.packages:
        package.asks_reboot = True
    machine.after_boot.append(lambda: machine.lock(machine.boots.up_after or 0.0))
    machine.after_boot.append(lambda: machine.at(machine.boots.up_after or 0.0, lambda: machine.lock(seconds)))


def _files_replaced(machine: FaultyMachine, dice: random.Random) -> None:
    for package in machine.world.packages:
        package.used_by = tuple(unit for unit in SERVICES if dice.random() < 0.5)


def _restart_fails(machine: FaultyMachine, dice: random.Random) -> None:
    _files_replaced(machine, dice)
    machine.world.services.fails = (dice.choice(SERVICES),)


def _restart_hangs(machine: FaultyMachine, dice: random.Random) -> None:
    _files_replaced(machine, dice)
    machine.world.services.hangs[dice.choice(SERVICES)] = dice.choice([100.0, 2000.0])


def _pending_reboot(machine: FaultyMachine, dice: random.Random) -> None:
    machine.world.shelf.reboot_reasons.append("from before")


FROM_THE_START: dict[str, Callable[[FaultyMachine, random.Random], None]] = {
    "never goes down": lambda machine, dice: setattr(machine.boots, "down_after", None),
    "never comes back": lambda machine, dice: setattr(machine.boots, "up_after", None),
    "same boot id": lambda machine, dice: setattr(machine.boots, "same_id", True),
    "comes back slowly": lambda machine, dice: setattr(machine.boots, "up_after", dice.choice([300.0, 1500.0])),
    "comes back too late": lambda machine, dice: setattr(machine.boots, "up_after", 4000.0),
    "refuses to reboot": lambda machine, dice: setattr(machine.boots, "refuses", "not now"),
    "can't reboot": lambda machine, dice: setattr(machine.boots, "can", False),
    "other host key after boot": _after_boot(lambda machine: setattr(machine, "stranger", True)),
    "root read-only after boot": _after_boot(FaultyMachine.come_back_read_only),
    "old kernel after boot": lambda machine, dice: setattr(machine, "asks_after_boot", "the kernel is the old one"),
    "package lock held after boot": _locked_after_boot,
    "services run replaced files": _files_replaced,
    "service does not start again": _restart_fails,
    "service restarts slowly": _restart_hangs,
    "services gone after boot": lambda machine, dice: setattr(machine, "gone_after_reboot", ("tcp/443",)),
    "reboot pending before": _pending_reboot,
    "update fails": _update_fails,
    "update does nothing": _update_ignored,
    "repair needed": _half_configured,
    "slow mirror": lambda machine, dice: setattr(machine.world, "bytes_per_second", dice.choice([0, 10, 100, 2000])),
    "machine's clock off": lambda machine, dice: setattr(
        machine.world, "skew_seconds", dice.choice([-3600.0, -200.0, -20.0, 20.0, 200.0, 3600.0])
    ),
}
"""What a machine may be like from the start."""


def strike(kind: str, machine: FaultyMachine, dice: random.Random) -> Strike:
    """Return a fault of the first table, ready to strike one machine."""
    do = STRIKES[kind](dice)

    def struck(world: World, controller: Controller | None) -> None:
        world.happened(kind, controller, machine.name)
        do(world, controller, machine)

    return struck
