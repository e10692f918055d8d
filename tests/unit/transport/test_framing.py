"""Frames: read whole whatever the chunks and the noise, and never mistaken for whole when they are not."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.domain.errors import NoShell, ProtocolViolation, RequestError
from tasks.machines.transport.output_decoder import (
    MAX_LINE_BYTES,
    MAX_RECORDS_BYTES,
    UNFRAMED_HEAD_BYTES,
    UNFRAMED_TAIL_BYTES,
    ScriptOutputDecoder,
    build_frame_mark,
    replace_invalid_utf8,
)
from tasks.machines.transport.posix_shell import build_script_stdin, encode_params
from tasks.machines.transport.script_library import load_script

NONCE = "0123456789abcdef0123456789abcdef"
MARK = build_frame_mark(NONCE).encode()

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
    ),
    max_leaves=8,
)
records = st.lists(json_values.map(lambda value: {"kind": "thing", "value": value}), max_size=5)
noise = st.binary(max_size=200).filter(lambda data: MARK not in data)


def frame(record: object, cuts: list[int]) -> bytes:
    line = json.dumps(record, ensure_ascii=False).encode()
    places = sorted({0, *(cut % (len(line) + 1) for cut in cuts)})
    pieces = [line[a:b] for a, b in zip(places, [*places[1:], len(line)], strict=True)]
    return b"".join(MARK + b"+ " + piece + b"\n" for piece in pieces[:-1]) + MARK + b"= " + pieces[-1] + b"\n"


def in_chunks(data: bytes, sizes: list[int]) -> list[bytes]:
    chunks = []
    for size in sizes:
        chunks.append(data[:size])
        data = data[size:]
    return [*chunks, data]


@given(records, st.lists(noise, min_size=7, max_size=7), st.integers(0, 255), st.lists(st.integers(0, 300)), st.data())
def test_an_answer_is_read_whole_whatever_the_noise_and_the_chunks(wanted, dirt, code, sizes, data):
    stream = b""
    for record, between in zip(wanted, dirt, strict=False):
        stream += between + frame(record, data.draw(st.lists(st.integers(0, 1000), max_size=4)))
    stream += dirt[-1] + b"\n" + MARK + f"! {code}\n".encode() + dirt[-2]
    decoder = ScriptOutputDecoder(NONCE)
    for chunk in in_chunks(stream, sizes):
        decoder.feed_stdout(chunk)
    answer = decoder.build_output()
    assert list(answer.records) == wanted
    assert answer.exit_code == code


@given(records, st.integers(0, 255), st.integers(0, 10_000))
def test_a_cut_answer_is_never_taken_for_a_whole_one(wanted, code, cut):
    stream = b"".join(frame(record, [3, 9]) for record in wanted) + MARK + f"! {code}\n".encode()
    decoder = ScriptOutputDecoder(NONCE)
    decoder.feed_stdout(stream[: cut % len(stream)])
    assert not decoder.is_complete
    with pytest.raises(ProtocolViolation, match="no end"):
        decoder.build_output()


@given(
    st.lists(st.binary(max_size=300) | st.just(MARK) | st.sampled_from([b"+ ", b"= ", b"! 0", b"\n", b'{"kind":"x"}']))
)
def test_hostile_bytes_give_an_answer_or_a_violation_and_nothing_else(parts):
    decoder = ScriptOutputDecoder(NONCE)
    with contextlib.suppress(ProtocolViolation):
        for part in parts:
            decoder.feed_stdout(part)
    if decoder.is_complete:
        assert 0 <= decoder.build_output().exit_code <= 999
    else:
        with pytest.raises(ProtocolViolation):
            decoder.build_output()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"= {", "can't be read"),
        (b"= []", "not an object"),
        (b'= {"kind":1}', "not an object"),
        (b'= {"kind":"x","n":NaN}', "NaN"),
        (b'= {"kind":"x","n":"\\ud800"}', "can't be read"),
        (b"= " + b"[" * 200_000, "can't be read"),
        (b"? what", "neither"),
        (b"! 12x", "exit code"),
        (b"! ", "exit code"),
        (b'+ {"kind":\n' + MARK + b"! 0", "no end"),
    ],
)
def test_nonsense_in_a_frame_is_a_violation_that_shows_what_was_seen(content, why):
    decoder = ScriptOutputDecoder(NONCE)
    with pytest.raises(ProtocolViolation, match=why):
        decoder.feed_stdout(b"Welcome!\n" + MARK + content + b"\n")


def test_a_framed_line_that_never_ends_is_a_violation():
    decoder = ScriptOutputDecoder(NONCE)
    decoder.feed_stdout(MARK + b"= " + b"x" * (MAX_LINE_BYTES - 1000))
    with pytest.raises(ProtocolViolation, match="a line has more than"):
        decoder.feed_stdout(b"x" * 1000)


def test_records_are_bounded_together():
    decoder = ScriptOutputDecoder(NONCE)
    piece = MARK + b"+ " + b"x" * 500_000 + b"\n"
    decoder.feed_stdout(piece * (MAX_RECORDS_BYTES // 500_000))
    with pytest.raises(ProtocolViolation, match="the records have more than"):
        decoder.feed_stdout(piece)


def test_endless_noise_costs_bounded_memory_and_hides_nothing():
    decoder = ScriptOutputDecoder(NONCE)
    for _ in range(64):
        decoder.feed_stdout(b"y" * 65_536)
        decoder.feed_stderr(b"z" * 65_536)
    decoder.feed_stdout(MARK + b'= {"kind":"x"}\n' + MARK + b"! 0\n")
    answer = decoder.build_output()
    assert answer.records == ({"kind": "x"},)
    assert len(answer.unframed_output) < UNFRAMED_HEAD_BYTES + UNFRAMED_TAIL_BYTES + 100
    assert "bytes left out" in answer.unframed_output


def test_bytes_that_are_no_utf8_keep_their_length_until_they_are_made_readable():
    decoder = ScriptOutputDecoder(NONCE)
    decoder.feed_stdout(MARK + b'= {"kind":"x","t":"a\xff\xc3\xa9"}\n' + MARK + b"! 0\n")
    (record,) = decoder.build_output().records
    assert len(str(record["t"]).encode("utf-8", "surrogateescape")) == 4
    assert replace_invalid_utf8(record) == {"kind": "x", "t": "a\ufffdé"}


@pytest.mark.parametrize("value", ["nul\x00", "half \ud800", ("fine", "two\nlines")])
def test_what_a_shell_cannot_hold_is_refused_by_name(value):
    with pytest.raises(RequestError, match="'odd'"):
        encode_params({"odd": value})


@pytest.mark.parametrize("name", ["", "a-b", "a b", "a=1;id", "a$(id)", "\u00e4"])
def test_a_name_that_no_variable_of_a_shell_can_have_is_refused(name: str) -> None:
    with pytest.raises(RequestError, match="only letters, digits and _"):
        encode_params({name: "x"})


def test_an_unknown_script_is_an_error_of_ours():
    with pytest.raises(RequestError, match="no script named 'nothing'"):
        load_script("nothing")
    with pytest.raises(RequestError, match="no script"):
        load_script("../../etc/passwd")


def test_parameters_stand_in_the_text_as_base64_only():
    text = build_script_stdin("true", {"x": "'; rm -rf / #"}, NONCE).decode()
    assert "rm -rf" not in text


def test_a_password_that_a_shell_echoes_is_never_noise() -> None:
    decoder = ScriptOutputDecoder(NONCE, secret=b"hunter2-canary\n")
    decoder.feed_stderr(b"sh: 1: hunter2-canary: not found\n")
    assert decoder.render_unframed_output() == "sh: 1: ***: not found"


def test_an_answer_without_any_frame_comes_from_no_shell_of_ours() -> None:
    decoder = ScriptOutputDecoder(NONCE)
    decoder.feed_stdout(b"This account is currently not available.\n")
    with pytest.raises(NoShell, match="currently not available"):
        decoder.build_output()
    decoder.feed_stdout(MARK + b'= {"kind": "thing"}\n')
    with pytest.raises(ProtocolViolation) as refusal:
        decoder.build_output()
    assert not isinstance(refusal.value, NoShell)
