"""What one reader of documents decodes has equal parts once, and is what was stored."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tasks.domain.model import Outcome
from tasks.records.encoding.row_encoding import DocumentReader, encode_outcome
from tests.unit.reporting import samples
from tests.unit.reporting.strategies import some_outcome


def read(reader: DocumentReader, outcome: Outcome) -> Outcome:
    row = encode_outcome(outcome)
    return reader.decode_outcome(row["document"], row["updates"])


@given(st.lists(some_outcome, max_size=4))
def test_outcomes_of_one_reader_are_those_of_readers_of_their_own(outcomes: list[Outcome]) -> None:
    reader = DocumentReader()
    together, alone = [read(reader, one) for one in outcomes], [read(DocumentReader(), one) for one in outcomes]
    assert together == alone == outcomes
    assert repr(together) == repr(alone)  # also the types of equal values


def test_machines_that_are_alike_share_texts_findings_and_lists_of_them() -> None:
    reader = DocumentReader()
    outcome = next(
        one for one in samples.forty()[0].outcomes if one.findings and one.install and one.install.transactions
    )
    first, second = read(reader, outcome), read(reader, replace(outcome, machine="another"))
    assert first.findings is second.findings
    assert first.reason is second.reason
    assert first.updates is second.updates
    assert first.install is not None
    assert second.install is not None
    assert first.install.transactions[0].updates is second.install.transactions[0].updates
    assert (first.machine, second.machine) == (outcome.machine, "another")
