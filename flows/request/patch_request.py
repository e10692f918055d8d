"""The request for a patch run. Its models are the forms of the Prefect UI, the command's options and the Python API."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from flows.request.base import (
    CheckedPath,
    Classifications,
    ExcludeMasks,
    FormModel,
    IncludeMasks,
    Mask,
    OnlyMachines,
    ReportFormats,
    ScopeRequest,
    ShardId,
    ShardLimits,
    convert_request,
)
from flows.request.request_parts import (
    AnnounceRequest,
    ApprovalRequest,
    FreezeRequest,
    HoldRequest,
    HooksRequest,
    Notifications,
    RehearsalRequest,
    SnapshotRequest,
    UndoBy,
    UndoUnreachable,
)
from tasks.domain.errors import RequestError
from tasks.domain.model import PinnedUpdates, Selection, Window
from tasks.domain.states import Classification, RebootPolicy, Severity, UndoWay
from tasks.rules.calendar.local_time import localize_time
from tasks.rules.machine_checks.packages import OthersPolicy
from tasks.rules.runs.hooks import MACHINE_PLACES
from tasks.rules.runs.waves import WavePolicy
from tasks.rules.timing.maintenance_window import build_window
from tasks.steps.context.run_context import DEFAULT_MAX_UNREACHABLE_SECONDS, PatchOptions

_DOWNLOAD_ONLY: Mapping[str, Any] = {
    "reboot": RebootPolicy.NEVER,
    "reboot_pending_first": False,
    "repair": False,
    "remove_unused_kernels": False,
    "restart_services": "Never",
    "announce": None,
    "snapshot": None,
    "hooks": (),
}
"""What a run that only downloads does, whatever the request says."""

OverrideReason = Annotated[str, StringConstraints(max_length=500, strip_whitespace=True)]


class WindowRequest(FormModel):
    """When machines may be changed."""

    start: datetime | None = Field(
        default=None, description="When it opens; without an offset it is read in the zone below. Empty: now."
    )
    minutes: float = Field(default=120, gt=0, le=31 * 24 * 60, description="How long it is open, in minutes.")
    zone: str = Field(default="UTC", max_length=64, description="IANA time zone, e.g. `Europe/Berlin`.")
    lead_minutes: float = Field(
        default=0,
        ge=0,
        le=7 * 24 * 60,
        description="Minutes from the scheduled start of a run to the opening of its window: time for its plan, its "
        "approval and the hooks before the run.",
    )

    def to_window(self, now: datetime) -> Window:
        """Return the window. Without a start it opens now.

        Raises:
            RequestError: the zone is unknown, or the window is not valid.
        """
        return build_window(self.start, self.minutes, self.zone, now)


class WavesRequest(FormModel):
    """In what order machines are patched, and when the run stops."""

    canary_count: int = Field(default=0, ge=0, le=1000, description="Machines in a first wave of their own.")
    canary_percent: float = Field(default=0, ge=0, le=100, description="The same as a share of all machines.")
    size: int | None = Field(
        default=None, ge=1, le=10_000, title="Machines A Wave", description="Empty: by the percentage."
    )
    percent: float = Field(
        default=20,
        gt=0,
        le=100,
        title="Percent A Wave",
        description="Share of all machines that make a wave, rounded up.",
    )
    at_once: int = Field(
        default=20,
        ge=1,
        le=500,
        title="Machines At Once",
        description="Machines patched at the same time within a wave.",
    )
    pause_minutes: float = Field(default=0, ge=0, le=24 * 60, description="Pause between waves, in minutes.")
    failure_budget_count: int | None = Field(
        default=None,
        ge=0,
        le=10_000,
        description="Machines that may fail in the whole run. With more, no further machine starts.",
    )
    failure_budget_percent: float = Field(
        default=20,
        ge=0,
        le=100,
        description="The same as a share of all machines, and of each wave's machines; rounded down. Used when no "
        "count is given.",
    )
    unreachable_percent: float = Field(
        default=50,
        ge=0,
        le=100,
        description="Share of all machines that may be unreachable, rounded down. They don't count as failed. With "
        "more, no further machine starts.",
    )
    go_on_after_failed_canary: bool = Field(
        default=False,
        title="Go On After A Failed Canary",
        description="Count failed canaries like other machines. Otherwise no further machine starts after a canary "
        "failed.",
    )
    keep_locations_apart: bool = Field(default=False, description="Never patch two locations in the same wave.")
    first_locations: list[Annotated[str, StringConstraints(min_length=1, max_length=256)]] = Field(
        default=[],
        max_length=100,
        title="These Locations First",
        description="Locations whose machines come first, as canaries, in waves of the usual size.",
    )
    round_down: bool = Field(
        default=False, description="Round the share of a wave down, not up. A wave still has at least one machine."
    )

    def to_wave_policy(self) -> WavePolicy:
        """Return how machines are divided into waves."""
        unset_budget = {} if self.failure_budget_count is None else {"failure_budget_percent": None}
        return convert_request(self, WavePolicy, **unset_budget)


class UpdatesRequest(FormModel):
    """Which pending updates are installed."""

    classifications: Classifications = Field(default=[Classification.CRITICAL, Classification.SECURITY])
    include: IncludeMasks = Field(default=[])
    exclude: ExcludeMasks = Field(default=[])
    severities: list[Severity] = Field(
        default=[],
        description="Only updates that their publisher rates so, and those that are included by name. `Unspecified`: "
        "those without a rating, which some package managers never give. Empty: any.",
    )
    exclude_requiring_reboot: bool = Field(
        default=False, description="Leave out updates that are known to need a reboot."
    )
    newest: bool = Field(
        default=False,
        description="Where only security fixes are wanted: install the newest version of all, not the newest version "
        "that a repository of security fixes offers.",
    )
    published_before: datetime | None = Field(
        default=None,
        description="Leave out updates that were published later, or, if that is not known, that the fleet first saw "
        "later. Without an offset it is read in the window's zone.",
    )
    as_in_run: str = Field(
        default="",
        max_length=100,
        title="Same As In Run",
        description="Only updates and versions that an earlier run (its id, or `last:` and a configuration's name) has "
        "installed or planned, e.g. in a test ring; or `rollout:` and the id of a rollout of automatic patching.",
    )


class PatchRequest(ScopeRequest):
    """Patch machines inside a window."""

    only_machines: OnlyMachines = Field(default=[])
    dry_run: bool = Field(
        default=False,
        title="Plan Only",
        description="Only plan: show waves, updates, skipped updates with reasons, minutes, reboots.",
    )
    updates: UpdatesRequest = Field(default=UpdatesRequest(), description="Which pending updates are installed.")
    component: Annotated[str, StringConstraints(max_length=100)] = Field(
        default="",
        description="Upgrade this component of components.yaml instead, and nothing else; or give the machines of a "
        "group of images.yaml new OS disks: `image:` and its name. Empty: install updates.",
    )
    component_version: Annotated[str, StringConstraints(max_length=100)] = Field(
        default="",
        description="The version that the component gets, also another major one. Empty: the newest minor version.",
    )
    undo_of: Annotated[str, StringConstraints(max_length=100)] = Field(
        default="",
        title="Undo Run",
        description="Take back what this run has installed, and do nothing else: its id. Empty: install updates.",
    )
    undo_by: UndoBy = UndoWay.PACKAGES
    undo_unreachable: UndoUnreachable = False
    roll_back: bool = Field(
        default=True,
        description="Put the version before of a component, or the OS disk before, back on a machine that is not "
        "healthy with the new one.",
    )
    window: WindowRequest = Field(default=WindowRequest(), description="When machines may be changed.")
    reboot: RebootPolicy = Field(
        default=RebootPolicy.IF_REQUIRED, description="IfRequired, Never or Always after the installation."
    )
    waves: WavesRequest = Field(
        default=WavesRequest(), description="In what order machines are patched, and when the run stops."
    )
    approval: ApprovalRequest = Field(default=ApprovalRequest(), description="Whether a person must approve the plan.")
    hooks: HooksRequest = Field(default=HooksRequest(), description="Your hooks before and after.")
    announce: AnnounceRequest = Field(
        default=AnnounceRequest(), description="Whether machines and their programs are told before interruptions."
    )
    rehearse: RehearsalRequest = Field(default=RehearsalRequest(), description="Whether copies are patched first.")
    snapshot: SnapshotRequest = Field(default=SnapshotRequest(), description="A snapshot before the first change.")
    notify: Notifications = Field(default=[])
    freezes: list[FreezeRequest] = Field(
        default=[], max_length=500, description="Times in which nothing may be changed. They override the window."
    )
    override_freeze: OverrideReason = Field(
        default="",
        title="Override Freezes, Because",
        description="Why this run patches although a freeze of the configurations or of this request touches its "
        "window. The reason and who gave it are recorded. Freezes of the policy can't be overridden. Empty: a freeze "
        "stops the run.",
    )
    reboot_if_live_patched: bool = Field(
        default=True,
        description="Reboot also for a new kernel whose security fixes live patches have applied to the running one. "
        "Otherwise such a reboot waits, and the report says so. The policy Always reboots in any case.",
    )
    live_patched_reboot_days: float | None = Field(
        default=None,
        gt=0,
        le=365,
        description="Days that such a reboot may wait. Then the machine reboots although live patches mitigate it. "
        "They count from when the machine first needed it since its last boot. Empty: no deadline.",
    )
    reboot_pending_first: bool = Field(
        default=False, description="If a reboot is pending, reboot before anything is installed."
    )
    reboot_reserve_minutes: float = Field(
        default=15,
        ge=0,
        le=240,
        description="Minutes of the window that are reserved for a reboot. Nothing is installed in them.",
    )
    max_reboots: int = Field(default=2, ge=0, le=10, description="Maximum reboots of a machine in this run.")
    going_down_minutes: float | None = Field(
        default=None,
        gt=0,
        le=120,
        description="Minutes that a machine may take to shut down, and twice as many while it is still at work on "
        "updates. Empty: 10, and 60 for Windows.",
    )
    coming_up_minutes: float | None = Field(
        default=None,
        gt=0,
        le=240,
        description="Minutes that it may then take until a login works. Empty: 30, and 60 for Windows.",
    )
    reboot_with_passphrase: bool = Field(
        default=False, description="Reboot a machine although its boot asks for a passphrase: somebody gives it."
    )
    allow_removals: bool = Field(default=False, description="Allow updates that remove other packages.")
    remove_unused_kernels: bool = Field(
        default=False,
        description="After a validation without blocking findings, remove kernels that are in no use: never the "
        "running one, nor the two newest.",
    )
    accept_licences: bool = Field(
        default=False,
        title="Accept Licence Terms",
        description="Accept the licence terms of the updates that are installed, in your name, where the machine asks "
        "for that. Otherwise such updates are left out, and the report says so.",
    )
    repair: bool = Field(default=False, description="Finish a package transaction that was interrupted before.")
    native_updaters: Literal["leave", "pause"] = Field(
        default="leave",
        title="System's Own Updaters",
        description="The system's own updaters (services that install updates by themselves): `leave` them alone, or "
        "`pause` them from a machine's first package transaction to the end of its turn.",
    )
    patched_by_others: OthersPolicy = Field(
        default="patch",
        title="Machines That Others Patch",
        description="A machine on which something else installs updates by itself (its own updaters, unless this run "
        "pauses them, or another patch manager): `patch` patches it too, with a remark, `fail` fails its pre-check, "
        "`skip` leaves it out.",
    )
    restart_services: Literal["Never", "IfRequired"] = Field(
        default="IfRequired",
        description="Whether services that still run replaced files are restarted after the installation, on machines "
        "that are not rebooted: `IfRequired`, or `Never` (they are a warning). Logins, the network, "
        "containers and virtual machines are never interrupted: only a reboot renews what holds them.",
    )
    restart_services_exclude: list[Mask] = Field(
        default=[],
        max_length=500,
        description="Masks of units that are not restarted, not even as a dependency, e.g. `postgresql*`.",
    )
    stage: bool = Field(
        default=True, title="Download First", description="Download everything before the first installation."
    )
    keep_previous: bool = Field(
        default=False,
        title="Keep Previous Packages",
        description="Keep on the machine the packages that are replaced: an undo has them when the repositories no "
        "longer do. The plan says where that is not possible.",
    )
    download_only: bool = Field(
        default=False, description="Only download, ahead of a window: install nothing and reboot nothing."
    )
    refresh: bool = Field(default=True, description="Let the machines refresh their package lists first.")
    settle_seconds: float = Field(
        default=45, ge=0, le=3600, description="Seconds from the last start of a service to a second look; 0: none."
    )
    come_back_seconds: float = Field(
        default=90, ge=0, le=3600, description="Seconds that services have to come back before they count as stopped."
    )
    assess_at_once: int = Field(default=50, ge=1, le=500, description="Machines assessed at the same time.")
    configuration: str = Field(
        default="",
        max_length=100,
        description="Name of the maintenance configuration that this run belongs to. It stands in reports and decides "
        "who may patch a machine. Nothing else of it applies. Empty: a run without a configuration.",
    )
    maintenance: HoldRequest | None = Field(
        default=None,
        description="How the updates of its configuration are held. A run that its schedule starts installs nothing "
        "that is held. Any other run applies all of it. Empty: nothing is held.",
    )
    shard: ShardId = Field(default="")
    shard_limits: ShardLimits = Field(default={})
    outside_window: bool = Field(
        default=False,
        description="Open the window now for a run of a configuration that no schedule started. Otherwise such a run "
        "needs `window.start` or a scheduled time.",
    )
    report_directory: CheckedPath | None = Field(
        default=None,
        description="Where the report goes, in a folder named for the run. Empty: the user's data folder; "
        "`execute_locally` in Python then writes none.",
    )
    report_formats: ReportFormats = Field(default=["html", "csv", "parquet", "json"])

    def require_window(self) -> None:
        """Refuse to patch machines of a configuration outside its windows, unless the request asks for it.

        Raises:
            RequestError: the request names a configuration, and has neither a window's start nor ``outside_window``.
        """
        if not self.configuration or self.window.start is not None or self.outside_window:
            return
        if self.dry_run or self.download_only:
            return
        raise RequestError(
            f"a run of the configuration {self.configuration!r} would patch now, outside of its windows",
            hint="Give `window.start`, schedule the run for a time, or say `outside_window: true` to patch now.",
        )

    def to_patch_options(
        self, pinned_updates: PinnedUpdates | None = None, window: Window | None = None
    ) -> PatchOptions:
        """Return the options of the steps.

        ``pinned_updates`` are the result of ``updates.as_in_run``.
        """
        hooks, hold = tuple(hook for hook in self.hooks.to_hooks() if hook.place in MACHINE_PLACES), self.maintenance
        options = convert_request(
            self,
            PatchOptions,
            selection=convert_request(
                self.updates,
                Selection,
                classifications=frozenset(self.updates.classifications),
                published_before=self._localize_published_before(),
                first_seen=(),
                severities=frozenset(self.updates.severities),
                accept_licences=self.accept_licences,
                pinned_updates=pinned_updates,
                only_not_held=hold.to_not_held() if hold is not None and hold.only_not_held else None,
            ),
            max_unreachable_seconds=DEFAULT_MAX_UNREACHABLE_SECONDS,
            window=window,
            announce=self.announce.to_event_notice(),
            snapshot=self.snapshot.to_snapshot_policy(),
            hooks=hooks,
            component_order=None,
            undo_order=None,
        )
        return replace(options, **_DOWNLOAD_ONLY) if self.download_only else options

    def _localize_published_before(self) -> datetime | None:
        limit = self.updates.published_before
        return limit if limit is None or limit.tzinfo is not None else localize_time(limit, self.window.zone)
