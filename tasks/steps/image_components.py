"""Installs the components again that a machine had on its OS disk before, and that its new one lacks."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from inventory.machine import OsFamily
from tasks.domain.components import Component, InstalledComponent
from tasks.domain.errors import ProviderError
from tasks.domain.model import Finding, Update, UpdateResult
from tasks.domain.protocols.package_manager import JobKind
from tasks.domain.protocols.records import JournalMark
from tasks.domain.protocols.transport import JobPhase
from tasks.domain.states import Classification, Step, UpdateState
from tasks.rules.images.components import explain_no_return, is_missing
from tasks.steps.component_choice import get_component_order
from tasks.steps.component_files import send_to_new_disk
from tasks.steps.component_jobs import read_component_version, run_to_its_end
from tasks.steps.context import journal
from tasks.steps.context.machine_context import MachineContext
from tasks.steps.disk_components import RETURN_CHECK, explain_no_new_disk, find_disk_components
from tasks.steps.machine.package_state import read_package_state, read_package_state_with_retry
from tasks.steps.machine.retry import build_retry_deadline, retry_transient

COMPONENTS_KEY: Final = "components"
"""Where the journal entry of a replacement has the components of the disk before, as [name, version], in order."""
_ACT: Final = "image-component"
_START_SECONDS: Final = 60.0
"""For reading a component's version, and for the start of its job."""


def read_components_before(context: MachineContext) -> list[list[str]]:
    """Read what the machine has on its disk now, for the journal. Raise FleetpatchError if that is not known.

    It is a ProviderError if something could not be installed again, so that the disk may not be replaced.
    """
    order = get_component_order(context)
    components = context.run_context.list_components(context.state.machine)
    if not order.enrolled.get(context.name) and all(component.image is not None for component in components):
        return []
    told = read_package_state_with_retry(context).components
    disk = find_disk_components(context, order, told)
    if reason := explain_no_new_disk(context, disk):
        raise ProviderError(f"its OS disk is not replaced: {reason}", machine=context.name)
    return [[name, version] for name, version in disk.versions.items()]


def read_components(before: Mapping[str, object]) -> list[tuple[str, str]]:
    """Return name and version of the components that the journal entry of a replacement has, in their order."""
    recorded = before.get(COMPONENTS_KEY)
    return [(str(name), str(version)) for name, version in (recorded if isinstance(recorded, list | tuple) else ())]


def predict_return_seconds(context: MachineContext, count: int | None = None) -> float:
    """Return the seconds in which so many components come again; None: those that the assessment found."""
    if count is None:
        count = len(find_disk_components(context, get_component_order(context), context.packages.components).versions)
    return count * (_START_SECONDS + context.rates.predict_install_seconds(1))


def bring_components_back(context: MachineContext, before: Mapping[str, object]) -> str:
    """Install again what the new disk lacks, in the order of the journal. Return why one can't be, or "".

    The first one that can't be is the last one that is tried: others may need it. Neither a request to stop nor the
    window's end keeps them away: their time was counted before the disk was replaced.

    ``before`` is what the journal has of the machine. Raise FleetpatchError if the machine was lost.
    """
    known = {one.name: one for one in context.run_context.list_components(context.state.machine) if one.image is None}
    answers = {answer.name: answer for answer in context.latest_packages.components}
    begun = {update.name for update, _ in _read_acts(context)}
    for number, (name, version) in enumerate(read_components(before)):
        answer = answers.get(name)
        if name not in begun and is_missing(version, answer) is False:
            if answer is not None and answer.version != version:
                text = f"{name} {answer.version} of the image stays; {version} was there before"
                context.add_finding(Finding.good(RETURN_CHECK, text))
            continue
        if problem := _bring_back(context, known.get(name), number, name, version, answer, is_begun=name in begun):
            return f"the component {name} {version} can't be installed again: {problem}"
    if _read_acts(context):
        context.state = replace(context.state, packages_after=read_package_state(context))
    return ""


