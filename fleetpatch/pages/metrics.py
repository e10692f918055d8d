"""The metrics of the fleet for Prometheus, in its text format or as OpenMetrics.

No metric has a label with values that grow without end: no update, no run, no CVE. Metrics of single machines are given
only on request (``?machines=1``).
"""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from importlib.metadata import version
from typing import Annotated, Final

from fastapi import Query, Request
from fastapi.responses import Response
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from deployments.maintenance.overview import build_held_rows
from deployments.preview.upcoming_windows import find_next_window
from fleetpatch.machines.snapshot import FleetSnapshot
from fleetpatch.web.authentication import build_viewers_router
from fleetpatch.web.context import WebContext, get_context
from tasks.domain.rows.machines import MachineRow
from tasks.domain.rows.snapshots import SnapshotRow
from tasks.domain.states import Compliance, OperationState, YesNoUnknown
from tasks.records.maintenance import GroupRecord, SqlMaintenance
from tasks.records.queries.metric_figures import LastWindow, MetricFigures, read_metric_figures
from tasks.records.snapshots import SqlSnapshots
from tasks.reports.sanitizing import sanitize_to_one_line

router = build_viewers_router()

Values = Mapping[tuple[str, ...], float]
"""The values of a metric by the values of its labels."""

OLD_WAIT_SECONDS: Final = 5.0
"""How long to wait for news if the snapshot is old. Prometheus waits 10 s for an answer by default."""
_WHATS = ("run", "missed", "frozen", "cancelled", "held")
_MAX_LABEL_CHARACTERS = 200


@router.get("/metrics")
def show_metrics(
    request: Request, machines: Annotated[bool, Query(description="also metrics of each machine")] = False
) -> Response:
    """Give the metrics of the fleet."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(FleetCollector(get_context(request), with_machines=machines))
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    return Response(encode(registry), headers={"content-type": content_type})


class FleetCollector(Collector):
    """Computes the metrics from the snapshot of the fleet and from columns of the records.

    ``with_machines``: whether each machine has its own metrics.
    """

    def __init__(self, context: WebContext, *, with_machines: bool = False) -> None:
        self._context = context
        self._with_machines = with_machines

    def collect(self) -> Iterator[Metric]:
        """Return the metrics. Raise RecordsError if the records can't be read."""
        began = time.perf_counter()
        fleet = self._context.fleet.read(old_wait_seconds=OLD_WAIT_SECONDS)
        figures = read_metric_figures(self._context.records.database)
        now = self._context.clock.now()
        yield InfoMetricFamily("fleetpatch_build", "The version of fleetpatch.", {"version": version("fleetpatch")})
        yield from _build_machine_counts(fleet.machines.values())
        yield from _build_update_counts(fleet.machines.values())
        yield from _build_run_metrics(figures)
        yield from _build_age_metrics(fleet, now)
        windows = figures.last_windows
        if fleet.configurations is not None:  # what a deleted one missed would stay an alert for ever
            names = {configuration.name for configuration in fleet.configurations.all_configurations}
            windows = tuple(window for window in windows if window.configuration in names)
        yield from _build_window_metrics(windows, fleet)
        yield from _build_held_metrics(SqlMaintenance(self._context.records.database).read_groups(), fleet, now)
        snapshots = SqlSnapshots(self._context.records.database, self._context.records.seals).read_open()
        yield from _build_snapshot_metrics(snapshots, now)
        if self._with_machines:
            yield from _build_machine_metrics(fleet.machines.values())
        yield _gauge("fleetpatch_problems", "What pages and metrics could not read.", len(fleet.problems))
        if (ends_at := self._context.certificate_ends_at) is not None:
            name, text = "fleetpatch_certificate_end_timestamp_seconds", "When the certificate of the pages ends."
            yield _gauge(name, text, ends_at.timestamp())
        seconds = time.perf_counter() - began
        yield _gauge("fleetpatch_collection_duration_seconds", "How long it took to collect these metrics.", seconds)


