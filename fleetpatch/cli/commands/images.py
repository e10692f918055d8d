"""images: list the groups of machines that get OS disks from images, upgrade them, and show what became of that."""

from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fleetpatch.cli.app import (
    ALL_MACHINES,
    DryRunOption,
    InventoryOption,
    JsonOption,
    NoPrefectOption,
    RecordsOption,
    YesOption,
    app,
)
from fleetpatch.cli.runtime.acting_command import ActingCommand
from fleetpatch.cli.runtime.output import confirm, print_json, print_json_or_text, print_to_stderr

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from flows.components.overview import ComponentKnowledge
    from inventory.machine import Inventory, Machine

images_app = typer.Typer(
    help="Give machines new OS disks from images, in groups that images.yaml describes.", no_args_is_help=True
)
app.add_typer(images_app, name="images", rich_help_panel="Patch")

GroupArgument = Annotated[str, typer.Argument(metavar="GROUP", help="The name of a group in images.yaml.")]
OptionalGroupArgument = Annotated[
    str | None,
    typer.Argument(metavar="GROUP", help="A group. Without one: all that are automatic, one after the other."),
]
ToOption = Annotated[
    str | None, typer.Option("--to", metavar="VERSION", help="The version that they get. Default: the newest.")
]
RollBackOption = Annotated[
    bool,
    typer.Option(
        "--roll-back",
        help="Put the disk before back where a machine is not healthy. Upgrades that come by themselves always do.",
    ),
]
MinutesOption = Annotated[
    float, typer.Option("--minutes", min=1, max=31 * 24 * 60, help="How long the run of a group may take.")
]
FailedOption = Annotated[
    list[str] | None,
    typer.Option(
        "--failed",
        metavar="MACHINE",
        help="Also delete the disk of before of a machine that failed and was not put back. It is the way back.",
    ),
]
_DEFAULT_MINUTES = 720.0


