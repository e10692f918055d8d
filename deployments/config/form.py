"""What may stand in a file of maintenance configurations: the keys, their types, and the rules of each value.

Whatever a patch run can be asked is defined once, in ``flows/request.py``; here it is taken over with its limits, its
default and its description.
"""

import re
from copy import copy
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from deployments.config.names import RESERVED
from deployments.config.times import (
    MINUTES_A_DAY,
    NO_ZONE,
    EndTime,
    FreezeEnd,
    FreezeTime,
    Length,
    LocalTime,
    through_the_day,
)
from deployments.config.zones import zone_of
from flows.form import Form
from flows.policy_forms import ApprovalRequest, HooksRequest, NotifyRequest
from flows.request import Mask, PatchRequest, Place, ReportFormat, UpdatesRequest, WavesRequest
from inventory.errors import InventoryError
from inventory.schema import NameList, fault
from inventory.scope import Scope
from tasks.errors import RequestError
from tasks.rules.calendar.recurrence import parse
from tasks.states import RebootPolicy

_SLUG = re.compile(r"[a-z0-9]+(?:[._-][a-z0-9]+)*")
_TAG = re.compile(r"[\w.:/=@+-]{1,80}")
_MAX_NAME = 63
_YEARS = range(1970, 3000)


def _as_asked(name: str) -> Any:  # noqa: ANN401  # of the type that its key has
    """Return a field of the patch request, with its limits, default and description."""
    return copy(PatchRequest.model_fields[name])


def _name(value: str) -> str:
    if not _SLUG.fullmatch(value) or len(value) > _MAX_NAME:
        remedy = f"Use up to {_MAX_NAME} small letters and digits, with '-', '_' or '.' between them: web-servers."
        raise fault(f"{value[:80]!r} is no usable name for a configuration", remedy)
    if value in RESERVED:
        remedy = f"Choose another name; fleetpatch itself uses {', '.join(sorted(RESERVED))}."
        raise fault(f"{value!r} is what fleetpatch calls something of its own in Prefect", remedy)
    return value


def _scope(value: str) -> str:
    try:
        Scope.parse(value)
    except InventoryError as error:
        raise fault(error.message, error.hint) from error
    return value.strip()


def _recurrence(value: str) -> str:
    try:
        parse(value)
    except RequestError as error:
        raise fault(error.message, error.hint) from error
    return value.strip()


def _tag(value: str) -> str:
    if not _TAG.fullmatch(value):
        raise fault(f"{value[:80]!r} is no usable tag", "Use up to 80 letters, digits and . _ : / = @ + -, no blanks.")
    return value


def _one_day(value: object) -> datetime:
    end = through_the_day(value, NO_ZONE)
    if end.hour or end.minute or end.second:
        raise fault(f"{str(value)[:80]!r} is no date", "Write it as 2026-12-24; with times, give `start` and `end`.")
    return end


_ZONE_SCHEMA = {"type": "string", "description": "IANA or Windows name, or `machine`.", "examples": ["Europe/Berlin"]}
_DATE_SCHEMA = {"type": "string", "pattern": r"^\d{4}-\d{2}-\d{2}$"}
Zone = Annotated[str, AfterValidator(zone_of), WithJsonSchema(_ZONE_SCHEMA)]
Recurrence = Annotated[str, AfterValidator(_recurrence)]


class WindowForm(Form):
    """When changes may be made."""

    start: LocalTime = Field(description="When the first window opens, by the clocks of the zone: 2026-12-05 22:00.")
    length: Length = Field(
        gt=0, le=31 * MINUTES_A_DAY, description='How long each is open: "01:55", 2h, or a number of minutes.'
    )
    zone: Zone = Field(
        description="Whose clocks: an IANA name (Europe/Berlin), a Windows name (W. Europe Standard Time), or "
        "`machine` for each machine's own zone.",
    )
    expires: EndTime | None = Field(
        default=None, description="No window opens from then on; a date alone is the last day. Empty: never."
    )
    recurrence: Recurrence = Field(
        default="Once",
        description="How it comes back: Azure's words (3Days, 2Weeks Saturday,Sunday, Month Second Tuesday Offset4), "
        "an iCalendar rule (FREQ=MONTHLY;BYDAY=2TU) or cron (0 22 * * TUE#2). Empty: it doesn't.",
    )

    @model_validator(mode="after")
    def _ends_after_it_starts(self) -> "WindowForm":
        if self.expires is not None and self.expires <= self.start:
            raise fault("it expires before its first window opens", "Correct `expires`, or leave it out.")
        return self


