"""An agent that does not answer is told as that, and asked once."""

import socket
import threading
from pathlib import Path

import pytest

from inventory.credentials import Credential, CredentialKind
from tasks.domain.errors import AuthenticationFailed
from tasks.machines.transport.lockout_guard import LoginAttempt
from tasks.machines.transport.ssh import authentication


def _hang_up(listener: socket.socket) -> None:
    line, _ = listener.accept()
    line.close()


@pytest.mark.parametrize("there", ["hangs up", "listens no more", "never was", "is not named"])
def test_an_agent_that_is_not_there_is_no_line_that_was_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: str
) -> None:
    path = tmp_path / "agent"
    monkeypatch.setenv("SSH_AUTH_SOCK", str(path))
    with socket.socket(socket.AF_UNIX) as listener:
        if there in {"hangs up", "listens no more"}:
            listener.bind(str(path))
        if there == "hangs up":
            listener.listen()
            threading.Thread(target=_hang_up, args=(listener,), daemon=True).start()
        if there == "is not named":
            monkeypatch.delenv("SSH_AUTH_SOCK")
        with pytest.raises(AuthenticationFailed, match=r"SSH agent( does not answer)?") as told:
            authentication.authenticate(
                authentication.LoginContext(None, "ann", LoginAttempt([]), lambda most: min(most, 5.0)),  # type: ignore[arg-type]  # not got to
                Credential(CredentialKind.AGENT),
            )
    assert not told.value.transient
    assert "key:PATH" in told.value.hint
