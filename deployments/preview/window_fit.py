"""Whether the machines of a configuration fit into its window, from what past runs tell of their speed."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from statistics import fmean

from deployments.preview.zone_schedules import ZoneSchedule
from flows.request.patch_request import PatchRequest
from inventory.data_class import dataclass
from inventory.machine import Inventory, Machine, PatchOwner
from inventory.resource_limits import Resource, ResourceKind
from tasks.domain.errors import RecordsError, RequestError
from tasks.domain.states import RebootPolicy
from tasks.machines.managers.registry import find_typical_work
from tasks.records.fleets import build_file_path, find_fleet
from tasks.records.measures import LearnedDurations, read_learned_durations
from tasks.records.setup import open_records
from tasks.records.storage.url import find_records_url
from tasks.rules.calendar.local_time import format_duration
from tasks.rules.runs.reboot_decision import compute_reboot_reserve
from tasks.rules.runs.resource_turns import find_limited_resources
from tasks.rules.runs.waves import build_waves
from tasks.rules.timing.window_capacity import MachineDuration, PatchWork, TurnLimit, WindowCapacity, estimate_capacity
from tasks.rules.updates.transaction_planning import learn_rates, predict_typical_durations


def read_learned(records_url: str | None) -> tuple[LearnedDurations, str]:
    """Return what the records tell, and why that is nothing if they can't be read. Records that are missing stay so."""
    try:
        url = find_records_url(records_url)
        file = build_file_path(Path(str(url.database)), find_fleet())
        if url.get_backend_name() == "sqlite" and not file.exists():
            return LearnedDurations(), ""
        with open_records(records_url) as opened:
            return read_learned_durations(opened.database), ""
    except RecordsError as error:
        return LearnedDurations(), f"durations of past runs are not known: {error.message}"


_REBOOT_MEASURE = "reboot_seconds"


@dataclass(frozen=True, slots=True)
class WindowFit:
    """Whether the machines of a configuration fit into its window in one zone."""

    configuration: str
    zone: str
    capacity: WindowCapacity
    minutes: float
    at_once: int  # the configuration's number of machines at once
    waves: int
    turn_seconds: float  # how long a machine takes on average
    learned: int  # of how many machines anything was learned

    @property
    def message(self) -> str:
        """What does not fit, with the numbers that were used; "" if all fits."""
        capacity = self.capacity
        if capacity.fits:
            return ""
        learned_text = {0: "by defaults, nothing was learned yet", capacity.machines: "as learned from past runs"}.get(
            self.learned, f"learned of {self.learned}, defaults for the others"
        )
        waves = "one wave" if self.waves == 1 else f"{self.waves} waves"
        return (
            f"about {capacity.fitting} of its {capacity.machines} machines fit into its window of "
            f"{format_duration(self.minutes * 60)}, if all have updates: {self.at_once} at once in {waves}, "
            f"{format_duration(self.turn_seconds)} each ({learned_text})"
        )

    @property
    def remedy(self) -> str:
        """Which numbers would do."""
        capacity = self.capacity
        length = f"a window of {format_duration(capacity.needed_minutes * 60)}"
        if capacity.needed_at_once is None:
            return f"Give it {length}, or larger waves. More machines at once are not enough."
        return f"Write {capacity.needed_at_once} for `at_once` under `waves`, or give it {length}."


def estimate_fits(zone_schedules: Iterable[ZoneSchedule], learned: LearnedDurations) -> Iterator[WindowFit]:
    """Yield for each zone schedule with known machines whether they fit. Machines of other owners are left out."""
    for schedule in zone_schedules:
        names, inventory = frozenset(schedule.machines), schedule.inventory
        if inventory is None:
            continue
        machines = [
            machine
            for machine in inventory.machines
            if machine.name in names and machine.owner is PatchOwner.FLEETPATCH
        ]
        request = schedule.configuration.build_request(schedule.schedule.zone)
        if machines and (fit := _estimate_fit(schedule, machines, inventory, request, learned)) is not None:
            yield fit


def _estimate_fit(
    schedule: ZoneSchedule,
    machines: Sequence[Machine],
    inventory: Inventory,
    request: PatchRequest,
    learned: LearnedDurations,
) -> WindowFit | None:
    policy = request.waves.to_wave_policy()
    try:
        waves = build_waves(machines, policy, inventory.sets)
    except RequestError:  # no run can begin; another check says why
        return None
    is_downloaded = schedule.configuration.stage_ahead_minutes is not None
    turns = {
        machine.name: _predict_turn(machine, request, learned, is_downloaded=is_downloaded) for machine in machines
    }
    set_limits = [
        TurnLimit(members, machine_set.allowed_unavailable)
        for machine_set in inventory.sets
        if (members := tuple(name for name in machine_set.members if name in turns))
    ]
    users: dict[Resource, list[str]] = {}
    for name, resources in find_limited_resources(inventory, turns, frozenset(ResourceKind)).items():
        for resource in resources:
            users.setdefault(resource, []).append(name)
    resource_limits = [
        TurnLimit(tuple(names), inventory.limits.find(resource) or len(names)) for resource, names in users.items()
    ]
    waves_of_names = tuple(wave.machines for wave in waves)
    work = PatchWork(waves_of_names, turns, (*set_limits, *resource_limits), policy.pause_seconds)
    return WindowFit(
        schedule.configuration.name,
        schedule.schedule.zone,
        estimate_capacity(work, schedule.schedule.minutes * 60, policy.at_once),
        schedule.schedule.minutes,
        policy.at_once,
        len(waves),
        fmean(turn.total_seconds for turn in turns.values()),
        sum(machine.name in learned.measures for machine in machines),
    )


def _predict_turn(
    machine: Machine, request: PatchRequest, learned: LearnedDurations, *, is_downloaded: bool
) -> MachineDuration:
    """Return the turn of a machine, as the engine predicts it: see ``MachineContext``."""
    default_rates, typical = find_typical_work(machine.os)
    measures = learned.measures.get(machine.name, {})
    rates = learn_rates(default_rates, measures.get)
    count = round(learned.updates.get(machine.name, typical)) or 1
    prediction = predict_typical_durations(count, rates, request.reboot, is_downloaded=is_downloaded)
    minutes = machine.limits.reboot_reserve_minutes
    reserve = 60 * (request.reboot_reserve_minutes if minutes is None else minutes)
    reserve = max(reserve, compute_reboot_reserve(reserve, measures.get(_REBOOT_MEASURE)))
    install_seconds, notice_seconds = prediction.stage + prediction.install, 0.0
    if request.announce.enabled and request.reboot is not RebootPolicy.NEVER:
        notice_seconds = request.announce.notice_minutes * 60  # it runs while updates are installed
    return MachineDuration(
        max(install_seconds, notice_seconds),
        prediction.total_seconds + max(0.0, notice_seconds - install_seconds),
        0.0 if request.reboot is RebootPolicy.NEVER else reserve,
    )
