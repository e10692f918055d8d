"""This machine itself: its programs get no more of our environment than a login over SSH would give them."""

import pytest

from tasks.domain.errors import ProtocolViolation
from tasks.domain.protocols.clock import Deadline, SystemClock
from tasks.machines.transport import output_decoder
from tasks.machines.transport.local_channel import LocalShellChannel
from tasks.machines.transport.output_decoder import ScriptOutputDecoder, generate_nonce
from tests.contract.hooks.test_kinds import SECRETS

CLOCK = SystemClock()


def test_a_script_on_this_machine_sees_nothing_of_our_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("PATH")
    decoder = ScriptOutputDecoder(generate_nonce())
    assert LocalShellChannel(CLOCK).execute(("/usr/bin/env",), b"", decoder, deadline=Deadline.after(CLOCK, 20)) == 0
    told = decoder.render_unframed_output()
    assert "hunter2" not in told
    assert "HOME=" in told
    assert "PATH=/usr/local/sbin:" in told


@pytest.mark.slow
@pytest.mark.parametrize("command", ["yes", "yes >&2", "yes | tr -d '\\n'", "cat /dev/zero"])
def test_output_without_end_is_not_read_until_the_deadline(monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.setattr(output_decoder, "MAX_UNFRAMED_BYTES", 1024 * 1024)
    began = CLOCK.now()
    with pytest.raises(ProtocolViolation, match="bytes came that are no answer"):
        LocalShellChannel(CLOCK).execute(
            ("/bin/sh", "-c", command), b"", ScriptOutputDecoder(generate_nonce()), deadline=Deadline.after(CLOCK, 60)
        )
    assert (CLOCK.now() - began).total_seconds() < 30
