"""Reads zypper's XML answers (``zypper --xmlout``). Pure.

An answer is one element ``<stream>``. Lines before and after it are not zypper's own (a plugin's, for example).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from defusedxml.ElementTree import ParseError, fromstring

from tasks.domain.errors import ManagerBusy, ManagerError, PrivilegeError, ProtocolViolation, RepositoryError
from tasks.machines.managers.script_output import ScriptSection

MAX_ANSWER_CHARACTERS: Final = 32_000_000
"""Thousands of patches take a few million."""
_MAX_MESSAGES: Final = 200
_MAX_MESSAGE_CHARACTERS: Final = 2_000
_CONTROL_PATTERN: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffe\uffff]")

_NO_PRIVILEGES, _NO_REPOSITORIES, _LOCKED = 5, 6, 7  # zypper(8): ZYPPER_EXIT_ERR_PRIVILEGES, _NO_REPOS, INF_LOCKED


class XmlElement(Protocol):
    """The part of an ElementTree element that is used here."""

    tag: str
    text: str | None

    def get(self, key: str) -> str | None:
        """Return an attribute, or None."""

    def iter(self, tag: str | None = None) -> Iterator["XmlElement"]:
        """Return the elements below with that tag, in document order."""

    def find(self, path: str) -> "XmlElement | None":
        """Return the first child with that tag."""

    def __iter__(self) -> Iterator["XmlElement"]: ...


@dataclass(frozen=True, slots=True)
class ZypperMessage:
    """A message: its type ("info", "warning", "error", or "prompt" for the description of a question) and text."""

    type: str
    text: str


@dataclass(frozen=True, slots=True)
class ZypperAnswer:
    """One answer: its elements, and its messages in their order."""

    root: XmlElement
    messages: tuple[ZypperMessage, ...]
    exit_code: int

    @property
    def text(self) -> str:
        """Return what zypper said, without its elements."""
        return "\n".join(message.text for message in self.messages)

    @property
    def errors(self) -> tuple[str, ...]:
        """Return the texts of the errors, each on one line."""
        return tuple(" ".join(message.text.split()) for message in self.messages if message.type == "error")


def parse_answer(section: ScriptSection, subject: str) -> ZypperAnswer:
    """Return the answer of one call of zypper.

    Args:
        section: the call.
        subject: what zypper was asked for, for error messages.

    Raises:
        ManagerBusy: another process has zypper's lock.
        RepositoryError: no repository is configured.
        PrivilegeError: zypper was not started as root.
        ProtocolViolation: the answer is no complete XML, has a document type, or is too long.
    """
    root = _parse_stream(section.text, subject)
    messages = tuple(_find_messages(root))
    answer = ZypperAnswer(root, messages, section.exit_code)
    errors_text = "; ".join(answer.errors[:3])
    if section.exit_code == _LOCKED:
        raise ManagerBusy(errors_text or "another process has zypper's lock")
    if section.exit_code == _NO_REPOSITORIES or _says(messages, "No repositories defined"):
        raise build_no_repository_error()
    if section.exit_code == _NO_PRIVILEGES:
        raise PrivilegeError(errors_text or "zypper needs administrator rights")
    return answer


def build_no_repository_error() -> RepositoryError:
    """Return the error for a machine without repositories: such a machine must not count as up to date."""
    return RepositoryError(
        "no package repository is configured and enabled, so nothing can be pending",
        hint="Register the machine (SUSEConnect --status) or add repositories (zypper repos).",
    )


def get_attribute(element: XmlElement | None, name: str) -> str:
    """Return an attribute; "" without it, or without the element."""
    return (element.get(name) or "") if element is not None else ""


def require_element(answer: ZypperAnswer, tag: str, subject: str) -> XmlElement:
    """Return the first element with that tag.

    Raises:
        ManagerError: zypper did not give it: it could not answer.
    """
    element = next(answer.root.iter(tag), None)
    if element is None:
        errors_text = "; ".join(answer.errors[:3]) or f"it ended with {answer.exit_code}"
        raise ManagerError(f"zypper could not tell {subject}: {errors_text}")
    return element


def _parse_stream(text: str, subject: str) -> XmlElement:
    begin, end = text.find("<stream>"), text.rfind("</stream>")
    if begin < 0 or end < begin:
        raise ProtocolViolation(f"zypper's answer about {subject} is not complete")
    if end - begin > MAX_ANSWER_CHARACTERS:
        raise ProtocolViolation(f"zypper's answer about {subject} is longer than {MAX_ANSWER_CHARACTERS} characters")
    stream = _CONTROL_PATTERN.sub("?", text[begin : end + len("</stream>")])
    try:  # bytes, so that half of a surrogate pair is no error either
        root: XmlElement = fromstring(stream.encode("utf-8", "replace"), forbid_dtd=True)
    except (ParseError, ValueError) as error:
        raise ProtocolViolation(f"zypper's answer about {subject} is not valid XML: {error}") from None
    return root


def _find_messages(root: XmlElement) -> Iterator[ZypperMessage]:
    count = 0
    for element in root.iter():
        if element.tag not in {"message", "prompt"} or count >= _MAX_MESSAGES:
            continue
        described = element if element.tag == "message" else element.find("description")
        text = (described.text or "").strip()[:_MAX_MESSAGE_CHARACTERS] if described is not None else ""
        if text:
            count += 1
            yield ZypperMessage(get_attribute(element, "type") if element.tag == "message" else "prompt", text)


def _says(messages: tuple[ZypperMessage, ...], words: str) -> bool:
    return any(words in message.text for message in messages)
