"""doctor --trust: unknown host keys are shown and learned after a question, changed ones never."""

import json
import stat
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fleetpatch.cli.app import app
from fleetpatch.cli.commands import doctor
from flows.ports.caller import Actor
from flows.trust import TRUST_ACT, trust_host_keys
from inventory.known_hosts import PinnedKey
from inventory.machine import HostKeyPolicy, HostKeySettings, Inventory, Machine
from tasks.domain.errors import RequestError
from tasks.domain.rows.audit import AuditEntry, AuditResult
from tasks.machines.transport.ssh.host_key_trust import HostKeyTrust, ShownHostKey
from tasks.records.audit.log import SqlAuditLog
from tasks.records.setup import open_records
from tests.contract.ssh_world import GREET, World, soon
from tests.support.ssh_server import new_key

__all__ = ["doctor"]  # its import adds the command
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


def trust(world: World, *machines: Machine, choose=lambda unknown: unknown, known_hosts: Path | None = None):
    """Return what is shown, and the entries of the audit log."""
    entries: list[AuditEntry] = []
    known_hosts = known_hosts or world.known_hosts
    inventory = Inventory((*machines, *world.machines), HostKeySettings(world.policy, known_hosts))
    groups = trust_host_keys(
        machines, inventory, choose, entries.append, Actor("ann", "os"), at_once=5, detail="a person was asked"
    )
    shown: list[ShownHostKey] = [key for group in groups for key in group]
    return {key.machine: key for key in shown}, entries


def test_an_unknown_key_is_learned_only_if_it_is_chosen(world):
    server = world.server(pinned=False)
    asked: list[ShownHostKey] = []

    def choose_none(unknown):
        asked.extend(unknown)
        return ()

    shown, entries = trust(world, world.machine(server), choose=choose_none)
    assert shown["m"].state is HostKeyTrust.UNKNOWN
    fingerprint = PinnedKey("", server.host_key.get_base64()).fingerprint
    assert [key.fingerprint for key in asked] == [f"ED25519 {fingerprint}"]
    assert not world.known_hosts.exists()
    assert entries == []
    shown, entries = trust(world, world.machine(server))
    assert shown["m"].state is HostKeyTrust.TRUSTED
    assert world.known_hosts.read_text().startswith(f"[127.0.0.1]:{server.port} ssh-ed25519 ")
    assert [(entry.act, entry.subject, entry.result) for entry in entries] == [
        (TRUST_ACT, "m", AuditResult.BEGUN), (TRUST_ACT, "m", AuditResult.DONE),
    ]  # fmt: skip
    assert fingerprint in entries[0].detail
    assert "a person was asked" in entries[0].detail
    assert server.logins == []
    assert world.session(server).run_script(GREET, deadline=soon()).exit_code == 7
    shown, entries = trust(world, world.machine(server))
    assert (shown["m"].state, entries) == (HostKeyTrust.TRUSTED, [])


def test_a_changed_key_is_shown_with_both_fingerprints_and_never_replaced(world, tmp_path):
    server = world.server(pinned=False)
    other = new_key(tmp_path / "other")
    world.pin(server, other)
    before = world.known_hosts.read_bytes()
    shown, entries = trust(world, world.machine(server))
    assert shown["m"].state is HostKeyTrust.CHANGED
    for key in (other, server.host_key):
        assert PinnedKey("", key.get_base64()).fingerprint in shown["m"].message
    assert "ssh-keygen -R" in shown["m"].hint
    assert (world.known_hosts.read_bytes(), entries) == (before, [])


def test_a_jump_host_is_trusted_before_the_machine_behind_it_is_asked(world):
    bastion, target = world.server(pinned=False), world.server(pinned=False)
    world.machines = (world.machine(bastion, "bastion"),)
    machine = world.machine(target, jump=("bastion",))
    asked: list[str] = []

    def choose_none(unknown):
        asked.extend(key.machine for key in unknown)
        return ()

    shown, _ = trust(world, machine, choose=choose_none)
    assert asked == ["bastion"]
    assert (shown["m"].state, shown["m"].key) == (HostKeyTrust.UNREAD, None)
    assert "bastion" in shown["m"].message
    shown, _ = trust(world, machine)
    assert {key.state for key in shown.values()} == {HostKeyTrust.TRUSTED}
    assert target.logins == []


