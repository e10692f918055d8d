"""Commands that change something: each is in the audit log before it acts, and again when it has ended."""

import functools
import json
from collections.abc import Callable, Mapping
from typing import Any, Final

import typer
from typer.core import TyperCommand

from fleetpatch.cli.runtime.output import collect_answers

_HIDDEN: Final = frozenset({"records", "as_json", "yes"})
_DONE_CODES: Final = frozenset({0, 3, 4})
"""Exit codes of commands that did what they were asked to do; see fleetpatch/cli/runtime/exit_codes.py."""
IsActing = Callable[[Mapping[str, Any]], bool]


def _acts_without_dry_run(parameters: Mapping[str, Any]) -> bool:
    return not parameters.get("dry_run")


class ActingCommand(TyperCommand):
    """A command that changes something. With ``--dry-run`` it changes nothing, and is not recorded."""

    is_acting: IsActing = staticmethod(_acts_without_dry_run)

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - Typer has its own copy of click, which is private
        """Run the command, and record that."""
        if not self.is_acting(ctx.params):
            return super().invoke(ctx)
        return _invoke_recorded(ctx, functools.partial(super().invoke, ctx))


class DeployingCommand(ActingCommand):
    """A command that changes nothing with ``--check``."""

    is_acting: IsActing = staticmethod(lambda parameters: not parameters.get("check"))


class KeepingCommand(ActingCommand):
    """A command that changes something only if an option says how long something is kept."""

    is_acting: IsActing = staticmethod(
        lambda parameters: any(value is not None for name, value in parameters.items() if name.startswith("keep_"))
    )


def _invoke_recorded(context: typer.Context, invoke: Callable[[], Any]) -> Any:  # noqa: ANN401 - click's
    """Run a command between two entries of the audit log.

    Raises:
        RecordsError: the log can't be written. The command has not begun.
    """
    from flows.composition import read_own_secret
    from flows.notify.audit_forwarding import forward_audit_log
    from flows.ports.audit import record_act
    from flows.ports.caller import read_os_actor
    from tasks.domain.protocols.clock import SystemClock
    from tasks.domain.rows.audit import AuditResult
    from tasks.records.audit.log import SqlAuditLog
    from tasks.records.setup import open_records

    act = context.command_path.partition(" ")[2]
    subject, claimed, detail = _describe(context)
    left: typer.Exit | None = None
    own = open_records(context.params.get("records"), fleet=context.params.get("fleet"))
    with own as records, forward_audit_log(records.database, read_own_secret):
        append = SqlAuditLog(records.database).append
        actor, clock = read_os_actor(claimed), SystemClock()
        with record_act(append, actor, clock, act, subject, detail) as ended, collect_answers() as answers:
            returned = None
            try:
                returned = invoke()
            except typer.Exit as left_early:
                left = left_early
            if left is not None and left.exit_code not in _DONE_CODES:
                ended.result, ended.message = AuditResult.FAILED, f"exit code {left.exit_code}"
            elif answers and not answers[-1]:
                ended.result, ended.message = AuditResult.REFUSED, "declined when asked"
    if left is not None:
        raise left
    return returned


def _describe(context: typer.Context) -> tuple[str, str, str]:
    """Return what a command is about, the name that was claimed with ``--as``, and the options that were given."""
    subject = claimed = ""
    given_options: dict[str, str] = {}
    for parameter in context.command.params:
        name, value = parameter.name or "", context.params.get(parameter.name or "")
        if parameter.param_type_name == "argument":
            subject = subject or str(value or "")
        elif "--as" in parameter.opts:
            claimed = str(value or "")
        elif name not in _HIDDEN and not _is_default(context, name):
            given_options[name] = str(value)
    return subject, claimed, json.dumps(given_options, ensure_ascii=False) if given_options else ""


def _is_default(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is None or source.name == "DEFAULT"
