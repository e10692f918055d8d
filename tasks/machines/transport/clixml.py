"""Makes readable what PowerShell writes to a redirected stderr: CLIXML, its own format of objects."""

import html
import re
from typing import Final

_DOCUMENT_PATTERN: Final = re.compile(r"#< CLIXML\s*<Objs\b.*?</Objs>|#< CLIXML\s*\Z", re.DOTALL)
_TEXT_PATTERN: Final = re.compile(r'<S S="(?:Error|Warning|Information|Verbose|Debug)">(.*?)</S>', re.DOTALL)
_ESCAPE_PATTERN: Final = re.compile(r"_x([0-9A-Fa-f]{4})_")


def render_clixml(text: str) -> str:
    """Return a text with its CLIXML documents replaced by the messages in them. Progress is left out.

    It does not parse XML: the text comes from a machine, and may be cut.
    """
    return _DOCUMENT_PATTERN.sub(_render_document, text).strip("\n") if "#< CLIXML" in text else text


def _render_document(document: re.Match[str]) -> str:
    lines = (html.unescape(_ESCAPE_PATTERN.sub(_decode_escape, line)) for line in _TEXT_PATTERN.findall(document[0]))
    joined = "".join(lines).replace("\r\n", "\n")
    return joined.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")  # escapes may be half characters


def _decode_escape(escape: re.Match[str]) -> str:
    return chr(int(escape[1], 16))
