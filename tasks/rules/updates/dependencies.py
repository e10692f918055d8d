"""New packages that come along with the chosen updates, and that no assessment has shown. Pure."""

from collections.abc import Iterable

from tasks.model import PackageState, Update, UpdateResult
from tasks.protocols.package_manager import SimulationResult
from tasks.states import Classification, UpdateState


def find_new_dependencies(
    chosen: Iterable[Update], simulation: SimulationResult | None, packages: PackageState
) -> tuple[UpdateResult, ...]:
    """Return a result for each package that the simulation would install and that is neither chosen nor pending.

    An assessment shows the new packages that the newest versions need. A run that installs older ones (security fixes
    only, tested versions) may need others. With these results, the report has them when they are installed.
    """
    known = {update.id for update in (*packages.updates, *chosen)}
    changes = simulation.changes if simulation else {}
    return tuple(
        UpdateResult(
            Update(update_id, update_id.partition(":")[0], "", None, version, Classification.OTHER),
            UpdateState.NOT_SELECTED,
            "a new package, which the chosen updates need",
        )
        for update_id, version in changes.items()
        if update_id not in known
    )