def _bring_back(
    context: MachineContext,
    component: Component | None,
    number: int,
    name: str,
    version: str,
    answer: InstalledComponent | None,
    *,
    is_begun: bool,
) -> str:
    """Install one component. The same job that an earlier process has begun is awaited, and never begun again."""
    listed = component.find_version(version) if component is not None else None
    if component is None or listed is None:
        return "components.yaml does not have it any more"
    if reason := explain_no_return(component, version):
        return reason
    update = _build_update(component, version, answer.version if answer is not None else None)
    context.report_progress(Step.INSTALL, f"installing {name} {version} again")
    if not is_begun:
        if reason := send_to_new_disk(context, component, listed):
            return reason
        detail: dict[str, object] = {
            "name": name,
            "kind": component.kind,
            "version": version,
            "found": update.installed,
        }
        journal.record_start(context, Step.INSTALL, _ACT, str(number), detail)
    errors: list[str] = []
    if is_missing(version, answer) is not False or not _is_job_gone(context, number):
        # what the image has of it is never put back: its file is not needed
        job_result = run_to_its_end(context, JobKind.INSTALL, number, replace(update, installed=None), number)
        errors += [one.detail or f"exit code {one.exit_code}" for one in job_result.transactions if one.exit_code]
        errors += [*job_result.refusals, *filter(None, [job_result.error])]
    now = read_component_version(context, update)
    if is_missing(version, InstalledComponent(name, now, "" if now else "it can't be read")) is not False:
        errors.append(f"version {now or 'none that can be read'} is there")
    problem = "; ".join(dict.fromkeys(errors))
    journal.record_end(context, Step.INSTALL, _ACT, str(number), {"now": now, "problem": problem[:500]})
    return problem


def _is_job_gone(context: MachineContext, number: int) -> bool:
    """Return whether the machine does not know a job any more that this run has begun: it would begin it again."""
    job_id = journal.build_job_id(context.run.id, context.name, JobKind.INSTALL.value, number)
    status = retry_transient(
        context,
        lambda: context.transport.poll_job(job_id, deadline=context.build_read_deadline()),
        build_retry_deadline(context),
    )
    return status.phase is JobPhase.ABSENT


def _build_update(component: Component, version: str, found: str | None) -> Update:
    return Update(
        id=component.update_id,
        name=component.name,
        arch="",
        installed=found,
        available=version,
        classification=Classification.OTHER,
        origins=(component.kind,),
        requires_reboot=False,
    )


def _read_acts(context: MachineContext) -> Sequence[tuple[Update, Mapping[str, object] | None]]:
    """Return the components whose installation this run has begun, in order, each with its end; None: none was seen."""
    acts: dict[str, tuple[Update, Mapping[str, object] | None]] = {}
    for entry in context.records.read_entries(context.run.id, context.name):
        told = entry.detail
        if entry.act == _ACT and entry.mark is JournalMark.BEFORE:
            component = Component(str(told["name"]), str(told["kind"]), OsFamily.LINUX, ())
            found = str(told["found"]) if told.get("found") else None
            acts[entry.key] = (_build_update(component, str(told["version"]), found), None)
        elif entry.act == _ACT:
            acts[entry.key] = (acts[entry.key][0], told)
    return tuple(acts.values())


def list_component_results(context: MachineContext) -> tuple[UpdateResult, ...]:
    """Return what became of each component that was to be installed again, also by an earlier process of this run."""
    return tuple(_build_result(update, end) for update, end in _read_acts(context))


def _build_result(update: Update, end: Mapping[str, object] | None) -> UpdateResult:
    if end is None:
        return UpdateResult(update, UpdateState.PENDING, "its installation was begun, and its end was not seen")
    problem, now = str(end.get("problem") or ""), end.get("now")
    state = UpdateState.FAILED if problem else UpdateState.INSTALLED
    return UpdateResult(update, state, problem, str(now) if now else None)


def forget_components(context: MachineContext) -> None:
    """Forget what came to a new disk that is no longer there: the machine has again what it had before."""
    if (install := context.state.install) is not None:
        names = {update.id for update, _ in _read_acts(context)}
        results = tuple(result for result in install.results if result.update.id not in names)
        context.state = replace(context.state, install=replace(install, results=results))
