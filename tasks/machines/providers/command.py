"""The provider that is a command of the owner on the controller: an order as JSON on its stdin, its answer on stdout.

The command runs without a shell, in its own process group, with the environment of hooks. Its exit code 0 is success,
75 says that it may succeed later, any other one is a failure.
"""

import json
import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from inventory.files.file_trust import UntrustedFile, require_trusted_path
from inventory.machine import Machine
from inventory.machine_providers import ProviderKind, ProviderSettings, find_provider_machine_id
from tasks.domain.errors import ProviderError, ProviderUnavailable
from tasks.domain.protocols.clock import Clock, Deadline
from tasks.domain.provided_machines import (
    Consistency,
    DiskRole,
    HardwareIdentity,
    KeptDisk,
    Overlay,
    PowerState,
    ProvidedDisk,
    ProvidedMachine,
    ProviderAct,
    ProviderOrder,
    Snapshot,
)
from tasks.machines.providers.registry import ProviderPorts
from tasks.rules.child_environment import build_hook_environment
from tasks.rules.machine_identity import normalize_instance_id, normalize_macs, normalize_uuid

_TRY_LATER: Final = 75  # EX_TEMPFAIL of sysexits.h
_ACTS_SECONDS: Final = 60.0
_MOST_CHARACTERS: Final = 4_000_000
_HINT: Final = "Correct the command of the provider; docs/reference/providers.md has the form of its answers."


class CommandProvider:
    """A machine of the owner's command. See MachineProvider."""

    kind = ProviderKind.COMMAND.value

    def __init__(self, settings: ProviderSettings, machine_id: str, clock: Clock) -> None:
        self._settings, self._id, self._clock = settings, machine_id, clock
        self._acts: frozenset[ProviderAct] | None = None

    @property
    def acts(self) -> frozenset[ProviderAct]:
        """What the command says that it can do. The first call asks it."""
        if self._acts is None:
            answer = self._ask({"act": "acts"}, Deadline.after(self._clock, _ACTS_SECONDS))
            self._acts = frozenset(self._convert(lambda: [ProviderAct(act) for act in answer["acts"]]))
        return self._acts

    def read_machine(self, *, deadline: Deadline) -> ProvidedMachine:
        """Return the machine as it is now."""
        answer = self._ask({"act": "read"}, deadline)
        machine: ProvidedMachine = self._convert(lambda: _read_machine(self._id, answer["machine"]))
        return machine

    def carry_out(self, order: ProviderOrder, *, deadline: Deadline) -> str:
        """Carry an order out. Return the command's ``note``, or ""."""
        if order.act not in self.acts:
            raise ProviderError(f"{self._name}: the command can't do {order.act}", hint="Its `acts` say what it can.")
        return str(self._ask(asdict(order), deadline).get("note", ""))

    @property
    def _name(self) -> str:
        return f"{self._settings.name}, {self._id}"

    def _convert(self, read: Callable[[], Any]) -> Any:  # noqa: ANN401 - what it reads
        try:
            return read()
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            fault = f"{type(error).__name__}: {error}"
            raise ProviderError(f"{self._name}: the answer has another form: {fault}", hint=_HINT) from error

    def _ask(self, question: Mapping[str, object], deadline: Deadline) -> Mapping[str, Any]:
        asked = json.dumps({"provider": self._settings.name, "machine": self._id, **question})
        code, text, complaint = self._run(asked, deadline)
        if code == _TRY_LATER:
            raise ProviderUnavailable(f"{self._name}: {complaint or 'the command says that it may succeed later'}")
        if code != 0:
            raise ProviderError(f"{self._name}: {complaint or f'the command ended with {code}'}", hint=_HINT)
        answer = self._convert(lambda: json.loads(text))
        if not isinstance(answer, dict):
            raise ProviderError(f"{self._name}: the answer is no JSON object", hint=_HINT)
        return answer

    def _run(self, asked: str, deadline: Deadline) -> tuple[int, str, str]:
        """Return the exit code, the output and the end of what was said on stderr."""
        seconds = max(0.0, deadline.remaining_seconds(self._clock))
        environment = build_hook_environment(os.environ)
        try:
            arguments = shlex.split(self._settings.command)
            _require_trusted_program(arguments[0], environment["PATH"])
            child = subprocess.Popen(
                arguments,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                start_new_session=True,
            )
        except UntrustedFile as error:
            raise ProviderError(
                f"{self._name}: the command is not trusted: {error.message}", hint=error.hint
            ) from error
        except (OSError, ValueError, IndexError) as error:
            raise ProviderError(f"{self._name}: the command could not be started: {error}", hint=_HINT) from error
        with child:
            try:
                out, complaint = child.communicate(asked.encode(), timeout=seconds)
            except BaseException as error:
                os.killpg(child.pid, signal.SIGKILL)
                if not isinstance(error, subprocess.TimeoutExpired):
                    raise
                raise ProviderUnavailable(f"{self._name}: the command took too long, and was ended") from error
        text = out.decode("utf-8", "replace")[:_MOST_CHARACTERS]
        return child.returncode, text, complaint.decode("utf-8", "replace")[-500:].strip()


def open_command(settings: ProviderSettings, machine: Machine, ports: ProviderPorts) -> CommandProvider:
    """Return the provider of a machine."""
    return CommandProvider(settings, find_provider_machine_id(machine), ports.clock)


def _require_trusted_program(program: str, search_path: str) -> None:
    if path := shutil.which(program, path=search_path):
        require_trusted_path(Path(path))


def _read_machine(machine_id: str, document: Mapping[str, Any]) -> ProvidedMachine:
    return ProvidedMachine(
        machine_id,
        PowerState(document["power"]),
        tuple(ProvidedDisk(**disk | {"role": DiskRole(disk["role"])}) for disk in document["disks"]),
        tuple(_read_snapshot(snapshot) for snapshot in document["snapshots"]),
        tuple(KeptDisk(**disk) for disk in document["kept_disks"]),
        _read_overlay(document.get("overlay")),
        identity=_read_identity(document.get("identity")),
    )


def _read_identity(document: Mapping[str, Any] | None) -> HardwareIdentity | None:
    if document is None:
        return None
    if other := sorted(set(document) - {"uuid", "instance_id", "macs"}):
        raise ValueError(f"an identity has no {', '.join(other)}")
    instance_id = normalize_instance_id(document.get("instance_id", ""))
    macs = normalize_macs(document.get("macs", ()))
    return HardwareIdentity(normalize_uuid(document.get("uuid", "")), instance_id, macs)


def _read_snapshot(document: Mapping[str, Any]) -> Snapshot:
    time, used = document.get("taken_at"), document.get("used_bytes")
    taken_at = datetime.fromisoformat(time) if time else None
    if taken_at is not None and taken_at.tzinfo is None:
        raise ValueError(f"taken_at {time!r} has no time zone")
    return Snapshot(
        str(document["id"]),
        taken_at,
        tuple(str(disk) for disk in document.get("disks", ())),
        Consistency(document.get("consistency", Consistency.UNKNOWN)),
        int(used) if used is not None else None,
    )


def _read_overlay(document: Mapping[str, Any] | None) -> Overlay | None:
    if document is None:
        return None
    power = PowerState(document.get("power", PowerState.UNKNOWN))
    consistency = Consistency(document.get("consistency", Consistency.UNKNOWN))
    reaches = tuple(map(str, document.get("reaches", ())))
    return Overlay(**{**document, "power": power, "consistency": consistency, "reaches": reaches})
