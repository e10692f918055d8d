"""Whether a PostgreSQL server has room for all processes of an installation."""

import pytest

from tasks.domain.errors import RecordsError
from tasks.domain.states import FindingLevel
from tasks.records.storage.database import CONNECTIONS_VARIABLE, read_connection_bound
from tasks.rules.connections import ServerRoom, check_connections, count_processes


@pytest.mark.parametrize(
    ("machines", "shard_size", "processes"), [(0, 500, 7), (500, 500, 7), (501, 500, 8), (10_000, 500, 26)]
)
def test_a_run_of_all_machines_has_a_process_for_each_shard(machines: int, shard_size: int, processes: int) -> None:
    assert count_processes(machines, shard_size) == processes


@pytest.mark.parametrize("limit", [100, 93, 92, 5])
def test_what_may_be_opened_must_fit(limit: int) -> None:
    finding = check_connections(ServerRoom(limit, reserved=3, others=20), processes=7, bound=10)
    assert "7 processes may open 10 each, 70 in all" in finding.message
    assert finding.level is (FindingLevel.GOOD if limit >= 93 else FindingLevel.WARN)
    assert ("Set max_connections to 93 or more there" in finding.remedy) is (limit < 93)


def test_a_smaller_bound_that_would_fit_is_named() -> None:
    finding = check_connections(ServerRoom(100, reserved=3, others=15), processes=26, bound=10)
    assert "260 in all, and PostgreSQL has 82 for them: max_connections is 100, 3 are reserved" in finding.message
    assert finding.message.endswith("others have 15 open")
    assert "FLEETPATCH_RECORDS_CONNECTIONS to 3." in finding.remedy


@pytest.mark.parametrize(("value", "bound"), [("", 10), (" 4 ", 4), ("2", 2)])
def test_the_bound_is_a_setting(value: str, bound: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CONNECTIONS_VARIABLE, value)
    assert read_connection_bound() == bound


@pytest.mark.parametrize("value", ["1", "0", "-3", "many"])
def test_a_bound_that_is_none_is_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CONNECTIONS_VARIABLE, value)
    with pytest.raises(RecordsError, match="is no number of connections"):
        read_connection_bound()
