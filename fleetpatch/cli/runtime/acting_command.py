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


class ActingCommand(TyperCommand):
    """A command that changes something. With ``--dry-run`` or ``--check`` it changes nothing, and is not recorded."""

    def is_acting(self, options: Mapping[str, Any]) -> bool:
        """Whether a call with these options changes something."""
        return not (options.get("dry_run") or options.get("check"))

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - Typer has its own copy of click, which is private
        """Run the command, and record that."""
        if not self.is_acting(ctx.params):
            return super().invoke(ctx)
        return _invoke_recorded(ctx, functools.partial(super().invoke, ctx))


class KeepingCommand(ActingCommand):
    """A command that changes something only if an option says how long something is kept."""

    def is_acting(self, options: Mapping[str, Any]) -> bool:
        """Whether a call with these options changes something."""
        return any(value is not None for name, value in options.items() if name.startswith("keep_"))


def _invoke_recorded(context: typer.Context, invoke: Callable[[], Any]) -> Any:  # noqa: ANN401 - click's
    """Run a command between two entries of the audit log. RecordsError: it can't be written, and nothing has begun."""
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
    exit_request: typer.Exit | None = None
    own_records = open_records(context.params.get("records"), fleet=context.params.get("fleet"))
    with own_records as records, forward_audit_log(records.database, read_own_secret):
        append = SqlAuditLog(records.database).append
        actor, clock = read_os_actor(claimed), SystemClock()
        with record_act(append, actor, clock, act, subject, detail) as ended, collect_answers() as answers:
            returned = None
            try:
                returned = invoke()
            except typer.Exit as request:
                exit_request = request
            if exit_request is not None and exit_request.exit_code not in _DONE_CODES:
                ended.result, ended.message = AuditResult.FAILED, f"exit code {exit_request.exit_code}"
            elif answers and not answers[-1]:
                ended.result, ended.message = AuditResult.REFUSED, "declined when asked"
    if exit_request is not None:
        raise exit_request
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
        elif name not in _HIDDEN:
            source = context.get_parameter_source(name)
            if source is not None and source.name != "DEFAULT":
                given_options[name] = str(value)
    return subject, claimed, json.dumps(given_options, ensure_ascii=False) if given_options else ""
