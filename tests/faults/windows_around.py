"""Named faults on Windows machines that have no like on Linux: accounts, quotas, and who else works on a machine."""

import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from tasks.domain.states import RebootState, UpdateState
from tests.faults.controllers import Broken
from tests.faults.lab_cases import ANY, BAD
from tests.faults.windows_case import WindowsCase, all_is_done, expect, state_of, while_installing
from tests.faults.windows_stage import BOOTS, PLAIN, SLOW, WindowsStage
from tests.lab.windows.machine_facts import CRYPTOGRAPHY
from tests.lab.windows.patching import guid
from tests.lab.windows.state import change_state
from tests.lab.windows.wsman_faults import WSManFault

LOCKOUT_THRESHOLD = 5
OTHERS_SECONDS = 15.0


@dataclass
class _Other:
    """Another program that uses WinRM with the same login."""

    ended: threading.Event = field(default_factory=threading.Event)

    def gone(self) -> bool:
        """It waits for its answers."""
        return False


def password_changed(stage: WindowsStage) -> None:
    """Somebody changes the password while an update is installed: it is tried few times, and the account not locked."""
    host = stage.host.served.host
    host.accounts.lockout_threshold = LOCKOUT_THRESHOLD

    def strike() -> None:
        host.accounts.change_password(host.user, "Another pa:ss")
        host.drop_connections()
        stage.fleet.open_gate_when("slow", lambda: host.accounts.wrong_passwords)

    while_installing(stage, strike)
    expect(stage, *BAD)
    if host.accounts.wrong_passwords >= LOCKOUT_THRESHOLD:
        raise Broken(f"a wrong password was sent {host.accounts.wrong_passwords} times: the account is locked")
    if state_of(stage, SLOW)[0] is not UpdateState.PENDING or "refused" not in stage.outcome().reason:
        raise Broken(f"{state_of(stage, SLOW)}: {stage.outcome().reason}")
    stage.fleet.describe("http")  # the new password is in the inventory from here on


def shells_taken(stage: WindowsStage) -> None:
    """WinRM restarts, and another program takes all shells that a login may have: they are waited for."""
    host = stage.host.served.host
    host.shells.quotas.shells = 3

    def strike() -> None:
        host.restart_service()
        taken = []
        with suppress(WSManFault):
            while True:
                taken.append(host.shells.create(host.accounts.accounts[0], {}, {}, None, _Other()))

        def give_back() -> None:
            for shell in taken:
                host.shells.delete(shell)
            stage.host.let_go()

        threading.Timer(OTHERS_SECONDS, give_back).start()

    while_installing(stage, strike)
    all_is_done(stage)


def installed_by_somebody(stage: WindowsStage) -> None:
    """A person installs one of the updates just before the run does: it is not installed again, and told as that."""

    def strike() -> None:
        with change_state(stage.host.served.machine.folder) as state:
            state["updates"][guid(PLAIN)]["installed"] = True

    stage.patch(at="install", then=strike)
    expect(stage, *ANY)
    state, reason = state_of(stage, PLAIN)
    if state is not UpdateState.INSTALLED and "no longer offered" not in reason:
        raise Broken(f"{state}: {reason}")
    if [stage.host.times(number) for number in (SLOW, PLAIN, BOOTS)] != [1, 0, 1]:
        raise Broken("it was installed again, or the others were not")


def other_machine(stage: WindowsStage) -> None:
    """After the reboot another machine answers at the address, as of a cluster: that is no proof of a reboot."""
    known: list[str] = []

    def become(machine: str) -> None:
        with change_state(stage.host.served.machine.folder) as state:
            value = state["registry"][CRYPTOGRAPHY]["values"]["MachineGuid"]
            known.append(value["data"])
            value["data"] = machine

    before = stage.host.boot_id()
    stage.patch(at="going down", then=partial(become, "0b7c1f0e-0000-4000-8000-000000000000"))
    stage.host.wait_reboot(before)
    expect(stage, *BAD)
    if stage.outcome().reboot is not RebootState.FAILED or "another machine" not in stage.outcome().reason:
        raise Broken(f"its reboot is reported as {stage.outcome().reboot}: {stage.outcome().reason}")
    become(known[0])


def cases_around() -> Iterator[tuple[str, WindowsCase]]:
    """Return them by name."""
    yield "password changed / installing", WindowsCase(password_changed)
    yield "all shells taken / installing", WindowsCase(shells_taken)
    yield "installed by a person / install", WindowsCase(installed_by_somebody)
    yield "another machine answers / reboot", WindowsCase(other_machine)