def _build_machine_counts(machines: Iterable[MachineRow]) -> Iterator[Metric]:
    counts: Counter[tuple[str, ...]] = Counter()
    reboot: Counter[tuple[str, ...]] = Counter()
    restart: Counter[tuple[str, ...]] = Counter()
    failed: Counter[tuple[str, ...]] = Counter()
    in_effect: Counter[tuple[str, ...]] = Counter()
    drift: Counter[tuple[str, ...]] = Counter()
    unknown_updaters: Counter[tuple[str, ...]] = Counter()
    for machine in machines:
        environment = machine.environment or ""
        counts[machine.compliance.value, environment, machine.os_family or ""] += 1
        reboot[(environment,)] += machine.reboot is YesNoUnknown.YES
        restart[(environment,)] += machine.is_current and bool(machine.services_to_restart)
        in_effect[machine.in_effect.value, environment] += 1
        drift[(environment,)] += bool(machine.updater_drift)
        unknown_updaters[(environment,)] += machine.own_updaters is None
        if machine.error_kind:
            failed[environment, machine.error_kind] += 1
    yield _family("fleetpatch_machines", "Machines of the inventory.", ("compliance", "environment", "os"), counts)
    yield _family("fleetpatch_machines_reboot_required", "Machines that need a reboot.", ("environment",), reboot)
    yield _family(
        "fleetpatch_machines_service_restart_required",
        "Machines with services that use replaced files.",
        ("environment",),
        restart,
    )
    yield _family(
        "fleetpatch_machines_in_effect",
        "Machines by whether their installed critical and security updates are in effect: yes, no or unknown.",
        ("in_effect", "environment"),
        in_effect,
    )
    yield _family(
        "fleetpatch_machines_updater_drift",
        "Machines that update themselves otherwise than the inventory says.",
        ("environment",),
        drift,
    )
    yield _family(
        "fleetpatch_machines_updaters_unknown",
        "Machines that have never said whether they update themselves.",
        ("environment",),
        unknown_updaters,
    )
    yield _family(
        "fleetpatch_machines_assessment_failed",
        "Machines whose newest assessment failed, by the kind of error. Unreachable: no answer.",
        ("environment", "error"),
        failed,
    )


def _build_update_counts(machines: Iterable[MachineRow]) -> Iterator[Metric]:
    pending: Counter[tuple[str, ...]] = Counter()
    withheld: Counter[tuple[str, ...]] = Counter()
    for machine in machines:
        environment = machine.environment or ""
        for word in ("critical", "security", "other"):
            pending[word, environment] += getattr(machine, word) if machine.is_current else 0
        withheld[(environment,)] += (machine.withheld or 0) if machine.is_current else 0
    yield _family(
        "fleetpatch_pending_updates", "Updates that machines lack.", ("classification", "environment"), pending
    )
    yield _family(
        "fleetpatch_withheld_updates", "Pending updates that are held or blocked.", ("environment",), withheld
    )


def _build_run_metrics(figures: MetricFigures) -> Iterator[Metric]:
    counts: Values = {(kind,): figures.runs_in_progress.get(kind, 0) for kind in ("patch", "assess", "plan", "stage")}
    yield _family("fleetpatch_runs_in_progress", "Runs that have not ended.", ("kind",), counts)
    yield _gauge("fleetpatch_approvals_waiting", "Plans that wait for an approval.", figures.approvals_waiting)


def _build_age_metrics(fleet: FleetSnapshot, now: datetime) -> Iterator[Metric]:
    if fleet.oldest is not None:  # nothing is missing, or nothing is known: zero would be wrong
        age = max(0.0, (now - fleet.oldest.since).total_seconds())
        text = "How long fleetpatch has known of the fix that is missing longest."
        yield _gauge("fleetpatch_oldest_missing_fix_age_seconds", text, age)


def _build_window_metrics(last_windows: Iterable[LastWindow], fleet: FleetSnapshot) -> Iterator[Metric]:
    names = ("configuration",)
    starts: dict[tuple[str, ...], float] = {}
    ends: dict[tuple[str, ...], float] = {}
    states: dict[tuple[str, ...], float] = {}
    whats: dict[tuple[str, ...], float] = {}
    for window in last_windows:
        name = window.configuration
        starts[(name,)] = window.starts_at.timestamp()
        whats |= {(name, word): float(word == window.what) for word in _WHATS}
        if window.state:
            states |= {(name, word.value): float(word.value == window.state) for word in OperationState}
        if window.ended_at is not None:
            ends[(name,)] = window.ended_at.timestamp()
    text = "1 for what a configuration's last window had: a run, or why it had none."
    yield _family("fleetpatch_last_window", text, ("configuration", "what"), whats)
    text = "When a configuration's last window began."
    yield _family("fleetpatch_last_window_start_timestamp_seconds", text, names, starts)
    text = "1 for the state of the run of a configuration's last window."
    yield _family("fleetpatch_last_run_state", text, ("configuration", "state"), states)
    text = "When the run of a configuration's last window ended."
    yield _family("fleetpatch_last_run_end_timestamp_seconds", text, names, ends)
    text = "When a configuration's next window begins."
    yield _family("fleetpatch_next_window_start_timestamp_seconds", text, names, _find_next_windows(fleet))


