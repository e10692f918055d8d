"""The parts of requests that surround a run: hooks, approval, notifications, freezes."""

from datetime import datetime, timedelta
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, StringConstraints, model_validator
from pydantic.config import JsonDict

from flows.request.base import FormModel, Mask, convert_request
from tasks.domain.model import Hook, NotHeld
from tasks.domain.scheduled_events import ApprovalRule
from tasks.domain.states import Classification, HookKind, HookMode, HookPoint, UndoWay, include_esm
from tasks.rules.calendar.freezes import Freeze, build_freeze
from tasks.rules.maintenance.model import ApplyMode, HoldPolicy
from tasks.rules.runs.hooks import check_hook_target
from tasks.rules.runs.snapshots import SnapshotPolicy
from tasks.rules.scheduled_events import EventNotice

HookName = Annotated[
    str, StringConstraints(min_length=1, max_length=100, strip_whitespace=True, pattern=r"^[A-Za-z0-9][\w .-]*$")
]
OccasionName = Literal[
    "planned",
    "waiting",
    "started",
    "finished",
    "failed",
    "missed",
    "cancelled",
    "machine_failed",
    "machine_rebooted",
    "machine_told",
]
_MACHINE_OCCASIONS = frozenset({"machine_failed", "machine_rebooted", "machine_told"})


class HookRequest(FormModel):
    """A hook: a command, URL, function or deployment of yours that runs before or after."""

    name: HookName = Field(description="Its name in reports.")
    kind: HookKind = Field(
        description="What it is: a command on each machine or on the controller, an HTTP call, a Python function, "
        "or a Prefect deployment."
    )
    target: str = Field(
        min_length=1,
        max_length=4000,
        description="The command line, the URL (POST), `package.module:function`, or `flow/deployment`.",
    )
    timeout_minutes: float = Field(default=5, gt=0, le=240, description="After that it counts as failed.")
    mode: HookMode = Field(
        default=HookMode.MUST_SUCCEED,
        description="What its failure does: must_succeed stops what comes next, warn adds a warning, ignore does "
        "nothing.",
    )
    repeatable: bool = Field(
        default=False, description="Whether a resumed run may run it again when it can't know whether it ran."
    )


HookList = Annotated[list[HookRequest], Field(max_length=20)]


class HooksRequest(FormModel):
    """What is run before and after: once for the run, once a wave, or on each machine."""

    before_run: HookList = Field(
        default=[],
        description="Once, after the plan was made and approved, before any machine is changed. With a lead: before "
        "the window opens.",
    )
    after_run: HookList = Field(default=[], description="Once, at the end, if `before_run` ran.")
    before_wave: HookList = Field(default=[], description="Once a wave, before its first machine.")
    after_wave: HookList = Field(default=[], description="Once a wave that was started, after its last machine.")
    before_machine: HookList = Field(
        default=[],
        description="For each machine with something to install: after its download and before its first change.",
    )
    after_machine: HookList = Field(
        default=[], description="For each machine whose `before_machine` ran, also when something failed."
    )

    @model_validator(mode="after")
    def _check_hooks(self) -> Self:
        """Refuse targets that are not valid, and two hooks with the same name in one place."""
        for hook_point in HookPoint:
            hook_requests: list[HookRequest] = getattr(self, hook_point)
            names = [hook_request.name for hook_request in hook_requests]
            twice = next((name for name in names if names.count(name) > 1), None)
            if twice is not None:
                raise ValueError(f"{hook_point}: two hooks are called {twice!r}: give each a name of its own")
            for hook_request in hook_requests:
                if wrong := check_hook_target(hook_request.kind, hook_request.target, hook_point):
                    raise ValueError(f"{hook_point}: hook {hook_request.name!r}: {wrong}")
        return self

    def to_hooks(self) -> tuple[Hook, ...]:
        """Return all hooks with their places. Hooks of one place are in the order in which they run."""
        return tuple(
            convert_request(hook_request, Hook, place=hook_point)
            for hook_point in HookPoint
            for hook_request in getattr(self, hook_point)
        )


def _restrict_property_names(schema: JsonDict) -> None:
    """Express "no other keys" for a form that has a field called ``required``, in a way that Prefect keeps.

    Prefect 3.8 validates a deployment's parameters against the schema without any key ``required``
    (``validate(ignore_required=True)``). It removes the field of this name together with the lists of required fields.
    With ``additionalProperties: false`` it then refuses the field, and such a deployment can't be created.
    """
    fields = schema["properties"]
    del schema["additionalProperties"]
    schema["propertyNames"] = {"enum": list(fields) if isinstance(fields, dict) else []}


ApproverNames = Annotated[str, StringConstraints(min_length=1, max_length=50_000, strip_whitespace=True)]


