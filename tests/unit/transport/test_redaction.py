"""No secret of a machine comes in, wherever the pieces of its answer begin and end."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.domain.errors import ProtocolViolation
from tasks.machines.transport.output_decoder import (
    UNFRAMED_HEAD_BYTES,
    UNFRAMED_TAIL_BYTES,
    ScriptOutputDecoder,
    UnframedOutput,
    build_frame_mark,
)
from tasks.machines.transport.script_host import (
    EVENTS,
    JOB_LOOK,
    LOG,
    MAX_LOG_BYTES,
    find_raw_sections,
    parse_events,
    read_log,
)

SECRET = "gEhEim+123"
LINE = f"E: Failed to fetch http://me:{SECRET}@deb.example/x  401\r\n"
MARK = build_frame_mark("00")


def half_shown(text: str) -> bool:
    """Whether six characters of the secret can be read."""
    return any(SECRET[at : at + 6] in text for at in range(len(SECRET) - 5))


@given(st.text("ab\r\n ", max_size=60), st.lists(st.integers(1, 40), min_size=1, max_size=60), st.booleans())
def test_a_log_that_is_read_in_pieces(around: str, lengths: list[int], ends_with_line: bool) -> None:
    log = (around + LINE + around + LINE + around + (LINE if ends_with_line else LINE.strip())).encode()
    read, offset, written = "", 0, 0
    for length in lengths:
        written = min(len(log), written + length)
        text, count = read_log(log[offset:written], is_complete=False)
        read, offset = read + text, offset + count
    text, count = read_log(log[offset:], is_complete=True)
    assert offset + count == len(log)
    assert read + text == log.decode().replace(f"me:{SECRET}", "***")


def test_a_word_without_an_end_is_left_out() -> None:
    piece = b"http://me:" + b"x" * (MAX_LOG_BYTES - 10)
    assert read_log(piece, is_complete=False) == (f"[{MAX_LOG_BYTES} bytes left out]\n", MAX_LOG_BYTES)
    line = b"word " * (MAX_LOG_BYTES // 5) + b"x" * 5
    text, count = read_log(line, is_complete=False)
    assert text == "word " * (MAX_LOG_BYTES // 5)
    assert count == len(text)


@given(st.integers(0, 80), st.integers(0, 80))
def test_long_output_of_which_the_middle_is_left_out(before: int, behind: int) -> None:
    output = UnframedOutput()
    head = ("x" * (UNFRAMED_HEAD_BYTES - before - 1) + "\n" + LINE).encode()
    tail = (LINE + "y" * (UNFRAMED_TAIL_BYTES - behind)).encode()
    output.add(head + b"z " * 50_000 + tail)
    text = output.render()
    assert not half_shown(text)
    kept = sum(map(len, re.split(r"\n\[\d+ bytes left out\]\n", text)))
    left_out = int(re.findall(r"(\d+) bytes left out", text)[0])
    assert abs(kept + left_out - output.byte_count) <= 2 * len(LINE)  # stars are shorter than passwords


def test_records_sections_and_what_errors_quote() -> None:
    decoder = ScriptOutputDecoder("00", raw_sections=find_raw_sections("facts"))
    section = json.dumps({"kind": "section", "name": "log", "text": LINE, "exit_code": 0, "stderr": LINE})
    decoder.feed_stdout(f"{LINE}{MARK}= {section}\n".encode())
    decoder.feed_stderr(LINE.encode())
    decoder.feed_stdout(f"{MARK}! 0\n".encode())
    output = decoder.build_output()
    assert not half_shown(repr(output))
    assert output.unframed_output.count("http://***@deb.example/x") == 2
    with pytest.raises(ProtocolViolation) as caught:
        ScriptOutputDecoder("00").feed_stdout(f"{LINE}{MARK}= {LINE}".encode())
    assert not half_shown(str(caught.value))
    assert str(caught.value).count("***") == 2


def test_events_of_a_job_are_redacted_by_lines() -> None:
    good = json.dumps({"kind": "transaction", "detail": LINE, "more": [LINE]}).encode()
    events, offset = parse_events(good + b"\n" + LINE.encode() + good, 10)
    assert [event["kind"] for event in events] == ["transaction", "garbled"]
    assert not half_shown(repr(events))
    assert offset == 10 + len(good) + 1 + len(LINE)
    assert find_raw_sections(JOB_LOOK) == (EVENTS, LOG)
