"""How much the HTML page shows, in levels from most to least. The renderer takes the first level that fits."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class DetailLimits:
    """How much the page tells.

    Attributes:
        machine_rows: machines that have a row.
        expandable_machines: of those, machines whose row opens.
        updates_per_machine: rows of updates in one machine's body.
        groups: updates in the list by update, and reasons.
        machines_per_group: machines named in one group.
        timeline_rows: rows of the timeline.
        text_characters: characters of one text.
        log_bytes: bytes for all logs together.
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
"""From all there is to the least; the first that fits on the page is taken."""
