"""A simulated year of automatic patching: 2,000 machines, the releases of a real year, and each rule checked.

    python -m tests.bench.automatic_year
    python -m tests.bench.automatic_year --machines 200 --days 90 --seed 7

Nothing is patched, and no clock is waited for: decide() gets what would be known, what it decides is carried out in a
simulated fleet, and a checker that shares no code with it looks at every tick. The exit status is 1 if a rule was
broken.
"""

import argparse
import sys
import time
from collections import Counter
from datetime import timedelta

from tests.support.automatic_year.fleet import PLACES, Setting
from tests.support.automatic_year.simulation import Result, simulate

_SHOWN = 5


def report(result: Result, seconds: float) -> None:
    """Print what was found."""
    setting, world = result.world.setting, result.world
    states = Counter(each.state.value for each in world.rollouts)
    print(
        f"{setting.machines} machines, {setting.locations} locations, {setting.days} days from {setting.start:%Y-%m-%d}"
    )
    print(f"{result.ticks} ticks, {result.missed} missed, {result.doubled} twice; seed {setting.seed}")
    shown = ", ".join(f"{count} {state}" for state, count in states.items())
    print(f"{len(world.started)} runs in {len(world.rollouts)} rollouts ({shown})")
    print(f"{result.installed} updates installed, {len(world.told)} messages to people\n")
    print(result.build_table())
    for rule, found in result.checker.violations.items():
        if found:
            print(f"\n{rule}:", *found[:_SHOWN], sep="\n  ")
    print(f"\n{result.count_violations()} violations, {seconds:.0f} s")


def main() -> int:
    """Simulate, print, and return whether a rule was broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--machines", type=int, default=2000)
    parser.add_argument("--locations", type=int, default=12, choices=range(1, len(PLACES) + 1), metavar="1..12")
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--tick-minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=2022)
    words = parser.parse_args()
    began = time.perf_counter()
    result = simulate(
        Setting(
            machines=words.machines,
            locations=words.locations,
            days=words.days,
            tick=timedelta(minutes=words.tick_minutes),
            seed=words.seed,
        )
    )
    report(result, time.perf_counter() - began)
    return 1 if result.count_violations() else 0


if __name__ == "__main__":
    sys.exit(main())