class FreezeForm(Form):
    """A time in which nothing may be changed: a day, a span, or the events of an iCalendar file."""

    date: Annotated[datetime, BeforeValidator(_one_day), WithJsonSchema(_DATE_SCHEMA)] | None = Field(
        default=None, description="One whole day."
    )
    start: FreezeTime | None = Field(default=None, description="From when; a date alone is from its first moment on.")
    end: FreezeEnd | None = Field(default=None, description="Until when; a date alone is to its last moment.")
    file: Place | None = Field(
        default=None, description="An iCalendar file (.ics); each of its events is a freeze. Relative to this file."
    )
    reason: str = Field(default="", max_length=200, description="Why, for reports. Else the event's summary.")

    @model_validator(mode="after")
    def _one_kind(self) -> "FreezeForm":
        given = {key for key in ("date", "start", "end", "file") if getattr(self, key) is not None}
        if given not in ({"date"}, {"start", "end"}, {"file"}):
            raise fault("this is no freeze", "Give `date`, or `start` and `end`, or `file`.")
        if self.start is not None and self.end is not None and self.end <= self.start:
            raise fault("this freeze ends before it starts", "Correct `start` or `end`.")
        for moment in (self.date, self.start, self.end):
            if moment is not None and moment.year not in _YEARS:  # further away, zones have no clocks
                raise fault(f"the year {moment.year} can't be meant", f"Give {_YEARS.start} to {_YEARS.stop - 1}.")
        return self


class ConfigurationForm(Form):
    """A maintenance configuration: which machines, which updates, when, what reboot, what before and after."""

    name: Annotated[str, AfterValidator(_name)] = Field(
        description="Its name, unique among those loaded together: small letters, digits, '-', '_', '.'."
    )
    description: str = Field(default="", max_length=2000, description="What it is for, for people.")
    enabled: bool = Field(default=True, description="Whether its windows open. Off: it is checked and shown only.")
    tags: list[Annotated[str, AfterValidator(_tag)]] = Field(
        default=[], max_length=20, description="Labels of its deployments and runs in Prefect."
    )
    scope: Annotated[str, Field(min_length=1, max_length=1500), AfterValidator(_scope)] | None = Field(
        default=None,
        description="Which machines, e.g. `env=prod,os=linux,!ring=canary`; resolved anew when each run starts.",
    )
    machines: NameList | None = Field(default=None, description="Machines by name, beside those of the scope.")
    inventory: Place | None = Field(
        default=None, description="Inventory file or folder, relative to this file. Empty: as every command finds it."
    )
    updates: UpdatesRequest = _as_asked("updates")
    window: WindowForm = Field(description="When changes may be made.")
    lead: Length = Field(
        default=0,
        ge=0,
        le=7 * MINUTES_A_DAY,
        description="How long before its window a run starts: for its plan, its approval and the hooks before it.",
    )
    stage_ahead: Length | None = Field(
        default=None,
        gt=0,
        le=7 * MINUTES_A_DAY,
        description="How long before its window the updates are downloaded, in a run of their own. Empty: inside it.",
    )
    reboot: RebootPolicy = _as_asked("reboot")
    waves: WavesRequest = _as_asked("waves")
    hooks: HooksRequest = _as_asked("hooks")
    approval: ApprovalRequest = _as_asked("approval")
    notify: list[NotifyRequest] = _as_asked("notify")
    freezes: list[FreezeForm] = Field(
        default=[], max_length=500, description="Times in which nothing may be changed; they win over the window."
    )
    reboot_pending_first: bool = _as_asked("reboot_pending_first")
    reboot_reserve_minutes: float = _as_asked("reboot_reserve_minutes")
    max_reboots: int = _as_asked("max_reboots")
    going_down_minutes: float = _as_asked("going_down_minutes")
    coming_up_minutes: float = _as_asked("coming_up_minutes")
    allow_removals: bool = _as_asked("allow_removals")
    repair: bool = _as_asked("repair")
    native_updaters: Literal["leave", "pause"] = _as_asked("native_updaters")
    restart_services: Literal["Never", "IfRequired"] = _as_asked("restart_services")
    restart_services_exclude: list[Mask] = _as_asked("restart_services_exclude")
    stage: bool = _as_asked("stage")
    refresh: bool = _as_asked("refresh")
    settle_seconds: float = _as_asked("settle_seconds")
    assess_at_once: int = _as_asked("assess_at_once")
    report_directory: Place | None = _as_asked("report_directory")
    report_formats: list[ReportFormat] = _as_asked("report_formats")

    @model_validator(mode="after")
    def _says_which_machines(self) -> "ConfigurationForm":
        if self.scope is None and not self.machines:
            raise fault("it says no machines", "Add `scope:` (`*` is all of them) or `machines:`.")
        return self


class FileForm(Form):
    """A file of several configurations. Its freezes hold for all that are loaded together."""

    configurations: list[ConfigurationForm] = Field(default=[], description="The configurations.")
    freezes: list[FreezeForm] = Field(
        default=[], description="Freezes of all configurations that are loaded together, in this file and its folder."
    )


TAKEN_OVER = tuple(
    name
    for name in ConfigurationForm.model_fields
    if name in PatchRequest.model_fields and name not in {"scope", "inventory", "window", "freezes"}
)
"""Keys that mean the same in a configuration and in a patch request."""
