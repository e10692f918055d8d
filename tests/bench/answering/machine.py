"""A machine that answers scripts from a recording, and knows what it was told: its lock, its jobs, its installation.

The recording is of one real machine (``recorder.py``). What follows from the orders of a run is answered anew: jobs,
the machine lock, the clock, and the ids by which machines are told apart. Everything else is what the real machine has
said after as many jobs.
"""

import base64
import hashlib
import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tasks.domain.protocols.transport import SHARED_SCRIPTS, Script
from tasks.machines.transport.posix_shell import build_job_program
from tasks.machines.transport.script_library import compose_script

INSTALLATION: Final = "@installation@"
BOOT: Final = "@boot@"
"""Stand for the ids of the machine and of its boot in a recording."""
APT: Final = Path(__file__).with_name("apt.json")
_COMPUTED: Final = ("job_start", "job_look", "job_list", "machine_lock", "lock", "privilege")
_TIMES: Final = ("at", "lists_at")
_INPUT: Final = re.compile(
    rb"\A\{\nfp_mark=(?P<mark>\S+) FP_TOKEN=(?P<token>\S+)\n\(\n(?P<program>.*)\)\nfp_code=", re.DOTALL
)
Record = dict[str, Any]
Parameters = Mapping[str, Any]


class Unasked(LookupError):
    """The recording has no answer to a question."""


def _identify(program: str) -> str:
    return hashlib.sha256(program.encode()).hexdigest()


class Recording:
    """What a real machine has answered, by the text of the question."""

    def __init__(self, path: Path = APT) -> None:
        recorded = json.loads(path.read_text(encoding="utf-8"))
        self._answers: Sequence[Mapping[str, Any]] = recorded["answers"]
        self._jobs: Sequence[Mapping[str, Any]] = recorded["jobs"]
        named = {(each["script"], each["package"]) for each in (*self._answers, *self._jobs)}
        named |= {(name, SHARED_SCRIPTS) for name in _COMPUTED}
        self._names: Mapping[str, str] = {
            _identify(build_job_program(compose_script(Script(name, package=package)))): name for name, package in named
        }

    def name_script(self, program: str) -> str:
        """Return the name of a script by its whole text. Unasked: it is none of the recording."""
        try:
            return self._names[_identify(program)]
        except KeyError:
            raise Unasked(f"a script that was not recorded: {program[-300:]}") from None

    def find_answer(self, name: str, parameters: Parameters, ended_jobs: int) -> Mapping[str, Any]:
        """Return the answer to a question after so many jobs: that with most of the parameters."""
        same = [each for each in self._answers if each["script"] == name]
        same = [each for each in same if each["ended_jobs"] == ended_jobs] or same
        if not same:
            raise Unasked(f"no answer of {name} was recorded")

        def count_equal(answer: Mapping[str, Any]) -> int:
            return sum(parameters.get(key) == value for key, value in answer["parameters"].items())

        return max(same, key=count_equal)

    def find_job(self, name: str, work: str) -> Mapping[str, Any]:
        """Return what a job has written."""
        for job in self._jobs:
            if (job["script"], job["work"]) == (name, work):
                return job
        raise Unasked(f"no job of {name} for {work} was recorded")


@dataclass
class StartedJob:
    """A job that was started, and what it will have written at its end."""

    recorded: Mapping[str, Any]
    label: str
    began: float
    ends: float
    events: bytes

    @property
    def is_running(self) -> bool:
        return time.time() < self.ends

    def describe(self, job_id: str) -> Record:
        """Return the record ``job`` of it."""
        state: Record = {"phase": "running", "exit_code": None, "began": int(self.began), "ended": None}
        if not self.is_running:
            state |= {"phase": "finished", "exit_code": self.recorded["exit_code"], "ended": int(self.ends)}
        return {"kind": "job", "id": job_id, **state}


