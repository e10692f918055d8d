"""What a run has written into its journal of its shards, and what the run of each is asked for. Pure."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from flows.engine.run_info import find_run_kind
from flows.request import AssessRequest, PatchRequest, RunRequest
from inventory.data_class import dataclass
from inventory.name_lists import format_count, join_first_names
from inventory.resource_limits import ResourceKind
from tasks.domain.protocols.records import SHARD_ACT, JournalEntry, JournalMark
from tasks.rules.runs.shard_limits import ShardShare
from tasks.rules.runs.shards import Shard
from tasks.steps.context.journal import build_unreadable_error

PLAN_WAVE: Final = 0
"""The number in place of a wave of a shard that is only planned or assessed."""
_MAX_RUNS_SHOWN: Final = 10


@dataclass(frozen=True, slots=True)
class ShardEntry:
    """What a run's journal says of a shard that it has begun."""

    run_id: str  # of the shard's run
    shard: Shard
    wave: int  # ``PLAN_WAVE`` if the shard is only planned or assessed
    at: datetime
    request: RunRequest  # of the shard's run

    @property
    def is_read_only(self) -> bool:
        """Whether its run changes no machine. Nothing resumes such a run."""
        return self.wave == PLAN_WAVE

    @property
    def description(self) -> str:
        """What it is, for messages: "the plan at site hamburg"."""
        reading = "the assessment" if isinstance(self.request, AssessRequest) else "the plan"
        return f"{reading if self.is_read_only else f'wave {self.wave}'} at site {self.shard.site}"

    @property
    def detail(self) -> dict[str, object]:
        """What the journal keeps of it beside its id and time."""
        request = dump_shard_request(self.request)
        return {"kind": find_run_kind(self.request), "wave": self.wave, "site": self.shard.site, "request": request}


def parse_shard_entry(entry: JournalEntry) -> ShardEntry:
    """Return what an entry says. Pure. Raise RecordsError if this version can't read it."""
    try:
        # an earlier release wrote no kind, and knew no assessment
        request_type = AssessRequest if entry.detail.get("kind") == "assess" else PatchRequest
        request = request_type.model_validate(entry.detail["request"])
        shard = Shard(str(entry.detail["site"]), tuple(request.only_machines))
        return ShardEntry(entry.key, shard, int(str(entry.detail["wave"])), entry.at, request)
    except (KeyError, ValueError) as error:
        raise build_unreadable_error(entry, f"the shard {entry.key}", error) from error


def has_begun_waves(entries: Sequence[JournalEntry]) -> bool:
    """Return whether a run's journal has a shard that may change its machines. Pure.

    Raises:
        RecordsError: this version can't read an entry.
    """
    begun = (entry for entry in entries if entry.act == SHARD_ACT and entry.mark is JournalMark.BEFORE)
    return not all(parse_shard_entry(entry).is_read_only for entry in begun)


def dump_shard_request(request: RunRequest) -> dict[str, object]:
    """Return a request as JSON without defaults: those of an older release at a site may be others. Pure."""
    return request.model_dump(mode="json", exclude_defaults=True)


def describe_sites(entries: Sequence[ShardEntry]) -> tuple[str, ...]:
    """Return a note for each site, for reports: how many of its machines which runs have carried out. Pure."""
    notes = []
    for site in dict.fromkeys(entry.shard.site for entry in entries):
        at_site = [entry for entry in entries if entry.shard.site == site]
        names = {name for entry in at_site for name in entry.shard.machines}
        runs = join_first_names([entry.run_id for entry in at_site], _MAX_RUNS_SHOWN)
        notes.append(f"site {site}: {format_count(len(names), 'machine')} in {runs}")
    return tuple(notes)


def build_assessment_request(
    request: AssessRequest, run_id: str, machines: Sequence[str], share: ShardShare
) -> AssessRequest:
    """Return the request of a shard's assessment. Its report is that of the whole run. Pure.

    See ``build_shard_request`` for the arguments.
    """
    return request.model_copy(
        update={
            "shard": run_id,
            "only_machines": list(machines),
            "at_once": share.assess_at_once,
            "shard_limits": _dump_limits(share),
            "report_formats": [],
            "report_directory": None,
        }
    )


def build_shard_request(
    request: PatchRequest,
    run_id: str,
    machines: Sequence[str],
    wave: int,
    opens: datetime,
    may_fail: int,
    share: ShardShare,
) -> PatchRequest:
    """Return the request of a shard's run. Pure.

    What the whole run decides is left out: waves, notifications, hooks around the run. Its failure budget is a second
    barrier: that of the whole run, should that have no process for a while.

    Args:
        request: of the whole run.
        run_id: of the shard's run.
        machines: of the shard.
        wave: ``PLAN_WAVE`` to plan only.
        opens: when the window opens.
        may_fail: how many machines may fail in the whole run.
        share: how many machines of the shard may be worked on at once.
    """
    around: dict[str, list[object]] = {name: [] for name in ("before_run", "after_run", "before_wave", "after_wave")}
    waves = request.waves.model_copy(
        update={
            "canary_count": 0,
            "canary_percent": 0.0,
            "size": None,
            "percent": 100.0,
            "pause_minutes": 0.0,
            "at_once": share.at_once,
            "failure_budget_count": may_fail,
            "unreachable_percent": 100.0,
            "keep_locations_apart": False,
            "first_locations": [],
            "round_down": False,
        }
    )
    return request.model_copy(
        update={
            "shard": run_id,
            "only_machines": list(machines),
            "dry_run": wave == PLAN_WAVE,
            "window": request.window.model_copy(update={"start": opens, "lead_minutes": 0.0}),
            "waves": waves,
            "assess_at_once": share.assess_at_once,
            "shard_limits": _dump_limits(share),
            "hooks": request.hooks.model_copy(update=around),
            "notify": [],
            "report_formats": [],
            "report_directory": None,
        }
    )


def _dump_limits(share: ShardShare) -> dict[ResourceKind, dict[str, int]]:
    limits: dict[ResourceKind, dict[str, int]] = {}
    for resource, limit in share.limits.items():
        limits.setdefault(resource.kind, {})[resource.name] = limit
    return limits