def _build_held_metrics(records: Mapping[str, GroupRecord], fleet: FleetSnapshot, now: datetime) -> Iterator[Metric]:
    rows = build_held_rows(records, fleet.held, now)
    names = ("group",)
    updates: Values = {(row.name,): float(row.updates) for row in rows if row.status is not None}  # None: not known
    ends: Values = {
        (row.name,): row.not_before.timestamp() for row in rows if row.not_before is not None and row.ended_at is None
    }
    looks: Values = {(row.name,): row.looked_at.timestamp() for row in rows if row.looked_at is not None}
    yield _family("fleetpatch_held_updates", "Updates that a group of machines holds.", names, updates)
    text = "When the last day of what a group holds is over."
    yield _family("fleetpatch_held_last_day_timestamp_seconds", text, names, ends)
    text = "When maintenance control last looked at a group."
    yield _family("fleetpatch_held_last_look_timestamp_seconds", text, names, looks)


def _build_snapshot_metrics(rows: Sequence[SnapshotRow], now: datetime) -> Iterator[Metric]:
    yield _gauge("fleetpatch_snapshots", "Snapshots of runs that may exist.", len(rows))
    oldest: Values = {(): min(row.ordered_at for row in rows).timestamp()} if rows else {}
    text = "When the oldest of them was ordered."
    yield _family("fleetpatch_snapshot_oldest_timestamp_seconds", text, (), oldest)
    expired = sum(row.expires_at <= now for row in rows)
    yield _gauge("fleetpatch_snapshots_expired", "Those whose time is over.", expired)


def _find_next_windows(fleet: FleetSnapshot) -> Values:
    next_starts: dict[tuple[str, ...], float] = {}
    for zone_schedule in fleet.zone_schedules:
        if (window := find_next_window(zone_schedule, fleet.at)) is not None:
            key, start = (zone_schedule.configuration.name,), window.start.timestamp()
            next_starts[key] = min(start, next_starts.get(key, start))
    return next_starts


def _build_machine_metrics(machines: Iterable[MachineRow]) -> Iterator[Metric]:
    names = ("machine", "environment")
    compliant = GaugeMetricFamily(
        "fleetpatch_machine_compliant", "1: compliant, 0: not. Absent: not assessed.", labels=names
    )
    pending = GaugeMetricFamily(
        "fleetpatch_machine_pending_updates", "Updates that a machine lacks.", labels=(*names, "classification")
    )
    reboot = GaugeMetricFamily("fleetpatch_machine_reboot_required", "Whether it needs a reboot.", labels=names)
    answered = GaugeMetricFamily(
        "fleetpatch_machine_last_answer_timestamp_seconds", "When it was assessed last.", labels=names
    )
    for machine in machines:
        label = [_clean(machine.name), _clean(machine.environment or "")]
        if machine.answered_at is not None:
            answered.add_metric(label, machine.answered_at.timestamp())
        if not machine.is_current:
            continue
        reboot.add_metric(label, float(machine.reboot is YesNoUnknown.YES))
        if machine.compliance is not Compliance.NOT_ASSESSED:
            compliant.add_metric(label, float(machine.compliance is Compliance.COMPLIANT))
        for word in ("critical", "security", "other"):
            pending.add_metric([*label, word], getattr(machine, word))
    yield from (compliant, pending, reboot, answered)


def _family(name: str, text: str, labels: tuple[str, ...], values: Values) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=labels)
    for key in sorted(values):
        family.add_metric([_clean(label) for label in key], values[key])
    return family


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)


def _clean(text: str) -> str:
    """Return a label's value: one line of valid Unicode, so that no name can break the format."""
    return sanitize_to_one_line(text, _MAX_LABEL_CHARACTERS).encode("utf-8", "replace").decode("utf-8")
