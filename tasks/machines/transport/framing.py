"""Builds the input for a POSIX shell, and defines the frame of its output. Pure: it knows no connection.

Input: one compound command on stdin. The shell reads it to its closing brace before it executes any of it, so that a
broken connection executes nothing. Parameters are JSON in base64, never script text.

Output (output_decoder.py reads it): lines that begin with a mark. The mark has a nonce that only this exchange uses. A
record comes in pieces (``MARK+ piece``), its last one is ``MARK= piece``. ``MARK! 0`` is the end and the exit code.
``MARK! 0 1234`` also says how many bytes all pieces have: a connection that was repaired meanwhile may have lost some.
Everything else is unframed output.
"""

import base64
import re
import secrets
from collections.abc import Mapping
from typing import Final

from tasks.domain.errors import RequestError
from tasks.domain.protocols.transport import ScriptParameter
from tasks.machines.transport.script_library import load_script


def generate_nonce() -> str:
    """Return 128 random bits in hexadecimal."""
    return secrets.token_hex(16)


def encode_params(params: Mapping[str, ScriptParameter]) -> str:
    """Return parameters as one base64 token: a flat JSON object in the subset that prelude.sh reads.

    Raises:
        RequestError: a name or a value is not valid (see ``require_valid_param``).
    """
    parts = []
    for name, value in params.items():
        require_valid_param(name, value)
        if isinstance(value, str):
            text = _render_json_string(value)
        else:
            text = "[" + ",".join(_render_json_string(item) for item in value) + "]"
        parts.append(f"{_render_json_string(name)}:{text}")
    return base64.b64encode(("{" + ",".join(parts) + "}").encode()).decode("ascii")


def require_valid_param(name: str, value: ScriptParameter) -> None:
    """Require a parameter that scripts of every kind can hold.

    Raises:
        RequestError: a name that is no name of a shell's variable, or a value that a shell can't hold: NUL, lone
            surrogates, or a newline within an item of a list.
    """
    if not _NAME_PATTERN.fullmatch(name):
        raise RequestError(f"parameter {name!r}: only letters, digits and _ can be in its name")
    items = (value,) if isinstance(value, str) else value
    for text in items:
        if not isinstance(value, str) and "\n" in text:
            raise RequestError(f"parameter '{name}': an item of a list contains a line break: {text!r}")
        if _NOT_HELD_PATTERN.search(text):
            raise RequestError(f"parameter '{name}' contains NUL or half a character: {text[:80]!r}")


_NAME_PATTERN: Final = re.compile(r"[A-Za-z0-9_]+")
_NOT_HELD_PATTERN: Final = re.compile(r"[\x00\ud800-\udfff]")
# The escapes that prelude.sh reads: \n, and \u for the other control characters, the quote and the backslash.
_JSON_ESCAPES: Final = {code: f"\\u{code:04x}" for code in (*range(1, 32), ord('"'), ord("\\"))} | {ord("\n"): "\\n"}


def _render_json_string(text: str) -> str:
    return f'"{text.translate(_JSON_ESCAPES)}"'


def build_script_stdin(script: str, params: Mapping[str, ScriptParameter], nonce: str) -> bytes:
    """Return the stdin for ``/bin/sh -s``: environment, prelude and script, framed with the nonce.

    The script runs in a subshell, so that its end is always reported (after exit, set -e, or a syntax error at run
    time). Its stdin is /dev/null. Its stdout goes to stderr, because only records go to the controller.
    """
    head = f"fp_mark={build_frame_mark(nonce)} FP_TOKEN={encode_params(params)}\nexec 3>&1 1>&2"
    tail = 'fp_code=$?\nprintf \'\\n%s! %s\\n\' "$fp_mark" "$fp_code" >&3\nexit "$fp_code"'
    text = f"{{\n{head}\n(\n{build_job_script(script)})\n{tail}\n}} </dev/null\n"
    return text.encode()


def build_job_script(script: str) -> str:
    """Return a script with all that comes before it: the text of a job's ``script`` file, which job_run.sh sources."""
    return f"{load_script('environment')}\n{load_script('prelude')}\n{script}\n"


def build_frame_mark(nonce: str) -> str:
    """Return the start of framed lines."""
    return f"@fleetpatch-{nonce}"
