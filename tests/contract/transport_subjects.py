"""What the Transport contract is held against: the same scripts and jobs on a fake, this machine and a real host."""

from collections.abc import Callable
from dataclasses import dataclass, field

from tasks.domain.protocols.clock import Clock
from tasks.domain.protocols.transport import SHARED_SCRIPTS, ScriptResult, Transport
from tasks.machines.transport.script_library import load_script
from tests.support.fake_transport import FakeTransport, SimulatedJob

SCRIPTS = {
    "greet": """
        echo 'said on stdout'; echo 'said on stderr' >&2
        fp_emit greeting "name=$(fp_param name; printf .)" n:=42
        fp_param list | fp_lines item value
        exit 7""",
    "torrent": "head -c 4000000 /dev/zero | tr '\\000' x >&2; fp_emit after",
    "noisy": "timeout 60 yes >&2 3>&- & fp_emit left",
    "sleepy": "sleep 40; fp_emit late",
    "work": "fp_emit begun; echo working; sleep 1; fp_emit done 'text=ünï\"'; echo worked; exit 3",
    "endless": "fp_emit begun; while ! fp_stop_requested; do sleep 0.1; done; fp_emit stopped",
}


def scripts(name: str, package: str = SHARED_SCRIPTS) -> str:
    """The contract's own scripts, and the product's."""
    return SCRIPTS[name] if name in SCRIPTS else load_script(name, package)


@dataclass
class Subject:
    """One implementation under test.

    Attributes:
        is_open: gives a transport to the one machine; a second one is another connection.
        clock: whose time passes for it.
        kill: takes a job's process away, as a power cut would.
    """

    is_open: Callable[[], Transport]
    clock: Clock
    kill: Callable[[str], None]
    opened: list[Transport] = field(default_factory=list)

    def transport(self) -> Transport:
        transport = self.is_open()
        self.opened.append(transport)
        return transport

    def close(self) -> None:
        for transport in self.opened:
            transport.close()


def fake_machine(clock: Clock) -> FakeTransport:
    """The fake, taught what the scripts do."""
    machine = FakeTransport(clock, name="subject", can_wait=True)

    def greet(script):
        greeting = {"kind": "greeting", "name": f"{script.params['name']}\n.", "n": 42}
        items = [{"kind": "item", "value": value} for value in script.params.get("list", ())]
        return ScriptResult((greeting, *items), 7, unframed_output="said on stdout\nsaid on stderr")

    machine.answer("greet", greet)
    machine.answer("torrent", ScriptResult(({"kind": "after"},), 0, unframed_output="x" * 60_000))
    machine.answer("noisy", {"kind": "left"})
    machine.answer("sleepy", {"kind": "late"}, seconds=40)
    done = (1.0, {"kind": "done", "text": 'ünï"'})
    machine.job("work", SimulatedJob(((0.0, {"kind": "begun"}), done), 1.0, exit_code=3, log="working\nworked\n"))
    machine.job("endless", SimulatedJob(((0.0, {"kind": "begun"}),), None))
    return machine
