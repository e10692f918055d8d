"""Checks the signatures of publishers' lists by gpgv, against a keyring of the owner."""

import subprocess
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from tasks.domain.errors import RequestError

_GPGV_SECONDS: Final = 60


class SignatureState(StrEnum):
    """What is known of the signature of a list, and in words."""

    GOOD = "Good", "was signed by a key of the keyring", ""
    UNSIGNED = "Unsigned", "has no signature", "Name the file of its signature: `signature`."
    UNKNOWN_KEY = "UnknownKey", "was signed by a key that is not in the keyring", "Ask its publisher for its key."
    EXPIRED = (
        "Expired",
        "has a signature or a key that has expired or was revoked",
        "Ask its publisher for its new key.",
    )
    BAD = "Bad", "was changed after it was signed", "Take the list and its signature anew. Do not use this one."
    UNCHECKED = "Unchecked", "could not be checked", "The controller needs gpgv, and a keyring that is not armoured."

    meaning: str
    hint: str

    def __new__(cls, word: str, meaning: str, hint: str) -> "SignatureState":
        """Return the state of a word."""
        state = str.__new__(cls, word)
        state._value_, state.meaning, state.hint = word, meaning, hint
        return state


class UntrustedList(RequestError):
    """A list whose signature is not good. Nothing of it may be used."""

    def __init__(self, state: SignatureState, said: str = "") -> None:
        super().__init__(f"{state.meaning}{said and f': {said}'} (signature: {state.value})", hint=state.hint)
        self.state = state


def judge_signature(status: str, *, is_detached: bool) -> SignatureState:
    """Return what the status lines of gpgv say (``[GNUPG:] GOODSIG …``). One good signature of several is enough. Pure.

    A file with a text of its own, in place of a detached signature, says nothing of the list: gpgv only warns of that.
    """
    words = {line.split()[1] for line in status.splitlines() if line.startswith("[GNUPG:] ") and len(line.split()) > 1}
    if "BADSIG" in words or (is_detached and "PLAINTEXT" in words):
        return SignatureState.BAD
    if {"GOODSIG", "VALIDSIG"} <= words:
        return SignatureState.GOOD
    if words & {"EXPSIG", "EXPKEYSIG", "REVKEYSIG"}:
        return SignatureState.EXPIRED
    if "NO_PUBKEY" in words:
        return SignatureState.UNKNOWN_KEY
    return SignatureState.UNSIGNED if "NODATA" in words else SignatureState.UNCHECKED


def read_signed_text(content: bytes, signature: bytes | None, keyring: bytes) -> bytes:
    """Return the part of a list that its signature is for.

    Args:
        content: of the list.
        signature: its detached signature; None: the list itself is clearsigned.
        keyring: the keys that may have signed it, as gpgv reads them.

    Raises:
        UntrustedList: the signature is not good, or not known to be good.
    """
    if keyring.startswith(b"-----BEGIN"):
        raise UntrustedList(SignatureState.UNCHECKED, "the keyring is armoured: `gpg --dearmor`")
    with TemporaryDirectory() as folder:
        files = {"keyring": keyring, "list": content, "signature": signature}
        paths = {name: Path(folder, name) for name, data in files.items() if data is not None}
        for name, path in paths.items():
            path.write_bytes(files[name] or b"")
        signed = [str(paths["signature"]), str(paths["list"])] if signature is not None else [str(paths["list"])]
        options = ["--homedir", folder, "--status-fd", "2", "--keyring", str(paths["keyring"]), "--output", "-"]
        try:
            command = ["gpgv", *options, *signed]
            done = subprocess.run(command, capture_output=True, timeout=_GPGV_SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise UntrustedList(SignatureState.UNCHECKED, f"gpgv: {error}") from error
    said = done.stderr.decode(errors="replace")
    if (state := judge_signature(said, is_detached=signature is not None)) is not SignatureState.GOOD:
        own_words = [line for line in said.splitlines() if line and not line.startswith("[GNUPG:]")]
        raise UntrustedList(state, "; ".join(own_words)[-300:] if state is SignatureState.UNCHECKED else "")
    header = content.partition(b"\n\n")[0].count(b"\n") + 2  # faults keep the number of their line
    return content if signature is not None else b"\n" * header + done.stdout
