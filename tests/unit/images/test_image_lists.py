"""The lists of publishers: samples in their formats, what is said of faults in them, and their signatures."""

import contextlib
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.images.image_file import ImageGroups, InvalidImages, load_image_groups
from flows.images.signatures import SignatureState, UntrustedList, judge_signature, read_signed_text
from tasks.rules.images.checksums import read_checksums

LISTS = Path(__file__).parents[2] / "data/image_lists"


def read(name: str) -> bytes:
    return (LISTS / name).read_bytes()


@pytest.mark.parametrize(
    ("name", "file", "digest"),
    [
        ("debian.SHA512SUMS", "debian-12-genericcloud-amd64-20261101-2300.qcow2", f"sha512:{'2b' * 64}"),
        ("ubuntu.SHA256SUMS", "ubuntu-24.04-server-cloudimg-amd64.img", f"sha256:{'5e' * 32}"),
        ("rocky.CHECKSUM", "Rocky-9-GenericCloud-Base-9.8-20260525.0.x86_64.qcow2", f"sha256:{'6f' * 32}"),
        ("fedora.CHECKSUM", "Fedora-Cloud-Base-Generic-44-1.7.x86_64.qcow2", f"sha256:{'df' * 32}"),
        ("opensuse.qcow2.sha256", "openSUSE-Leap-15.6.x86_64-1.0.1-NoCloud-Build2.150.qcow2", f"sha256:{'7a' * 32}"),
        ("generic_alpine-3.22.2-x86_64.qcow2.sha512", "generic_alpine-3.22.2-x86_64.qcow2", f"sha512:{'8b' * 64}"),
        ("mixed.CHECKSUM", "image-1.2.qcow2", f"sha512:{'be' * 64}"),
        ("mixed.CHECKSUM", "other-1.2.qcow2", f"sha256:{'ce' * 32}"),
    ],
)
def test_each_form_is_read(name: str, file: str, digest: str) -> None:
    assert read_checksums(read(name).decode(), name)[file] == digest


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("<html>", "line 2 is no digest of a file: <html>"),
        ("abcd  file.img", "line 2 is no digest"),
        (f"SHA256 (a.img) = {'a' * 63}", "line 2 has a digest that is cut"),
        (f"{'b' * 64}  known.img", "line 2 has another digest of known.img"),
        (f"{'a' * 64}", "line 2 is no digest of a file"),
    ],
)
def test_a_line_that_can_not_be_read_is_named(line: str, words: str) -> None:
    if line == "a" * 64:  # alone, it is of the file that the list is named for
        assert read_checksums(line, "x.img.sha256") == {"x.img": f"sha256:{line}"}
        return
    with pytest.raises(ValueError, match=words.replace("(", r"\(")):
        read_checksums(f"{'a' * 64}  known.img\n{line}\n", "SHA256SUMS")


@given(st.text(max_size=300))
def test_no_text_is_read_as_anything_but_digests_or_a_fault(text: str) -> None:
    with contextlib.suppress(ValueError):
        digests = read_checksums(text, "SHA256SUMS")
        assert all(len(digest) in {7 + 64, 7 + 128} for digest in digests.values())


@pytest.mark.parametrize(
    ("name", "signature"),
    [
        ("ubuntu.SHA256SUMS", "ubuntu.SHA256SUMS.gpg"),
        ("debian.SHA512SUMS", "debian.SHA512SUMS.sign"),
        ("fedora.CHECKSUM", ""),
    ],
)
def test_a_good_signature_gives_the_text_that_it_is_for(name: str, signature: str) -> None:
    more = b"" if signature else b"\nSHA256 (evil.qcow2) = " + b"0" * 64 + b"\n"
    signed = read_signed_text(read(name) + more, read(signature) if signature else None, read("publisher.gpg"))
    digests = read_checksums(signed.decode(), name)
    assert digests
    assert digests == read_checksums(read(name).decode(), name), "only what was signed counts"


@pytest.mark.parametrize(
    ("name", "signature", "keyring", "state"),
    [
        ("ubuntu.SHA256SUMS", "", "publisher.gpg", SignatureState.UNSIGNED),
        ("ubuntu.SHA256SUMS", "rocky.CHECKSUM", "publisher.gpg", SignatureState.UNSIGNED),
        ("ubuntu.SHA256SUMS", "ubuntu.SHA256SUMS.gpg", "other.gpg", SignatureState.UNKNOWN_KEY),
        ("fedora.CHECKSUM", "", "other.gpg", SignatureState.UNKNOWN_KEY),
        ("debian.SHA512SUMS", "ubuntu.SHA256SUMS.gpg", "publisher.gpg", SignatureState.BAD),
        ("debian.SHA512SUMS", "fedora.CHECKSUM", "publisher.gpg", SignatureState.BAD),  # a good one, of itself
        ("debian.SHA512SUMS", "inline.gpg", "publisher.gpg", SignatureState.BAD),
        ("ubuntu.SHA256SUMS", "expired.SHA256SUMS.gpg", "expired.gpg", SignatureState.EXPIRED),
        ("ubuntu.SHA256SUMS", "ubuntu.SHA256SUMS.gpg", "publisher.asc", SignatureState.UNCHECKED),
    ],
)
def test_any_other_signature_is_a_state_of_its_own(
    name: str, signature: str, keyring: str, state: SignatureState
) -> None:
    with pytest.raises(UntrustedList) as caught:
        read_signed_text(read(name), read(signature) if signature else None, read(keyring))
    assert caught.value.state is state
    assert caught.value.hint


