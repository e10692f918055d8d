"""A machine with its enrolment for hotpatches or live patches, and what the next months' updates mean for it."""

from datetime import datetime
from typing import Annotated

from inventory.machine import PatchOwner
from tasks.domain.rows.columns import Column, row
from tasks.domain.states import HotpatchStatus, MachineKind, YesNoUnknown


@row
class HotpatchMachineRow:
    """The enrolment of a machine.

    What is about baselines is null for other systems than Windows: live patches of Linux have none.
    """

    name: Annotated[str, Column("The machine.", heading="machine", json_name="machineName")]
    owner: Annotated[PatchOwner | None, Column("Who patches it: fleetpatch, managed, os or manual.")]
    system: Annotated[str | None, Column("The distribution and its version, by the last answer.")]
    machine_kind: Annotated[MachineKind, Column("Physical, VirtualMachine, Container, or Unknown without an answer.")]
    is_container_host: Annotated[YesNoUnknown, Column("Whether something runs containers on it.")]
    is_arc: Annotated[YesNoUnknown, Column("Whether Azure Arc's agent is connected on it.")]
    hotpatch_status: Annotated[
        HotpatchStatus | None,
        Column("Its enrolment; null: it can't have hotpatches, or is not known.", heading="hotpatch"),
    ]
    provider: Annotated[
        str | None, Column("hotpatch (Windows), or the vendor's name of its live patches; null: none is known.")
    ]
    means: Annotated[str | None, Column("How it is enrolled: arc, registry, or the vendor's tool; null: not at all.")]
    is_baseline_month: Annotated[
        bool | None, Column("Whether the newest monthly updates are a baseline, which needs a reboot.")
    ]
    next_release_on: Annotated[str | None, Column("The day of the next monthly updates.", json_name="nextReleaseDate")]
    next_release_is_baseline: Annotated[bool | None, Column("Whether these are a baseline.")]
    next_baseline_on: Annotated[
        str | None, Column("The day of the next baseline of a machine with hotpatches.", json_name="nextBaselineDate")
    ]
    reboot_expected: Annotated[
        YesNoUnknown, Column("Whether the next monthly updates reboot it: always without hotpatches.")
    ]
    lacks: Annotated[tuple[str, ...], Column("What it lacks for hotpatches, with the remedies.", is_prose=True)]
    last_action: Annotated[str | None, Column("What people last asked for; null: nothing.")]
    last_by: Annotated[str | None, Column("Who asked for it.")]
    last_at: Annotated[datetime | None, Column("When they asked for it.", json_name="lastActionDateTime")]
    last_failure: Annotated[str | None, Column("Why that failed; null: it did not.", is_prose=True)]
