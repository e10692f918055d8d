"""After the upgrade of a component: is the machine healthy with it? If it is not, the version before is put back."""

from dataclasses import replace

from inventory.machine import FailedCheckEffect
from tasks.domain.errors import FleetpatchError, RecordsError, TransportError
from tasks.domain.model import Finding, Update, UpdateResult, ValidationResult
from tasks.domain.protocols.package_manager import JobKind
from tasks.domain.services import Services
from tasks.domain.states import FindingLevel, Step, UpdateState
from tasks.rules.components.health import HealthAnswer, HealthWatch
from tasks.rules.components.tries import COMPONENT_CHECK
from tasks.rules.machine_checks.findings import describe_blocking_findings
from tasks.rules.machine_checks.units import check_runs
from tasks.steps.component_choice import get_component_order
from tasks.steps.component_jobs import read_component_version, run_to_its_end
from tasks.steps.context.machine_context import MachineContext, MachineState
from tasks.steps.context.run_control import StepWait
from tasks.steps.image_upgrade import is_disk_going_back, is_image_run, leave_disk, mark_failed, put_disk_back
from tasks.steps.jobs.package_job import find_submitted_update_ids
from tasks.steps.machine.custom_checks import run_check
from tasks.steps.machine.facts import read_facts
from tasks.steps.machine.retry import build_retry_deadline, close_before_pause, retry_transient
from tasks.steps.validate import validate

POLL_SECONDS = 10.0
SHORTEST_PAUSE_SECONDS = 0.1
_LOOK = "Look at the component on the machine."
_CUT_SHORT = "it was healthy so far, and the run was asked to stop before its soak was over"


def validate_component(context: MachineContext) -> MachineState:
    """Watch the machine's health after an upgrade, put the version before back if it is not healthy, and validate.

    While the machine is good and its soak is not over, the step waits (``context.wait``) and has no result.

    A return that an earlier process of this run has begun is completed first: nothing is watched twice.

    Raises:
        FleetpatchError: the machine was lost, or the return may have begun and its end was not seen.
    """
    install, update_id = context.state.install, get_component_order(context).component.update_id
    result = next((result for result in (install.results if install else ()) if result.update.id == update_id), None)
    if result is None or not _has_changed(result):
        return validate(context)
    is_image = is_image_run(context.options)
    is_going_back = (
        is_disk_going_back(context) if is_image else bool(find_submitted_update_ids(context, JobKind.ROLL_BACK))
    )
    problem = "an earlier process of this run found it not healthy" if is_going_back else _find_problem(context, result)
    if context.wait is not None:
        return context.state
    problem = problem or _validate_upgrade(context)
    if not problem:
        return context.state
    if not get_component_order(context).rolls_back:
        leave = leave_disk if is_image else _leave
        message = leave(context, result.update, problem)
    else:
        put_back = put_disk_back if is_image else _put_back
        message = put_back(context, result.update, problem)
    # what was read after the installation is past: the validation reads it again
    context.state = replace(context.state, packages_after=None)
    context.state = validate(context)
    finding = Finding(COMPONENT_CHECK, FindingLevel.BLOCK, message, _LOOK)
    validation = context.state.validation or ValidationResult(())
    return replace(context.state, validation=replace(validation, findings=(*validation.findings, finding)))


def _has_changed(result: UpdateResult) -> bool:
    """Return whether an installation began that may not have left the version of before.

    Pending: it has ended, and what it has left can't be read.
    """
    if result.state in {UpdateState.INSTALLED, UpdateState.SETUP_FAILED, UpdateState.PENDING}:
        return True
    return result.state is UpdateState.FAILED and result.version_after != result.update.installed


def _find_problem(context: MachineContext, result: UpdateResult) -> str:
    """Return why the version that was installed can't stay, or "". It also returns "" while the step waits."""
    if result.state is not UpdateState.INSTALLED:
        return result.reason or f"version {result.version_after} is there, and not {result.update.available}"
    component = get_component_order(context).component
    if context.wait is not None:
        watch, answers = context.wait.watch, list(context.wait.answers)
        context.wait = None
    else:
        version = f"{component.name} {result.update.available}"
        context.report_progress(Step.VALIDATE, f"watching its health with {version}")
        if wrong := _wait_for_answer(context, result.update):
            return wrong
        watch, answers = HealthWatch(context.clock.now(), component.health_seconds, component.soak_seconds), []
    while True:
        answers.append(ask_health(context, result.update, watch.find_first_good(answers)))
        now = context.clock.now()
        verdict = watch.judge(answers, now)
        if verdict is not None:
            return "" if verdict else watch.explain(answers)
        next_look = watch.find_next_look(answers, now)
        if next_look is not None and context.stop_token.is_stopping:
            context.add_finding(Finding(COMPONENT_CHECK, FindingLevel.WARN, _CUT_SHORT, _LOOK))
            return ""
        if next_look is not None:
            context.wait = StepWait(now, next_look, watch, tuple(answers))
            return ""
        close_before_pause(context, POLL_SECONDS)
        left = (watch.until - now).total_seconds()
        context.clock.sleep(max(SHORTEST_PAUSE_SECONDS, min(POLL_SECONDS, left) if left > 0 else POLL_SECONDS))


