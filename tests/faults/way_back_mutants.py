"""The ways back and the rehearsals with one line of reason taken out: see mutations.py."""

from dataclasses import replace
from typing import Any

from flows.engine import rehearsals
from flows.engine.rehearsals import REHEARSE_ACT
from tasks.rules import undo
from tasks.steps import rehearsal, snapshot_revert
from tests.faults.breaks import Break, replace_attribute, wrap_attribute

_REHEARSALS: Any = vars(rehearsals)["_RunRehearsals"]


def _results_alone(inner: Any) -> Any:
    return lambda self, entries: inner(self, [entry for entry in entries if entry.act == REHEARSE_ACT])


def _of_the_original(inner: Any) -> Any:
    return lambda machine, overlay: replace(inner(machine, overlay), host_keys_of=None)


WAY_BACK_MUTANTS: dict[str, tuple[str, Break]] = {
    "a revert without an answer is ordered again": (
        "the way back is whole",
        replace_attribute(snapshot_revert, "_was_put_back", lambda *_: False),
    ),
    "an undo takes back what has changed again since": (
        "an undo is of one run",
        replace_attribute(undo, "_explain_changed", lambda *_: ""),
    ),
    "the copy of a rehearsal stays": (
        "a rehearsal stays apart",
        replace_attribute(_REHEARSALS, "_delete", lambda *_: None),
    ),
    "a copy that a killed process has left is forgotten": (
        "a rehearsal stays apart",
        wrap_attribute(_REHEARSALS, "restore", _results_alone),
    ),
    "a rehearsal is made on the machine itself": (
        "a rehearsal stays apart",
        wrap_attribute(rehearsal, "build_copy_machine", _of_the_original),
    ),
    "a failed rehearsal is ignored": (
        "a rehearsal stays apart",
        replace_attribute(rehearsals, "explain_no_start", lambda *_, **__: ""),
    ),
}
"""By name: the law that it breaks, and how."""
