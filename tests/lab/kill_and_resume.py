"""Kill the controller in the middle of a run on real machines, resume the run, and see that nothing was done twice.

    python -m tests.lab.kill_and_resume --times 20 --hosts 6 --seed 1

Each time fresh hosts are patched by a process of their own, which is killed (-9) at a random moment, once or twice.
Then `fleetpatch resume` has to bring every host to the end that an undisturbed run has, by the host's own word.
"""

import argparse
import os
import random
import secrets
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from fleetpatch.cli.runtime.run_lookup import find_unfinished_acts
from tasks.domain.states import OperationState
from tests.lab.engine import Fleet
from tests.lab.fleet import Lab, LabHost
from tests.lab.killing import Controllers, boots, configured, set_slow
from tests.lab.short_leases import LEASE_SECONDS

LONGEST = 25.0  # by then an undisturbed run has nearly ended: kills fall all over it
SIDE_BY_SIDE = 2  # a dead one's lease is waited for, most of the time
END = {
    "lab-plain": "2.0",
    "lab-slow": "2.0",
    "lab-reboot": "2.0",
    "lab-conffile": "2.0",
    "lab-dep-a": "2.0",
    "lab-dep-b": "2.0",
    "lab-sec": "2.1",
}
"""What an undisturbed run installs; each version is to be configured exactly once."""


@dataclass
class Attempt:
    """One run that was killed and resumed.

    Attributes:
        killed: seconds at which each process was killed; for the first one, since the run's first journal entry.
        at: what was under way then.
        resume_seconds: from the command to its end, with the wait for the dead one's lease.
        faults: all that was not as after an undisturbed run.
    """

    number: int
    killed: list[float] = field(default_factory=list)
    at: list[str] = field(default_factory=list)
    resume_seconds: float = 0.0
    code: int | None = None
    faults: list[str] = field(default_factory=list)


def attempt(number: int, hosts: Sequence[LabHost], place: Path, chance: random.Random) -> Attempt:
    """Patch hosts, kill the controller (sometimes the second one too), resume, and look at the hosts."""
    told = Attempt(number)
    controllers = Controllers(Fleet(hosts, place))
    set_slow(hosts, chance.randint(2, 8))
    times = 2 if chance.random() < 0.25 else 1
    try:
        for n in range(times):
            moment = chance.uniform(1.0, LONGEST)
            process = controllers.patch() if n == 0 else controllers.start("resume", "last", "--no-prefect", "--json")
            if n == 0:
                controllers.wait_until(bool, "the first entry of the run")
            time.sleep(moment if n == 0 else LEASE_SECONDS + moment / 2)  # the second one first waits for the lease
            process.kill()
            told.killed.append(moment)
            told.at.append(_under_way(controllers))
        _resume(told, controllers)
        told.faults += faults_of(hosts)
    finally:
        controllers.end()
    return told


def _resume(told: Attempt, controllers: Controllers) -> None:
    began = time.monotonic()
    if told.at[-1] == "over":
        told.code = 0
        return
    ended = controllers.resume()
    told.resume_seconds = time.monotonic() - began
    told.code = ended.code
    if ended.code not in (0, 3):  # lab.conf was edited by hand, and is told of
        told.faults.append(f"resume ended with {ended.code}: {ended.err[-500:]}")
    report = controllers.newest()
    for outcome in report.outcomes:
        if outcome.state not in (OperationState.SUCCEEDED, OperationState.COMPLETED_WITH_WARNINGS):
            told.faults.append(f"{outcome.machine}: {outcome.state}: {outcome.reason}")
    if len(report.outcomes) != len(controllers.fleet.hosts):
        told.faults.append(f"{len(report.outcomes)} outcomes")


def _under_way(controllers: Controllers) -> str:
    """Return in words where a run is that has just lost its process."""
    if controllers.newest().run.state is not OperationState.IN_PROGRESS:
        return "over"
    return ", ".join(sorted({entry.act for entry in find_unfinished_acts(controllers.journal())})) or "between acts"


def faults_of(hosts: Sequence[LabHost]) -> list[str]:
    """Return what on the hosts is not as after an undisturbed run, by their own word."""
    faults = []
    for host in hosts:
        found = host.package_versions(*END)
        faults += [f"{host.name}: {name} is {found.get(name)}" for name, v in END.items() if found.get(name) != v]
        once = {f"{name} {version}": 1 for name, version in END.items()}
        if configured(host) != once:
            faults.append(f"{host.name}: configured {configured(host)}")
        if boots(host) != 2:
            faults.append(f"{host.name}: booted {boots(host)} times, planned was one reboot")
        if host.sh("dpkg --audit", root=True).strip():
            faults.append(f"{host.name}: dpkg --audit complains")
        if host.sh("ls /run/reboot-required 2>/dev/null || true").strip():
            faults.append(f"{host.name}: still asks for a reboot")
    return faults


def carry_out(times: int, count: int, seed: int, lab: Lab) -> list[Attempt]:
    """Do it so many times, two at a time, with fresh hosts each time."""

    def one(number: int) -> Attempt:
        with ExitStack() as stack:
            place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fleetpatch-resume-")))
            hosts = lab.up(count)
            for host in hosts:
                stack.callback(host.drop)
            told = attempt(number, hosts, place, random.Random(f"{seed} {number}"))
        console.print(_row(told))
        return told

    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        return list(pool.map(one, range(1, times + 1)))


console = Console(soft_wrap=True)


def _row(told: Attempt) -> str:
    when = ", ".join(f"{moment:.1f} s" for moment in told.killed)
    return f"{told.number}: killed at {when} ({' | '.join(told.at)}); {'; '.join(told.faults) or 'as undisturbed'}"


def table_of(done: Sequence[Attempt], seed: int) -> Table:
    """Return all attempts as a table."""
    grid = Table("#", "killed at", "then under way", "resumed in", "exit", "faults", title=f"seed {seed}")
    for told in done:
        grid.add_row(
            str(told.number),
            ", ".join(f"{moment:.1f} s" for moment in told.killed),
            " | ".join(told.at),
            f"{told.resume_seconds:.0f} s",
            str(told.code),
            "; ".join(told.faults) or "none",
        )
    return grid


def main() -> int:
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--hosts", type=int, default=6)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6))
    asked = parser.parse_args()
    lab = Lab(os.environ.get("FLEETPATCH_LAB") or "resume")
    reason = lab.reason_it_cannot_run()
    if reason:
        console.print(f"the lab can't run here: {reason}")
        return 2
    console.print(f"seed {asked.seed}")
    with lab:
        done = carry_out(asked.times, asked.hosts, asked.seed, lab)
    console.print(table_of(done, asked.seed))
    bad = sum(bool(told.faults) for told in done)
    console.print(f"{len(done) - bad} of {len(done)} runs ended as undisturbed")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
