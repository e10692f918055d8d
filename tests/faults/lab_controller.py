"""A real controller process for the lab: carries a run, or takes one up, and may kill itself as kill -9 does.

    python -m tests.faults.lab_controller FOLDER begin RUN [STEP]     begin; die when that step begins, or "installing"
    python -m tests.faults.lab_controller FOLDER resume RUN [STEP]

FOLDER holds request.json and the records. A lease lasts fifteen seconds here, so that tests need not wait for a minute.
"""

import os
import signal
import sys
import time
from pathlib import Path

import flows.keeper
from flows.carrying import carry_out, take_up
from flows.context import Caller
from flows.ports import PlainRunner
from flows.request import PatchRequest
from tasks.errors import FleetpatchError, LeaseHeld
from tasks.states import Step
from tasks.steps.context import SilentWatcher

LEASE_SECONDS = 15.0
REFUSED, FAILED = 3, 4
"""Exit codes: somebody carries the run; it ended with another error."""


class Mortal(SilentWatcher):
    """Watches for the moment at which this process is to die."""

    def __init__(self, dies_at: str) -> None:
        self._dies_at = dies_at

    def progress(self, machine: str, step: Step, fraction: float | None, message: str) -> None:
        """Die, when it is so far."""
        begins = fraction == 0.0 and not message and step.value == self._dies_at
        if begins or (self._dies_at == "installing" and message.startswith("installing")):
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)


def main(folder: Path, verb: str, run_id: str, dies_at: str = "") -> int:
    """Do it; return the exit code."""
    flows.keeper.LEASE_SECONDS, flows.keeper.RENEW_SECONDS = LEASE_SECONDS, 1.0
    url = os.environ.get("FLEETPATCH_RECORDS_URL") or f"sqlite:///{folder / 'records.db'}"
    who = Caller(Mortal(dies_at), records_url=url, run_id=run_id)
    try:
        if verb == "begin":
            request = PatchRequest.model_validate_json((folder / "request.json").read_text())
            carry_out(request, who, lambda request, ports: PlainRunner())
        else:
            take_up(run_id, who, lambda request, ports: PlainRunner())
    except LeaseHeld as error:
        sys.stderr.write(f"{error}\n")
        return REFUSED
    except FleetpatchError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *sys.argv[2:]))