def _wait_for_answer(context: MachineContext, update: Update) -> str:
    """Wait until the machine answers again. Return what is wrong with the version there, or "".

    A script that fails is an answer, too: what it says of the machine's health, the watch decides.
    """
    try:
        return retry_transient(context, lambda: _require_version(context, update), build_retry_deadline(context))
    except (RecordsError, TransportError):
        raise
    except FleetpatchError:
        return ""


def _validate_upgrade(context: MachineContext) -> str:
    """Validate a machine with the new version. Return why that can't stay, or ""."""
    try:
        context.state = retry_transient(context, lambda: validate(context), build_retry_deadline(context))
    except (RecordsError, TransportError):
        raise
    except FleetpatchError as error:
        return f"not healthy: {error.message}"
    validation = context.state.validation
    return describe_blocking_findings(validation.findings) if validation is not None else ""


def _require_version(context: MachineContext, update: Update) -> str:
    """Return what is wrong with the version on the machine, or "". Its answer is the proof that it answers again."""
    if is_image_run(context.options):  # the provider tells the version, and knows nothing of the machine's health
        read_facts(context.transport, context.clock, context.build_read_deadline(), context.known_facts)
    deadline = context.build_package_deadline()
    now = context.manager.read_installed_versions(context.transport, [update], deadline=deadline).get(update.id)
    return "" if now == update.available else f"version {now or 'none'} is there, and not {update.available}"


def ask_health(context: MachineContext, update: Update, first: HealthAnswer | None = None) -> HealthAnswer:
    """Ask a machine once for its version of a component, its probes, the component's own checks, and its services.

    A service that has ended since the ``first`` good answer is not healthy, also if it runs again.
    """
    checks = (*context.state.machine.probes, *get_component_order(context).component.health)
    try:
        problems = [problem] if (problem := _require_version(context, update)) else []
        blocking = [check for check in checks if check.level is FailedCheckEffect.BLOCK]
        problems += [
            f"{finding.check}: {finding.message}"
            for finding in (run_check(context, check) for check in blocking)
            if finding.level is FindingLevel.BLOCK
        ]
        services = None if problems else _read_services(context)
        if services is not None and first is not None and first.services is not None:
            problems += _find_ends(context, first, services)
    except RecordsError:
        raise
    except FleetpatchError as error:
        is_healthy = None if isinstance(error, TransportError) else False
        return HealthAnswer(context.clock.now(), is_healthy, error.message)
    return HealthAnswer(context.clock.now(), not problems, "; ".join(problems), services)


def _read_services(context: MachineContext) -> Services:
    deadline = context.build_read_deadline()
    return read_facts(context.transport, context.clock, deadline, context.known_facts, with_units=True).services


def _find_ends(context: MachineContext, first: HealthAnswer, services: Services) -> list[str]:
    before = context.state.baseline.services if context.state.baseline is not None else Services()
    seconds = (context.clock.now() - first.at).total_seconds()
    ended = check_runs(before, first.services or Services(), services, seconds)
    return [f"{finding.check}: {finding.message}" for finding in ended if finding.level is FindingLevel.BLOCK]


def _leave(context: MachineContext, update: Update, problem: str) -> str:
    """Leave a version that is not healthy, as whoever started the run wants it. Return that."""
    message = f"{update.name} {update.available}: {problem}; it was left: this run puts nothing back"
    mark_failed(context, update, message, read_component_version(context, update))
    return message


def _put_back(context: MachineContext, update: Update, problem: str) -> str:
    """Put the version before back, in one detached job, and return what became of it.

    As with an installation, the journal entry comes before the start. Neither a request to stop nor the window's end
    keeps it away: the machine would stay unhealthy.
    """
    back = replace(update, installed=update.available, available=update.installed or "")
    context.report_progress(Step.VALIDATE, f"putting {update.name} {back.available} back: {problem}")
    install = context.state.install
    done = install.transactions if install is not None else ()
    took = [(one.ended_at - one.started_at).total_seconds() for one in done if one.started_at and one.ended_at]
    seconds = max([context.rates.predict_install_seconds(1), *took])  # as long as the way there, which may be slow
    transaction = max((one.number for one in done), default=-1) + 1
    job_result = run_to_its_end(context, JobKind.ROLL_BACK, 0, back, transaction, seconds)
    now = read_component_version(context, update)
    is_back = now == update.installed
    errors = "; ".join(
        filter(None, (*(t.detail for t in job_result.transactions), *job_result.refusals, job_result.error))
    )
    outcome = (
        f"version {update.installed} is back"
        if is_back
        else f"version {update.installed} is not back, there is {now or 'no version that can be read'}"
    )
    message = f"{update.name} {update.available} was taken back: {problem}; {outcome}"
    message = f"{message}: {errors}" if errors and not is_back else message
    if install is not None:
        mark_failed(context, update, message, now)
        install = context.state.install or install
        job_ids, transactions = (*install.job_ids, job_result.job_id), (*install.transactions, *job_result.transactions)
        context.state = replace(context.state, install=replace(install, job_ids=job_ids, transactions=transactions))
    return message
