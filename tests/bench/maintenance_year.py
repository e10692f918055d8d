"""Simulated days of maintenance control: groups, windows, freezes, people and faults, and each rule checked.

    python -m tests.bench.maintenance_year
    python -m tests.bench.maintenance_year --days 60 --groups 100 --seed 7

Nothing is patched, and no clock is waited for: look_at_group() and judge_window() get what would be known, what they
decide is carried out in a simulated fleet, and a checker that shares no code with them looks at every step. The exit
status is 1 if a rule was broken.
"""

import argparse
import sys
import time

from tests.support.maintenance_control.simulation import simulate
from tests.support.maintenance_control.world import Setting

_SHOWN = 5


def main() -> int:
    """Simulate, print, and return whether a rule was broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", type=int, default=12)
    parser.add_argument("--machines", type=int, default=4)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--seed", type=int, default=40)
    words = parser.parse_args()
    began = time.perf_counter()
    result = simulate(Setting(days=words.days, groups=words.groups, machines=words.machines, seed=words.seed))
    print(f"{words.groups} groups of {words.machines} machines, {words.days} days, seed {words.seed}")
    print(f"{result.looks} looks, {result.missed} missed, {result.runs} runs\n")
    print(result.build_table())
    for rule, cases in result.checker.violations.items():
        if cases:
            print(f"\n{rule}:", *cases[:_SHOWN], sep="\n  ")
    print(f"\n{result.count_violations()} violations, {time.perf_counter() - began:.0f} s")
    return 1 if result.count_violations() else 0


if __name__ == "__main__":
    sys.exit(main())
