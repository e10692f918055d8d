"""Records what a machine answers to a readiness check, without its names, as files that a test can play again.

A folder with a recording is a bundle: ``bundle.json`` says what was asked, and MACHINE.SCRIPT.json has the records that
a script gave. CONTRIBUTING.md says how it becomes a test.
"""

import json
import logging
import math
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, replace
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from flows.ports.ports import Ports
from inventory.data_class import dataclass
from inventory.files.paths import ensure_private_directory
from inventory.machine import Machine
from tasks.domain.errors import CannotRun, FleetpatchError, RequestError
from tasks.domain.model import Facts, Update
from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.package_manager import PackageManager
from tasks.domain.protocols.transport import Script, ScriptRecord, Transport
from tasks.domain.states import Classification
from tasks.machines.managers.registry import find_family_manager
from tasks.machines.transport.recording import Recording, RecordingTransport, describe_recording
from tasks.rules.recording import STAND_IN, Replaced, list_known_names, replace_names

logger = logging.getLogger(__name__)

SCRIPT_SECONDS: Final = 120.0
EVENT_DAYS: Final = 30
"""How far back the machine's log is read."""
_MAX_INSTALLED: Final = 5
"""How many updates of the history the machine is asked about."""


@dataclass(frozen=True, slots=True)
class RecordedBundle:
    """What was written."""

    folder: Path
    scripts: int  # how many questions have an answer
    failed: tuple[str, ...]  # names of scripts that gave none
    replaced: Mapping[str, int]  # kind -> how many different values were replaced
    kept: tuple[str, ...]  # known names that were not replaced, because they are common words or too short
    knows_own_names: bool  # whether the machine has said by which names it is known


def require_new_folder(folder: Path) -> None:
    """Check that a recording can be written there, before a machine is asked.

    Raises:
        RequestError: it is a file, or has files.
    """
    try:
        is_free = not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
    except OSError as error:
        raise RequestError(f"the folder of the recording can't be read: {error}") from error
    if not is_free:
        raise RequestError(f"{folder} is not empty", hint="Give --record a new folder: nothing there is replaced.")


