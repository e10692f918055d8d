"""The fleet of a flow run, by its tags: it uses the records of that fleet, and no others. No Prefect."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

from flows.prefect_api.tags import FLEET_TAG_PREFIX
from tasks.domain.errors import RequestError
from tasks.records.fleets import FLEET_VARIABLE, find_environment_fleet, use_fleet


def use_tagged_fleet(tags: Sequence[str]) -> AbstractContextManager[None]:
    """Return a context that uses the records of the fleet in a flow run's tags; without one, those of this process.

    Raises:
        RequestError: the flow run has several fleets, or one that this process does not serve.
    """
    fleets = sorted({tag.removeprefix(FLEET_TAG_PREFIX) for tag in tags if tag.startswith(FLEET_TAG_PREFIX)})
    if not fleets:
        return nullcontext()
    if len(fleets) > 1:
        hint = "Nothing was touched. Start a flow run of the deployment of one fleet, without other tags."
        raise RequestError(f"this flow run has the tags of several fleets: {', '.join(fleets)}", hint=hint)
    own = find_environment_fleet()
    if own not in {"", fleets[0]}:
        raise RequestError(
            f"this flow run belongs to the fleet {fleets[0]}, and this worker serves the fleet {own} alone",
            hint=f"Nothing was touched. Give each fleet a work pool of its own (fleetpatch deploy --fleet … --pool …), "
            f"or correct {FLEET_VARIABLE} of the worker.",
        )
    return use_fleet(fleets[0])
