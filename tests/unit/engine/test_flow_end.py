"""The end of a flow's function counts, and a server that is gone is not waited for."""

import time

import pytest
from prefect.states import Completed, Failed

from flows.prefect_api import flow_end
from flows.prefect_api.flow_end import FlowResultPlace, wait_while_server_answers


@pytest.mark.parametrize(("faults", "waits"), [("does not answer", False), ("", True)])
def test_only_a_server_that_answers_is_waited_for(monkeypatch: pytest.MonkeyPatch, faults: str, waits: bool) -> None:
    monkeypatch.setattr(flow_end, "CHECK_SECONDS", 0.0)
    monkeypatch.setattr(flow_end, "find_server_fault", lambda url: faults)
    monkeypatch.setattr(flow_end, "_read_server_url", lambda: "http://127.0.0.1:9/api")
    asked: list[float] = []

    def is_over() -> bool:
        asked.append(time.monotonic())
        return len(asked) > 20

    assert wait_while_server_answers(is_over, poll_seconds=0.0) is waits
    assert (len(asked) > 20) is waits


def test_a_slow_server_is_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow_end, "MAX_WAIT_SECONDS", 0.05)
    monkeypatch.setattr(flow_end, "_read_server_url", lambda: "")
    assert not wait_while_server_answers(lambda: False, poll_seconds=0.01)


def test_the_result_is_that_of_the_function() -> None:
    result_place = FlowResultPlace()
    with result_place.record():
        result_place.result = "report"
    assert (result_place.has_begun, result_place.ended.is_set(), result_place.get_result()) == (True, True, "report")
    assert result_place.get_result(as_state=True).is_completed()
    result_place.result = Failed(data=ValueError("a machine failed"))
    assert result_place.get_result(as_state=True).is_failed()
    with pytest.raises(ValueError, match="a machine failed"):
        result_place.get_result()
    result_place.result = Completed(data="nothing to resume")
    assert result_place.get_result() == "nothing to resume"
    with pytest.raises(KeyError), result_place.record():
        raise KeyError
    with pytest.raises(KeyError):
        result_place.get_result()
