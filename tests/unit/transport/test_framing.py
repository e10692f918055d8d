"""Frames: read whole whatever the chunks and the noise, and never mistaken for whole when they are not."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import ProtocolViolation, RequestError
from tasks.transport.framing import (
    LINE_LIMIT,
    NOISE_HEAD,
    NOISE_TAIL,
    RECORDS_LIMIT,
    Decoder,
    compose,
    encode_params,
    load_script,
    mark_of,
    readable,
)

NONCE = "0123456789abcdef0123456789abcdef"
MARK = mark_of(NONCE).encode()

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
    decoder = Decoder(NONCE)
    for chunk in in_chunks(stream, sizes):
        decoder.feed(chunk)
    answer = decoder.result()
    assert list(answer.records) == wanted
    assert answer.exit_code == code


@given(records, st.integers(0, 255), st.integers(0, 10_000))
def test_a_cut_answer_is_never_taken_for_a_whole_one(wanted, code, cut):
    stream = b"".join(frame(record, [3, 9]) for record in wanted) + MARK + f"! {code}\n".encode()
    decoder = Decoder(NONCE)
    decoder.feed(stream[: cut % len(stream)])
    assert not decoder.ended
    with pytest.raises(ProtocolViolation, match="no end"):
        decoder.result()


@given(
    st.lists(st.binary(max_size=300) | st.just(MARK) | st.sampled_from([b"+ ", b"= ", b"! 0", b"\n", b'{"kind":"x"}']))
)
def test_hostile_bytes_give_an_answer_or_a_violation_and_nothing_else(parts):
    decoder = Decoder(NONCE)
    with contextlib.suppress(ProtocolViolation):
        for part in parts:
            decoder.feed(part)
    if decoder.ended:
        assert 0 <= decoder.result().exit_code <= 999
    else:
        with pytest.raises(ProtocolViolation):
            decoder.result()


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
    decoder = Decoder(NONCE)
    with pytest.raises(ProtocolViolation, match=why):
        decoder.feed(b"Welcome!\n" + MARK + content + b"\n")


def test_a_framed_line_that_never_ends_is_a_violation():
    decoder = Decoder(NONCE)
    decoder.feed(MARK + b"= " + b"x" * (LINE_LIMIT - 1000))
    with pytest.raises(ProtocolViolation, match="a line has more than"):
        decoder.feed(b"x" * 1000)


def test_records_are_bounded_together():
    decoder = Decoder(NONCE)
    piece = MARK + b"+ " + b"x" * 500_000 + b"\n"
    decoder.feed(piece * (RECORDS_LIMIT // 500_000))
    with pytest.raises(ProtocolViolation, match="the records have more than"):
        decoder.feed(piece)


def test_endless_noise_costs_bounded_memory_and_hides_nothing():
    decoder = Decoder(NONCE)
    for _ in range(64):
        decoder.feed(b"y" * 65_536)
        decoder.note(b"z" * 65_536)
    decoder.feed(MARK + b'= {"kind":"x"}\n' + MARK + b"! 0\n")
    answer = decoder.result()
    assert answer.records == ({"kind": "x"},)
    assert len(answer.noise) < NOISE_HEAD + NOISE_TAIL + 100
    assert "bytes left out" in answer.noise


def test_bytes_that_are_no_utf8_keep_their_length_until_they_are_made_readable():
    decoder = Decoder(NONCE)
    decoder.feed(MARK + b'= {"kind":"x","t":"a\xff\xc3\xa9"}\n' + MARK + b"! 0\n")
    (record,) = decoder.result().records
    assert len(str(record["t"]).encode("utf-8", "surrogateescape")) == 4
    assert readable(record) == {"kind": "x", "t": "a\ufffdé"}


@pytest.mark.parametrize("value", ["nul\x00", "half \ud800", ("fine", "two\nlines")])
def test_what_a_shell_cannot_hold_is_refused_by_name(value):
    with pytest.raises(RequestError, match="'odd'"):
        encode_params({"odd": value})


def test_an_unknown_script_is_an_error_of_ours():
    with pytest.raises(RequestError, match="no script named 'nothing'"):
        load_script("nothing")
    with pytest.raises(RequestError, match="no script"):
        load_script("../../etc/passwd")


def test_parameters_stand_in_the_text_as_base64_only():
    text = compose("true", {"x": "'; rm -rf / #"}, NONCE).decode()
    assert "rm -rf" not in text


def test_a_password_that_a_shell_echoes_is_never_noise() -> None:
    decoder = Decoder(NONCE, secret=b"hunter2-canary\n")
    decoder.note(b"sh: 1: hunter2-canary: not found\n")
    assert decoder.noise() == "sh: 1: ***: not found"
