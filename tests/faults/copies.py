"""Copies of machines for rehearsals: their own trouble, and what must be true of them."""

import random
from collections.abc import Callable
from typing import Any, Final

from flows.engine.rehearsals import REHEARSE_ACT
from flows.request.patch_request import PatchRequest
from tasks.domain.protocols.records import JournalMark
from tasks.rules.rehearsal import RehearsalVerdict
from tests.faults.machine import FaultyMachine
from tests.faults.world import World

TROUBLE: Final[dict[str, Callable[[FaultyMachine], None]]] = {
    "does not boot": lambda copy: setattr(copy, "is_off", True),
    "is away for a while": lambda copy: copy.at(100.0, lambda: copy.cut(300.0)),
    "loses its power in the installation": lambda copy: copy.on_start("install", 3.0, copy.power_cut),
    "does not come back from its reboot": lambda copy: setattr(copy.boots, "up_after", None),
    "has no room": FaultyMachine.fill_disk,
}


def spoil_copy(world: World, dice: random.Random) -> str:
    """Let the next copy be in trouble; return that in words."""
    kind = dice.choice(list(TROUBLE))
    world.hypervisor.copy_trouble.append(TROUBLE[kind])
    return f"a copy {kind}"


def judge_rehearsals(world: World) -> None:
    """Complain of machines that began without their rehearsal, and of copies that nobody is told of."""
    for run in world.records.runs.values():
        request = PatchRequest.model_validate(dict(run.request))
        for name in world.machines if request.rehearse.on_copies and not request.download_only else ():
            verdict = _find_verdict_at_install(world, run.id, name)
            is_good = verdict == RehearsalVerdict.PASSED if request.rehearse.strict else verdict != _FAILED
            if verdict is not None and not is_good:
                world.complain(f"run {run.id}: {name} was begun, and its rehearsal: {verdict or 'none'}")
    for name, provided in world.hypervisor.machines.items():
        told = [note for report in world.records.reports.values() for note in report.notes]
        if provided.overlay is not None and not any(f"the copy {provided.overlay.id} of" in note for note in told):
            world.complain(f"{name}: its copy {provided.overlay.id} is left behind, and nobody is told")


_FAILED: Final = RehearsalVerdict.FAILED


def _find_verdict_at_install(world: World, run_id: str, name: str) -> str | None:
    """Return the verdict that stood for a machine when its installation was announced, ""; None: it never was."""
    verdict = ""
    for entry in world.records.journal:
        group: Any = entry.detail.get("group", {})
        if entry.run_id == run_id and entry.act == REHEARSE_ACT and name in group["stands_for"]:
            verdict = str(entry.detail["verdict"])
        if (entry.run_id, entry.machine, entry.act) == (run_id, name, "install") and entry.mark is JournalMark.BEFORE:
            return verdict
    return None


def list_rehearsed_measures(world: World, name: str, measure: str) -> list[float]:
    """Return what copies have measured for machines that they stand for."""
    details: list[Any] = [entry.detail for entry in world.records.journal if entry.act == REHEARSE_ACT]
    told = [detail["measures"] for detail in details if name in detail["group"]["stands_for"]]
    return [float(measures[measure]) for measures in told if measure in measures]
