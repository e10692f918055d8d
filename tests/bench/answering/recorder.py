"""Records what a real lab machine answers while it is patched, for the machines of ``tests.bench.answering.server``.

    python -m tests.bench.answering.recorder tests/bench/answering/apt.json      # needs the lab (root, Debian)

It patches one fresh machine with the defaults of a request, and keeps each question with its answer, and with the
number of jobs that had ended: the same question gets another answer after the installation. Texts that name the machine
become placeholders.
"""

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tasks.machines.transport.session_factory
from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.transport import Job, JobPhase, JobStatus, Script, ScriptResult, Transport
from tests.bench.answering.machine import BOOT, INSTALLATION
from tests.lab.engine import Fleet, outcome_of
from tests.lab.fleet import Lab


class KeptAnswers:
    """A Transport that passes everything on, and keeps questions and answers: those of jobs, too."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._started: dict[str, Job] = {}
        self.answers: list[dict[str, Any]] = []
        self.jobs: list[dict[str, Any]] = []

    def run_script(self, script: Script, *, deadline: Deadline) -> ScriptResult:
        """See Transport."""
        result = self._transport.run_script(script, deadline=deadline)
        kept = {
            **_name(script),
            "ended_jobs": len(self.jobs),
            "parameters": dict(script.params),
            "records": list(result.records),
            "exit_code": result.exit_code,
        }
        if kept not in self.answers:
            self.answers.append(kept)
        return result

    def start_job(self, job: Job, *, deadline: Deadline) -> JobStatus:
        """See Transport."""
        status = self._transport.start_job(job, deadline=deadline)
        self._started[job.id] = job
        return status

    def poll_job(
        self, job_id: str, *, deadline: Deadline, events_from: int = 0, log_from: int = 0, wait_seconds: float = 0.0
    ) -> JobStatus:
        """See Transport."""
        status = self._transport.poll_job(
            job_id, deadline=deadline, events_from=events_from, log_from=log_from, wait_seconds=wait_seconds
        )
        if status.phase is not JobPhase.RUNNING and (job := self._started.pop(job_id, None)) is not None:
            whole = self._transport.poll_job(job_id, deadline=deadline)
            kept = {
                "work": job.script.params["work"],
                "events": list(whole.events),
                "log": whole.log,
                "exit_code": whole.exit_code,
            }
            self.jobs.append({**_name(job.script), **kept})
        return status

    def close(self) -> None:
        """See Transport."""
        self._transport.close()


def _name(script: Script) -> dict[str, Any]:
    return {"script": script.name, "package": script.package}


def record_machine(place: Path) -> dict[str, Any]:
    """Patch a lab machine of its own in a folder, and return what it answered, as JSON data."""
    transports: list[KeptAnswers] = []
    build: Callable[..., Transport] = tasks.machines.transport.session_factory.build_session

    def build_kept(*arguments: Any, **options: Any) -> KeptAnswers:
        transports.append(KeptAnswers(build(*arguments, **options)))
        return transports[-1]

    setattr(tasks.machines.transport.session_factory, "build_session", build_kept)  # noqa: B010 - for the type checker
    with Lab("recorder") as lab:
        (host,) = lab.up(1)
        names = {
            host.sh("cat /proc/sys/kernel/random/boot_id").strip(): BOOT,
            host.sh("cat /etc/machine-id").strip(): INSTALLATION,
        }
        report = Fleet([host], place).patch(reboot="Never", settle_seconds=0, come_back_seconds=0)
        outcome = outcome_of(report, host)
        print(f"{outcome.state}: {outcome.reason}; {len(outcome.updates)} updates", file=sys.stderr)
    (kept,) = transports
    text = json.dumps({"answers": kept.answers, "jobs": kept.jobs})
    for name, placeholder in names.items():
        text = text.replace(name, placeholder)
    return dict(json.loads(text))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        recorded = record_machine(Path(folder))
    Path(sys.argv[1]).write_text(json.dumps(recorded, indent=0) + "\n", encoding="utf-8")
