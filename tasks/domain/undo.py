"""The nouns of an undo: a run that takes back what an earlier run has installed."""

from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum

from inventory.data_class import dataclass
from tasks.domain.assessment import Update
from tasks.domain.rows.snapshots import SnapshotRow
from tasks.domain.states import UndoWay


class UndoMeans(StrEnum):
    """How a machine goes back."""

    SNAPSHOT = "snapshot"
    PACKAGE_MANAGER = "package manager"


@dataclass(frozen=True, slots=True)
class UndoSnapshot:
    """The snapshot of a machine from before the run that is taken back.

    Attributes:
        row: its sealed record.
        later_runs: runs that have changed the machine since.
    """

    row: SnapshotRow
    later_runs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class InstalledChange:
    """What a run has changed of one package of a machine.

    Attributes:
        update: as the run has planned it: ``installed`` is the version before, None when the package was not there.
        after: the version that the run has left, or was to leave if its end was not seen.
    """

    update: Update
    after: str


@dataclass(frozen=True, slots=True)
class UndoOrder:
    """What a run takes back.

    Attributes:
        run_id: of the run that is taken back.
        changes: what that run has changed, by machine.
        unknown: ids of what it seems to have changed, and its sealed plans do not have, by machine.
        commands: what the package managers said right after: how to undo the run's transactions on the machine itself,
            or why that is not possible, by machine.
        snapshots: from before that run, by machine.
        way: which means is wanted.
        must_be_approved: whether a person must approve the plan.
        takes_unanswering: whether a person has named the machines, so that one that does not answer goes back, too.
    """

    run_id: str
    changes: Mapping[str, tuple[InstalledChange, ...]]
    unknown: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    commands: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    snapshots: Mapping[str, UndoSnapshot] = field(default_factory=dict)
    way: UndoWay = UndoWay.PACKAGES
    must_be_approved: bool = False
    takes_unanswering: bool = False
