"""Prints what a run would do, for the question before it: machines, waves, updates, window, reboots."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from rich.text import Text

from fleetpatch.cli.runtime.output import print_to_stderr, to_safe_text
from flows.engine.run_info import describe_request_shortage
from flows.request.differences import list_differences
from flows.request.patch_request import PatchRequest
from inventory.machine import Machine, MachineSet
from inventory.name_lists import join_first_names
from tasks.domain.errors import RequestError
from tasks.domain.model import Assessment, Selection
from tasks.domain.states import RebootPolicy, YesNoUnknown
from tasks.reports.formatting import format_count
from tasks.rules.calendar.local_time import format_duration
from tasks.rules.runs.waves import build_waves
from tasks.rules.timing.maintenance_window import describe_window
from tasks.rules.updates.selection import select_updates
from tasks.rules.updates.transaction_planning import predict_reboot_need

MAX_MACHINE_NAMES = 12
_MAX_WAVES = 8


def print_patch_request(
    request: PatchRequest,
    machines: Sequence[Machine],
    now: datetime,
    sets: Sequence[MachineSet] = (),
    assessments: Mapping[str, Assessment] | None = None,
    selection: Selection | None = None,
) -> None:
    """Print what the run will do, before the confirmation. None as assessments: they can't be read.

    ``selection``: the request's, with the first sights of updates; None: without them.
    """
    names = frozenset(request.only_machines)
    patched = [machine for machine in machines if machine.owner.is_patchable and (not names or machine.name in names)]
    now = now.replace(microsecond=0)
    window = request.window.to_window(now)
    if reason := describe_request_shortage(request, patched, window, now):
        print_to_stderr(Text(f"Nothing can begin: {reason}.", style="bold yellow"))
    selected = [*request.updates.classifications, *(f"and {mask}" for mask in request.updates.include)]
    kinds = ", ".join(str(machine) for machine in selected) or "none"
    exclusions = f", without {', '.join(request.updates.exclude)}" if request.updates.exclude else ""
    updates, reboots = _count_pending(
        request, selection or request.to_patch_options().selection, patched, assessments, now
    )
    reserve_text = "" if request.reboot is RebootPolicy.NEVER else f", {request.reboot_reserve_minutes:g} min reserved"
    rows = {
        "Machines": f"{len(patched)}: {join_first_names([machine.name for machine in patched], MAX_MACHINE_NAMES)}",
        "Waves": _describe_waves(request, patched, sets),
        "Updates": f"{kinds}{exclusions}; {updates}",
        "Window": describe_window(window),
        "Reboot": f"{request.reboot}{reserve_text}{reboots}",
    }
    for key, value in rows.items():
        print_to_stderr(Text.assemble((f"{key:10}", "bold"), to_safe_text(value)))
    differences = [difference for difference in list_differences(request) if difference.path != "scope"]
    if differences:
        print_to_stderr(Text("Not as usual:", "bold"))
    for difference in differences:
        print_to_stderr(Text.assemble("  ", to_safe_text(f"{difference.title}: {difference.value}")))


def _describe_waves(request: PatchRequest, machines: Sequence[Machine], sets: Sequence[MachineSet]) -> str:
    try:
        waves = build_waves(machines, request.waves.to_wave_policy(), sets)
    except RequestError as error:
        return f"none: {error.message}"
    sizes = [format_count(len(wave.machines), "canary machine" if wave.canary else "machine") for wave in waves]
    more = f" and {len(sizes) - _MAX_WAVES} more" if len(sizes) > _MAX_WAVES else ""
    return f"{len(waves)}: {', then '.join(sizes[:_MAX_WAVES])}{more}; {request.waves.at_once} at once"


def _count_pending(
    request: PatchRequest,
    selection: Selection,
    machines: Sequence[Machine],
    assessments: Mapping[str, Assessment] | None,
    now: datetime,
) -> tuple[str, str]:
    """Return how many updates and reboots the last assessments let expect, in words."""
    if assessments is None:
        return "how many is not known: the records can't be read", ""
    known_assessments = [
        assessment for machine in machines if (assessment := assessments.get(machine.name)) is not None
    ]
    if not known_assessments:
        return "how many is not known: none was assessed yet. `fleetpatch plan` tells", ""
    counts = list(_select(selection, known_assessments))
    updates, pending = sum(count for count, _ in counts), sum(count > 0 for count, _ in counts)
    reboots = sum(reboots for count, reboots in counts if count)
    oldest = format_duration((now - min(assessment.at for assessment in known_assessments)).total_seconds())
    unknown = len(machines) - len(known_assessments)
    text = f"{format_count(updates, 'update')} on {format_count(pending, 'machine')} when last assessed, {oldest} ago"
    text += f"; not known of {format_count(unknown, 'machine')}" if unknown else ""
    expects = request.reboot is not RebootPolicy.NEVER
    return text, f"; expected on {format_count(reboots, 'machine')}" if expects else ""


def _select(selection: Selection, assessments: Sequence[Assessment]) -> Iterator[tuple[int, bool]]:
    """Yield of each machine the number of its selected updates, and whether a reboot is expected after them."""
    for assessment in assessments:
        if assessment.packages is not None:
            chosen, _ = select_updates(assessment.packages, selection)
            yield len(chosen), predict_reboot_need(chosen, assessment.packages.reboot) is not YesNoUnknown.NO
