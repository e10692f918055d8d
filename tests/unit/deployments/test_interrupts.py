"""Ctrl-C while the command is being loaded."""

import signal
import subprocess
import sys

import pytest

from tests.ci.tree import TOP

pytestmark = pytest.mark.slow

LOAD = """
import os, signal, sys

class Interrupts:
    def find_spec(self, name, path, target=None):
        if name == sys.argv[1]:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupts())
import fleetpatch.cli.command
if sys.argv[2:]:
    sys.exit(fleetpatch.cli.command.main(sys.argv[2:]))
print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
"""


def load(interrupted_at: str, *command: str, **more: object) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-c", LOAD, interrupted_at, *command]
    # What a shell starts in the background ignores interrupts: these tests must not, whoever starts them.
    more.setdefault("preexec_fn", lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    return subprocess.run(words, cwd=TOP, capture_output=True, text=True, check=False, **more)  # type: ignore[call-overload, no-any-return]


@pytest.mark.parametrize("module", ["fleetpatch.cli.main", "typer", "fleetpatch.cli.app"])
def test_an_interrupt_while_loading_ends_it_quietly(module: str) -> None:
    ended = load(module)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "error: interrupted\n")


def test_an_interrupt_while_its_command_is_loaded_ends_it_quietly() -> None:
    ended = load("fleetpatch.cli.commands.server", "server", "--show")
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "")


def test_later_it_is_what_it_always_is() -> None:
    assert load("no.such.module").stdout == "True\n"


def test_who_has_it_ignored_is_not_interrupted() -> None:
    ended = load("typer", preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))
    assert (ended.returncode, ended.stdout) == (0, "False\n")