@dataclass
class AnsweringMachine:
    """One machine.

    Attributes:
        job_seconds: how long its jobs take.
        installs: how many installations it was told to begin.
        began: when it was started.
    """

    number: int
    recording: Recording
    job_seconds: float = 1.0
    installs: int = 0
    began: float = field(default_factory=lambda: time.time() - 600)
    jobs: dict[str, StartedJob] = field(default_factory=dict)
    lock: Record = field(default_factory=dict)

    def answer(self, stdin: bytes) -> bytes:
        """Return what a shell with this input writes to its stdout.

        Raises:
            Unasked: the recording has no answer.
        """
        asked = _INPUT.match(stdin)
        if asked is None:
            raise Unasked(f"no input of fleetpatch: {stdin[:200]!r}")
        parameters = json.loads(base64.b64decode(asked["token"]))
        name = self.recording.name_script(asked["program"].decode())
        compute = getattr(self, f"_answer_{name}", None)
        if compute is not None:
            records, code = compute(parameters), 0
        else:
            ended = sum(not job.is_running for job in self.jobs.values())
            recorded = self.recording.find_answer(name, parameters, ended)
            records, code = self._make_own(recorded["records"]), recorded["exit_code"]
        mark = asked["mark"].decode()
        lines = [f"{mark}= {json.dumps(record)}" for record in records]
        return "\n".join([*lines, "", f"{mark}! {code}", ""]).encode()

    def _make_own(self, records: Sequence[Record]) -> list[Record]:
        """Return records with the ids of this machine and the time of now."""
        text = json.dumps(records).replace(INSTALLATION, f"{self.number:032x}").replace(BOOT, f"boot-{self.number}")
        now = time.time()
        moved = {"uptime": now - self.began, "epoch": now, **dict.fromkeys(_TIMES, int(now))}
        return [{key: moved.get(key, value) for key, value in record.items()} for record in json.loads(text)]

    def _answer_job_start(self, parameters: Parameters) -> list[Record]:
        job_id = parameters["id"]
        is_attached = job_id in self.jobs
        if not is_attached:
            work = json.loads(base64.b64decode(parameters["token"]))["work"]
            recorded = self.recording.find_job(self.recording.name_script(parameters["program"]), work)
            if running := [key for key, job in self.jobs.items() if job.is_running]:
                job = self.jobs[running[0]]
                return [
                    {"kind": "busy", "id": job_id, "holder": running[0], "began": int(job.began), "label": job.label}
                ]
            now = time.time()
            lines = "".join(f"{json.dumps(event)}\n" for event in self._make_own(recorded["events"]))
            self.jobs[job_id] = StartedJob(recorded, parameters["label"], now, now + self.job_seconds, lines.encode())
            self.installs += work == "install"
        return [{**self.jobs[job_id].describe(job_id), "attached": is_attached, "runner": "systemd"}]

    def _answer_job_look(self, parameters: Parameters) -> list[Record]:
        job_id = parameters["id"]
        job = self.jobs.get(job_id)
        if job is None:
            return [{"kind": "job", "id": job_id, "phase": "absent", "exit_code": None, "began": None, "ended": None}]
        records = [job.describe(job_id)]
        for name, content in (("events", job.events), ("log", job.recorded["log"].encode())):
            first, limit = int(parameters[f"{name}_from"]), int(parameters[f"{name}_limit"])
            piece = b"" if job.is_running else content[first : first + limit]
            text = piece.decode(errors="surrogateescape")
            records.append({"kind": "section", "name": name, "text": text, "exit_code": 0, "stderr": ""})
        return records

    def _answer_job_list(self, _parameters: Parameters) -> list[Record]:
        return [{**job.describe(job_id), "label": job.label} for job_id, job in self.jobs.items()]

    def _answer_machine_lock(self, parameters: Parameters) -> list[Record]:
        run = parameters["run"]
        if parameters.get("release"):
            self.lock = {} if self.lock.get("run") == run else self.lock
            return [{"kind": "released", "run": run}]
        if self.lock and self.lock["run"] != run and self.lock["until"] > time.time():
            return [{"kind": "taken", **self.lock, "job": "", "ending": False}]
        until, attempt = int(parameters["until"]), int(parameters["attempt"])
        self.lock = {"run": run, "by": parameters["by"], "until": until, "attempt": attempt}
        return [{"kind": "locked", "run": run, "until": until, "attempt": attempt, "preempted": ""}]

    def _answer_lock(self, _parameters: Parameters) -> list[Record]:
        none = {"run": "", "by": "", "until": 0, "attempt": 0}
        idle = {"job": "", "label": "", "began": None, "now": int(time.time())}
        return [{"kind": "lock", **(self.lock or none), **idle}]

    def _answer_privilege(self, _parameters: Parameters) -> list[Record]:
        said = {"sudo_said": "", "doas": "absent", "doas_said": ""}
        return [{"kind": "privilege", "uid": 1000, "user": "patch", "sudo": "yes", "terminal": False, **said}]
