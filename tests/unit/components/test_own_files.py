"""The files of components on the controller: read once for all machines, and again after a change."""

import hashlib
from pathlib import Path

import pytest

from tasks.domain.components import ComponentVersion
from tasks.domain.errors import RequestError
from tasks.steps.component_own_files import require_own_file
from tests.support.components import make_component


def test_a_file_is_read_once_and_again_when_it_was_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, reads, digest = tmp_path / "agent", [], hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda *args: reads.append(args) or digest(*args))  # type: ignore[func-returns-value]
    file.write_bytes(b"the agent")
    version = ComponentVersion("1.0.0", file=str(file), digest=f"sha256:{hashlib.sha256(b'the agent').hexdigest()}")
    for _ in range(3):
        require_own_file(make_component("agent"), version)
    assert len(reads) == 1
    file.write_bytes(b"another agent")
    for _ in range(2):
        with pytest.raises(RequestError, match="is not the file of agent"):
            require_own_file(make_component("agent"), version)
    file.unlink()
    with pytest.raises(RequestError, match="can't be read"):
        require_own_file(make_component("agent"), version)
