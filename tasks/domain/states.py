"""The states of steps, runs, updates and reboots. The names are those of Azure Update Manager where it has one."""

import functools
from enum import StrEnum
from typing import Self


class Step(StrEnum):
    """The six steps of a machine, in their order. tasks/steps/pipeline.py runs five, and the engine the report."""

    ASSESS = "assess"
    PRECHECK = "precheck"
    INSTALL = "install"
    REBOOT = "reboot"
    VALIDATE = "validate"
    REPORT = "report"


class OperationState(StrEnum):
    """The state of a run, or of one machine in a run."""

    UNKNOWN = "Unknown"
    NOT_STARTED = "NotStarted"
    IN_PROGRESS = "InProgress"
    FAILED = "Failed"
    SUCCEEDED = "Succeeded"
    COMPLETED_WITH_WARNINGS = "CompletedWithWarnings"
    CANCELLED = "Cancelled"  # only a run: a person asked it to stop, and something was left undone for that


class UpdateState(StrEnum):
    """The state of one update on one machine."""

    PENDING = "Pending"
    INSTALLED = "Installed"
    REPAIRED = "Repaired"  # not an update: a package that was half installed before the run and is complete now
    FAILED = "Failed"
    SETUP_FAILED = "SetupFailed"  # its version is there, and one of its scripts or triggers failed
    EXCLUDED = "Excluded"  # by a person: a mask, a hold, a limit of the request
    BLOCKED = "Blocked"  # it was selected, and can't be installed for a technical reason
    NOT_SELECTED = "NotSelected"
    NOT_ATTEMPTED = "NotAttempted"


SUCCESSFUL_UPDATE_STATES = frozenset({UpdateState.INSTALLED, UpdateState.REPAIRED})
"""The states in which nothing remains to do."""

FAILED_UPDATE_STATES = frozenset({UpdateState.FAILED, UpdateState.SETUP_FAILED})
"""The states of updates with which something went wrong."""

INSTALLED_UPDATE_STATES = frozenset({UpdateState.INSTALLED, UpdateState.SETUP_FAILED})
"""The states of updates that came to be installed, well or badly."""

PRESENT_UPDATE_STATES = SUCCESSFUL_UPDATE_STATES | INSTALLED_UPDATE_STATES
"""The states in which the package database has the version."""

NOT_DONE_UPDATE_STATES = frozenset({UpdateState.NOT_ATTEMPTED, UpdateState.PENDING, UpdateState.BLOCKED})
"""The states of updates that were selected, and that nothing was done about."""


class RebootState(StrEnum):
    """The reboot state of a machine (Azure: rebootStatus)."""

    UNKNOWN = "Unknown"
    NOT_NEEDED = "NotNeeded"
    REQUIRED = "Required"
    STARTED = "Started"
    FAILED = "Failed"
    COMPLETED = "Completed"


class MachineKind(StrEnum):
    """What a machine is, as far as it says so itself."""

    PHYSICAL = "Physical"
    VIRTUAL = "VirtualMachine"
    CONTAINER = "Container"
    UNKNOWN = "Unknown"  # it did not say enough, or was not asked yet


class HotpatchStatus(StrEnum):
    """The enrolment of a machine for hotpatches or live patches, with the words and the meaning of Azure."""

    NOT_ENROLLED = "Not enrolled"  # a licence may be available, but is not enrolled on this machine
    ENABLED = "Enabled"  # enrolled, and the machine is enabled for receiving them
    CANCELED = "Canceled"  # the enrolment was cancelled on the machine
    DISABLED = "Disabled"  # enrolled, but the machine is disabled for receiving them
    PENDING = "Pending"  # for a time, while the enrolment is in progress


class ChangeState(StrEnum):
    """What became of a change that people asked for outside of a run, on one machine."""

    BEGUN = "begun"  # or its process has died: what the machine says counts
    CHANGED = "changed"
    UNCHANGED = "unchanged"  # it was so already
    PLANNED = "planned"  # a dry run
    REFUSED = "refused"  # nothing was changed: people have to act first
    FAILED = "failed"


class MaintenanceStatus(StrEnum):
    """The state of what maintenance control holds for a group of machines (Azure: UpdateStatus)."""

    PENDING = "Pending"  # it is held, and nobody has applied it
    IN_PROGRESS = "InProgress"
    COMPLETED = "Completed"
    RETRY_NOW = "RetryNow"  # it was applied, something of it is left, and it may be applied again now
    RETRY_LATER = "RetryLater"  # the same, and a freeze is in force now, or it was refused
    NO_UPDATES_PENDING = "NoUpdatesPending"
    CANCEL = "Cancel"  # its run was asked to stop, and has not ended
    CANCELLED = "Cancelled"  # a person has cancelled its last run. It stays held


class ImpactType(StrEnum):
    """What machines suffer while held updates are installed (Azure: impactType)."""

    NONE = "None"
    FREEZE = "Freeze"  # guests of a hypervisor host are paused
    RESTART = "Restart"
    REDEPLOY = "Redeploy"  # guests of a hypervisor host are moved to another one


class Compliance(StrEnum):
    """Whether a machine lacks critical or security updates, or has broken packages."""

    COMPLIANT = "Compliant"
    NON_COMPLIANT = "NonCompliant"
    NOT_ASSESSED = "NotAssessed"


