"""A member of machine sets: its role, its health, and whether it may be brought back into its sets."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Final

from inventory.addresses import DEFAULT_PORTS, WINRM_PORTS
from inventory.machine import Check, CheckKind, Machine, RoleSource, TransportKind
from tasks.domain.errors import FleetpatchError, RequestError
from tasks.domain.model import Finding
from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.records import JournalMark
from tasks.domain.states import FindingLevel, HookPoint, RebootState
from tasks.rules.machine_checks.findings import describe_blocking_findings
from tasks.rules.runs.hooks import build_hook_name
from tasks.steps.context.journal import MACHINE_CHANGING_ACTS
from tasks.steps.context.machine_context import COMMAND_GRACE_SECONDS, MachineContext, MachineState
from tasks.steps.context.run_context import RunContext
from tasks.steps.machine.custom_checks import run_check

_ACTS_OUT_OF_SERVICE: Final = MACHINE_CHANGING_ACTS - {"stage"}  # a download changes nothing that serves
_ANSWER_SECONDS: Final = 10.0


def ask_member_role(context: MachineContext, role: RoleSource) -> str:
    """Return the role of a member: its tag, or the first word that its command says. "": none.

    Raises:
        PatchError: the member can't be asked, or its command failed.
    """
    if not role.command:
        return role.find_in_tags(context.state.machine.tags)
    deadline = Deadline.after(context.clock, role.timeout_seconds + COMMAND_GRACE_SECONDS)
    parameters = {"command": role.command, "timeout": f"{role.timeout_seconds:.0f}"}
    script = context.build_shared_script("probe", parameters)
    answer = context.transport.run_script(script, deadline=deadline).find_records("probe")
    code = answer[0].get("exit_code") if answer else None
    text = str(answer[0].get("text", "")).strip() if answer else ""
    if code != 0:
        raise RequestError(f"the command for its role ended with {code}: {text[-300:]}", machine=context.name)
    return text.split(maxsplit=1)[0] if text else ""


@contextmanager
def open_member(run_context: RunContext, machine: Machine) -> Iterator[MachineContext]:
    """Give a context to ask a member with a connection of its own, inside the block.

    Raises:
        FleetpatchError: there is no way to connect.
    """
    context = MachineContext(run_context, run_context.connect(machine), MachineState(machine))
    with closing(context.transport):
        yield context


def check_member_health(context: MachineContext, checks: Sequence[Check]) -> str:
    """Return why a member is not healthy, or "". Without checks: whether it answers at its port."""
    for check in checks or _build_default_checks(context.state.machine):
        try:
            finding = run_check(context, check)
        except FleetpatchError as error:
            return f"{check.name}: {error.message}"
        if finding.level is FindingLevel.BLOCK:
            return f"{finding.check}: {finding.message}"
    return ""


def _build_default_checks(machine: Machine) -> tuple[Check, ...]:
    if machine.transport is TransportKind.LOCAL:
        return ()
    if machine.jump:  # its port can't be reached from here
        return (Check("login", CheckKind.COMMAND, "exit 0", timeout_seconds=_ANSWER_SECONDS),)
    is_winrm = machine.transport is TransportKind.WINRM
    port = machine.port or (WINRM_PORTS[machine.winrm.scheme] if is_winrm else DEFAULT_PORTS[machine.transport])
    return (Check("port", CheckKind.TCP, str(port), timeout_seconds=_ANSWER_SECONDS),)


def explain_member_left_drained(context: MachineContext) -> str:
    """Return why a member may not be brought back into its sets, or "".

    A member that was changed comes back only if its validation found it healthy. Otherwise users would meet a machine
    that is dead or half-patched. A member on which nothing has begun comes back.

    Raises:
        RecordsError: the journal can't be read.
    """
    validation = context.state.validation
    if validation is not None:
        return "" if validation.is_healthy else f"validation: {describe_blocking_findings(validation.findings)}"
    entries = context.records.read_entries(context.run.id, context.name)
    if not any(entry.mark is JournalMark.BEFORE and entry.act in _ACTS_OUT_OF_SERVICE for entry in entries):
        return ""
    state = context.state
    failed = [f"the reboot failed: {reboot.reason}" for reboot in state.reboots if reboot.state is RebootState.FAILED]
    reason = state.error.message if state.error else failed[-1] if failed else state.halted
    return f"it was changed, and it is not known to be healthy{f': {reason}' if reason else ''}"


def find_drained_sets(context: MachineContext, set_names: Sequence[str]) -> Collection[str]:
    """Return of which of these sets a drained member still is drained: no undrain has succeeded in this run."""
    back = {
        hook.hook.name for hook in context.state.hooks if hook.succeeded and hook.hook.place is HookPoint.AFTER_MACHINE
    }
    return {name for name in set_names if build_hook_name(name, "undrain") not in back}


def add_member_health_finding(context: MachineContext, check: str, why: str) -> None:
    """Report that a member is not healthy after its turn: as a fault of the validation, if there was one."""
    remedy = "Look at the machine. No more members of its set begin in this run than its limits allow."
    validation = context.state.validation
    if validation is None:
        context.add_finding(Finding(check, FindingLevel.WARN, why, remedy))
        return
    findings = (*validation.findings, Finding(check, FindingLevel.BLOCK, why, remedy))
    context.state = replace(context.state, validation=replace(validation, findings=findings))


def is_out_of_service(context: MachineContext) -> bool:
    """Return whether a machine is out of service or may be: its drain hooks or its first change have begun."""
    return context.state.before_hooks_ran
