"""What a check of the audit log says of entries without a key."""

from datetime import UTC, datetime

import pytest

from fleetpatch.cli.views.audit import print_verification
from tasks.domain.rows.audit import AuditEntry
from tasks.records.audit.verification import AuditState, AuditVerification, ChainCheck, describe_verification


def build_entry(**fields: str | int) -> AuditEntry:
    values = {"who": "", "address": "", "act": "cut", "subject": "entries 1 to 3", "detail": "", "result": "done"}
    return AuditEntry(at=datetime(2026, 11, 30, tzinfo=UTC), **{**values, **fields})  # type: ignore[arg-type]


def test_a_key_without_a_name_is_called_none() -> None:
    check = ChainCheck(lambda _key_id: None, (), is_whole=False)
    check.check(build_entry(number=4))

    found = check.conclude()

    assert found.state is AuditState.KEY_MISSING
    assert found.message == "no entry can be checked: the key is not here (none)"
    assert describe_verification(found).endswith("entry 4 is sealed with a key that is not here (none)")


def test_a_cut_of_nobody_known_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    print_verification(AuditVerification(AuditState.INTACT, cuts=(build_entry(message="by hand"),)))
    assert "by somebody unknown: entries 1 to 3, by hand" in capsys.readouterr().out
