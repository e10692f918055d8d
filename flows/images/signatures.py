"""Checks the signatures of publishers' lists by gpgv, against a keyring of the owner."""

import subprocess
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory

from tasks.domain.errors import RequestError


class SignatureState(StrEnum):
    """What is known of the signature of a list."""

    GOOD = "Good"  # a key of the keyring has made it
    UNSIGNED = "Unsigned"
    UNKNOWN_KEY = "UnknownKey"
    EXPIRED = "Expired"  # or revoked: the signature or its key
    BAD = "Bad"  # it is of something else
    UNCHECKED = "Unchecked"  # gpgv is not there, or could not say it


_WORDS = {
    SignatureState.UNSIGNED: ("has no signature", "Name the file of its signature: `signature`."),
    SignatureState.UNKNOWN_KEY: ("was signed by a key that is not in the keyring", "Ask its publisher for its key."),
    SignatureState.EXPIRED: ("has an expired or revoked signature or key", "Ask its publisher for its new key."),
    SignatureState.BAD: ("was changed after it was signed", "Do not use it. Take the list and its signature anew."),
    SignatureState.UNCHECKED: ("could not be checked", "It needs gpgv here, and a keyring made by `gpg --dearmor`."),
}


class UntrustedList(RequestError):
    """A list whose signature is not good. Nothing of it may be used."""

    def __init__(self, state: SignatureState, said: str = "") -> None:
        meaning, hint = _WORDS[state]
        super().__init__(f"{meaning}{said and f': {said}'} (signature: {state.value})", hint=hint)
        self.state = state


def judge_signature(status: str, *, is_detached: bool) -> SignatureState:
    """Return what the status lines of gpgv say (``[GNUPG:] GOODSIG …``). One good signature of several is enough. Pure.

    A file with a text of its own, in place of a detached signature, says nothing of the list: gpgv only warns of that.
    """
    words = {line.split(" ")[1] for line in status.splitlines() if line.startswith("[GNUPG:] ")}
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
    """Return the part of a list that its signature is for; None: the list itself is clearsigned.

    Raise UntrustedList if the signature is not known to be good.
    """
    if keyring.startswith(b"-----BEGIN"):
        raise UntrustedList(SignatureState.UNCHECKED, "the keyring is armoured")
    with TemporaryDirectory() as folder:
        signed = ["signature", "list"] if signature is not None else ["list"]
        for name, data in (("keyring", keyring), ("list", content), ("signature", signature or b"")):
            Path(folder, name).write_bytes(data)
        command = ["gpgv", "--homedir", folder, "--status-fd", "2", "--keyring", f"{folder}/keyring", "--output", "-"]
        try:
            done = subprocess.run([*command, *signed], cwd=folder, capture_output=True, timeout=60, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise UntrustedList(SignatureState.UNCHECKED, f"gpgv: {error}") from error
    said = done.stderr.decode(errors="replace")
    if (state := judge_signature(said, is_detached=signature is not None)) is not SignatureState.GOOD:
        raise UntrustedList(state, said.strip()[-300:] if state is SignatureState.UNCHECKED else "")
    header = content.partition(b"\n\n")[0].count(b"\n") + 2  # faults keep the number of their line
    return content if signature is not None else b"\n" * header + done.stdout