class ApprovalRequest(FormModel):
    """Whether a person must approve the plan before the run changes a machine."""

    model_config = ConfigDict(json_schema_extra=_restrict_property_names)

    required: bool = Field(
        default=False,
        title="Wait For Approval",
        description="Wait until a person approves the plan, before anything is changed.",
    )
    expires_minutes: float | None = Field(
        default=None,
        gt=0,
        le=31 * 24 * 60,
        description="Minutes to wait for the approval after the plan is made. Empty: as long as anything fits into the "
        "window.",
    )
    changed: Literal["refuse", "trim"] = Field(
        default="trim",
        title="When The Plan Has Changed",
        description="When pending updates differ from the approved plan: trim installs only approved updates that are "
        "still pending, refuse installs nothing on the machine.",
    )
    not_by_starter: bool = Field(
        default=False, title="Not By The Starter", description="The person who started the run may not approve it."
    )
    by: list[ApproverNames] = Field(
        default=[],
        max_length=100,
        title="Approved By",
        description="Who may approve: logins, `role:approve`, or `*` for every login, with `|` between them. A "
        "name that was only typed does not count then. Who approves must be in each entry. Empty: anybody.",
    )


MAX_REFERENCE_LENGTH = 500
"""The maximum length of a reference to a notification URL, in characters."""


class NotifyRequest(FormModel):
    """Where notifications go, and which events send one."""

    to: str = Field(
        max_length=MAX_REFERENCE_LENGTH,
        pattern=r"^(env|file|block|prefect):.",  # a URL here would appear in the records and in Prefect's parameters
        description="Reference to a URL, never the URL itself: `env:NAME`, `file:/path` or `block:NAME` (a Prefect "
        "secret block).",
    )
    kind: Literal["apprise", "webhook", "syslog"] = Field(
        default="apprise",
        description="What the URL is: of a message service (`apprise`), of a program that gets JSON by POST "
        "(`webhook`), or of a syslog server that gets CEF (`syslog`: `syslog+udp://`, `syslog+tcp://`, "
        "`syslog+tls://`).",
    )
    key: str = Field(
        default="",
        max_length=MAX_REFERENCE_LENGTH,
        pattern=r"^((env|file|block|prefect):.+)?$",
        title="Signature's Key",
        description="For webhooks: reference to the key that signs them. Empty: no signature.",
    )
    on: list[OccasionName] = Field(
        default=["waiting", "failed", "missed", "finished"],
        min_length=1,
        title="When",
        description="The events that send a notification. `machine_failed` and `machine_rebooted` are sent when the "
        "run ends, one for each machine, and `machine_told` when a scheduled event is announced, begins or ends. These "
        "three go to webhooks and syslog only.",
    )

    @model_validator(mode="after")
    def _check_kind(self) -> Self:
        if self.kind == "apprise" and _MACHINE_OCCASIONS & set(self.on):
            raise ValueError("machine_failed, machine_rebooted and machine_told need the kind webhook or syslog")
        if self.key and self.kind != "webhook":
            raise ValueError("only the kind webhook has a key")
        return self


Notifications = Annotated[
    list[NotifyRequest], Field(max_length=20, description="Where notifications go, and which events send one.")
]


class AnnounceRequest(FormModel):
    """Whether machines and their programs are told before a run interrupts them: Azure's scheduled events."""

    enabled: bool = Field(
        default=False,
        title="Announce Interruptions",
        description="Announce each reboot and each restart of services as a scheduled event, and wait for its time or "
        "its approval.",
    )
    notice_minutes: float = Field(
        default=15,
        ge=0,
        le=7 * 24 * 60,
        description="Minutes between the announcement and the interruption. It begins earlier when it is approved.",
    )
    approval: ApprovalRule = Field(
        default=ApprovalRule.ALL,
        description="Whose approval lets an event begin early: `all` (each machine that is interrupted, for itself), "
        "or `any` (the first machine that is told, for all: as in Azure).",
    )

    def to_event_notice(self) -> EventNotice | None:
        """Return how interruptions are announced; None: they are not."""
        return EventNotice(self.notice_minutes * 60, self.approval) if self.enabled else None


UndoUnreachable = Annotated[
    bool,
    Field(
        description="Also put machines back to their snapshot that do not answer. `fleetpatch undo` sets it when "
        "machines are named."
    ),
]
UndoBy = Annotated[
    UndoWay,
    Field(
        description="How: packages, or snapshot (the OS disks go back to the snapshot of before that run, and all that "
        "was written to them since is lost)."
    ),
]


