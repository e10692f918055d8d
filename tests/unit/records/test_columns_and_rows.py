from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.dialects import sqlite

from tasks.records.encoding.row_encoding import compress_text, decompress_text, encode_job_output, shorten_middle
from tasks.records.storage.column_types import KEY_CHARACTERS, UtcDateTime, replace_unstorable, to_index_key
from tests.support import builders as make

ANY_TEXT = st.text(st.characters())  # lone surrogates and NULs as well
DIALECT = sqlite.dialect()


@given(ANY_TEXT)
def test_columns_get_text_that_every_database_takes(text: str) -> None:
    cleaned = replace_unstorable(text)
    assert len(cleaned) == len(text)
    assert "\x00" not in cleaned
    cleaned.encode("utf-8")


@given(st.text(max_size=KEY_CHARACTERS))
def test_ordinary_keys_are_left_alone(text: str) -> None:
    if "\x00" not in text:
        assert to_index_key(text) == text


@given(ANY_TEXT, ANY_TEXT, st.integers(0, 600))
def test_keys_fit_and_stay_apart(one: str, two: str, padding: int) -> None:
    keys = [to_index_key("p" * padding + text) for text in (one, two)]
    assert all(len(key) <= KEY_CHARACTERS for key in keys)
    assert (keys[0] == keys[1]) == (one == two)
    for key in keys:
        key.encode("utf-8")


def test_moments_go_in_as_utc_and_come_out_aware() -> None:
    column = UtcDateTime()
    east = datetime(2026, 3, 10, 3, 0, tzinfo=timezone(timedelta(hours=2)))
    stored = column.process_bind_param(east, DIALECT)
    assert stored == east
    assert stored is not None
    assert stored.tzinfo is UTC
    assert column.process_result_value(stored.replace(tzinfo=None), DIALECT) == east
    assert column.process_result_value(east, DIALECT) == east
    assert column.process_bind_param(None, DIALECT) is None
    assert column.process_result_value(None, DIALECT) is None


def test_a_moment_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="no zone"):
        UtcDateTime().process_bind_param(make.START.replace(tzinfo=None), DIALECT)


@given(ANY_TEXT)
def test_any_text_is_packed_without_loss(text: str) -> None:
    assert decompress_text(compress_text(text)) == text


def test_output_beyond_the_limit_keeps_its_beginning_and_its_end() -> None:
    text = "".join(chr(ord("a") + n % 26) for n in range(1000))
    short = shorten_middle(text, 101)
    assert short.startswith(text[:50] + "\n[fleetpatch left out 899 characters]\n")
    assert short.endswith("\n" + text[-51:])
    assert shorten_middle(text, 1000) == text


def test_the_row_of_an_output_says_how_long_it_was() -> None:
    row = encode_job_output(make.make_job_output(text="x" * 1_000_000))
    assert row["characters"] == 1_000_000
    assert len(row["body"]) < 5_000
