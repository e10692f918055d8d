"""The broker on a real machine, behind a real sudo that allows nothing else."""

import logging
import time
from dataclasses import replace

import pytest

from inventory.credentials import resolve_credential
from inventory.machine import HostKeySettings, Inventory, PrivilegeMethod
from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.transport import Script
from tasks.machines.transport.broker.signing import build_installer
from tasks.machines.transport.session import Session
from tasks.machines.transport.session_factory import build_session
from tests.lab.fleet import LabError, LabHost
from tests.lab.test_ssh import CLOCK, machine_of

logger = logging.getLogger(__name__)
SCRIPTS = 3


def open_session(host: LabHost, method: PrivilegeMethod) -> Session:
    machine = replace(machine_of(host), privilege=method)
    inventory = Inventory((machine,), HostKeySettings(known_hosts=host.known_hosts))
    return build_session(machine, inventory, clock=CLOCK, resolve_credential=resolve_credential)


def measure(session: Session) -> float:
    """Return how long one privileged script takes on average, in seconds."""
    script = Script("facts", privileged=True)
    session.run_script(script, deadline=Deadline.after(CLOCK, 60))
    began = time.monotonic()
    for _ in range(SCRIPTS):
        session.run_script(script, deadline=Deadline.after(CLOCK, 60))
    return (time.monotonic() - began) / SCRIPTS


def test_a_login_that_may_only_call_the_broker_is_enough(host: LabHost) -> None:
    """Measured on the way: `--log-cli-level=INFO` shows what one script costs by sudo, and by the broker."""
    plain = open_session(host, PrivilegeMethod.SUDO)
    by_sudo = measure(plain)
    plain.close()
    installer = build_installer(host.name, "patch")
    (host.root / "root/install.sh").write_text(installer)
    host.sh("sh /root/install.sh && printf 'pwsudo ALL=(ALL) ALL\\n' >/etc/sudoers.d/lab", root=True)
    with pytest.raises(LabError):
        host.sh("sudo -n id")
    with pytest.raises(LabError):
        host.sh("echo id | sudo -n /usr/local/sbin/fleetpatch-broker")
    with pytest.raises(LabError):
        host.sh("sudo -n /usr/local/sbin/fleetpatch-broker -c id")
    session = open_session(host, PrivilegeMethod.BROKER)
    by_broker = measure(session)
    logger.info("one script: %.0f ms by sudo, %.0f ms by the broker", by_sudo * 1000, by_broker * 1000)
    answer = session.run_script(Script("privilege"), deadline=Deadline.after(CLOCK, 60))
    session.close()
    assert [record["uid"] for record in answer.records if record["kind"] == "privilege"] == [0]
    assert by_broker < by_sudo + 2
