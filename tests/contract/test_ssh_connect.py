"""SSH against a small server on the loopback network: every fault becomes one error of ours, and none is hidden."""

from dataclasses import replace

import pytest

from inventory.credentials import Credential, CredentialKind, Secret
from inventory.host_key_store import HostKeyStore
from inventory.machine import HostKeyPolicy
from tasks.domain.errors import (
    AuthenticationFailed,
    ConnectionLost,
    CredentialError,
    DeadlineExceeded,
    HostKeyMismatch,
    HostKeyUnknown,
    TransportError,
    Unreachable,
)
from tasks.machines.transport.ssh.private_keys import load_private_key
from tasks.machines.transport.ssh.restricted_transport import RestrictedTransport
from tests.contract.ssh_world import CLOCK, GREET, soon
from tests.support.ssh_server import PASSWORD, new_key

# paramiko's threads, of the client and of the server, may raise when the other side was quicker to hang up
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


def test_a_script_runs_with_pinned_algorithms_and_plain_words(world):
    server = world.server()
    result = world.session(server).run_script(GREET, deadline=soon())
    assert result.exit_code == 7
    assert server.commands == ["/bin/sh -s"]


def test_a_held_connection_is_used_again_and_replaced_when_it_was_cut(world):
    server = world.server()
    session = world.session(server)
    session.run_script(GREET, deadline=soon())
    session.run_script(GREET, deadline=soon())
    assert server.accepted == 1
    assert session._connection._channel._transport.sock.gettimeout() == 1.0  # while idle it wakes seldom
    server.cut()
    assert session.run_script(GREET, deadline=soon()).exit_code == 7
    assert server.accepted == 2


def test_a_line_that_is_dropped_before_the_greeting_is_tried_three_times(world):
    server = world.server(drops=2)
    assert world.session(server).run_script(GREET, deadline=soon()).exit_code == 7
    assert server.accepted == 3
    server.drops = 99
    with pytest.raises(Unreachable, match="closed before the login") as caught:
        world.session(server).run_script(GREET, deadline=soon())
    assert server.accepted == 6
    assert caught.value.machine == "m"
    assert caught.value.transient


def test_a_machine_that_is_off_is_said_to_refuse_connections_and_not_to_drop_a_line(world):
    server = world.server()
    server.close()
    with pytest.raises(Unreachable, match=f"127.0.0.1 refuses connections on port {server.port}$") as caught:
        world.session(server).run_script(GREET, deadline=soon())
    assert "Is it up" in caught.value.hint
    assert caught.value.machine == "m"


def test_a_server_that_says_nothing_ends_at_the_deadline(world):
    server = world.server(silent=True)
    with pytest.raises(DeadlineExceeded):
        world.session(server).run_script(GREET, deadline=soon(1.0))


def test_a_command_that_is_never_answered_ends_at_the_deadline(world):
    server = world.server(deaf=True)
    began = CLOCK.now()
    with pytest.raises(DeadlineExceeded) as caught:
        world.session(server).run_script(GREET, deadline=soon(1.0))
    assert (CLOCK.now() - began).total_seconds() < 20
    assert caught.value.machine == "m"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize(
    ("switches", "words", "limit"),
    [
        ({"silent": True}, "sends no greeting within 1 s", "connection.GREETING_TIMEOUT_SECONDS"),
        ({"silent_after": "greeting"}, "greets, and does not go on within 1 s", "connection.KEYS_TIMEOUT_SECONDS"),
        ({"silent_after": "keys"}, "does not answer the login within 1 s", "authentication.LOGIN_TIMEOUT_SECONDS"),
        ({"deaf": True}, "does not begin the command within 1 s", "channel.START_TIMEOUT_SECONDS"),
    ],
)
def test_a_server_that_falls_silent_is_waited_for_once_and_says_where(world, monkeypatch, switches, words, limit):
    monkeypatch.setattr(f"tasks.machines.transport.ssh.{limit}", 1.0)
    monkeypatch.setenv("PATCH_PASSWORD", PASSWORD)
    server = world.server(**switches)
    began = CLOCK.now()
    with pytest.raises(Unreachable, match=words) as caught:
        world.session(server, credential="env:PATCH_PASSWORD").run_script(GREET, deadline=soon())
    assert (CLOCK.now() - began).total_seconds() < 4
    assert server.accepted == 1
    assert caught.value.machine == "m"
    assert caught.value.hint


