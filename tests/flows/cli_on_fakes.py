"""The command over a fake fleet whose clock is real: a program to send signals to.

    python -m tests.flows.cli_on_fakes patch '*' --no-prefect --yes

Its two machines each have three updates that take two seconds and a bit each.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import flows.composition
import flows.execution
from fleetpatch.cli.main import main
from flows.ports.caller import Caller
from flows.ports.ports import Ports
from tasks.domain.states import Classification
from tasks.records.setup import open_records
from tests.support.fake_clock import FakeClock
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet

SECONDS = 2.3  # no transaction begins on a whole second, which is when the fake clock lets a job be stopped


class WallClock(FakeClock):
    """Real time behind the fake clock's face, in whole seconds.

    A fake job that is asked to stop is worked out anew. What it wrote so far must come out byte for byte as before,
    and moments with fractions would not.
    """

    def now(self) -> datetime:
        return datetime.now(UTC).replace(microsecond=0)

    def sleep(self, seconds: float) -> None:
        time.sleep(max(0.0, seconds))

    def advance(self, seconds: float) -> None:
        """What fakes pretend to take, they don't take here."""


def fleet() -> SimFleet:
    made = SimFleet(clock=WallClock())
    for name in ("first", "second"):
        packages = [
            FakePackage(f"{name}-{n}", classification=Classification.SECURITY, seconds=SECONDS, group=f"g{n}")
            for n in range(3)
        ]
        made.add(name, packages)
    return made


@contextmanager
def ports(_request: Any, who: Caller) -> Iterator[Ports]:
    with open_records(who.records_url) as records:
        made = fleet().ports()
        yield replace(made, records=records, leases=records.leases, listener=who.listener, stop_token=who.stop_token)


if __name__ == "__main__":
    Path("fleet.yaml").write_text("machines: [{name: first, address: 192.0.2.1}, {name: second, address: 192.0.2.2}]\n")
    for module in (flows.execution, flows.composition):
        setattr(module, "open_ports", ports)  # noqa: B010 - the type checker is right, and this is on purpose
    sys.exit(main())
