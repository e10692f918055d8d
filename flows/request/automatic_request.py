"""The request for automatic patching: the policy as people write it, in a file or in a form."""

import re
from datetime import time
from typing import Annotated

from pydantic import BeforeValidator, Field, StringConstraints, WithJsonSchema

from flows.request.base import CheckedPath, FormModel, Mask, ScopeRequest, convert_request
from flows.request.request_parts import AnnounceRequest, FreezeRequest, Notifications
from inventory.schema.value_types import build_validation_error
from tasks.domain.states import Classification
from tasks.rules.automatic.model import AutomaticPolicy, RiskRule

AUTOMATIC_CONFIGURATION = "automatic"
"""Stands for automatic patching where other runs have the name of their configuration. No configuration has this name.
"""
AUTOMATIC_INTERVAL_SECONDS = 15 * 60
"""How often a tick decides what is to be done."""
LocationName = Annotated[str, StringConstraints(min_length=1, max_length=200, strip_whitespace=True)]

_CLOCK_TIME_PATTERN = re.compile(r"([01]\d|2[0-3]):[0-5]\d(:00)?")


def _check_clock_time(value: object) -> object:
    """Refuse numbers: pydantic would take 22 for 22 seconds after midnight. Offsets have no meaning here."""
    if isinstance(value, time) and value.tzinfo is None:
        return value
    if isinstance(value, str) and _CLOCK_TIME_PATTERN.fullmatch(value):
        return value
    raise build_validation_error(
        f"{str(value)[:80]!r} is no time of the day", 'Write it as "22:00", without an offset.'
    )


ClockTime = Annotated[
    time,
    BeforeValidator(_check_clock_time),
    # JSON Schema's own format of a time has seconds and an offset: editors would refuse "22:00".
    WithJsonSchema({"type": "string", "pattern": f"^{_CLOCK_TIME_PATTERN.pattern}$"}),
]


class RiskRuleRequest(FormModel):
    """An earlier deadline for dangerous vulnerabilities. All given conditions must hold."""

    due_days: float = Field(gt=0, le=365, description="Days from publication, or else first sight, to the deadline.")
    known_exploited: bool = Field(default=False, description="CISA's catalogue of exploited vulnerabilities has it.")
    epss: float | None = Field(default=None, ge=0, le=1, description="Lowest EPSS probability, 0 to 1.")
    cvss: float | None = Field(default=None, ge=0, le=10, description="Lowest CVSS base score, 0 to 10.")


class OffPeakRequest(FormModel):
    """The hours in which machines may be patched, by the clock of each machine's own zone."""

    start: ClockTime = Field(default=time(22), description="From when, e.g. `22:00`.")
    end: ClockTime = Field(default=time(6), description="Until when, e.g. `06:00`. The same as the start: all day.")
    window_minutes: float = Field(default=235, ge=10, le=24 * 60, description="The length of each window.")


class PhasesRequest(FormModel):
    """In which order locations get the same updates."""

    canary_locations: list[LocationName] = Field(
        default=[], max_length=100, description="Locations of the first phase. Empty: the first one by name."
    )
    paired_locations: list[list[LocationName]] = Field(
        default=[], max_length=500, description="Groups of locations that are never in the same phase."
    )
    success_percent: float = Field(
        default=95, ge=0, le=100, description="Share of a phase's machines that must succeed before the next begins."
    )
    soak_hours: float = Field(default=24, ge=0, le=30 * 24, description="Hours between two phases.")


class AutomaticRequest(ScopeRequest):
    """Patch managed machines automatically: availability first, in phases, before each update's deadline."""

    scope: str = Field(
        default="*", min_length=1, max_length=2000, description="Which machines; of these, those with `owner: managed`."
    )
    enabled: bool = Field(default=True, description="Off: nothing is started; what would happen is still shown.")
    classifications: list[Classification] = Field(
        default=[Classification.CRITICAL, Classification.SECURITY, Classification.SECURITY_ESM],
        min_length=1,
        description="Kinds of updates.",
    )
    exclude: list[Mask] = Field(default=[], max_length=500, description="Masks of updates that are never installed.")
    off_peak: OffPeakRequest = Field(default=OffPeakRequest(), description="When machines may be patched.")
    due_days: float = Field(
        default=30, gt=0, le=365, description="Days from an update's publication, or else first sight, to its deadline."
    )
    risk_rules: list[RiskRuleRequest] = Field(
        default=[], max_length=50, description="Earlier deadlines; the earliest that applies holds."
    )
    feeds: CheckedPath | None = Field(
        default=None,
        description="Folder with files of KEV, EPSS and CVSS. Empty: risk rules that need them do nothing.",
    )
    max_feed_age_days: float = Field(default=14, gt=0, le=365, description="Older feed files are refused.")
    phases: PhasesRequest = Field(default=PhasesRequest(), description="In which order locations get the updates.")
    max_tries: int = Field(
        default=3, ge=1, le=20, description="Windows in which a machine is tried. Then people are told."
    )
    max_unhealthy_percent: float = Field(
        default=20,
        ge=0,
        le=100,
        description="A set with more unhealthy members is left alone, a phase with more stops.",
    )
    max_assessment_age_hours: float = Field(
        default=24, gt=0, le=7 * 24, description="A machine is assessed again when its assessment is older."
    )
    max_assessments: int = Field(
        default=600,
        ge=1,
        le=100_000,
        description="Machines in assessments that wait or run at the same time. Each 200 are a process on the worker.",
    )
    new_rollout_hours: float = Field(default=24, gt=0, le=31 * 24, description="Shortest time between two rollouts.")
    waves_percent: float = Field(default=20, gt=0, le=100, description="Share of a run's machines that make a wave.")
    failure_budget_percent: float = Field(
        default=20, ge=0, le=100, description="Share of a run's machines that may fail; then the run begins no more."
    )
    announce: AnnounceRequest = Field(
        default=AnnounceRequest(), description="Whether machines and their programs are told before interruptions."
    )
    notify: Notifications = Field(default=[])
    freezes: list[FreezeRequest] = Field(
        default=[], max_length=500, description="Times in which nothing is changed. They override everything else."
    )

    def to_policy(self) -> AutomaticPolicy:
        """Return the policy that decisions use."""
        return convert_request(
            self,
            AutomaticPolicy,
            classifications=frozenset(self.classifications),
            off_peak_start=self.off_peak.start,
            off_peak_end=self.off_peak.end,
            window_minutes=self.off_peak.window_minutes,
            canary_locations=tuple(self.phases.canary_locations),
            paired_locations=tuple(tuple(group) for group in self.phases.paired_locations),
            success_percent=self.phases.success_percent,
            soak_hours=self.phases.soak_hours,
            risk_rules=tuple(convert_request(risk_rule, RiskRule) for risk_rule in self.risk_rules),
        )