def test_nobody_there_is_unreachable(world):
    server = world.server()
    server.close()
    with pytest.raises(Unreachable):
        world.session(server).run_script(GREET, deadline=soon())
    with pytest.raises(Unreachable, match="can't be resolved"):
        world.session(server, address="no-such-host.invalid").run_script(GREET, deadline=soon())


def test_what_only_reads_is_asked_again_when_the_line_is_cut(world):
    server = world.server(cuts=1)
    assert world.session(server).run_script(GREET, deadline=soon()).exit_code == 7
    assert len(server.commands) == 2


def test_what_changes_something_is_never_sent_twice(world):
    server = world.server(cuts=1)
    with pytest.raises(ConnectionLost):
        world.session(server).run_script(replace(GREET, read_only=False), deadline=soon())
    assert len(server.commands) == 1


def test_another_host_key_is_a_mismatch_and_no_login_is_tried(world, tmp_path):
    server = world.server(pinned=False)
    world.pin(server, new_key(tmp_path / "other"))
    with pytest.raises(HostKeyMismatch, match="but pinned is ssh-ed25519 SHA256:") as caught:
        world.session(server).run_script(GREET, deadline=soon())
    assert (server.logins, server.accepted) == ([], 1)
    assert "ssh-keygen -R" in caught.value.hint
    assert not caught.value.transient


def test_a_copy_shows_the_host_key_of_its_original_and_no_other(world, tmp_path):
    original, copy = world.server(), world.server(pinned=False)
    own = ("127.0.0.1", original.port)
    with pytest.raises(HostKeyMismatch, match="but pinned is ssh-ed25519 SHA256:"):
        world.session(copy, host_keys_of=own).run_script(GREET, deadline=soon())
    assert copy.logins == []
    world.pin(copy, copy.host_key)
    world.known_hosts.write_text(world.known_hosts.read_text().replace(f":{copy.port} ", ":1 "))
    world.session(copy, host_keys_of=("127.0.0.1", 1)).run_script(GREET, deadline=soon())
    assert len(copy.logins) == 1


def test_an_unknown_host_key_shows_the_line_that_would_pin_it(world):
    server = world.server(pinned=False)
    with pytest.raises(HostKeyUnknown) as caught:
        world.session(server).run_script(GREET, deadline=soon())
    assert server.logins == []
    with world.known_hosts.open("a") as file:
        file.write(caught.value.hint.rpartition(": ")[2] + "\n")
    assert "fleetpatch doctor m --trust" in caught.value.hint
    assert world.session(server).run_script(GREET, deadline=soon()).exit_code == 7


def test_the_first_key_is_learned_and_every_other_one_is_a_mismatch(world, tmp_path):
    world.policy = HostKeyPolicy.LEARN
    server = world.server(pinned=False)
    world.session(server).run_script(GREET, deadline=soon())
    (learned,) = HostKeyStore.load(world.known_hosts).find_keys("127.0.0.1", server.port)
    assert learned.base64 == server.host_key.get_base64()
    server.host_key = new_key(tmp_path / "another")
    with pytest.raises(HostKeyMismatch):
        world.session(server).run_script(GREET, deadline=soon())


def test_a_revoked_key_is_never_trusted(world):
    server = world.server()
    with world.known_hosts.open("a") as file:
        file.write(f"@revoked * {server.host_key.get_name()} {server.host_key.get_base64()}\n")
    with pytest.raises(HostKeyMismatch, match="revoked"):
        world.session(server).run_script(GREET, deadline=soon())


def test_a_refused_key_is_shown_once(world, tmp_path):
    server = world.server()
    new_key(tmp_path / "wrong")
    with pytest.raises(AuthenticationFailed, match="refused the key of patch"):
        world.session(server, credential=f"key:{tmp_path / 'wrong'}").run_script(GREET, deadline=soon())
    assert server.logins == ["ssh-ed25519"]
    assert server.accepted == 1


