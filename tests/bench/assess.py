"""What an assessment of 20 machines costs: fleetpatch beside OpenSSH, Ansible and pyinfra.

    make bench ARGS="--hosts 20 --rounds 5"

Boots lab machines of its own, and removes them. Everything is measured in one run, the order turned round after each
round, after one round that only warms caches. Memory is taken in a round of its own, as looking at it costs time.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.bench import contenders
from tests.bench.contenders import BEFORE, Contender
from tests.bench.costs import (
    PROGRAMS,
    Cost,
    Goal,
    about,
    judge,
    measure,
    measure_with_machines,
    note,
    prepare_programs,
    table,
)
from tests.bench.options import add_common_options
from tests.lab.fleet import Lab, LabHost

_FLEETPATCH: Final = "fleetpatch assess"
GOALS: Final = (
    Goal(_FLEETPATCH, "controller CPU", lambda cost: cost.cpu, "pyinfra exec", 1.3),
    Goal(_FLEETPATCH, "controller CPU", lambda cost: cost.cpu, f"{_FLEETPATCH}{BEFORE}", 1.0),
    Goal(_FLEETPATCH, "wall", lambda cost: cost.wall, f"{_FLEETPATCH}{BEFORE}", 1.0),
)


def compete(field: Sequence[Contender], hosts: Sequence[LabHost], rounds: int) -> dict[str, list[Cost]]:
    """Everybody's costs, round by round; the last is the one in which memory was looked at."""
    costs: dict[str, list[Cost]] = {contender.name: [] for contender in field}
    for number in range(rounds + 1):
        for contender in field if number % 2 else reversed(field):
            note(costs, contender.name, number, measure_with_machines(contender, hosts))
    for contender in field:
        costs[contender.name].append(measure(contender, len(hosts), memory=True))
    return costs


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add_common_options(parser, hosts=20)
    parser.add_argument(
        "--without", action="append", default=[], choices=["openssh", "ansible", "pyinfra", "fleetpatch"]
    )
    options = parser.parse_args()
    prepare_programs()
    with Lab(f"{options.lab}-assess") as lab, tempfile.TemporaryDirectory() as folder:
        lab.down()
        hosts = lab.up(options.hosts, options.flavour)
        work = Path(folder)
        ways = {
            "openssh": lambda: contenders.openssh(hosts, work),
            "ansible": lambda: contenders.ansible(hosts, work, PROGRAMS),
            "pyinfra": lambda: contenders.pyinfra(hosts, work, PROGRAMS),
            "fleetpatch": lambda: contenders.fleetpatch(hosts, work),
        }
        field = [make() for name, make in ways.items() if name not in options.without]
        if options.before:
            field.append(contenders.fleetpatch(hosts, work, options.before))
        costs = compete(field, hosts, options.rounds)
        print(f"\n{about(hosts, options.rounds)}\n\n{table(costs, field[0].name)}\n\n{judge(costs, GOALS)}")


if __name__ == "__main__":
    main()
