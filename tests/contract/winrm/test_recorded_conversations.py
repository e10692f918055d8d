"""The client takes what real Windows machines have answered, from the login to the end of the shell.

Others recorded these conversations (tests/data/windows/README.md). They are played by the host for tests, with its own
login and encryption.
"""

import json

import pytest

import tasks.domain.errors
from inventory.credentials import Credential, CredentialKind, Secret
from tasks.machines.transport.lockout_guard import LockoutGuard
from tasks.machines.transport.output_decoder import ScriptOutputDecoder
from tasks.machines.transport.winrm.channel import INPUT_CHUNK_BYTES, connect
from tasks.machines.transport.winrm.login import WinrmEnvironment
from tests.contract.winrm.subjects import BASIC, CLOCK, NTLM, machine, soon
from tests.lab.windows.replay import FILE, Replay, conversations

RECORDED = conversations()
LINE = "powershell.exe -EncodedCommand QQA="


@pytest.fixture(params=[(NTLM, False), (BASIC, True)], ids=["sealed", "https"])
def open_channel(request, host):
    how, https = request.param

    def open_it(conversation):
        replay = Replay(conversation)
        host.settings.service = replay
        credential = Credential(CredentialKind.PASSWORD, None, Secret(host.password))
        environment = WinrmEnvironment(lambda _: credential, CLOCK, LockoutGuard())
        return connect(machine(host, how, https=https), environment, deadline=soon()), replay

    return open_it


def stdin_of(conversation):
    """Input of as many pieces as were sent when it was recorded."""
    sends = sum(answer["to"] == "Send" for answer in conversation["answers"])
    return b"x" * (1 + INPUT_CHUNK_BYTES * (max(sends, 1) - 1))


class Streams(ScriptOutputDecoder):
    """Keeps what arrives, beside reading it."""

    def __init__(self):
        super().__init__("0" * 32)
        self.stdout = self.stderr = b""

    def feed_stdout(self, data):
        self.stdout += data
        return super().feed_stdout(data)

    def feed_stderr(self, data):
        self.stderr += data
        super().feed_stderr(data)


@pytest.mark.parametrize("conversation", RECORDED, ids=[each["name"] for each in RECORDED])
def test_what_windows_said_is_taken_as_it_was_meant(open_channel, conversation):
    channel, replay = open_channel(conversation)
    streams = Streams()
    if "error" in conversation:
        with pytest.raises(getattr(tasks.domain.errors, conversation["error"]), match=conversation["says"]) as caught:
            channel.execute(LINE, stdin_of(conversation), streams, deadline=soon())
        assert caught.value.hint
        assert not channel.is_open
    else:
        status = channel.execute(LINE, stdin_of(conversation), streams, deadline=soon())
        assert status == conversation["exit_code"]
        assert streams.stdout.decode() == conversation["stdout"]
        assert streams.stderr.decode() == conversation["stderr"]
    channel.close()
    assert replay.unexpected == []
    assert [answer["to"] for answer in replay.left if answer["to"] != "Delete" or "error" not in conversation] == []


def test_a_request_that_was_not_recorded_is_seen(open_channel):
    conversation = next(each for each in RECORDED if each["name"] == "a command")
    channel, replay = open_channel({**conversation, "answers": conversation["answers"][:2]})
    with pytest.raises(tasks.domain.errors.FleetpatchError):
        channel.execute(LINE, b"x", Streams(), deadline=soon())
    assert "Receive" in replay.unexpected


def test_each_conversation_names_its_source():
    sources = (FILE.parent / "README.md").read_text()
    for each in json.loads(FILE.read_text()):
        assert each["recorded"].partition(":")[0] in sources
