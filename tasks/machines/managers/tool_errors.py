"""Finds in the output of a tool what it says about its failure: the lines of the error, not those around them. Pure.

It knows the words of apt, dpkg, dnf, yum, zypper, rpm and Python with LC_ALL=C: tests/data/tool_errors has outputs.
"""

import re
from collections.abc import Iterator
from typing import Final

from tasks.rules.redaction import redact_text

_MAX_CHARACTERS: Final = 65_536
_MAX_ERROR_LENGTH: Final = 400
_MAX_ERRORS: Final = 5
_COLOUR_PATTERN: Final = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_TRACEBACK: Final = "Traceback (most recent call last):"
_BEGIN_PATTERN: Final = re.compile(
    r"(?:E|[Ee]rror|fatal|RPM|Problem(?: \d+)?|>>>|Transaction failed|Target initialization failed"
    r"|dpkg(?:-[a-z]+)?: (?:unrecoverable fatal )?error(?: processing \S+ \S+ \(\S+\))?(?:, aborting)?):(?: |$)"
    r"|Failed to |Error (?:unpacking rpm package|in cpio payload of rpm package|in [A-Z]+ scriptlet) "
    r"|%\w+\(\S+\) scriptlet failed"
)
"""How an error begins. More of it may follow, in lines that are indented or behind a colon."""
_PROGRESS_PATTERN: Final = re.compile(r" +[A-Z][a-z]+(?: [a-z]+)? +: ")
_GLUED_PATTERN: Final = re.compile(r"(?<=[\d%])(?=dpkg: |Error: |Error unpacking )")
"""An error behind a line of progress that has no end."""
_PREFIX_PATTERN: Final = re.compile(
    r"^(?:E: |(?:Error: )?Subprocess failed\. |Error: (?=Error: |RPM failed: )|RPM failed: |>>> )+"
)
_SENTENCE_PATTERN: Final = re.compile(r"[a-z](?!\S*: )")
"""dpkg continues a fatal error in lines that are not indented."""
_SUMMARY_PATTERN: Final = re.compile(
    r"(?:Error: )?Transaction failed|Sub-process (?:/\S+ )?returned|(?:error: )?\S+: (?:install failed|erase skipped)$"
    r"|Error in [A-Z]+ scriptlet|Error:$"
)
"""What only says that something failed: it is no reason beside another error."""


def find_tool_error(text: str) -> str:
    """Return the errors in a tool's output as "error; error", each in one line; without any, its last line.

    Only the end of a long output is read. "" if there is no output.
    """
    lines = [
        part.rstrip()
        for line in _COLOUR_PATTERN.sub("", text[-_MAX_CHARACTERS:]).replace("\r", "\n").split("\n")
        for part in _GLUED_PATTERN.split(line)
    ]
    errors = list(dict.fromkeys(_shorten(error) for error in _find_errors(lines)))
    reasons = [error for error in errors if not _SUMMARY_PATTERN.match(error)]
    last_line = [_shorten(line) for line in lines if line.strip()][-1:]
    return redact_text("; ".join((reasons or errors)[-_MAX_ERRORS:] or last_line))


def describe_failure(failure: str, output: str) -> str:
    """Return "FAILURE: ERROR", or only what failed if the tool said nothing."""
    error = find_tool_error(output)
    return f"{failure}: {error}" if error else failure


def complete_error(error: str, words: str) -> str:
    """Return a job's error "KIND: PART; PART"; without a part, with what the tool said in ``words``."""
    kind, separator, _ = error.partition(f": {_NO_WORDS}")
    return f"{kind}: {find_tool_error(words) or _NO_WORDS}" if separator else error


_NO_WORDS: Final = "see the job's log"
"""What a job says if it finds no error in its log (apt_errors.sh, rpm_job.sh)."""


def _find_errors(lines: list[str]) -> Iterator[str]:
    """Yield each error with its further lines."""
    number = 0
    while number < len(lines):
        line, first = lines[number].strip(), number
        number += 1
        if line == _TRACEBACK:  # its last line tells the error
            while number < len(lines) and lines[number][:1].isspace():
                number += 1
            if number < len(lines):
                yield lines[number]
            number += 1
        elif _BEGIN_PATTERN.match(line):
            parts = [line]
            while number < len(lines) and _continues(lines[number], parts):
                parts.append(lines[number].strip())
                number += 1
            before = lines[first - 1].strip() if first and "scriptlet failed" in line else ""
            if before and not (_BEGIN_PATTERN.match(before) or _PROGRESS_PATTERN.match(lines[first - 1])):
                yield before
            yield " ".join(parts)


def _continues(line: str, parts: list[str]) -> bool:
    """Return whether a line is a further one of an error."""
    if line[:1].isspace():
        return not _PROGRESS_PATTERN.match(line)
    is_fatal = parts[0].endswith(", aborting:") and len(parts) > 1
    return bool(line) and (parts[-1].endswith(":") or bool(is_fatal and _SENTENCE_PATTERN.match(line)))


def _shorten(error: str) -> str:
    return _PREFIX_PATTERN.sub("", " ".join(error.split())).replace("; ", ", ")[:_MAX_ERROR_LENGTH]
