"""policy explain: which rules hold for which machines, and what they would say to a request."""

from pathlib import Path
from typing import Annotated

import typer

from fleetpatch.cli.app import InventoryOption, JsonOption, OptionalScopeArgument, app, parse_path

policy_app = typer.Typer(help="Show the policy: what runs may do on which machines.", no_args_is_help=True)
app.add_typer(policy_app, name="policy", rich_help_panel="Look")


@policy_app.command("explain")
def explain(
    scope: OptionalScopeArgument = None,
    request_file: Annotated[
        Path | None,
        typer.Option(
            "--request", metavar="FILE", parser=parse_path, help="A request (YAML or JSON), as for patch: may it begin?"
        ),
    ] = None,
    inventory: InventoryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show which rules hold for machines, from which files, and whether a request may begin. Changes nothing.

    Exit codes: 0 it may begin, 2 the policy or the scope is not valid, 3 a rule would refuse it.
    """
    from fleetpatch.cli.runtime.exit_codes import ExitCode
    from fleetpatch.cli.runtime.machine_selection import load_machines_in_scope
    from fleetpatch.cli.runtime.output import print_json
    from fleetpatch.cli.runtime.request_parsing import build_request, load_request_file, merge_trees
    from fleetpatch.cli.views.policy import build_policy_json, print_policy
    from flows.engine.run_info import select_machines
    from flows.policy.enforcement import build_starter, decide_request
    from flows.policy.policy_file import load_policy
    from flows.ports.caller import read_login_name
    from flows.request.patch_request import PatchRequest
    from tasks.domain.protocols.clock import SystemClock

    now = SystemClock().now()
    tree = load_request_file(request_file) if request_file is not None else {}
    if scope is None and "scope" not in tree:
        raise typer.BadParameter("name the machines: a SCOPE, or a --request with a scope")
    request = build_request(PatchRequest, merge_trees(tree, {"scope": scope} if scope else {}), request_file)
    loaded_inventory, _ = load_machines_in_scope(inventory or request.inventory, str(request.scope))
    machines = select_machines(request, loaded_inventory)
    policy = load_policy(now.date())
    starter = build_starter(read_login_name())
    decision = decide_request(request, machines, loaded_inventory, starter, now, policy=policy)
    if as_json:
        print_json(build_policy_json(policy, machines, decision))
    else:
        print_policy(policy, machines, decision, "This request" if request_file else "A request with default values")
    if decision.refusals:
        raise typer.Exit(int(ExitCode.WARNINGS))
