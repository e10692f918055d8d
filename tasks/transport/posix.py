"""How scripts and jobs are put to a POSIX shell, whatever line it is reached through."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Final, Literal, TypeAlias, cast

from pydantic import BaseModel, Field, ValidationError

from tasks.errors import (
    DeadlineExceeded,
    FleetpatchError,
    ManagerBusy,
    PrivilegeError,
    ProtocolViolation,
    RequestError,
    ScriptFailed,
)
from tasks.seams.clock import Clock, Deadline
from tasks.seams.transport import (
    Job,
    JobPhase,
    JobView,
    ParameterValue,
    Script,
    ScriptRecord,
    ScriptResult,
)
from tasks.transport.framing import (
    Decoded,
    Decoder,
    compose,
    compose_job,
    encode_params,
    load_script,
    new_nonce,
    parse_record,
    readable,
)
from tasks.transport.line import Line
from tasks.transport.privilege import AS_LOGIN, Privilege

ScriptSource: TypeAlias = Callable[[str], str]
"""Gives a script's text by its name; raises RequestError when there is none."""

JOB_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,80}")
EVENTS_PIECE: Final = 1024 * 1024
LOG_PIECE: Final = 256 * 1024
# scripts that need functions of another one, put before them
_LIBRARIES: Final[Mapping[str, tuple[str, ...]]] = {
    **dict.fromkeys(("job_start", "job_look", "job_stop", "job_list", "claim", "lock"), ("job_common",)),
    **dict.fromkeys(
        ("reboot_obstacles", "apt_assess", "apt_installed", "apt_job", "restart_services"), ("package_locks",)
    ),
    "reboot": ("job_common", "package_locks"),
    "apt_updaters": ("job_common", "apt_updaters_back"),
}
# scripts that start something on the machine which needs the text of another one, by the parameter that brings it
_TEXTS: Final[Mapping[str, Mapping[str, str]]] = {
    "reboot": {"guard": "package_locks"},
    "apt_updaters": {"undo": "apt_updaters_back"},
}

# by what a refusal says that it is about
_HINTS: Final = {
    "claim": "Nothing was begun. See the run, or the attempt at this one, that has the machine.",
    "room": "Look at the room on its disk, and whether it is mounted read-only.",
}


class _JobRecord(BaseModel):
    id: str
    phase: JobPhase
    exit_code: int | None = None
    attached: bool = False


class _Section(BaseModel):
    kind: Literal["section"]
    name: str
    text: str
    exit_code: int = Field(ge=0, le=255)


def check_job_id(job_id: str) -> str:
    """Return a job's id.

    Raises:
        RequestError: it could not be the name of a directory and a unit everywhere.
    """
    if not JOB_ID.fullmatch(job_id):
        raise RequestError(f"{job_id!r} can't be a job's id", hint="Use 1 to 80 letters, digits, - and _.")
    return job_id


