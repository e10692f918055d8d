"""A bundle of `fleetpatch doctor --record`, and a machine that answers from it.

What a machine is asked a second time gets the second answer, if there is one. Questions that changed since the bundle
was recorded (other parameters) get the answer to the same script. `python -m tests.support.bundles FOLDER` writes what
a bundle means to its wanted.json.
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import tasks.domain.errors
from tasks.domain.errors import FleetpatchError, JobLost, ScriptFailed
from tasks.domain.model import Facts, PackageState
from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.transport import Job, JobPhase, JobStatus, Script, ScriptResult
from tasks.machines.managers.registry import find_manager
from tasks.steps.machine.facts import parse_findings, read_facts
from tasks.steps.machine.package_state import query_packages
from tests.support.fake_clock import FakeClock
from tests.unit.managers.recordings import describe


@dataclass(frozen=True)
class Answer:
    """What one script was asked, and its answer: a result or an error."""

    script: str
    parameters: Mapping[str, Any]
    as_job: bool
    result: ScriptResult | None
    error: FleetpatchError | None


@dataclass(frozen=True)
class Bundle:
    """A recording. ``about`` is its bundle.json."""

    folder: Path
    about: Mapping[str, Any]
    answers: tuple[Answer, ...]

    @classmethod
    def read(cls, folder: Path) -> "Bundle":
        about = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
        return cls(folder, about, tuple(_read_answer(folder, each) for each in about["scripts"]))

    @property
    def recorded_at(self) -> datetime:
        return datetime.fromisoformat(self.about["recorded_at"])


def _read_answer(folder: Path, described: Mapping[str, Any]) -> Answer:
    result = error = None
    if described["file"] is not None:
        records = json.loads((folder / described["file"]).read_text(encoding="utf-8"))
        result = ScriptResult(tuple(records), described["exit_code"], described["other_output"])
    else:
        error = _build_error(described["error"])
    parameters = {k: v if isinstance(v, str) else tuple(v) for k, v in described["parameters"].items()}
    return Answer(described["script"], parameters, described["as_job"], result, error)


def _build_error(described: Mapping[str, str]) -> FleetpatchError:
    kind = getattr(tasks.domain.errors, described["kind"], None)
    if kind is ScriptFailed:
        return ScriptFailed(described["message"], exit_code=-1, hint=described["hint"])
    if not (isinstance(kind, type) and issubclass(kind, FleetpatchError)):
        raise TypeError(f"{described['kind']} is no error of fleetpatch")
    return kind(described["message"], hint=described["hint"])


class ReplayedMachine:
    """A Transport that answers from a bundle."""

    def __init__(self, bundle: Bundle) -> None:
        self._answers = bundle.answers
        self._given: set[int] = set()
        self._jobs: dict[str, ScriptResult] = {}

    def run_script(self, script: Script, *, deadline: Deadline) -> ScriptResult:
        return self._answer(script, as_job=False)

    def start_job(self, job: Job, *, deadline: Deadline) -> JobStatus:
        assert job.reads, "a recording can't be changed"
        self._jobs[job.id] = self._answer(job.script, as_job=True)
        return JobStatus(job.id, JobPhase.RUNNING)

    def poll_job(
        self, job_id: str, *, deadline: Deadline, events_from: int = 0, log_from: int = 0, wait_seconds: float = 0.0
    ) -> JobStatus:
        result = self._jobs[job_id]
        return JobStatus(job_id, JobPhase.FINISHED, result.exit_code, result.records, log=result.unframed_output)

    def close(self) -> None:
        pass

    def _answer(self, script: Script, *, as_job: bool) -> ScriptResult:
        same = [i for i, each in enumerate(self._answers) if each.script == script.name and each.as_job == as_job]
        same = [i for i in same if self._answers[i].parameters == dict(script.params)] or same
        if not same:
            raise JobLost(f"the bundle has no answer of {script.name}")
        index = next((i for i in same if i not in self._given), same[-1])
        self._given.add(index)
        answer = self._answers[index]
        if answer.error is not None:
            raise answer.error
        assert answer.result is not None
        return answer.result


def play(bundle: Bundle) -> tuple[Facts, PackageState]:
    """Read the facts and the packages of a recorded machine, as an assessment does, at the time of the recording."""
    machine, clock = ReplayedMachine(bundle), FakeClock(bundle.recorded_at)
    deadline = Deadline.after(clock, 3600)
    facts = read_facts(machine, clock, deadline)
    manager = find_manager(facts)
    packages = query_packages(manager, machine, clock, facts, refresh=_was_refreshed(bundle), deadline=deadline)
    for answer in bundle.answers:
        if manager.health_script and answer.script == manager.health_script.name and answer.result is not None:
            parse_findings(answer.result)
    return facts, packages


def _was_refreshed(bundle: Bundle) -> bool:
    return any(answer.parameters.get("refresh") for answer in bundle.answers)


def summarize(bundle: Bundle) -> dict[str, Any]:
    """What a recorded machine is, in the form of `wanted.json`: without what is computed from its clock and ids."""
    facts, packages = play(bundle)
    facts = replace(facts, clock_skew_seconds=0.0, instance_id="")
    return {"facts": describe(facts), "packages": describe(packages)}


if __name__ == "__main__":
    place = Path(sys.argv[1])
    (place / "wanted.json").write_text(json.dumps(summarize(Bundle.read(place)), indent=1) + "\n", encoding="utf-8")
