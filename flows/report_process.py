"""Writes the report of a large run in a process of its own, so that the process of the run stays small.

The libraries for files, and their content, need 150 MiB for 5,000 machines, and stay in memory afterwards. The process
reads the report from the records, where the run has saved it: ``python -P -m flows.report_process``, with what
to write as JSON on its stdin.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from tasks.domain.errors import FleetpatchError, ReportError
from tasks.domain.model import RunInfo, RunReport
from tasks.records.encoding.codec import decode, encode
from tasks.records.queries.history import History
from tasks.records.setup import open_records
from tasks.reports.export.parquet_library import leave_numpy_out

_HINT = "The records have all results: fleetpatch report RUN writes it."


def write_report_apart(
    report: RunReport, directory: Path, formats: Sequence[str], generation: datetime, records_url: str | None
) -> dict[str, Path]:
    """Write a report that was saved, as ``write_report`` does, with the raw output of its jobs.

    Args:
        report: the report.
        directory: the directory of all reports.
        formats: see ``write_report``.
        generation: see ``write_report``.
        records_url: of the records; None: by the settings.

    Raises:
        ReportError: it could not be written so, or the records do not have all of it.
    """
    asked = {
        "run": encode(report.run),
        "machines": [outcome.machine for outcome in report.outcomes],
        "directory": str(directory),
        "formats": list(formats),
        "generation": generation.isoformat(),
        "records": records_url,  # may have a password in it: not in the arguments, which all users see
    }
    command = (sys.executable, "-P", "-m", "flows.report_process")
    try:
        done = subprocess.run(command, input=json.dumps(asked), capture_output=True, text=True, check=False)
    except OSError as error:
        raise ReportError(f"no process could be started to write the report: {error}", hint=_HINT) from error
    if done.returncode != 0:
        reason = done.stderr.strip().rpartition("\n")[2] or f"its process ended with {done.returncode}"
        raise ReportError(f"the report was not written: {reason}", hint=_HINT)
    return {key: Path(path) for key, path in json.loads(done.stdout).items()}


def _write(asked: dict[str, object]) -> dict[str, Path]:
    from tasks.records.automatic.rollouts import read_rollout_progress  # noqa: PLC0415 - not for the process of the run
    from tasks.reports.writer import write_report  # noqa: PLC0415 - the same

    run = decode(RunInfo, str(asked["run"]))
    url = asked["records"]
    with open_records(None if url is None else str(url)) as records:
        history = History(records)
        saved = history.read_report(run.id)
        outcomes, machines = {outcome.machine: outcome for outcome in saved.outcomes}, _read_texts(asked["machines"])
        if lacking := [machine for machine in machines if machine not in outcomes]:
            raise ReportError(f"the records lack {len(lacking)} of {len(machines)} outcomes")
        report = replace(saved, run=run, outcomes=tuple(outcomes[machine] for machine in machines))
        logs = history.open_job_logs(run.id)
        rollout = read_rollout_progress(records.database, report, datetime.now(UTC))
        directory, formats = Path(str(asked["directory"])), _read_texts(asked["formats"])
        return write_report(
            report,
            directory,
            logs,
            formats,
            rollout=rollout,
            generation=datetime.fromisoformat(str(asked["generation"])),
            is_current=lambda: history.is_unchanged(run),
        )


def _read_texts(value: object) -> list[str]:
    return [str(text) for text in value] if isinstance(value, list) else []


def main() -> None:
    """Write what stdin says, and print the paths as JSON."""
    leave_numpy_out()
    try:
        written = _write(json.load(sys.stdin))
    except FleetpatchError as error:
        sys.exit(error.message)
    json.dump({key: str(path) for key, path in written.items()}, sys.stdout)


if __name__ == "__main__":
    main()
