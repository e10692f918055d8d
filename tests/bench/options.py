"""The options that the benchmarks of lab machines share."""

import argparse
from pathlib import Path

from tests.bench.contenders import require_own_modules


def add_common_options(parser: argparse.ArgumentParser, hosts: int) -> None:
    """Add them. ``hosts``: how many machines, if nobody says."""
    parser.add_argument("--hosts", type=int, default=hosts)
    parser.add_argument("--rounds", type=int, default=3, help="After one that only warms caches.")
    parser.add_argument("--lab", default="bench", help="Begin of the names of the labs that are made, and removed.")
    parser.add_argument("--flavour", choices=["apt", "dnf", "zypper"], default="apt", help="Of the machines.")
    parser.add_argument(
        "--before",
        type=_checkout,
        help="A folder with another commit of fleetpatch. It runs beside this one, with the same libraries.",
    )


def _checkout(text: str) -> Path:
    folder = Path(text).resolve()
    try:
        require_own_modules(folder)
    except RuntimeError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return folder
