"""Runs a simulated year: ticks that come, that are missed, and that come twice."""

from dataclasses import dataclass
from random import Random

from tasks.rules.automatic import decision as rules
from tests.support.automatic_year.checker import RULES, Checker
from tests.support.automatic_year.fleet import DAY, HOUR, Setting
from tests.support.automatic_year.world import World


@dataclass(frozen=True)
class Result:
    """What was found."""

    world: World
    checker: Checker
    ticks: int
    missed: int
    doubled: int

    @property
    def installed(self) -> int:
        """How many updates were installed."""
        return sum(len(each.installed) for tries in self.world.tries.values() for each in tries)

    def count_violations(self) -> int:
        return sum(len(found) for found in self.checker.violations.values())

    def build_table(self) -> str:
        """Return a table: rule, how often it was at stake, how often it was broken."""
        width = max(map(len, RULES))
        lines = [f"{'rule':{width}}  at stake  violations"]
        lines += [
            f"{rule:{width}}  {self.checker.at_stake[rule]:8}  {len(self.checker.violations[rule]):10}"
            for rule in RULES
        ]
        causes = sorted(self.checker.causes.items())
        lines += ["", f"{'deadlines that were missed, all foretold, and why':{width}}  fixes"]
        lines += [f"{cause:{width}}  {count:5}" for cause, count in causes]
        return "\n".join(lines)


def simulate(setting: Setting, until_broken: str = "") -> Result:
    """Simulate a year, or less, and check each tick. Stop when the given rule was broken."""
    world = World(setting)
    checker = Checker(world)
    dice = Random(setting.seed + 1)
    now, end = setting.start, setting.start + setting.days * DAY
    off_until = now
    ticks = missed = doubled = 0
    while now < end and not checker.violations.get(until_broken):
        before, now = now, now + setting.tick
        world.pass_time(before, now)
        ticks += 1
        if dice.random() < 0.01 * setting.tick / DAY:
            off_until = now + dice.choice((5, 14, 30)) * HOUR  # the controller is off
        if now < off_until or dice.random() < setting.missed_ticks:
            missed += 1
            continue
        view = world.build_view(now)
        decision = rules.decide(world.policy, view, now)
        checker.look_around(now)
        checker.see(view, decision, now)
        world.carry_out(decision, now)
        if dice.random() < setting.doubled_ticks:
            doubled += 1
            known = world.take_snapshot()
            world.carry_out(decision, now)
            world.carry_out(rules.decide(world.policy, view, now), now)  # it has seen none of the changes
            checker.see_repetition(known, world.take_snapshot(), now)
    return Result(world, checker, ticks, missed, doubled)
