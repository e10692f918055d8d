"""What differs between two takes of one program, and how golden outputs write it."""

import re
from collections.abc import Sequence
from typing import Final

RULES: Final[Sequence[tuple[str, str]]] = (
    (r"127\.0\.0\.1:\d+", "127.0.0.1:PORT"),
    (r"(?<=\d{8}-\d{6}-)[0-9a-f]{6}\b", "SUFFIX"),  # the random part of the id of a run
    (r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", "UUID"),
    (r"\b[0-9a-f]{64}\b", "DIGEST"),
    (r"name=once value=\S+>", "name=once value=ONCE>"),
    (r"(?<=fleetpatch_collection_duration_seconds )[0-9.e-]+", "SECONDS"),
    (r"(?<=\?v=)[0-9a-f]+", "VERSION"),  # of a static file
)
"""Patterns and their replacements, in this order, after the folder of the fleet became FOLDER."""


def normalize(text: str, folder: str) -> str:
    """Return an output without what differs between two takes.

    Args:
        text: the output.
        folder: the temporary folder of the fleet.
    """
    text = text.replace(folder, "FOLDER")
    for pattern, replacement in RULES:
        text = re.sub(pattern, replacement, text)
    lines = [line.rstrip() for line in text.splitlines()]
    return "\n".join(lines).strip("\n") + "\n"
