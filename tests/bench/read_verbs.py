"""How long each command that only reads takes over the records that tests/bench/big_history.py makes.

    python -m tests.bench.read_verbs FOLDER [--rounds 3]

Each command is a process of its own, as people start it; the table has the medians of its wall time and its CPU.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

FLEETPATCH = Path(sys.executable).with_name("fleetpatch")
VERBS = (
    ("runs",),
    ("machines", "--inventory", "{fleet}"),
    ("machines", "--inventory", "{fleet}", "--json"),
    ("updates", "--inventory", "{fleet}"),
    ("updates", "--inventory", "{fleet}", "--by", "machine"),
    ("updates", "--inventory", "{fleet}", "--json"),
    ("show", "last"),
    ("show", "{assessed}"),
    ("show", "last", "--machine", "web-0007"),
    ("show", "last", "--machine", "web-0007", "--log"),
    ("show", "last", "--machine", "web-0007", "--journal"),
    ("show", "last", "--journal"),
    ("show", "last", "--json"),
    ("why", "web-0007"),
)


def _timed(words: Sequence[str], environment: dict[str, str]) -> tuple[float, float]:
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
    wall, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: exit {done.returncode}: {done.stderr[:500].decode(errors='replace')}")
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    folder: Path = options.folder.absolute()
    environment = {**os.environ, "FLEETPATCH_RECORDS_URL": f"sqlite:///{folder}/records.db", "COLUMNS": "120"}
    listed = subprocess.run(
        [FLEETPATCH, "runs", "--kind", "assess", "-n", "1"], env=environment, capture_output=True, text=True, check=True
    ).stdout
    assessed = next(word for line in listed.splitlines() for word in line.split()[:1] if word[:1].isdigit())
    print("| command | wall, s | CPU, s |\n|---|---|---|")
    for verb in VERBS:
        words = [str(FLEETPATCH), *(word.format(fleet=folder / "fleet.yaml", assessed=assessed) for word in verb)]
        costs = [_timed(words, environment) for _ in range(options.rounds)]
        wall, cpu = (statistics.median(each) for each in zip(*costs, strict=True))
        shown = " ".join(verb).replace(" --inventory {fleet}", "").replace("{assessed}", "RUN")
        print(f"| {shown} | {wall:.2f} | {cpu:.2f} |")


if __name__ == "__main__":
    main()