@dataclass(slots=True)
class MachineRecorder:
    """Records one machine."""

    machine: Machine
    real_ports: Ports
    recordings: list[Recording] = field(default_factory=list)  # what it was asked and has answered so far, in order
    _manager: PackageManager | None = None
    _began_at: datetime = field(init=False)

    def __post_init__(self) -> None:
        self._began_at = self.real_ports.clock.now()

    @property
    def ports(self) -> Ports:
        """The same ports, recording what goes over the connection."""
        return replace(self.real_ports, connect=self._connect, find_manager=self._find_manager)

    def record_rest(self, folder: Path) -> RecordedBundle | None:
        """Ask what a readiness check does not ask, and write all of it; None if the machine has answered nothing.

        Raises:
            CannotRun: the files can't be written.
        """
        if not any(recording.result for recording in self.recordings):
            return None
        transport = self._connect(self.machine)
        try:
            names: list[ScriptRecord] = []
            _try(lambda it: names.extend(it.run_script(Script("names"), deadline=self._deadline()).records), transport)
            for ask in (self._ask_packages, self._ask_health, self._ask_events, self._ask_installed):
                _try(ask, transport)
        finally:
            transport.close()
        return self._write(folder, names)

    def _connect(self, machine: Machine) -> Transport:
        return RecordingTransport(self.real_ports.connect(machine), self.recordings.append)

    def _find_manager(self, facts: Facts) -> PackageManager:
        self._manager = self.real_ports.find_manager(facts)
        return self._manager

    def _ask_packages(self, transport: Transport) -> None:
        """Ask the package manager, if the check did not come that far."""
        if self._manager is None and (manager := find_family_manager(self.machine.os)):
            self._manager = manager
            deadline = Deadline.after(self.real_ports.clock, manager.default_rates.read_timeout_seconds)
            manager.assess(transport, refresh=False, deadline=deadline)

    def _ask_health(self, transport: Transport) -> None:
        script = self._manager.health_script if self._manager else None
        if script is not None and script.name not in {recording.script.name for recording in self.recordings}:
            transport.run_script(script, deadline=self._deadline())

    def _ask_events(self, transport: Transport) -> None:
        script = self._manager.health_script if self._manager else None
        if script is not None:
            since = math.floor(self.real_ports.clock.now().timestamp()) - EVENT_DAYS * 86400
            transport.run_script(replace(script, params={"since": str(since)}), deadline=self._deadline())

    def _ask_installed(self, transport: Transport) -> None:
        entries = [record for record in self._list_records() if record["kind"] == "history"]
        ids = list(dict.fromkeys(str(record.get("id")) for record in entries))[:_MAX_INSTALLED]
        if self._manager is not None and ids:
            updates = [Update(update_id, update_id, "", None, "", Classification.OTHER) for update_id in ids]
            deadline = Deadline.after(self.real_ports.clock, self._manager.default_rates.read_timeout_seconds)
            self._manager.read_installed_versions(transport, updates, deadline=deadline)

    def _deadline(self) -> Deadline:
        return Deadline.after(self.real_ports.clock, SCRIPT_SECONDS)

    def _list_records(self) -> list[ScriptRecord]:
        return [record for recording in self.recordings if recording.result for record in recording.result.records]

    def _write(self, folder: Path, names: Sequence[ScriptRecord]) -> RecordedBundle:
        records = self._list_records()
        document = {
            "about": {
                "machine": self.machine.name,
                "family": self.machine.os.value,
                "transport": self.machine.transport.value,
                "system": next((dict(record) for record in records if record["kind"] == "os"), {}),
                "recorded_at": self._began_at.isoformat(timespec="seconds"),
                "fleetpatch": version("fleetpatch"),
            },
            "scripts": [dict(describe_recording(recording)) for recording in self.recordings],
            "records": [list(recording.result.records) if recording.result else None for recording in self.recordings],
        }
        replaced = replace_names(document, list_known_names(self.machine, (*names, *records)))
        try:
            files = self._build_files(replaced)
            ensure_private_directory(folder)
            folder.chmod(0o700)
            for name, content in files.items():
                handle = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                with os.fdopen(handle, "w", encoding="utf-8", errors="replace") as stream:
                    json.dump(content, stream, indent=1, ensure_ascii=False)
                    stream.write("\n")
        except OSError as error:
            raise CannotRun(f"the recording can't be written: {error}") from error
        return RecordedBundle(
            folder=folder,
            scripts=sum(recording.result is not None for recording in self.recordings),
            failed=tuple(
                dict.fromkeys(recording.script.name for recording in self.recordings if recording.result is None)
            ),
            replaced=replaced.counts,
            kept=replaced.kept,
            knows_own_names=bool(names),
        )

    def _build_files(self, replaced: Replaced) -> dict[str, object]:
        """Return the files of a bundle by their names; ``bundle.json`` is the last."""
        document: Any = replaced.document
        about, files, scripts = document["about"], dict[str, object](), list[object]()
        machine = about["machine"] if STAND_IN.match(about["machine"]) else "machine"
        numbers: Counter[str] = Counter()
        for recording, described, records in zip(
            self.recordings, document["scripts"], document["records"], strict=True
        ):
            name = recording.script.name
            numbers[name] += 1
            file = f"{machine}.{name}{'' if numbers[name] == 1 else f'-{numbers[name]}'}.json"
            if records is not None:
                files[file] = records
            scripts.append({"script": name, "file": None if records is None else file, **described})
        return {**files, "bundle.json": {**about, "replaced": dict(replaced.counts), "scripts": scripts}}


def _try(ask: Callable[[Transport], object], transport: Transport) -> None:
    """Ask a machine. What fails is recorded as failed, and stops nothing."""
    try:
        ask(transport)
    except FleetpatchError as error:
        logger.debug("it is recorded that a question failed: %s", error)
    except Exception:
        logger.exception("what the machine has answered can't be understood: the recording has it")
