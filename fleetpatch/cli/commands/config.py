"""config and policy: check configurations, print their schema, import Azure's, and explain which rules hold."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fleetpatch.cli.app import (
    ConfigurationsArgument,
    InventoryOption,
    JsonOption,
    OptionalScopeArgument,
    RecordsOption,
    app,
    parse_path,
)
from fleetpatch.cli.runtime.completion import complete_scope
from fleetpatch.cli.runtime.exit_codes import ExitCode
from fleetpatch.cli.runtime.output import print_json, print_json_or_text, print_to_stderr, print_to_stdout, to_safe_text
from tasks.domain.protocols.clock import SystemClock

if TYPE_CHECKING:
    from deployments.azure.converter import AzureImport

config_app = typer.Typer(
    help="Check maintenance configurations, print their JSON Schema, import Azure's.", no_args_is_help=True
)
app.add_typer(config_app, name="config", rich_help_panel="Schedule")

OutputOption = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", parser=parse_path, help="Write it there. Default: stdout."),
]


@config_app.command("check")
def check_config(
    path: ConfigurationsArgument = None,
    inventory: InventoryOption = None,
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show all faults and warnings of configurations. Changes nothing."""
    from deployments.checks.class_checks import check_classes
    from deployments.checks.configuration_checks import check_configurations
    from deployments.checks.controller_checks import check_controller
    from deployments.checks.policy_checks import check_policy
    from deployments.checks.window_checks import check_capacity
    from deployments.configuration.loader import InvalidConfigurations, find_configurations, load_configurations
    from deployments.configuration.model import load_inventories
    from deployments.preview.window_fit import read_learned
    from fleetpatch.cli.views.config import (
        build_check_json,
        build_faulty_configurations_json,
        print_check_result,
        to_check_exit_code,
    )
    from fleetpatch.cli.views.inventory import print_problems

    now = SystemClock().now()
    configurations_path = find_configurations(path)
    try:
        configurations = load_configurations(configurations_path, now.date())
    except InvalidConfigurations as faulty:
        faults = (configurations_path, faulty.problems)
        print_json_or_text(as_json, build_faulty_configurations_json, print_problems, *faults)
        raise typer.Exit(int(ExitCode.BAD_INPUT)) from faulty
    inventories = load_inventories(configurations, inventory)
    learned, remark = read_learned(records)
    if remark:
        print_to_stderr(to_safe_text(remark))
    findings = (
        *check_configurations(configurations, inventories, now),
        *check_capacity(configurations, inventories, learned),
        *check_policy(configurations, inventories, now),
        *check_classes(configurations, inventories, learned.managers, now),
        *check_controller(configurations),
    )
    print_json_or_text(as_json, build_check_json, print_check_result, configurations, inventories, findings, now)
    if code := to_check_exit_code(inventories, findings, inventory):
        raise typer.Exit(int(code))


@config_app.command("schema")
def print_config_schema(
    output: OutputOption = None,
    policy: Annotated[bool, typer.Option("--policy", help="The schema of policy.yaml instead.")] = False,
) -> None:
    """Print the JSON Schema of configurations, for editors."""
    import json

    from deployments.configuration.file_format import build_json_schema
    from flows.policy.policy_file import PolicyFileForm

    schema = PolicyFileForm.build_file_schema("policy") if policy else build_json_schema()
    if output is None:
        print_json(schema)
        return
    output.write_text(json.dumps(schema, indent=1) + "\n", encoding="utf-8")
    print_to_stderr(f"written to {output}")


@config_app.command("import-azure")
def import_azure_config(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE.json…", parser=parse_path, help="What `az maintenance configuration show -o json` printed."
        ),
    ],
    scope: Annotated[
        str | None,
        typer.Option(
            "--scope",
            metavar="SCOPE",
            help="Which machines. Azure has this in its assignments.",
            autocompletion=complete_scope,
        ),
    ] = None,
    output: OutputOption = None,
) -> None:
    """Convert Azure's maintenance configurations, and list what can't be imported."""
    from deployments.azure.file_import import import_azure_files, render_configurations

    azure_import: AzureImport = import_azure_files(files, scope)
    for line in azure_import.notes:
        print_to_stderr(to_safe_text(line))
    if not azure_import.configurations:
        raise typer.Exit(int(ExitCode.BAD_INPUT))
    text = render_configurations(azure_import, output)
    if output is None:
        print_to_stdout(text.rstrip("\n"))
    else:
        output.write_text(text, encoding="utf-8")
        print_to_stderr(f"written to {output}; read it, and run `fleetpatch config check {output}`")
    if azure_import.notes:
        raise typer.Exit(int(ExitCode.WARNINGS))


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
    from fleetpatch.cli.request_parsing import build_request, load_request_file, merge_trees
    from fleetpatch.cli.runtime.machine_selection import load_machines_in_scope
    from fleetpatch.cli.views.config import build_policy_json, print_policy
    from flows.engine.run_info import select_machines
    from flows.policy.enforcement import build_starter, decide_request
    from flows.policy.policy_file import load_policy
    from flows.ports.caller import read_login_name
    from flows.request.patch_request import PatchRequest

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