class Classification(StrEnum):
    """The kind of an update. Linux package managers know Critical, Security, Security-ESM and Other."""

    CRITICAL = "Critical"
    SECURITY = "Security"
    SECURITY_ESM = "Security-ESM"
    UPDATE_ROLLUP = "UpdateRollup"
    FEATURE_PACK = "FeaturePack"
    SERVICE_PACK = "ServicePack"
    DEFINITION = "Definition"
    TOOLS = "Tools"
    UPDATES = "Updates"
    OTHER = "Other"
    UNCLASSIFIED = "Unclassified"

    @property
    def is_urgent(self) -> bool:
        """Whether it decides compliance: critical and security updates."""
        return self in URGENT_CLASSIFICATIONS


class Severity(StrEnum):
    """How severe a publisher rates what an update fixes. Read in any case, also in the words of other publishers."""

    CRITICAL = "Critical"
    IMPORTANT = "Important"
    MODERATE = "Moderate"
    LOW = "Low"
    UNSPECIFIED = "Unspecified"

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        publisher_word = str(value).strip().capitalize()
        publisher_word = {"Medium": "Moderate", "High": "Important", "": "Unspecified", "None": "Unspecified"}.get(
            publisher_word, publisher_word
        )
        return next((cl for cl in cls if cl.value == publisher_word), None)

    @classmethod
    @functools.lru_cache(maxsize=1024)  # a fleet has many updates, and few ratings
    def rate(cls, text: str) -> Self:
        """Return the severity that a publisher's word means; Unspecified for a word that is not known."""
        return cls._missing_(text) or cls(cls.UNSPECIFIED)


class WindowStatus(StrEnum):
    """The status of one window of a configuration."""

    CLAIMED = "run"  # a run has it
    MISSED = "missed"  # when its run started, the window was over or the cut-off had passed
    FROZEN = "frozen"
    CANCELLED = "cancelled"  # a person cancelled it
    HELD = "held"  # maintenance control holds what is pending, and nothing else was to be installed
    REPLACED = "replaced"  # the request changed after Prefect made the run; not recorded: another run may have it


UNFINISHED_RUN_STATES = frozenset({OperationState.IN_PROGRESS, OperationState.UNKNOWN})
"""The states of a run that has not ended. A NotStarted run has ended: for example, the window was too short."""

SUBSCRIPTION_REQUIRED = "UA_ESM_REQUIRED"
"""Azure's word, at the beginning of ``Update.blocked``: the update is for subscribers, which the machine is not."""
URGENT_CLASSIFICATIONS = frozenset({Classification.CRITICAL, Classification.SECURITY, Classification.SECURITY_ESM})
"""The classifications that decide compliance."""


def include_esm(classifications: frozenset[Classification]) -> frozenset[Classification]:
    """Return the classifications that a choice means: Security includes the fixes of extended support."""
    return classifications | ({Classification.SECURITY_ESM} if Classification.SECURITY in classifications else set())


class RebootPolicy(StrEnum):
    """Whether a machine reboots after the installation: if it is required, never, or always (Azure: rebootSetting)."""

    IF_REQUIRED = "IfRequired"
    NEVER = "Never"
    ALWAYS = "Always"


class YesNoUnknown(StrEnum):
    """Yes, no, or unknown: the machine could not tell."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


class FindingLevel(StrEnum):
    """The level of a finding: what it means for its machine.

    A warning is something that a run did or left, and that a person must handle. A remark changes no state and no exit
    code.
    """

    GOOD = "good"
    REMARK = "remark"
    WARN = "warn"
    BLOCK = "block"

    @property
    def is_problem(self) -> bool:
        """Whether a person must act: a warning, or what blocks."""
        return self in (FindingLevel.WARN, FindingLevel.BLOCK)


class ReadinessState(StrEnum):
    """Whether fleetpatch can patch a machine, by its last assessment.

    Of a machine with WARNINGS, a run patches what it can. NOT_READY: a check stops it, nobody could ask it, or somebody
    else patches it.
    """

    READY = "Ready"
    WARNINGS = "Warnings"
    NOT_READY = "Not ready"
    UNKNOWN = "Unknown"


class HookKind(StrEnum):
    """What a hook runs: a command on the machine or the controller, a URL, a function or a Prefect deployment."""

    MACHINE_COMMAND = "machine-command"
    CONTROLLER_COMMAND = "controller-command"
    HTTP = "http"
    PYTHON = "python"
    DEPLOYMENT = "deployment"


class HookMode(StrEnum):
    """What a failed hook does: stop what comes next, add a warning, or nothing."""

    MUST_SUCCEED = "must_succeed"
    WARN = "warn"
    IGNORE = "ignore"


class HookPoint(StrEnum):
    """The points at which hooks run."""

    BEFORE_RUN = "before_run"
    AFTER_RUN = "after_run"
    BEFORE_WAVE = "before_wave"
    AFTER_WAVE = "after_wave"
    BEFORE_MACHINE = "before_machine"
    AFTER_MACHINE = "after_machine"


class NotificationOccasion(StrEnum):
    """The events that cause a notification."""

    PLANNED = "planned"
    WAITING = "waiting"  # the run waits for an approval
    STARTED = "started"
    FINISHED = "finished"
    FAILED = "failed"
    MISSED = "missed"  # a run did not begin in its window: too late, another run has it, or Prefect cancelled it
    CANCELLED = "cancelled"


class UndoWay(StrEnum):
    """Which means a person wants."""

    PACKAGES = "packages"
    SNAPSHOT = "snapshot"  # what was written to the OS disks since then is lost
