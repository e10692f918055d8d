"""Asks a machine what its next boot needs, and what a reboot ends. Only a machine that may be rebooted is asked."""

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from tasks.domain.errors import DeadlineExceeded, FleetpatchError, ProtocolViolation
from tasks.domain.model import Finding
from tasks.domain.protocols.transport import Script, ScriptResult
from tasks.domain.states import FindingLevel, RebootPolicy, YesNoUnknown
from tasks.machines.managers.running_programs import parse_units
from tasks.rules.machine_checks.next_boot_needs import (
    BOOT_NEEDS_CHECK,
    REBOOT_LOSS_CHECK,
    BootSurvey,
    EncryptedVolume,
    FstabLine,
    build_unread_losses,
    find_boot_faults,
    find_losses,
    keep_true_losses,
    soften_faults,
)
from tasks.steps.context.machine_context import MachineContext

BOOT_SECONDS: Final = 120.0
"""So long after the boot has ended, what begins still counts as begun by the boot."""


class _Answer(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")


class _SurveyRecord(_Answer):
    ignores_devices: bool
    fstab_is_proven: bool


class _FstabRecord(_Answer):
    number: int
    line: str
    device: Literal["yes", "no", "unknown", ""]


class _CryptRecord(_Answer):
    name: str
    key: str
    options: str
    tokens: str
    needed: bool


class _PeopleRecord(_Answer):
    user: str
    program: str


class _AutomountRecord(_Answer):
    where: str


class _UnitsRecord(_Answer):
    exit_code: int
    text: str
    stderr: str


def read_boot_survey(context: MachineContext) -> BootSurvey:
    """Ask a machine. Changes nothing.

    Raises:
        TransportError: no answer.
        ProtocolViolation: the answer is not valid.
    """
    answer = context.transport.run_script(Script("next_boot"), deadline=context.build_read_deadline())
    return parse_boot_survey(answer)


def parse_boot_survey(answer: ScriptResult) -> BootSurvey:
    """Return what a machine has answered.

    Raises:
        ProtocolViolation: the answer is not valid.
    """
    try:
        surveys = [_SurveyRecord.model_validate(record) for record in answer.find_records("survey")]
        fstab = [_FstabRecord.model_validate(record) for record in answer.find_records("fstab")]
        volumes = [_CryptRecord.model_validate(record) for record in answer.find_records("crypt")]
        people = [_PeopleRecord.model_validate(record) for record in answer.find_records("people")]
        automounts = [_AutomountRecord.model_validate(record) for record in answer.find_records("automount")]
        units = [_UnitsRecord.model_validate(record) for record in answer.find_records("section")]
    except ValidationError as error:
        raise ProtocolViolation(f"what the machine says of its next boot can't be understood: {error}") from error
    if len(surveys) != 1 or answer.exit_code != 0:
        ended = f"exit code {answer.exit_code}"
        raise ProtocolViolation(f"its answer is not whole ({ended}): {answer.unframed_output[-300:]}")
    faults = [f"systemctl ended with {unit.exit_code}: {unit.stderr[-300:]}" for unit in units if unit.exit_code]
    return BootSurvey(
        fstab=tuple(
            FstabLine(record.number, record.line, YesNoUnknown(record.device) if record.device else None)
            for record in fstab
        ),
        volumes=tuple(
            EncryptedVolume(record.name, record.key, record.options, record.tokens, record.needed) for record in volumes
        ),
        units=tuple(properties for unit in units for properties in parse_units(unit.text)),
        people=tuple((record.user, record.program) for record in people),
        ignores_devices=surveys[0].ignores_devices,
        is_fstab_proven=surveys[0].fstab_is_proven,
        units_fault="; ".join(faults),
        automounts=tuple(record.where for record in automounts),
    )


def check_next_boot_needs(context: MachineContext) -> tuple[Finding, ...]:
    """Return warnings about what keeps a machine from being rebooted, and about what a reboot would end.

    Nothing is asked where no reboot is possible in this run.
    """
    plan, options = context.state.plan, context.options
    is_excluded = plan is not None and plan.reboot_expected is YesNoUnknown.NO
    if options.reboot is RebootPolicy.NEVER or is_excluded:
        return ()
    return survey_next_boot(context)


def survey_next_boot(context: MachineContext) -> tuple[Finding, ...]:
    """Return the warnings, also where no run is planned."""
    if not context.facts.can_reboot:
        return ()
    try:
        survey = read_boot_survey(context)
    except (ProtocolViolation, DeadlineExceeded) as error:
        return (_build_unread_finding(error),)
    faults = find_boot_faults(survey, allow_passphrase=context.options.reboot_with_passphrase)
    return (*soften_faults(faults), *find_losses(survey, BOOT_SECONDS))


def explain_no_boot(context: MachineContext) -> str:
    """Return why a reboot that was decided is not ordered, as the machine would not come up without a person; or "".

    Nor is it ordered if that can't be read.

    Raises:
        TransportError: no answer.
    """
    try:
        survey = read_boot_survey(context)
    except (ProtocolViolation, DeadlineExceeded) as error:
        unread = _build_unread_finding(error)
        return f"{unread.message}. {unread.remedy}"
    faults = find_boot_faults(survey, allow_passphrase=context.options.reboot_with_passphrase)
    return "; ".join(f"{fault.message}. {fault.remedy}" for fault in faults if fault.level is FindingLevel.BLOCK)


def keep_ended_by_reboot(
    context: MachineContext, findings: tuple[Finding, ...], *, rebooted: bool
) -> tuple[Finding, ...]:
    """Return the findings with what a reboot has ended; without what runs on, or again."""
    if not any(finding.check == REBOOT_LOSS_CHECK for finding in findings):
        return findings
    now: tuple[Finding, ...] = ()
    if rebooted:
        try:
            survey = read_boot_survey(context)
        except FleetpatchError as error:
            return (*findings, _build_unread_finding(error))
        if survey.units_fault:
            return (*findings, *build_unread_losses(survey.units_fault))
        now = find_losses(survey, boot_seconds=None)
    return keep_true_losses(findings, now, rebooted=rebooted)


def _build_unread_finding(error: FleetpatchError) -> Finding:
    message = f"what its next boot needs, and what a reboot ends, could not be read: {error.message}"
    return Finding.warn(
        BOOT_NEEDS_CHECK, message, "Look at it: findmnt --verify; crypttab (Windows: manage-bde -status)"
    )
