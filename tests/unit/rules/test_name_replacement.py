"""A recording of a machine has none of its names, and all else as it was."""

import json
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.rules.recording import KINDS, STAND_IN, KnownName, is_replaceable, replace_names

KNOWN = [
    KnownName("host", "srv01"),
    KnownName("domain", "corp.example"),
    KnownName("domain", "CORPNT"),
    KnownName("user", "svc_patch"),
    KnownName("address", "10.1.2.3"),
    KnownName("serial", "VMware-42 1d"),
]
REPLACED = {
    "SRV01.corp.example": "host-1.domain-1",
    "mysrv01x": "myhost-1x",
    "srv015": "host-1-5",
    r"corpnt\SVC_PATCH$": r"domain-2\user-1$",
    "http://wsus.corp.example:8530/x": "http://host-2.domain-1:8530/x",
    "http://me:made-up@wsus.other.example:8530/x": "http://***@host-2:8530/x",
    "https://10.1.2.3/": "https://address-1/",
    "from 10.1.2.3:5986 to 192.168.7.9.": "from address-1:5986 to address-2.",
    "10.1.2.30 10.9.9.1-10.9.9.7": "address-2 address-3-address-4",
    "fe80::1%12 and 2001:db8::5]": "address-2 and address-3]",
    "owned by S-1-5-21-1004336348-1177238915-682003330-512": "owned by sid-1",
    "mail to Ann.Lee@firm.example, please": "mail to mail-1, please",
    r"\\files\share\x.msu": r"\\host-2\share\x.msu",
    r"C:\Users\Ann Lee\AppData C:\Users\ann is": r"C:\Users\user-2\AppData C:\Users\user-3 is",
    "/home/ann/x": "/home/user-2/x",
    r"on behalf of user OTHER\ann for": r"on behalf of user domain-3\user-2 for",
    "00-15-5D-0a-0b-0c": "hardware-1",
    "serial vmware-42 1D": "serial serial-1",
}
KEPT = (
    "10.0.20348.2700",
    "Defender (Version 1.2.3.4)",
    "curl 7.88.1-10+deb12u7, x 1.2.3.4-5",
    "zlib1g (>= 1:1.2.3.3), libpam0g (>= 0.99.7.1), libx11-6 (= 2.1.1.1), 2:1.2.1.1",
    "127.0.0.1 0.0.0.0 ::1 255.255.255.255",
    "4.18.23110.3",
    "0fa1201d-4330-4fa8-8ae9-b877473b6441",
    "2026-11-26 19:33:14",
    "KB5000012 rev 200",
    "http://download.windowsupdate.com/x",
    r"\\?\Volume{0fa1201d-4330-4fa8-8ae9-b877473b6441}\ ",
    r"NT AUTHORITY\SYSTEM, S-1-5-18",
    r"C:\Users\Public\x C:\\Windows\\System32",
    "getty@tty1.service",
    "std::string ab::cd",
)


def replace_text(text: str) -> object:
    return replace_names(text, KNOWN).document


@pytest.mark.parametrize(("text", "wanted"), REPLACED.items())
def test_names_have_stand_ins(text: str, wanted: str) -> None:
    assert replace_text(text) == wanted


@pytest.mark.parametrize("text", KEPT)
def test_what_names_nobody_stays(text: str) -> None:
    assert replace_text(text) == text


def test_the_same_name_has_the_same_stand_in_in_all_records() -> None:
    records = [
        {
            "kind": "srv01",
            "title": "Intel - net - 12.19.2.45",
            "url": "http://wsus-7.firm.example/",
            "n": [1, None, True],
        },
        {"kind": "x", "text": "WSUS-7.firm.example did not answer srv01"},
    ]
    replaced = replace_names(records, KNOWN)
    assert replaced.document == [
        {"kind": "srv01", "title": "Intel - net - 12.19.2.45", "url": "http://host-2/", "n": [1, None, True]},
        {"kind": "x", "text": "host-2 did not answer host-1"},
    ]
    assert replaced.counts["host"] == 2


@pytest.mark.parametrize(
    "unit",
    ["://", "a@", "1.", "1.2.3.4 ", "a:", "\\\\", "C:\\Users\\", "user a\\", "00-", "S-1-5-21-", "srv01", "host-1"],
)
def test_a_hostile_text_takes_no_longer_than_its_length(unit: str) -> None:
    assert replace_text(unit * (20_000 // len(unit)))  # minutes, if a search began at each place anew


def test_common_and_short_names_are_told() -> None:
    known = [KnownName("host", name) for name in ("Windows", "7", "2022", "host-1", "srv-4")]
    assert replace_names("Windows 2022 KB7 host-1 srv-4", known).kept == ("Windows", "7", "2022", "host-1")


NAMES = st.builds(
    KnownName,
    st.sampled_from(KINDS),
    st.text("abcdeSXZ0179-_.ß", min_size=4, max_size=12) | st.sampled_from(["10.1.2.3", "my-host", "ost-", "ser-1"]),
)
TEXTS = st.lists(
    st.sampled_from(
        ["host-1", "user-", "my-", "://", "@", ".", "\\", "\\\\", " ", "C:\\Users\\", "1.2.3.4", "::", "by "]
    )
    | st.text("aS0-.: @/", max_size=4),
    max_size=4,
).map("".join)


def shape(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value]
    return "text" if isinstance(value, str) else value


@given(st.lists(NAMES, min_size=1, max_size=4), st.data())
def test_no_known_name_is_left_and_the_rest_stays(known: list[KnownName], data: st.DataObject) -> None:
    name = st.sampled_from(known).map(lambda each: each.value)
    spelt = name.flatmap(lambda each: st.sampled_from([each, each.upper(), each.lower(), each.swapcase()]))
    text = st.tuples(TEXTS, spelt, TEXTS).map("".join)
    leaf = text | st.integers() | st.booleans() | st.none()
    document = data.draw(
        st.recursive(leaf, lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from("ab"), inner))
    )
    once = replace_names(document, known)
    assert shape(once.document) == shape(document)
    assert replace_names(once.document, known).document == once.document
    left = STAND_IN.sub("\0", json.dumps(once.document, ensure_ascii=False)).casefold()
    for each in known:
        if is_replaceable(each.value) and not each.value.isdigit() and each.value != "10.1.2.3":
            assert each.value.casefold() not in left
