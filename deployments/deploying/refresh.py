"""refresh_schedules: keep Prefect told of dates that its schedules can't express, and say what was changed by hand."""

from pathlib import Path

from prefect import flow

from deployments.deploying.model import Change
from deployments.server.asking import client_of_server
from flows.context import caller
from flows.runlog import logged
from tasks.errors import PatchError


@flow(name="refresh-schedules", persist_result=False)
def refresh_schedules(
    configurations: Path, inventory: Path | None = None, fleet: str = "default", pool: str = "fleetpatch"
) -> list[str]:
    """Write later dates where Prefect is told of windows date by date, and look for what was changed by hand.

    Where neither a rule nor a time zone says when windows open (a change of the clocks, an offset beyond the month),
    Prefect is told the dates. They end; this flow goes on with them. What else differs from the configurations is not
    touched: this run fails and names it, and `fleetpatch deploy` mends it.

    Args:
        configurations: file or folder, on the machine that runs the flow.
        inventory: of the machines.
        fleet: names the set of configurations.
        pool: the work pool.

    Returns:
        The deployments that have later dates now.

    Raises:
        PatchError: something else differs.
    """
    from deployments.deploying.deploy import RETRIES, examine  # noqa: PLC0415 - what is deployed knows this flow

    say = logged(caller()).watch.said
    written: list[str] = []

    def tell(change: Change) -> None:
        written.append(change.name)
        say(f"{change.name}: later dates")

    with client_of_server(RETRIES) as client:
        others = examine(client, configurations, inventory, fleet=fleet, pool=pool).refresh(client, tell)
    if others:
        names = ", ".join(f"{change.name} ({change.doing})" for change in others[:10])
        raise PatchError(
            f"{len(others)} things in Prefect are not as the configurations say: {names}",
            hint="See `fleetpatch deploy --check`, and mend them with `fleetpatch deploy`.",
        )
    return written