def test_passwords_log_in_and_are_told_to_nobody(world):
    world.secrets = lambda reference: Credential(CredentialKind.PASSWORD, secret=Secret(reference.removeprefix("env:")))
    server = world.server()
    assert world.session(server, credential=f"env:{PASSWORD}").run_script(GREET, deadline=soon()).exit_code == 7
    with pytest.raises(AuthenticationFailed) as caught:
        world.session(server, credential="env:hunter2").run_script(GREET, deadline=soon())
    assert "hunter2" not in f"{caught.value!r} {caught.value} {caught.value.hint}"
    assert server.logins == ["password", "password"]


def test_a_second_factor_is_an_authentication_error_that_says_so(world):
    server = world.server(second_factor=True)
    with pytest.raises(AuthenticationFailed, match="more than one proof"):
        world.session(server).run_script(GREET, deadline=soon())


def test_a_key_that_cannot_be_loaded_is_a_credential_error_without_its_content(world, tmp_path):
    (tmp_path / "junk").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0\n-----END OPENSSH PRIVATE KEY-----\n")
    (tmp_path / "junk").chmod(0o600)
    server = world.server()
    with pytest.raises(CredentialError, match="can't be loaded") as caught:
        world.session(server, credential=f"key:{tmp_path / 'junk'}").run_script(GREET, deadline=soon())
    assert "c2VjcmV0" not in str(caught.value)
    assert server.accepted == 0


def test_a_key_is_loaded_once_until_its_file_changes(tmp_path):
    path = tmp_path / "id"
    new_key(path)
    credential = Credential(CredentialKind.KEY, path=path)
    first = load_private_key(credential, "patch")
    assert load_private_key(credential, "patch") is first
    new_key(path)
    assert load_private_key(credential, "patch") is not first


def test_a_server_without_an_algorithm_of_ours_is_a_clear_error(world, monkeypatch):
    server = world.server()
    monkeypatch.setattr(RestrictedTransport, "_preferred_ciphers", ("3des-cbc",))
    monkeypatch.setattr("paramiko.Transport._preferred_ciphers", ("aes128-ctr",))
    with pytest.raises(TransportError, match="none of the algorithms") as caught:
        world.session(server).run_script(GREET, deadline=soon())
    assert not caught.value.transient
    assert server.accepted == 1


def test_the_agent_without_keys_is_an_authentication_error(world, monkeypatch):
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    with pytest.raises(AuthenticationFailed, match="agent"):
        world.session(world.server(), credential="agent").run_script(GREET, deadline=soon())


def test_machines_behind_a_jump_host_share_one_connection_to_it(world):
    bastion, target = world.server(), world.server()
    world.machines = (world.machine(bastion, "bastion"),)
    for number in range(3):
        session = world.session(target, name=f"m{number}", jump=("bastion",))
        assert session.run_script(GREET, deadline=soon()).exit_code == 7
    assert (bastion.accepted, target.accepted) == (1, 3)
    bastion.cut()
    assert world.session(target, jump=("bastion",)).run_script(GREET, deadline=soon()).exit_code == 7
    assert bastion.accepted == 2


def test_chains_of_jump_hosts_are_followed_and_each_is_verified(world, tmp_path):
    outer, inner, target = world.server(), world.server(pinned=False), world.server()
    world.machines = (world.machine(outer, "outer"), world.machine(inner, "inner", jump=("outer",)))
    with pytest.raises(HostKeyUnknown) as caught:
        world.session(target, jump=("inner",)).run_script(GREET, deadline=soon())
    assert caught.value.machine == "inner"
    world.pin(inner, inner.host_key)
    assert world.session(target, jump=("inner",)).run_script(GREET, deadline=soon()).exit_code == 7
    assert world.session(target, jump=("outer", "inner")).run_script(GREET, deadline=soon()).exit_code == 7


def test_a_target_that_the_jump_host_cannot_reach_is_unreachable(world):
    bastion, target = world.server(), world.server()
    target.close()
    world.machines = (world.machine(bastion, "bastion"),)
    with pytest.raises(Unreachable, match="jump host bastion does not get through") as caught:
        world.session(target, jump=("bastion",)).run_script(GREET, deadline=soon())
    assert caught.value.is_silent