def test_in_the_users_own_file_names_are_hashed_where_ssh_does(world, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    server = world.server(pinned=False)
    folder = tmp_path / "bin"
    folder.mkdir()
    ssh = folder / "ssh"
    ssh.write_text("#!/bin/sh\necho hashknownhosts yes\n")
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    world.known_hosts = None
    trust(world, world.machine(server))
    written = tmp_path / ".ssh" / "known_hosts"
    assert written.read_text().startswith("|1|")
    assert stat.S_IMODE(written.stat().st_mode) == 0o600
    find = ["ssh-keygen", "-F", f"[127.0.0.1]:{server.port}", "-f", str(written)]
    found = subprocess.run(find, capture_output=True, text=True, check=True)
    assert server.host_key.get_base64() in found.stdout
    shown, _ = trust(world, world.machine(server))
    assert shown["m"].state is HostKeyTrust.TRUSTED


def test_what_has_no_host_key_to_trust(world):
    server = world.server(pinned=False)
    with pytest.raises(RequestError, match="reached by SSH"):
        trust(world, replace(world.machine(server), transport="local"))
    world.policy = HostKeyPolicy.CA
    with pytest.raises(RequestError, match="policy ca"):
        trust(world, world.machine(server))


@pytest.fixture
def command(world, tmp_path, monkeypatch):
    """`command(*words, answers=…)` runs doctor on one machine with an unknown key, and one that is off."""
    server, off = world.server(pinned=False), world.server(pinned=False)
    off.close()
    inventory = tmp_path / "fleet.yaml"
    machines = [
        {"name": name, "address": "127.0.0.1", "port": each.port} for name, each in (("web", server), ("off", off))
    ]
    inventory.write_text(json.dumps({"host_keys": {"known_hosts": "known_hosts"}, "machines": machines}))

    def run(*words: str, answers: str | None = None):
        monkeypatch.setattr("fleetpatch.cli.views.trust.can_ask", lambda: answers is not None)
        url = f"sqlite:///{tmp_path / 'records.db'}"
        return CliRunner().invoke(app, ["doctor", *words, "-i", str(inventory), "--records", url], input=answers)

    return run


def test_the_command_asks_and_is_audited(command, world, tmp_path):
    refused = command("web", "--trust")
    assert isinstance(refused.exception, RequestError)
    assert "--trust-all" in refused.exception.hint
    assert command("web", "--trust", answers="n\n").exit_code == 1
    assert not world.known_hosts.exists()
    asked = command("web", "--trust", answers="y\n")
    assert asked.exit_code == 0
    assert "Trust web ([127.0.0.1]:" in asked.output
    assert "The host keys of 1 of 1 machine are trusted." in asked.output
    with open_records(f"sqlite:///{tmp_path / 'records.db'}") as records:
        entries = list(SqlAuditLog(records.database).iterate())
    assert [(entry.act, entry.subject) for entry in entries] == [(TRUST_ACT, "web")] * 2


def test_without_a_question_all_unknown_keys_are_learned_and_that_is_recorded(command, tmp_path):
    done = command("--trust-all", "--json")
    assert done.exit_code == 1  # one is off
    rows = {row["machineName"]: row for row in json.loads(done.stdout)["hostKeys"]}
    assert (rows["web"]["state"], rows["web"]["learned"]) == ("trusted", True)
    assert rows["off"]["state"] == "unread"
    assert "refuses connections" in rows["off"]["message"]
    with open_records(f"sqlite:///{tmp_path / 'records.db'}") as records:
        assert "nobody was asked" in next(iter(SqlAuditLog(records.database).iterate())).detail
    assert isinstance(command("--trust-all", "--server").exception, RequestError)