class PosixShell:
    """A machine behind an open line; a Transport without reconnecting (session.py does that).

    Args:
        line: open way to the machine.
        machine: its name, for errors.
        privilege: how its login becomes root.
        clock: for wall times.
        job_root: directory of jobs on the machine; "" for /var/lib/fleetpatch/jobs.
        scripts: gives a script's text by its name.
    """

    def __init__(
        self,
        line: Line,
        *,
        machine: str,
        privilege: Privilege,
        clock: Clock,
        job_root: str = "",
        scripts: ScriptSource = load_script,
    ) -> None:
        self._line = line
        self._machine = machine
        self._privilege = privilege
        self._clock = clock
        self._job_root = job_root
        self._scripts = scripts

    @property
    def open(self) -> bool:
        """Whether another call may be tried on this connection."""
        return self._line.open

    def run(self, script: Script, *, deadline: Deadline) -> ScriptResult:
        """Run a script and wait for its end."""
        began = self._clock.now()
        answer = self._ask(script, deadline)
        return ScriptResult(
            records=tuple(cast("ScriptRecord", readable(record)) for record in answer.records),
            exit_code=answer.exit_code,
            noise=answer.noise,
            seconds=(self._clock.now() - began).total_seconds(),
        )

    def start(self, job: Job, *, deadline: Deadline) -> JobView:
        """Start a job, or attach to it when its id is there already.

        Raises:
            ManagerBusy: another job runs on the machine.
            ScriptFailed: the machine could not start it.
        """
        params: dict[str, ParameterValue] = {
            "id": check_job_id(job.id),
            "label": job.script.name,
            "wrapper": load_script("job_run"),
            "program": compose_job(self._text(job.script.name)),
            "token": encode_params(job.script.params),
        }
        answer = self._ask(Script("job_start", params=params), deadline)
        with self._named():
            for record in answer.records:
                _raise_refusal(record, answer)
            view = _job_record(answer)
        return JobView(job.id, view.phase, exit_code=view.exit_code, attached=view.attached)

    def look(self, job_id: str, *, deadline: Deadline, events_from: int = 0, log_from: int = 0) -> JobView:
        """Look at a job. Of one that is finished, all events from the offset on are there."""
        check_job_id(job_id)
        view, more = self._look(job_id, deadline, events_from, log_from)
        while more and view.phase in {JobPhase.FINISHED, JobPhase.LOST}:
            rest, more = self._look(job_id, deadline, view.events_offset, view.log_offset, log_limit=0)
            view = replace(view, events=view.events + rest.events, events_offset=rest.events_offset)
        return view

    def close(self) -> None:
        """Give the line up. Jobs go on."""
        self._line.close()

    def _look(
        self, job_id: str, deadline: Deadline, events_from: int, log_from: int, *, log_limit: int = LOG_PIECE
    ) -> tuple[JobView, bool]:
        """Return what one look shows, and whether there were more events than fit in it."""
        params = {
            "id": job_id,
            "events_from": str(events_from),
            "events_limit": str(EVENTS_PIECE),
            "log_from": str(log_from),
            "log_limit": str(log_limit),
        }
        answer = self._ask(Script("job_look", params=params), deadline)
        with self._named():
            view = _job_record(answer)
            raw = _section(answer, "events")
            events, events_offset = _whole_lines(raw, events_from)
            log = _section(answer, "log")
        text = log.decode("utf-8", "replace")
        seen = JobView(job_id, view.phase, view.exit_code, events, events_offset, text, log_from + len(log))
        return seen, len(raw) >= EVENTS_PIECE

    def _text(self, name: str) -> str:
        """Return a script with what it needs of others before it."""
        return "\n".join([*map(load_script, _LIBRARIES.get(name, ())), self._scripts(name)])

    def _ask(self, script: Script, deadline: Deadline) -> Decoded:
        with self._named():
            text = self._text(script.name)
            params: dict[str, ParameterValue] = {**script.params}
            if "job_common" in _LIBRARIES.get(script.name, ()):
                params = {"root": self._job_root, **params}
            params |= {name: load_script(other) for name, other in _TEXTS.get(script.name, {}).items()}
            way = self._privilege.way(self._line, deadline=deadline) if script.privileged else AS_LOGIN
            nonce = new_nonce()
            decoder = Decoder(nonce, secret=way.before)
            stdin = way.before + compose(text, params, nonce)
            status = self._line.exchange(way.words, stdin, decoder, deadline=deadline)
            if status == 1 and not decoder.ended and way.by:
                said = " ".join(decoder.noise().split())[-300:]
                raise PrivilegeError(
                    f"{way.by} refused to run a shell: {said}",
                    hint="The login must be allowed to run /bin/sh as root.",
                )
            return decoder.result()

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except FleetpatchError as error:
            error.machine = error.machine or self._machine
            raise


def _raise_refusal(record: ScriptRecord, answer: Decoded) -> None:
    if record["kind"] == "busy":
        raise ManagerBusy(
            f"another job of fleetpatch still runs on the machine: {record.get('holder')} ({record.get('label')})",
            hint="Wait for its end, or attach to the run that started it.",
        )
    if record["kind"] == "refused" and record.get("about") == "unsure":
        raise DeadlineExceeded(
            f"the machine did not say in time whether the job begins: {record.get('why')}",
            hint="It may begin. Ask again: a job is begun once.",
        )
    if record["kind"] == "refused":
        raise ScriptFailed(
            f"the machine could not start the job: {record.get('why')}",
            exit_code=answer.exit_code,
            tail=answer.noise[-2000:],
            hint=_HINTS.get(str(record.get("about")), "Mend that on the machine."),
        )


def _job_record(answer: Decoded) -> _JobRecord:
    for record in answer.records:
        if record["kind"] == "job":
            try:
                return _JobRecord.model_validate(record)
            except ValidationError as error:
                raise ProtocolViolation(f"what the machine says of its job makes no sense: {error}") from error
    raise ProtocolViolation(
        f"the machine said nothing of its job (exit code {answer.exit_code}): {answer.noise[-500:]}"
    )


def _section(answer: Decoded, name: str) -> bytes:
    for record in answer.records:
        if record["kind"] == "section" and record.get("name") == name:
            try:
                section = _Section.model_validate(record)
            except ValidationError as error:
                raise ProtocolViolation(f"the section {name} makes no sense: {error}") from error
            return section.text.encode("utf-8", "surrogateescape")
    return b""


def _whole_lines(data: bytes, offset: int) -> tuple[tuple[ScriptRecord, ...], int]:
    """Return the records of all whole lines, and the offset behind them."""
    end = data.rfind(b"\n") + 1
    if not end and len(data) >= EVENTS_PIECE:
        raise ProtocolViolation(f"an event has more than {EVENTS_PIECE} bytes")
    return tuple(_event(line) for line in data[:end].split(b"\n") if line), offset + end


def _event(line: bytes) -> ScriptRecord:
    # A power cut can leave anything in a file: what can't be read says so, and hides nothing that follows it.
    try:
        return cast("ScriptRecord", readable(parse_record(line)))
    except ValueError:
        return {"kind": "garbled", "text": line[:500].decode("utf-8", "replace")}