class RehearsalRequest(FormModel):
    """Whether copies of machines are patched and thrown away before a run, and what that means for the machines."""

    on_copies: bool = Field(
        default=False,
        title="Rehearse On Copies",
        description="Before the run, patch a copy of one machine of each set, and of each machine in no set, with its "
        "checks and its reboot. A machine begins only if the rehearsal that stands for it passed. It needs a provider "
        "that copies machines. Plans and downloads rehearse nothing.",
    )
    strict: bool = Field(  # Prefect's server reads a schema with a property "required" as a list of names
        default=True,
        description="A machine whose rehearsal could not be made does not begin. After a rehearsal that failed, it "
        "never begins.",
    )
    at_most: int = Field(default=10, ge=1, le=100, description="Machines that are copied in one run.")

    @model_validator(mode="before")
    @classmethod
    def _read_word(cls, given: object) -> object:
        """Accept ``rehearse: true`` for ``rehearse: {on_copies: true}``."""
        return {"on_copies": given} if isinstance(given, bool) else given


class SnapshotRequest(FormModel):
    """Whether each machine gets a snapshot by its provider before its first change, and what is done with it."""

    take: Literal["never", "before"] = Field(
        default="never",
        description="before: one snapshot of each machine, just before its first change. A machine whose provider "
        "can't take one is not changed.",
    )
    keep_days: float = Field(default=3, gt=0, le=365, description="Days after which the snapshot is deleted.")
    revert_on_failure: bool = Field(
        default=False,
        description="Put a machine back to its snapshot if the run fails on it. Otherwise the report tells how a "
        "person can.",
    )
    patch_without: bool = Field(
        default=False, description="Patch a machine also if no snapshot can be taken, with a warning."
    )
    with_data_disks: bool = Field(
        default=False, description="Also put data disks back. What was written to them since is lost."
    )

    @model_validator(mode="before")
    @classmethod
    def _read_word(cls, given: object) -> object:
        """Accept ``snapshot: before`` for ``snapshot: {take: before}``."""
        return {"take": given} if isinstance(given, str) else given

    def to_snapshot_policy(self) -> SnapshotPolicy | None:
        """Return what is done with snapshots; None: none are taken."""
        if self.take == "never":
            return None
        return SnapshotPolicy(self.keep_days, self.revert_on_failure, self.patch_without, self.with_data_disks)


MINUTES_PER_DAY = 24 * 60


class HoldOptions(FormModel):
    """In which window what is held is applied by itself, and what does not wait."""

    apply: ApplyMode = Field(
        default=ApplyMode.LAST_WINDOW,
        title="Applied By Itself In",
        description="In which window it is applied if no person does it earlier: `last_window` is the last one that "
        "ends before the hold is over, and earlier windows stay closed. `each_window` is the next one.",
    )
    not_held: list[Classification] = Field(
        default=[], description="Kinds of updates that do not wait: they are installed in each window."
    )
    not_held_updates: list[Mask] = Field(
        default=[], max_length=500, description="The same for updates with these names: masks such as `openssl*`."
    )

    def to_not_held(self) -> NotHeld:
        """Return the updates that do not wait."""
        return NotHeld(include_esm(frozenset(self.not_held)), tuple(self.not_held_updates))


class HoldRequest(HoldOptions):
    """How the updates of a configuration are held, for its runs."""

    hold_minutes: float = Field(
        ge=MINUTES_PER_DAY,
        le=365 * MINUTES_PER_DAY,
        description="How long what becomes pending waits at the most. After that it is applied, whatever the schedule.",
    )
    group: str = Field(
        min_length=1,
        max_length=200,
        description="Set by fleetpatch itself: the configuration, or its part in one time zone.",
    )
    application: str = Field(
        default="",
        max_length=300,
        description="Set by fleetpatch itself: the run that maintenance control has started, after the last day.",
    )
    only_not_held: bool = Field(
        default=False,
        description="Set by fleetpatch itself: the run installs only what does not wait, and applies no package.",
    )

    def to_policy(self, window_minutes: float) -> HoldPolicy:
        """Return how the updates are held. ``window_minutes`` is the length of a window of the configuration."""
        return HoldPolicy(
            hold=timedelta(minutes=self.hold_minutes),
            apply=self.apply,
            not_held=self.to_not_held(),
            window=timedelta(minutes=window_minutes),
        )


class FreezeRequest(FormModel):
    """A time in which nothing may be changed."""

    start: datetime = Field(description="From when; without an offset it is read in the window's zone.")
    end: datetime = Field(description="Until when.")
    reason: str = Field(default="", max_length=200, description="Why, for reports.")

    def to_freeze(self, zone: str) -> Freeze:
        """Return the freeze as instants. Times without an offset are read in the zone (IANA name).

        Raises:
            RequestError: the zone is unknown, or the freeze ends before it begins.
        """
        return build_freeze(self.start, self.end, zone, self.reason)
