"""A machine as lists show it: inventory, newest answer, newest run and next window."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated

from inventory.machine import PatchOwner
from tasks.domain.rows.columns import Column, row
from tasks.domain.states import Compliance, HotpatchStatus, MachineKind, ReadinessState, YesNoUnknown


@row
class LastRun:
    """The newest run that may have changed a machine."""

    id: Annotated[str, Column("The run.", json_name="maintenanceRunId")]
    kind: Annotated[str, Column("What the run does: patch, automatic, stage …")]
    state: Annotated[str, Column("The machine's state in it.", json_name="status")]
    at: Annotated[datetime, Column("When it began on the machine.", json_name="startDateTime")]


@row
class NextWindow:
    """The next window of a machine that no freeze cancels."""

    configuration: Annotated[str, Column("The configuration whose window it is.")]
    start: Annotated[datetime, Column("When it opens.", json_name="startDateTime")]
    end: Annotated[datetime, Column("When it closes.", json_name="endDateTime")]
    zone: Annotated[str, Column("The time zone of its schedule.", json_name="timeZone")]


@row
class MachineRow:
    """A machine with its state by its newest answer.

    What only the inventory says is null for a machine that is not in it. What only an answer says is null for a machine
    that has never answered: unknown is not zero.
    """

    name: Annotated[str, Column("Its name in the inventory.", heading="machine", json_name="machineName")]
    in_inventory: Annotated[bool | None, Column("Whether it is in the inventory; null: there is none.")]
    address: Annotated[str | None, Column("Where it is reached.")]
    environment: Annotated[str | None, Column('Its environment; "": none.')]
    site: Annotated[str | None, Column("The place from which it is reached.")]
    location: Annotated[str | None, Column('Its location; "": none.')]
    availability_zone: Annotated[str | None, Column('Its availability zone; "": none.')]
    groups: Annotated[tuple[str, ...] | None, Column("Its groups.")]
    tags: Annotated[Mapping[str, str] | None, Column("Its tags.")]
    zone: Annotated[str | None, Column("Its time zone.", heading="time zone", json_name="timeZone")]
    owner: Annotated[PatchOwner | None, Column("Who patches it: fleetpatch, managed, os or manual.")]
    os_family: Annotated[str | None, Column("linux or windows, by the inventory.", json_name="osType")]
    compliance: Annotated[
        Compliance, Column("Whether it lacks something now, as far as that is known.", json_name="complianceState")
    ]
    last_known_compliance: Annotated[
        Compliance | None,
        Column("By the last answer, of any age; null without one.", json_name="lastKnownComplianceState"),
    ]
    is_current: Annotated[bool, Column("Whether the last answer is new enough to count.")]
    system: Annotated[str | None, Column("The distribution and its version, by the last answer.")]
    os_id: Annotated[str | None, Column("The distribution, by the last answer.")]
    os_version: Annotated[str | None, Column("Its version.")]
    os_name: Annotated[str | None, Column("The system's own name for itself.")]
    machine_kind: Annotated[MachineKind, Column("Physical, VirtualMachine, Container, or Unknown without an answer.")]
    container_engines: Annotated[
        tuple[str, ...] | None, Column("What runs containers on it, by the last answer; empty: nothing that is known.")
    ]
    is_arc: Annotated[bool | None, Column("Whether Azure Arc's agent is connected on it, by the last answer.")]
    kernel: Annotated[str | None, Column("The kernel that runs, by the last answer.")]
    manager: Annotated[str | None, Column("Its package manager.", json_name="packageManager")]
    urgent: Annotated[
        int | None,
        Column(
            "Missing critical and security updates, by the last answer of any age.",
            heading="crit+sec",
            json_name="criticalAndSecurityPatchCount",
            unit="count",
        ),
    ]
    critical: Annotated[int | None, Column("Missing critical updates.", json_name="criticalPatchCount", unit="count")]
    security: Annotated[int | None, Column("Missing security updates.", json_name="securityPatchCount", unit="count")]
    other: Annotated[int | None, Column("Other missing updates.", json_name="otherPatchCount", unit="count")]
    withheld: Annotated[
        int | None, Column("Missing updates that are held or blocked.", json_name="withheldPatchCount", unit="count")
    ]
    reboot: Annotated[
        YesNoUnknown,
        Column("Whether it needs a reboot: yes, no, or unknown without a new answer.", json_name="rebootRequired"),
    ]
    reboot_since: Annotated[
        datetime | None, Column("Since when it needs the reboot.", json_name="rebootRequiredSinceDateTime")
    ]
    reboot_mitigated_by: Annotated[
        str | None, Column("The live patches that let the reboot wait; null: nothing does.", is_prose=True)
    ]
    services_to_restart: Annotated[
        int | None,
        Column(
            "Services that run replaced files.", heading="restart", json_name="servicesToRestartCount", unit="count"
        ),
    ]
    service_names: Annotated[
        tuple[str, ...] | None,
        Column("The services that run replaced files.", json_name="servicesToRestart", is_prose=True),
    ]
    in_effect: Annotated[
        YesNoUnknown,
        Column("Whether the critical and security updates that are installed are in effect, by the last new answer."),
    ]
    waits_for: Annotated[
        str | None, Column("What is installed and waits for a restart or a reboot; null: nothing does.", is_prose=True)
    ]
    live_patches: Annotated[
        str | None, Column("Its live patches, and what they lack; null: it has none.", is_prose=True)
    ]
    hotpatch_status: Annotated[
        HotpatchStatus | None,
        Column("Its enrolment for hotpatches; null: it can't have them, or is not known.", heading="hotpatch"),
    ]
    next_baseline_on: Annotated[
        str | None, Column("The day of its next baseline, which needs a reboot.", json_name="nextBaselineDate")
    ]
    own_updaters: Annotated[
        tuple[str, ...] | None,
        Column("What installs updates on it by itself, by the last answer; empty: nothing does."),
    ]
    updater_drift: Annotated[
        str,
        Column(
            'How its own updater differs from what its owner says; "": it does not, or is not known.', is_prose=True
        ),
    ]
    components: Annotated[
        tuple[str, ...] | None,
        Column("Its components and their versions, by the last answer; null: it has never answered.", is_prose=True),
    ]
    problems: Annotated[
        int | None, Column("Faults of packages and repositories.", json_name="problemCount", unit="count")
    ]
    findings: Annotated[
        int | None, Column("Warnings and worse about its settings.", json_name="findingCount", unit="count")
    ]
    readiness: Annotated[
        ReadinessState, Column("Whether fleetpatch can patch it: Ready, Warnings, Not ready or Unknown.")
    ]
    readiness_reason: Annotated[str, Column('Why it is not Ready; "": it is.', is_prose=True)]
    patch_mode: Annotated[str | None, Column("Who patches it, and when; null: configurations were not read.")]
    is_automatic: Annotated[
        bool | None, Column("Whether automatic patching patches it; null: configurations were not read.")
    ]
    configurations: Annotated[
        tuple[str, ...] | None, Column("The configurations that select it; null: they were not read.")
    ]
    run_id: Annotated[str | None, Column("The run of its last assessment.", json_name="assessmentRunId")]
    answered_at: Annotated[
        datetime | None,
        Column("When it last answered: what it lacks is of then.", heading="answered", json_name="assessedDateTime"),
    ]
    tried_at: Annotated[
        datetime | None,
        Column("Its last assessment, with an answer or without.", heading="asked", json_name="lastTryDateTime"),
    ]
    error_kind: Annotated[str | None, Column("The kind of the error of the last assessment; null: it answered.")]
    error_message: Annotated[
        str | None, Column("Why the last assessment got no answer.", heading="error", json_name="error", is_prose=True)
    ]
    is_unreachable: Annotated[bool, Column("Whether the last try could not log in to it.")]
    last_run: Annotated[LastRun | None, Column("The newest run that may have changed it.")]
    next_window: Annotated[
        NextWindow | None, Column("Its next window; null: it has none, or configurations were not read.")
    ]

    @property
    def system_or_family(self) -> str:
        """The distribution and its version; the family of the inventory, marked as such, if they are not known."""
        return self.system or f"{self.os_family}, not seen yet"


@row
class MachineDayRow:
    """What a machine's last answer of a day said, as the table ``machine_days`` of queries has it."""

    day: Annotated[datetime, Column("The beginning of the day, in UTC.", json_name="date")]
    machine: Annotated[str, Column("The machine.", json_name="machineName")]
    compliance: Annotated[str, Column("Whether it lacked something.", json_name="complianceState")]
    critical: Annotated[int, Column("Missing critical updates.", json_name="criticalPatchCount", unit="count")]
    security: Annotated[int, Column("Missing security updates.", json_name="securityPatchCount", unit="count")]
    other: Annotated[int, Column("Other missing updates.", json_name="otherPatchCount", unit="count")]
    reboot: Annotated[str, Column("Whether it needed a reboot.", json_name="rebootRequired")]


@row
class AssignmentRow:
    """A configuration that selects a machine, as the table ``assignments`` of queries has it."""

    machine: Annotated[str, Column("The machine.", json_name="machineName")]
    configuration: Annotated[str, Column("The configuration.")]
