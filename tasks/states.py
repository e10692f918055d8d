"""The states: what steps, runs, updates and reboots can be in, with the names that Azure Update Manager gives them."""

from enum import StrEnum


class Step(StrEnum):
    """The six steps. Their order stands in tasks/steps/pipeline.py."""

    ASSESS = "assess"
    PRECHECK = "precheck"
    INSTALL = "install"
    REBOOT = "reboot"
    VALIDATE = "validate"
    REPORT = "report"


class OperationState(StrEnum):
    """State of a run, or of one machine in it."""

    UNKNOWN = "Unknown"
    NOT_STARTED = "NotStarted"
    IN_PROGRESS = "InProgress"
    FAILED = "Failed"
    SUCCEEDED = "Succeeded"
    COMPLETED_WITH_WARNINGS = "CompletedWithWarnings"


class UpdateState(StrEnum):
    """What became of one update on one machine."""

    PENDING = "Pending"
    INSTALLED = "Installed"
    REPAIRED = "Repaired"  # no update: a package that was half installed before the run, and is whole now
    FAILED = "Failed"
    EXCLUDED = "Excluded"
    NOT_SELECTED = "NotSelected"
    NOT_ATTEMPTED = "NotAttempted"


SUCCESSFUL_UPDATE_STATES = frozenset({UpdateState.INSTALLED, UpdateState.REPAIRED})
"""The states that leave nothing to do."""


class RebootState(StrEnum):
    """Where a machine stands with rebooting."""

    UNKNOWN = "Unknown"
    NOT_NEEDED = "NotNeeded"
    REQUIRED = "Required"
    STARTED = "Started"
    FAILED = "Failed"
    COMPLETED = "Completed"


class Compliance(StrEnum):
    """Whether a machine lacks critical or security updates."""

    COMPLIANT = "Compliant"
    NON_COMPLIANT = "NonCompliant"
    NOT_ASSESSED = "NotAssessed"


class Classification(StrEnum):
    """What an update is for. Linux package managers know Critical, Security, Security-ESM and Other."""

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


UNFINISHED_RUN_STATES = frozenset({OperationState.IN_PROGRESS, OperationState.UNKNOWN})
"""The states of a run that has no end yet. NotStarted is an end: the window held nothing, for instance."""

URGENT_CLASSIFICATIONS = frozenset({Classification.CRITICAL, Classification.SECURITY, Classification.SECURITY_ESM})
"""The classifications that decide compliance."""


class RebootPolicy(StrEnum):
    """Azure's rebootSetting."""

    IF_REQUIRED = "IfRequired"
    NEVER = "Never"
    ALWAYS = "Always"


class YesNoUnknown(StrEnum):
    """Yes, no, or the machine could not tell."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


class FindingLevel(StrEnum):
    """What a finding means for its machine."""

    GOOD = "good"
    WARN = "warn"
    BLOCK = "block"


class HookKind(StrEnum):
    """What an owner's hook is."""

    MACHINE_COMMAND = "machine-command"
    CONTROLLER_COMMAND = "controller-command"
    HTTP = "http"
    PYTHON = "python"
    DEPLOYMENT = "deployment"


class HookMode(StrEnum):
    """What the failure of a hook means."""

    MUST_SUCCEED = "must_succeed"
    WARN = "warn"
    IGNORE = "ignore"


class HookPoint(StrEnum):
    """What a hook stands before or after."""

    BEFORE_RUN = "before_run"
    AFTER_RUN = "after_run"
    BEFORE_WAVE = "before_wave"
    AFTER_WAVE = "after_wave"
    BEFORE_MACHINE = "before_machine"
    AFTER_MACHINE = "after_machine"


class NotificationEvent(StrEnum):
    """What people are told of."""

    PLANNED = "planned"
    WAITING = "waiting"  # for a person's approval
    STARTED = "started"
    FINISHED = "finished"
    FAILED = "failed"
    MISSED = "missed"  # a run did not begin in its window: it came too late, another has it, or Prefect cancelled it
    CANCELLED = "cancelled"