def test_an_empty_keyring_and_a_changed_text_are_refused() -> None:
    changed = read("fedora.CHECKSUM").replace(b"dfdf", b"dfde", 1)
    for content, keys, state in (
        (changed, read("publisher.gpg"), SignatureState.BAD),
        (read("fedora.CHECKSUM"), b"", SignatureState.UNKNOWN_KEY),
    ):
        with pytest.raises(UntrustedList) as caught:
            read_signed_text(content, None, keys)
        assert caught.value.state is state


def test_without_gpgv_nothing_is_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_words: object, **_more: object) -> None:
        raise FileNotFoundError(2, "No such file or directory", "gpgv")

    monkeypatch.setattr("flows.images.signatures.subprocess.run", refuse)
    with pytest.raises(UntrustedList, match="gpgv") as caught:
        read_signed_text(read("fedora.CHECKSUM"), None, read("publisher.gpg"))
    assert caught.value.state is SignatureState.UNCHECKED


def test_one_good_signature_of_several_is_enough_and_a_bad_one_too_much() -> None:
    good, unknown, bad = (
        "[GNUPG:] GOODSIG 1 a\n[GNUPG:] VALIDSIG 1\n",
        "[GNUPG:] NO_PUBKEY 2\n",
        "[GNUPG:] BADSIG 3 b\n",
    )
    assert judge_signature(unknown + good, is_detached=True) is SignatureState.GOOD
    assert judge_signature(good + bad, is_detached=True) is SignatureState.BAD
    assert judge_signature("gpgv: [GNUPG:] GOODSIG 1 a\n", is_detached=True) is SignatureState.UNCHECKED


IMAGES = """
images:
  - name: fedora/44/cloud
    index:
      {file: fedora.CHECKSUM, pattern: 'Fedora-Cloud-Base-Generic-(.+)\\.x86_64\\.qcow2', folder: /pool, keyring: KEYS}
groups: [{name: web, image: fedora/44/cloud, scope: all}]
"""


def load(folder: Path, text: str) -> ImageGroups:
    for path in LISTS.iterdir():
        shutil.copy(path, folder)
    (folder / "fleet.yaml").write_text("machines: []\n")
    (folder / "images.yaml").write_text(text)
    return load_image_groups(folder / "fleet.yaml")


def test_a_signed_list_gives_versions_and_an_unsigned_one_is_told(tmp_path: Path) -> None:
    signed = load(tmp_path, IMAGES.replace("KEYS", "publisher.gpg"))
    (version,) = signed.groups[0].component.versions
    assert (version.version, version.digest) == ("44-1.7", f"sha256:{'df' * 32}")
    assert signed.unsigned == ()
    assert load(tmp_path, IMAGES.replace(", keyring: KEYS", "")).unsigned == ("fedora/44/cloud",)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            "KEYS",
            "other.gpg",
            "fedora.CHECKSUM: was signed by a key that is not in the keyring (signature: UnknownKey)",
        ),
        ("KEYS", "nothing.gpg", "nothing.gpg can't be read"),
        ("fedora.CHECKSUM", "rocky.CHECKSUM", "has no signature (signature: Unsigned)"),
        (", keyring: KEYS", ", signature: ubuntu.SHA256SUMS.gpg", "nobody's signature can be checked without keys"),
        (", keyring: KEYS", ", url: 'http://example.org/CHECKSUM'", "nobody's signature can be checked without keys"),
        (", keyring: KEYS", ", url: 'https://me@example.org/CHECKSUM'", "url"),
        ("fedora.CHECKSUM, ", "publisher.asc, ", "line 1 is no digest of a file"),
    ],
)
def test_a_list_without_a_good_signature_is_refused(tmp_path: Path, old: str, new: str, words: str) -> None:
    text = IMAGES.replace(old, new).replace("KEYS", "publisher.gpg")
    with pytest.raises(InvalidImages) as caught:
        load(tmp_path, text if "asc" not in new else text.replace(", keyring: publisher.gpg", ""))
    assert words in str(caught.value)
    assert "images.yaml:" in str(caught.value)
