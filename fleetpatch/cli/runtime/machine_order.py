"""Asks, carries an order out on machines, and prints what became of it: the commands `hotpatch` and `updaters`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from fleetpatch.cli.runtime.exit_codes import to_act_exit_code
from fleetpatch.cli.runtime.machine_selection import load_machines_in_scope, open_machines
from fleetpatch.cli.runtime.output import confirm, print_json, print_to_stdout, shorten_list
from fleetpatch.cli.runtime.row_table import Fact, build_list_json, build_list_table
from inventory.name_lists import format_count
from tasks.domain.states import ChangeState

if TYPE_CHECKING:
    from flows.orders.carrying_out import ChangeResult

_MAX_NAMES = 5


def order_change(
    command: str,
    question: str,
    facts: "Sequence[Fact[ChangeResult]]",
    scope: str,
    *,
    yes: bool,
    dry_run: bool,
    at_once: int,
    inventory: Path | None,
    records: str | None,
    as_json: bool,
    arc: tuple[str | None, str | None] = (None, None),
) -> None:
    """Change machines in a scope, and print the facts of each. Ask before, unless a person has said yes.

    ``command``: the words of the act. ``question``: it has {} for the machines. ``arc``: see ``carry_out_act``.

    Raises:
        Exit: at the end of the order, with the exit code of the command.
    """
    from flows.order_acts import carry_out_act
    from flows.ports.caller import Caller
    from flows.request.order_request import OrderAct
    from tasks.records.setup import open_records

    machines = load_machines_in_scope(inventory, scope)[1]
    names = [machine.name for machine in machines]
    whom = f"{format_count(len(names), 'machine')} ({', '.join(shorten_list(names, _MAX_NAMES))})"
    subject, (title, _, verb) = f"{command} changes machines and", command.partition(" ")
    if not (yes or dry_run or confirm(question.format(whom), subject, "Add --yes, or --dry-run.")):
        return
    with (
        open_records(records) as database,
        open_machines(machines, inventory, scope, records, title) as (ports, opened_machines),
    ):
        results = carry_out_act(
            OrderAct(command), opened_machines, ports, database, Caller(), at_once=at_once, dry_run=dry_run, arc=arc
        )
    if as_json:
        print_json({"action": verb, "dryRun": dry_run, "machines": build_list_json(facts, results)})
    else:
        print_to_stdout(build_list_table(facts, results))
    states = [result.state for result in results]
    raise typer.Exit(int(to_act_exit_code(states, [ChangeState.FAILED], ChangeState.REFUSED)))
