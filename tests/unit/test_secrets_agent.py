"""An agent that does not answer is told as that, and asked once."""

import paramiko
import pytest

from inventory.credentials import Credential, CredentialKind
from tasks.errors import AuthenticationFailed
from tasks.transport.ssh import login


@pytest.mark.parametrize("error", [BrokenPipeError(32, "Broken pipe"), paramiko.SSHException("lost ssh-agent")])
def test_an_agent_that_hangs_up_is_no_line_that_was_dropped(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def hang_up() -> None:
        raise error

    monkeypatch.setattr(paramiko, "Agent", hang_up)
    with pytest.raises(AuthenticationFailed, match="the SSH agent does not answer") as told:
        login.log_in(None, "ann", Credential(CredentialKind.AGENT))  # type: ignore[arg-type]  # it is not got to
    assert not told.value.transient
    assert "key:PATH" in told.value.hint
