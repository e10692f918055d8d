"""Limits for the HTML page, in levels from most to least detail. The renderer uses the first level that fits."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class DetailLimits:
    """Maximum amounts on the page.

    Attributes:
        machine_rows: machines with a row.
        expandable_machines: machines whose row expands; part of ``machine_rows``.
        updates_per_machine: rows of updates in one machine's details.
        groups: entries in each of these lists: updates, reasons, hooks, notes.
        machines_per_group: names of machines in one group.
        timeline_rows: rows of the timeline.
        text_characters: characters of one text.
        log_bytes: bytes of all logs together.
    """

    machine_rows: int
    expandable_machines: int
    updates_per_machine: int
    groups: int
    machines_per_group: int
    timeline_rows: int
    text_characters: int
    log_bytes: int


DETAIL_LEVELS: Final = (
    DetailLimits(
        machine_rows=400,
        expandable_machines=400,
        updates_per_machine=100,
        groups=300,
        machines_per_group=100,
        timeline_rows=250,
        text_characters=600,
        log_bytes=250_000,
    ),
    DetailLimits(
        machine_rows=600,
        expandable_machines=150,
        updates_per_machine=40,
        groups=150,
        machines_per_group=40,
        timeline_rows=220,
        text_characters=300,
        log_bytes=150_000,
    ),
    DetailLimits(
        machine_rows=600,
        expandable_machines=70,
        updates_per_machine=20,
        groups=100,
        machines_per_group=20,
        timeline_rows=220,
        text_characters=300,
        log_bytes=100_000,
    ),
    DetailLimits(
        machine_rows=1000,
        expandable_machines=40,
        updates_per_machine=15,
        groups=70,
        machines_per_group=10,
        timeline_rows=220,
        text_characters=200,
        log_bytes=50_000,
    ),
    DetailLimits(
        machine_rows=400,
        expandable_machines=30,
        updates_per_machine=10,
        groups=50,
        machines_per_group=10,
        timeline_rows=120,
        text_characters=120,
        log_bytes=40_000,
    ),
    DetailLimits(
        machine_rows=100,
        expandable_machines=10,
        updates_per_machine=5,
        groups=20,
        machines_per_group=5,
        timeline_rows=60,
        text_characters=60,
        log_bytes=10_000,
    ),
    DetailLimits(
        machine_rows=30,
        expandable_machines=3,
        updates_per_machine=5,
        groups=5,
        machines_per_group=5,
        timeline_rows=30,
        text_characters=40,
        log_bytes=4_000,
    ),
)
"""Levels from most to least detail. The renderer uses the first level with which the page is small enough."""
