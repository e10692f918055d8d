"""The words for errors of sockets and of paramiko: no number and no class of Python's."""

import re
from typing import Final

_ERRNO_PATTERN: Final = re.compile(r"\s*\[Errno -?\d+\]\s*")


def describe_error(error: BaseException) -> str:
    """Return what happened, as the end of a sentence."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    text = str(error.strerror or "") if isinstance(error, OSError) else ""
    return text or _ERRNO_PATTERN.sub(": ", str(error)).removeprefix(": ") or "the other side closed it"