@images_app.command("list")
def list_images(
    group: OptionalGroupArgument = None,
    inventory: InventoryOption = None,
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the machines of groups and their versions, from their last assessment. Contacts no machine."""
    from fleetpatch.cli.runtime.exit_codes import ExitCode
    from fleetpatch.cli.views.components import build_rows_json, print_rows
    from flows.components.overview import build_component_rows, count_unsettled
    from tasks.domain.images import IMAGE_PREFIX
    from tasks.domain.protocols.clock import SystemClock

    with _open_groups(inventory, None, records) as (knowledge, fleet, _):
        rows = [
            row
            for row in build_component_rows(knowledge, fleet.machines, SystemClock().now(), members_only=True)
            if group in {None, row.component.removeprefix(IMAGE_PREFIX)}
        ]
        print_json_or_text(as_json, build_rows_json, print_rows, rows, knowledge.catalogue.path, "images")
    if count_unsettled(rows):
        raise typer.Exit(int(ExitCode.WARNINGS))


@images_app.command("history")
def show_history(
    group: GroupArgument, inventory: InventoryOption = None, records: RecordsOption = None, as_json: JsonOption = False
) -> None:
    """Show the last upgrades of a group: its state, counts, and why it ended. From the records."""
    from fleetpatch.cli.views.images import build_history_json, print_history
    from flows.images.fleet_images import require_group
    from flows.images.history import read_attempts
    from flows.images.image_file import load_image_groups
    from inventory.loader import find_inventory
    from tasks.domain.protocols.clock import SystemClock
    from tasks.records.setup import open_records

    image_group = require_group(load_image_groups(find_inventory(inventory)), group)
    with open_records(records) as opened:
        attempts = read_attempts(opened, image_group.component.name, SystemClock().now())
    print_json_or_text(as_json, build_history_json, print_history, attempts)


@images_app.command("plan")
def plan(
    group: OptionalGroupArgument = None,
    to: ToOption = None,
    minutes: MinutesOption = _DEFAULT_MINUTES,
    inventory: InventoryOption = None,
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what upgrade would do: which machines, in which batches, and why not. Changes nothing."""
    _upgrade(group, to, minutes, inventory, records, as_json=as_json, as_flow=False, dry_run=True, roll_back=True)


@images_app.command("upgrade", cls=ActingCommand)
def upgrade(
    group: OptionalGroupArgument = None,
    to: ToOption = None,
    roll_back: RollBackOption = False,
    minutes: MinutesOption = _DEFAULT_MINUTES,
    yes: YesOption = False,
    no_prefect: NoPrefectOption = False,
    inventory: InventoryOption = None,
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give the machines of a group, or of all automatic ones, new OS disks, in batches. Data disks stay."""
    disks = f"the OS disks of the group {group}" if group else "the OS disks of all automatic groups"
    subject = "images upgrade replaces OS disks and"
    if not (yes or confirm(f"Replace {disks}?", subject, "Add --yes, or see: fleetpatch images plan.")):
        return
    roll_back = roll_back or group is None
    _upgrade(
        group,
        to,
        minutes,
        inventory,
        records,
        as_json=as_json,
        as_flow=not no_prefect,
        dry_run=False,
        roll_back=roll_back,
    )


@images_app.command("clean", cls=ActingCommand)
def clean(
    failed: FailedOption = None,
    yes: YesOption = False,
    inventory: InventoryOption = None,
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete the OS disks that upgrades have replaced, and whose days are over. The hourly flow does the same.

    The disk of a machine that failed, and was not put back, is only told: it is the way back.
    """
    from fleetpatch.cli.runtime.exit_codes import ExitCode
    from fleetpatch.cli.views.images import build_disks_json, print_disks
    from flows.disk_cleaning import clean_replaced_disks
    from flows.ports.caller import Caller

    question = f"Delete the way back of {', '.join(failed or ())}?"
    if failed and not (yes or confirm(question, "images clean --failed deletes disks and")):
        return
    disks = clean_replaced_disks(inventory, Caller(records_url=records), failed or ())
    print_json_or_text(as_json, build_disks_json, print_disks, disks)
    if any(disk.problem for disk in disks):
        raise typer.Exit(int(ExitCode.WARNINGS))


@images_app.command("fetch", cls=ActingCommand)
def fetch(
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="The name of an image in images.yaml.")],
    dry_run: DryRunOption = False,
    inventory: InventoryOption = None,
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fetch the newest image of a publisher onto the hosts that make disks of it. It may come by itself then."""
    from fleetpatch.cli.runtime.exit_codes import ExitCode
    from fleetpatch.cli.runtime.machine_selection import open_machines
    from fleetpatch.cli.views.images import build_fetch_json, print_fetch
    from flows.images.fetching import fetch_onto, find_newest, open_publisher, plan_fetch
    from flows.policy.enforcement import enforce_act_policy
    from inventory.loader import find_inventory, load_inventory
    from tasks.rules.policy.model import RiskyOption

    fleet = load_inventory(find_inventory(inventory))
    order = plan_fetch(image, fleet)
    hosts = [fleet.find_machine(host) for host in order.hosts]
    with open_machines(hosts, inventory, ALL_MACHINES, records, "images fetch") as (ports, opened):
        if not dry_run:
            now, policies = ports.clock.now(), ports.read_deployed_policies()
            enforce_act_policy(RiskyOption.FETCH_IMAGES, opened, ports.inventory, now, policies)
        with open_publisher(order.index.url or "") as client:
            found = find_newest(order, client)
        results = () if dry_run else fetch_onto(opened, order, found, ports)
    print_json_or_text(as_json, build_fetch_json, print_fetch, order, found, results)
    if any(result.message for result in results):
        raise typer.Exit(int(ExitCode.MACHINE_FAILED))


@images_app.command("schema")
def print_images_schema() -> None:
    """Print the JSON Schema of images.yaml, for editors."""
    from flows.images.image_file import ImageFileForm

    print_json(ImageFileForm.build_file_schema("images"))


@contextmanager
def _open_groups(
    inventory: Path | None, group: str | None, records: str | None
) -> "Iterator[tuple[ComponentKnowledge, Inventory, Sequence[Machine]]]":
    """Open the groups, the inventory, and the machines of one group; None: all machines."""
    from flows.images.fleet_images import read_image_knowledge, require_group, select_members
    from flows.images.image_file import load_image_groups
    from inventory.loader import find_inventory, load_inventory
    from tasks.records.setup import open_records

    fleet = load_inventory(find_inventory(inventory))
    groups = load_image_groups(fleet.source)
    for image in groups.unsigned:
        print_to_stderr(f"{image}: nobody's signature of its list was checked, because its index has no `keyring`.")
    machines = fleet.machines if group is None else select_members(require_group(groups, group), fleet)
    with open_records(records) as opened:
        yield read_image_knowledge(opened, groups, fleet), fleet, machines


def _upgrade(
    group: str | None,
    to: str | None,
    minutes: float,
    inventory: Path | None,
    records: str | None,
    *,
    as_json: bool,
    as_flow: bool,
    dry_run: bool,
    roll_back: bool,
) -> None:
    from fleetpatch.cli.runtime.component_runs import UpgradeOrder, run_upgrades
    from fleetpatch.cli.views.components import print_upgrades
    from tasks.domain.images import IMAGE_PREFIX
    from tasks.domain.protocols.clock import SystemClock

    name = f"{IMAGE_PREFIX}{group}" if group is not None else None
    order = UpgradeOrder(name, to or "", minutes, roll_back, dry_run, "group")
    open_group = partial(_open_groups, inventory, group, records)
    outcome = run_upgrades(order, open_group, records, SystemClock(), as_flow=as_flow)
    print_upgrades(outcome, as_json=as_json)
    raise typer.Exit(int(outcome.exit_code))
