"""What is sent to PowerShell: one short command line for all scripts, and a stdin that no code page can change."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.domain.errors import PrivilegeError, ProtocolViolation, RequestError, UnsupportedSystem
from tasks.domain.protocols.clock import Deadline, SystemClock
from tasks.domain.protocols.transport import Script
from tasks.machines.transport.powershell_host import (
    LANGUAGE_MODE_EXIT_CODE,
    PowerShellHost,
    build_command_line,
    build_powershell_stdin,
    encode_powershell_params,
    render_clixml,
    wrap_powershell_script,
)
from tasks.machines.transport.script_library import load_windows_script

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))
items = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00\n"))
names = st.from_regex(r"[A-Za-z0-9_]{1,12}", fullmatch=True)


def unpack(stdin: bytes) -> dict[str, object]:
    payload: dict[str, object] = json.loads(stdin)
    return payload


def test_the_command_line_is_short_and_has_nothing_that_cmd_would_change():
    line = build_command_line()
    assert len(line) < 8191 / 3, "cmd.exe accepts 8191 characters"
    assert line.isascii()
    assert not set(line) & set("\"%^&|<>()!'`\n")
    bootstrap = base64.b64decode(line.split()[-1]).decode("utf-16-le")
    assert "$input" not in bootstrap  # PowerShell would then read stdin itself
    assert "$p.script" in bootstrap
    # what detection rules for PowerShell take for an attack (Elastic: defense_evasion_posh_compressed)
    assert "FromBase64String" not in bootstrap
    assert "IO.Compression" not in bootstrap


@given(
    texts,
    st.dictionaries(names, texts | st.lists(items, max_size=4).map(tuple), max_size=5).filter(
        lambda params: len({name.lower() for name in params}) == len(params)
    ),
)
def test_stdin_is_ascii_and_has_script_parameters_and_mark_as_they_are(script, params):
    stdin = build_powershell_stdin(script, params, "0" * 32)
    assert stdin.isascii()
    assert b"\n" not in stdin
    payload = unpack(stdin)
    assert script in str(payload["script"])
    assert payload["mark"] == "@fleetpatch-" + "0" * 32
    sent = payload["params"]
    assert isinstance(sent, dict)
    told = {
        name: value[1:] if isinstance(value, str) else tuple(item[1:] for item in value) for name, value in sent.items()
    }
    assert told == params
    first = [value if isinstance(value, str) else "".join(value[:1]) for value in sent.values()]
    assert all(text[:1] in {"=", ""} for text in first)


@pytest.mark.parametrize(
    ("params", "what"),
    [
        ({"a b": "x"}, "in its name"),
        ({"a": "x\x00"}, "NUL"),
        ({"a": "\ud800"}, "NUL"),
        ({"a": ("x\ny",)}, "line break"),
        ({"name": "x", "Name": "y"}, "takes them for the same"),
    ],
)
def test_a_parameter_that_no_script_can_hold_is_refused(params, what):
    with pytest.raises(RequestError, match=what):
        encode_powershell_params(params)


def test_a_job_has_the_prelude_and_no_word_of_its_parameters():
    text = wrap_powershell_script("Write-FpRecord 'x'")
    assert text.startswith(load_windows_script("answers"))
    assert "Write-FpRecord 'x'\n} catch {" in text


def test_the_errors_of_powershell_are_readable():
    text = (
        'said before\n#< CLIXML\r\n<Objs Version="1.1.0.1" xmlns="http://schemas.microsoft.com/powershell/2004/04">'
        '<Obj S="progress" RefId="0"><TN RefId="0"><T>x</T></TN></Obj>'
        '<S S="Error">The term &lt;x&gt; is not known_x000D__x000A_</S><S S="Error">At line:1_xD83D__xDE00_</S></Objs>'
        "\nsaid after"
    )
    assert render_clixml(text) == "said before\nThe term <x> is not known\nAt line:1\U0001f600\nsaid after"
    assert render_clixml("#< CLIXML") == ""
    assert render_clixml("nothing of it\n") == "nothing of it\n"
    assert render_clixml('#< CLIXML <Objs><S S="Error">_xD83D_</S></Objs>') == "�"
    cut = '#< CLIXML <Objs><S S="Error">never ended'
    assert render_clixml(cut) == cut


class _Channel:
    """Answers every command with the same output."""

    is_open = True

    def __init__(self, status, stdout=b"", stderr=b""):
        self.answer = status, stdout, stderr

    def execute(self, command_line, stdin, decoder, *, deadline, may_be_ended=False):
        status, stdout, stderr = self.answer
        decoder.feed_stderr(stderr)
        decoder.feed_stdout(stdout)
        return status

    def close(self):
        self.is_open = False


CLOCK = SystemClock()
_PROGRESS = b'#< CLIXML\r\n<Objs Version="1.1.0.1"><Obj S="progress" RefId="0"><TN RefId="0" /></Obj></Objs>'


@pytest.mark.parametrize(
    ("channel", "error", "message"),
    [
        (_Channel(LANGUAGE_MODE_EXIT_CODE), PrivilegeError, "constrained language mode"),
        (_Channel(9009, stderr=b"'powershell.exe' is not recognized"), ProtocolViolation, "no powershell.exe"),
        (_Channel(1, stdout=b"Welcome\r\n"), ProtocolViolation, "no end; it also said: Welcome"),
        (_Channel(0), ProtocolViolation, "no end"),
        (_Channel(1, stderr=_PROGRESS + b"out of memory"), ProtocolViolation, "no end; it also said: out of memory$"),
        (_Channel(122, stderr=_PROGRESS + b"'ConvertFrom-Json' is not known"), UnsupportedSystem, "PowerShell 2"),
    ],
)
def test_a_powershell_that_does_not_answer_is_told_with_its_reason(channel, error, message):
    def loader(name, package=""):
        return "'x'"

    host = PowerShellHost(channel, machine="win-1", clock=CLOCK, script_loader=loader)
    with pytest.raises(error, match=message) as caught:
        host.run_script(Script("x"), deadline=Deadline.after(CLOCK, 5))
    assert caught.value.hint
    assert ".bashrc" not in caught.value.hint
