"""`make faults`: play schedules of faults, tell how it goes, end with 1 when something was seen that may not be."""
# ruff: noqa: T201 - a program that prints

import argparse
import logging
import secrets
import sys
from collections import Counter

from tests.faults.dice import roll
from tests.faults.mutant_runs import play_mutants
from tests.faults.simulated import Figures, play, play_number, soak
from tests.faults.sites import play_site_case, play_sites, roll_sites

SHOWN = 20
COLUMNS = ("before", "assess", "precheck", "install", "reboot", "validate", "between")
"""Steps at which faults strike: "before" the run, and "between" two steps, or in none."""


def main(words: list[str]) -> int:
    """Do what the words say; return the exit code."""
    options = _options(words)
    if options.machines is not None:
        from tests.faults.on_machines import main as on_machines

        return on_machines(options.machines, *options.only)
    seed = options.seed or secrets.token_hex(4)
    if options.random:
        from tests.faults.windows_random import main as on_windows

        print(f"seed {seed}: make faults SEED={seed} ARGS=--random runs the same faults again", flush=True)
        return on_windows(seed, options.cases, options.minutes)
    if options.case is not None:
        return _one(seed, options.case, sites=options.sites)
    print(f"seed {seed}: make faults SEED={seed} runs the same schedules again", flush=True)
    if options.mutations:
        return play_mutants(seed, options.cases)
    play_case = play_site_case if options.sites else play_number
    figures = soak(seed, range(options.cases), seconds=options.minutes * 60, tell=_tell, play_case=play_case)
    print(table(figures, " --sites" if options.sites else ""))
    return 1 if figures.violations else 0


def table(figures: Figures, words: str = "") -> str:
    """Return the figures for people."""
    kinds: Counter[str] = Counter()
    for (kind, _), count in figures.faults.items():
        kinds[kind] += count
    deaths = ", ".join(f"{step} {count}" for step, count in sorted(figures.deaths.items())) or "none"
    lines = [
        "",
        f"cases               {figures.cases} with {figures.machines} machines and {figures.controllers} controllers",
        f"calls               {figures.calls}, between any two of which a fault could strike",
        f"controllers killed  {sum(figures.deaths.values())}, at: {deaths}",
        f"faults              {sum(kinds.values())}",
        f"  {'':28}" + "".join(f"{step:>10}" for step in COLUMNS),
        *(f"  {kind:28}" + "".join(f"{figures.faults[kind, step]:10}" for step in COLUMNS) for kind in sorted(kinds)),
        "outcomes            " + ", ".join(f"{state} {count}" for state, count in figures.outcomes.most_common()),
        f"wall time           {figures.seconds:.0f} s",
        f"violations          {sum(map(len, figures.violations.values()))} in {len(figures.violations)} cases",
    ]
    for number, complaints in list(figures.violations.items())[:SHOWN]:
        lines.append(f"\ncase {number}: make faults SEED={figures.seed} ARGS='--case {number}{words}'")
        lines += [f"  {complaint}" for complaint in complaints[:SHOWN]]
    return "\n".join(lines)


def _one(seed: str, number: int, *, sites: bool) -> int:
    """Play one case and tell all about it."""
    logging.disable(logging.CRITICAL)
    case = roll_sites(seed, number) if sites else roll(seed, number)
    print(f"case {number} of seed {seed}: {len(case.world.machines)} machines, {case.request.window.minutes:g} minutes")
    print(f"request: {case.request.model_dump_json(exclude_defaults=True)}")
    print("faults:", *case.planned, sep="\n  ")
    world = play_sites(case) if sites else play(case)
    print("came about:", *(f"{f.kind} ({f.machine or 'all'}, {f.step})" for f in world.struck), sep="\n  ")
    for outcome in world.records.outcomes.values():
        print(f"{outcome.run_id} {outcome.machine}: {outcome.state}: {outcome.reason}")
    print("violations:", *(world.complaints or ["none"]), sep="\n  ")
    return 1 if world.complaints else 0


def _tell(figures: Figures) -> None:
    numbers = ", ".join(map(str, list(figures.violations)[:SHOWN]))
    print(
        f"{figures.seconds:6.0f} s  {figures.cases} cases, {sum(figures.deaths.values())} controllers killed, "
        f"{sum(figures.faults.values())} faults, {len(figures.violations)} cases with violations"
        + (f": {numbers}" if numbers else ""),
        flush=True,
    )


def _options(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__)
    parser.add_argument("--seed", default="", help="of the schedules; a random one by default")
    parser.add_argument("--cases", type=int, default=2000, help="how many to run at most (2000)")
    parser.add_argument("--minutes", type=float, default=10, help="for how many minutes to run at most (10)")
    parser.add_argument("--case", type=int, help="run only this case, and print everything about it")
    parser.add_argument("--sites", action="store_true", help="runs of several sites")
    parser.add_argument("--machines", nargs="?", const="", help="on real lab hosts; a word: only cases with it")
    parser.add_argument("--only", action="append", default=[], help="with --machines: apt, dnf, zypper or windows")
    parser.add_argument("--random", action="store_true", help="random faults on Windows machines of the tests")
    parser.add_argument("--mutations", action="store_true", help="break each law on purpose: all must be caught")
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
