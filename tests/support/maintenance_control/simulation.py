"""Runs simulated days of maintenance control: looks that come, that are missed, and that come twice."""

from dataclasses import dataclass
from random import Random

from tasks.rules.maintenance import look as rules
from tests.support.maintenance_control.checker import RULES, Checker
from tests.support.maintenance_control.world import DAY, HOUR, START, STEP, Group, Setting, World


@dataclass(frozen=True)
class Result:
    """What was found."""

    world: World
    checker: Checker
    looks: int
    missed: int
    runs: int

    def count_violations(self) -> int:
        """Return how many cases broke a rule."""
        return sum(len(found) for found in self.checker.violations.values())

    def build_table(self) -> str:
        """Return a table: rule, how often it was at stake, how often it was broken."""
        width = max(map(len, RULES))
        lines = [f"{'rule':{width}}  at stake  violations"]
        lines += [
            f"{rule:{width}}  {self.checker.at_stake[rule]:8}  {len(self.checker.violations[rule]):10}"
            for rule in RULES
        ]
        return "\n".join(lines)


def simulate(setting: Setting, until_broken: str = "") -> Result:
    """Simulate, and check each look and each run. Stop when the given rule was broken."""
    world = World(setting)
    checker, dice = Checker(world), Random(setting.seed + 1)
    now, end, off_until = START, START + setting.days * DAY, START
    looks = missed = runs = 0
    while now < end and not checker.violations.get(until_broken):
        now += STEP
        world.pass_time(now)
        if world.happens(0.02):
            off_until = now + dice.choice((5, 14, 30)) * HOUR  # the controller is off
        for group in list(world.groups):
            runs += _open(world, checker, group)
            if now < max(off_until, group.watched_from) or (setting.trouble and dice.random() < 0.02):
                missed += 1
                continue
            looks += 1
            runs += _look(world, checker, group, dice)
            before = group.state
            run = world.let_people_act(group)
            if run is not None:
                runs += 1
                checker.see_run(group, before, run)
    return Result(world, checker, looks, missed, runs)


def _open(world: World, checker: Checker, group: Group) -> int:
    before, closed = group.state, len(world.closed)
    run = world.open_windows(group)
    if run is None:
        for _, window in world.closed[closed:]:
            checker.see_closed_window(group, before, window.start)
        return 0
    checker.see_run(group, before, run)
    return 1


def _look(world: World, checker: Checker, group: Group, dice: Random) -> int:
    view, before = world.build_view(group), group.state
    look = rules.look_at_group(group.policy, before, view, world.now)
    checker.see_look(group, before, view, look, world.now)
    run = world.carry_out(group, look)
    if run is not None:
        checker.see_run(group, look.state, run)
    if dice.random() < 0.1:
        asked = len(group.asked)
        again = rules.look_at_group(group.policy, group.state, view, world.now)
        stored = group.state
        world.carry_out(group, again)
        checker.see_repetition(group, stored, again, asked)
    return run is not None
