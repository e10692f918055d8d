"""Gives a machine a new OS disk from an image, in the place of the installation; and puts the one before back."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from tasks.domain.components import Component
from tasks.domain.errors import FleetpatchError, ProviderError, RecordsError
from tasks.domain.images import IMAGE_PREFIX, ImageModel
from tasks.domain.model import Finding, InstallResult, RebootResult, TransactionResult, Update, UpdateResult
from tasks.domain.protocols.machine_provider import MachineProvider, TimedProvider
from tasks.domain.protocols.records import JournalEntry, JournalMark
from tasks.domain.provided_machines import ImageVersion, PowerState, ProviderAct, ProviderOrder
from tasks.domain.states import FindingLevel, RebootState, Step, UpdateState
from tasks.rules.images.disks import (
    explain_changed_data_disks,
    explain_no_replacement,
    find_os_source,
    list_data_disks,
)
from tasks.rules.images.user_data import MachineIdentity, build_first_boot, explain_missing_identity
from tasks.steps.component_choice import get_component_order
from tasks.steps.context import journal
from tasks.steps.context.machine_context import REPLACEMENT_SECONDS, MachineContext, MachineState
from tasks.steps.context.run_context import PatchOptions
from tasks.steps.hooks import run_before_hooks
from tasks.steps.image_components import (
    COMPONENTS_KEY,
    bring_components_back,
    forget_components,
    list_component_results,
    predict_return_seconds,
    read_components,
    read_components_before,
)
from tasks.steps.image_disks import (
    build_order_id,
    find_start,
    order,
    read_identity,
    read_provided,
    wait_for_login,
)
from tasks.steps.machine.auto_updaters import halt_if_others_patch
from tasks.steps.machine.custom_checks import run_command
from tasks.steps.machine.machine_lock import acquire_lock
from tasks.steps.machine.package_state import read_package_state
from tasks.steps.machine.provider_orders import give_order, require_provider, start_if_stopped
from tasks.steps.machine.reboot_obstacles import wait_for_transactions
from tasks.steps.machine.retry import is_transient
from tasks.steps.start_checks import check_cut_off_fit, explain_stop_request

_SCRIPT_ACT = "image-script"
_INTERRUPTED = "the replacement of its OS disk was interrupted"


def is_image_run(options: PatchOptions) -> bool:
    """Return whether a run gives machines new OS disks."""
    return options.component_order is not None and options.component_order.component.image is not None


def install_image(context: MachineContext) -> MachineState:
    """Replace the OS disk of a machine, wait for its login, run the owner's scripts there, and bring components back.

    A machine that does not become what it should has a result that is not Installed: the validation puts its disk back.

    Raises:
        FleetpatchError: nothing was ordered; or the provider can't tell what became of its disk.
    """
    update = next(iter(context.plan.chosen), None)
    if update is None:
        return _with_result(context, None)
    entry = find_start(context, journal.REPLACE_ACT)
    if entry is None:
        if reason := _explain_no_time(context):
            return _with_result(context, UpdateResult(update, UpdateState.NOT_ATTEMPTED, reason, update.installed))
        if halt_if_others_patch(context) or not run_before_hooks(context):
            return context.state
        if reason := explain_stop_request(context):
            return _with_result(context, UpdateResult(update, UpdateState.NOT_ATTEMPTED, reason, update.installed))
    began = context.clock.now()
    try:
        return _with_result(context, _replace_disk(context, update, entry), began)
    except Exception as error:
        if find_start(context, journal.REPLACE_ACT) is not None:
            reason = f"its end was not seen: {getattr(error, 'message', error)}"
            context.state = _with_result(context, UpdateResult(update, UpdateState.PENDING, reason), began)
        raise


def _explain_no_time(context: MachineContext, components: int | None = None) -> str:
    seconds = _predict_replacement_seconds(context) + predict_return_seconds(context, components)
    fit = check_cut_off_fit(context, seconds, "the replacement of its OS disk")
    return explain_stop_request(context) or ("" if fit.fits else f"no time left: {fit.explanation}")


def _predict_replacement_seconds(context: MachineContext) -> float:
    """Return the seconds for the way there. The way back is in the cut-off, as long as usual: what it lacks is added.

    An order may take all the time that its provider gives it.
    """
    provider = require_provider(context)
    limit = provider.order_seconds if isinstance(provider, TimedProvider) else REPLACEMENT_SECONDS
    return REPLACEMENT_SECONDS + 2 * max(0.0, limit - REPLACEMENT_SECONDS)


def _with_result(context: MachineContext, result: UpdateResult | None, began: datetime | None = None) -> MachineState:
    """Return the state with what became of the OS disk. The boot from it was no reboot that anybody decides about."""
    of_disk = (result, *list_component_results(context)) if result is not None else ()
    results = (*of_disk, *context.plan.skipped)
    transactions: tuple[TransactionResult, ...] = ()
    # one that was not attempted, or refused, has changed nothing
    if result is not None and began is not None and result.state in {UpdateState.INSTALLED, UpdateState.PENDING}:
        is_good = result.state is UpdateState.INSTALLED
        ended = context.clock.now()
        transactions = (TransactionResult(0, (result.update.id,), began, ended, 0 if is_good else 1, result.reason),)
    return replace(
        context.state,
        install=InstallResult(results, transactions),
        reboot=RebootResult(RebootState.NOT_NEEDED, "the machine boots from its new OS disk"),
    )


def _replace_disk(context: MachineContext, update: Update, entry: JournalEntry | None) -> UpdateResult:
    component = get_component_order(context).component
    provider, order_id = require_provider(context), build_order_id(context)
    refusal: FleetpatchError | None = None
    if entry is None:
        before, wanted = _prepare_replacement(context, provider, component, update)
        returning = len(read_components(before))
        if reason := _explain_no_time(context, returning):  # the hooks, and others' installations, took theirs
            return UpdateResult(update, UpdateState.NOT_ATTEMPTED, reason, update.installed)
        journal.record_start(context, Step.INSTALL, journal.REPLACE_ACT, order_id, before)
        refusal = order(context, provider, wanted)
    else:
        before = entry.detail
        problem, refusal = _resume_replacement(context, provider, component, update, before)
        if problem:
            return UpdateResult(update, UpdateState.PENDING, problem)
    machine = read_provided(context, provider)
    if find_os_source(machine) == before["os"] and machine.power is PowerState.RUNNING:
        if refusal is not None and is_transient(refusal):  # one look at the disk does not prove that it stays
            return UpdateResult(update, UpdateState.PENDING, f"it may still be replaced: {refusal.message}")
        reason = refusal.message if refusal is not None else "the provider has not replaced its OS disk"
        return UpdateResult(update, UpdateState.FAILED, reason, update.installed)
    if find_os_source(machine) != before["os"] and machine.power is not PowerState.RUNNING:  # it ran before
        start_if_stopped(context, provider, machine, order)
        machine = read_provided(context, provider)
    now = machine.os_disks[0].image if len(machine.os_disks) == 1 else ""
    problem = explain_changed_data_disks(_read_data_disks(before), machine)
    if now != update.available or machine.find_kept_disk(order_id) is None or machine.power is not PowerState.RUNNING:
        problem = problem or f"{_INTERRUPTED}: its provider says that it is {machine.power} with {now or 'no version'}"
    problem = problem or _set_up(context, component)
    journal.record_end(context, Step.INSTALL, journal.REPLACE_ACT, order_id, {"problem": problem})
    if not problem and component.image is not None:
        until = context.clock.now() + timedelta(days=component.image.keep_days)
        kept = f"its OS disk before is kept until {until:%Y-%m-%d %H:%M} UTC, as {order_id}"
        context.add_finding(Finding("OS disk", FindingLevel.GOOD, kept))
    state = UpdateState.PENDING if problem else UpdateState.INSTALLED
    return UpdateResult(update, state, problem, now or None)


def _read_data_disks(before: Mapping[str, object]) -> dict[str, str]:
    disks = before.get("data")
    return {str(name): str(source) for name, source in disks.items()} if isinstance(disks, dict) else {}


def _prepare_replacement(
    context: MachineContext, provider: MachineProvider, component: Component, update: Update
) -> tuple[dict[str, object], ProviderOrder]:
    """Look at the machine. Return how it is before, for the journal, and the order.

    Raises:
        FleetpatchError: its disk can't be replaced.
    """
    machine = read_provided(context, provider)
    if reason := explain_no_replacement(machine, provider.acts):
        raise ProviderError(f"its OS disk can't be replaced: {reason}", machine=context.name)
    wanted = _build_order(build_order_id(context), component, update, _read_kept_identity(context, component))
    components = read_components_before(context)
    before: dict[str, object] = {
        "image": update.available,
        "os": find_os_source(machine),
        "data": list_data_disks(machine),
        "boot": context.facts.boot_id,
        COMPONENTS_KEY: components,
    }
    wait_for_transactions(context, "its new OS disk")  # before the journal has an order, and again when it is given
    return before, wanted


def _build_order(
    order_id: str, component: Component, update: Update, identity: MachineIdentity | None = None
) -> ProviderOrder:
    """Return the order. Without an identity, it is only for a disk that was replaced already."""
    version = component.find_version(update.available)
    if version is None or component.image is None:
        raise ProviderError(f"images.yaml does not have {component.name} {update.available} (any more)")
    image = ImageVersion(component.image.image, version.version, version.reference, version.digest)
    data = build_first_boot(component.image, identity) if identity is not None else ("", "")
    return ProviderOrder(ProviderAct.REPLACE_OS_DISK, order_id, image, user_data=data[0], network_config=data[1])


def _read_kept_identity(context: MachineContext, component: Component) -> MachineIdentity:
    model = component.image or ImageModel("")
    identity = read_identity(context, model, with_keys=True)
    if reason := explain_missing_identity(model, identity):
        raise ProviderError(
            f"its OS disk is not replaced: {reason}",
            machine=context.name,
            hint="Repair that on the machine, or see `identity` in images.yaml.",
        )
    return identity


def _resume_replacement(
    context: MachineContext,
    provider: MachineProvider,
    component: Component,
    update: Update,
    before: Mapping[str, object],
) -> tuple[str, FleetpatchError | None]:
    """Order again what an earlier process of this run has ordered, if it was not done. Return a problem, or a refusal.

    The identity of the machine is on its old disk alone, so an order that was interrupted is taken back if the machine
    does not answer.
    """
    machine, order_id = read_provided(context, provider), build_order_id(context)
    if machine.find_kept_disk(order_id) is not None:
        # it was replaced: the same order ends then, with its start. Until that, its provider may refuse any other
        return "", order(context, provider, _build_order(order_id, component, update))
    if find_os_source(machine) != before["os"]:
        return _INTERRUPTED, None
    try:
        identity = _read_kept_identity(context, component)
    except RecordsError:
        raise
    except FleetpatchError as error:
        return f"{_INTERRUPTED}: {error.message}", None
    return "", order(context, provider, _build_order(order_id, component, update, identity))


def _set_up(context: MachineContext, component: Component) -> str:
    """Wait for the login to the new disk, lock the machine again, run the scripts, and bring the components back.

    Return what is wrong, or "".
    """
    if problem := wait_for_login(context, str(_read_before(context).get("boot", ""))):
        return problem
    context.report_progress(Step.INSTALL, "its new OS disk has booted, and is set up")
    try:
        lock = acquire_lock(context).finding
        if lock.level is FindingLevel.BLOCK:
            return lock.message
        _take_keys_from_seed(context, component)
        problem = _run_scripts(context, component)
        if not problem:  # a new disk has no package lists
            context.report_progress(Step.INSTALL, "its new OS disk gets its package lists")
            context.state = replace(context.state, packages_after=read_package_state(context, refresh=True))
            problem = bring_components_back(context, _read_before(context))
    except RecordsError:
        raise
    except FleetpatchError as error:
        return f"it could not be set up: {error.message}"
    return problem


def _take_keys_from_seed(context: MachineContext, component: Component) -> None:
    """Let the provider write the seed of the new disk again, without the private host keys, which the disk has now.

    The seed stays: without it, cloud-init would take the machine for another one at its next boot, and make new keys.
    """
    provider, model = require_provider(context), component.image
    if model is None or not model.keeps_host_keys or ProviderAct.REWRITE_SEED not in provider.acts:
        return
    data = build_first_boot(model, replace(read_identity(context, model, with_keys=False), host_keys={}))
    wanted = ProviderOrder(ProviderAct.REWRITE_SEED, build_order_id(context), user_data=data[0], network_config=data[1])
    if refusal := give_order(context, provider, wanted):
        text = f"the seed of its new OS disk still has its private host keys: {refusal.message}"
        context.add_finding(Finding("OS disk", FindingLevel.WARN, text, "Only root of its host may read that file."))


def _run_scripts(context: MachineContext, component: Component) -> str:
    """Run the scripts that have not ended yet, in their order. Return what is wrong with one that fails, or ""."""
    ended = {
        entry.key
        for entry in context.records.read_entries(context.run.id, context.name)
        if entry.act == _SCRIPT_ACT and entry.mark is JournalMark.AFTER
    }
    for number, script in enumerate(component.image.scripts if component.image is not None else ()):
        key = f"{number}"
        if key in ended:
            continue
        began = context.clock.now()
        until = began + timedelta(seconds=script.timeout_seconds)
        context.report_wait(f"the script {script.name} runs", began, until, Step.INSTALL)
        journal.record_start(context, Step.INSTALL, _SCRIPT_ACT, key, {"name": script.name})
        if problem := run_command(context, script.command, script.timeout_seconds, read_only=False):
            return f"the script {script.name} failed: {problem}"
        journal.record_end(context, Step.INSTALL, _SCRIPT_ACT, key, {"name": script.name})
    return ""


def is_disk_going_back(context: MachineContext) -> bool:
    """Return whether this run has begun to put the OS disk before back."""
    return find_start(context, journal.RESTORE_ACT) is not None


def put_disk_back(context: MachineContext, update: Update, problem: str) -> str:
    """Put the OS disk before back. Return what became of it.

    Neither a request to stop nor the window's end keeps it away.

    Raises:
        FleetpatchError: the provider can't tell what became of it.
    """
    name = f"{update.name.removeprefix(IMAGE_PREFIX)} {update.available}"
    provider, order_id = require_provider(context), build_order_id(context)
    before = _read_before(context)
    context.report_progress(Step.VALIDATE, f"its OS disk before goes back: {problem}")
    journal.record_start(context, Step.VALIDATE, journal.RESTORE_ACT, order_id, {"problem": problem[:500]})
    machine = read_provided(context, provider)
    is_untouched = find_os_source(machine) == before.get("os") and machine.find_kept_disk(order_id) is None
    # ordered in any case: the replacement may be under way at a provider that did not answer
    refusal = order(context, provider, ProviderOrder(ProviderAct.RESTORE_OS_DISK, order_id))
    machine = read_provided(context, provider)
    start_if_stopped(context, provider, machine, order)
    is_back = bool(before.get("os")) and find_os_source(machine) == before["os"]
    wrong = [explain_changed_data_disks(_read_data_disks(before), machine) if before else ""]
    wrong.append("" if machine.os_disks else "it has no OS disk: look at it at its provider")
    boot_before = "" if is_untouched else context.facts.boot_id
    is_open = refusal is not None and is_transient(refusal)
    if is_back:
        wrong.append(wait_for_login(context, boot_before))
    if refusal is not None and (is_open or not is_back):
        wrong.append(refusal.message)
    outcome = "its disk before is back" if is_back else "its disk before is not back"
    if is_back and is_untouched and refusal is not None:
        outcome = "its disk before is still there"
    message = "; ".join([f"{name} was taken back: {problem}", outcome, *filter(None, wrong)])
    journal.record_end(context, Step.VALIDATE, journal.RESTORE_ACT, order_id, {"outcome": outcome})
    version = machine.os_disks[0].image if machine.os_disks else ""
    # "": the disk of before, whose version is not known
    mark_failed(context, update, message, version if is_back else version or None, is_open=is_open)
    if is_back:
        forget_components(context)
    return message


def leave_disk(context: MachineContext, update: Update, problem: str) -> str:
    """Leave the machine with the disk that it has, as whoever started the run wants it. Return that.

    A machine that an interrupted replacement has left off, or without a disk, runs again afterwards: with its new disk
    if it has it, else with the one before, which takes nothing back.

    Raises:
        FleetpatchError: the provider can't tell what became of it.
    """
    provider, order_id, before = require_provider(context), build_order_id(context), _read_before(context)
    machine = read_provided(context, provider)
    is_old = not machine.os_disks or find_os_source(machine) == before.get("os")
    if is_old and machine.find_kept_disk(order_id) is not None:
        order(context, provider, ProviderOrder(ProviderAct.RESTORE_OS_DISK, order_id))
        machine = read_provided(context, provider)
    was_off = machine.power is not PowerState.RUNNING
    start_if_stopped(context, provider, machine, order)
    wrong = wait_for_login(context, "") if is_old or was_off else ""
    outcome = "its disk before is there: it was not replaced so far" if is_old else "it was left"
    message = "; ".join(filter(None, [f"{update.name} {update.available}: {problem}", outcome, wrong]))
    message = f"{message}: this run puts nothing back"
    version = machine.os_disks[0].image if machine.os_disks else ""
    mark_failed(context, update, message, version or None, is_open=is_old)
    return message


def _read_before(context: MachineContext) -> Mapping[str, object]:
    """Return what the journal has of the machine before the replacement; empty: nothing was ordered."""
    entry = find_start(context, journal.REPLACE_ACT)
    return entry.detail if entry is not None else {}


def mark_failed(
    context: MachineContext, update: Update, message: str, version_now: str | None, *, is_open: bool = False
) -> None:
    """Mark the update of a machine as failed, with the version that is there now. Open: that may still change."""
    install = context.state.install
    if install is None:
        return
    state = UpdateState.PENDING if is_open else UpdateState.FAILED
    results = tuple(
        replace(result, state=state, reason=message, version_after=version_now)
        if result.update.id == update.id
        else result
        for result in install.results
    )
    context.state = replace(context.state, install=replace(install, results=results))
