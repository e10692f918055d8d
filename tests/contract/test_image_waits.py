"""What image_job.sh stages after another process has changed deployments while it waited."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from inventory.machine import Inventory
from tasks.domain.protocols.transport import Transport
from tasks.machines.transport.session_factory import build_session
from tests.contract.image_host import ImageHost
from tests.contract.test_image_managers import CLOCK, MACHINE, run_job

LEAVES = {"another": f'echo "sha256:{"9" * 64}" >offered', "nothing to tell": ": >offered"}


@pytest.fixture
def transport(tmp_path: Path) -> Iterator[Transport]:
    with build_session(MACHINE, Inventory((MACHINE,)), clock=CLOCK, job_root=str(tmp_path / "own/jobs")) as session:
        yield session


@pytest.mark.parametrize(("left", "cause", "seconds"), [("another", "gone", 60), ("nothing to tell", "lock", 12)])
@pytest.mark.parametrize("family", ["bootc", "rpm-ostree"])
def test_what_another_process_has_fetched_meanwhile_is_not_staged(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    transport: Transport,
    *,
    family: str,
    left: str,
    cause: str,
    seconds: float,
) -> None:
    host = ImageHost(family, tmp_path, monkeypatch)
    busy = "echo 'error: Transaction in progress: deploy'"
    host.on("upgrade", f"[ -e tried ] || {{ touch tried; {LEAVES[left]}; {busy}; exit 1; }}")
    status = run_job(host, transport, seconds=seconds)
    (ended,) = [event for event in status.events if event["kind"] == "transaction_ended"]
    assert (ended["cause"], host.phase) == (cause, "old")
