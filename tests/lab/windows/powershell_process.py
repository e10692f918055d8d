"""The warm PowerShell of a machine of the tests: PowerShellProcess starts it, and runs powershell.exe's calls on it.

It is one process of PowerShell 7 with stand-ins for what only Windows has (stand_ins/). Each call gets a runspace and a
thread of its own, and several run at once. The process is the machine's power: when it ends, all that ran on it ends.
"""

import base64
import contextlib
import fcntl
import hashlib
import itertools
import json
import os
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, ClassVar, Literal

SOURCES = Path(__file__).with_name("stand_ins")
COVERAGE = "POWERSHELL_COVERAGE"  # names the folder for the statements that were executed (stand_ins/coverage.cs)
MOST_SPARE = 2
"""So many processes wait for another machine, at most: each has 150 MB."""
MOST_MACHINES = 30
"""So many machines a process serves, one after the other: its memory grows."""
Logon = Literal["network", "system"]
Output = Callable[[str, bytes], None]


def find_powershell() -> str | None:
    """Return the path of pwsh, or None where there is none."""
    return shutil.which("pwsh")


def compile_stand_ins() -> Path:
    """Return the assembly of the stand-ins. It is compiled once for each version of its sources."""
    pwsh = find_powershell()
    assert pwsh is not None, "there is no pwsh on PATH"
    digest = hashlib.sha256(pwsh.encode())
    for source in [*sorted(SOURCES.glob("*.cs")), SOURCES / "compile.ps1"]:
        digest.update(source.name.encode() + source.read_bytes())
    cache = Path(tempfile.gettempdir()) / f"fleetpatch-stand-ins-{os.getuid()}"
    cache.mkdir(mode=0o700, exist_ok=True)
    assert cache.stat().st_uid == os.getuid(), f"{cache} belongs to somebody else"
    assembly = cache / digest.hexdigest()[:20] / "FleetPatchStandIns.dll"
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of several processes of tests, one compiles
        if not assembly.exists():
            fresh = Path(tempfile.mkdtemp(dir=cache))
            command = [pwsh, "-NoProfile", "-NonInteractive", "-File", str(SOURCES / "compile.ps1"), str(SOURCES)]
            done = subprocess.run(
                [*command, str(fresh / assembly.name)],
                env={**os.environ, "TERM": "dumb"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
            )
            assert done.returncode == 0, done.stdout + done.stderr
            fresh.rename(assembly.parent)
    return assembly


@dataclass(frozen=True)
class Completed:
    """What a call left: exit code None if the machine lost its power first."""

    exit_code: int | None
    stdout: bytes
    stderr: bytes


@dataclass
class Call:
    """A call of powershell.exe that runs."""

    id: str
    on_output: Output
    cancel: Callable[[], None]
    exit_code: int | None = None
    ended: threading.Event = field(default_factory=threading.Event)

    def wait(self, timeout: float) -> int | None:
        """Wait for its end. Returns its exit code: None if the machine lost its power first."""
        if not self.ended.wait(timeout):
            raise TimeoutError(f"no end after {timeout} s")
        return self.exit_code


@dataclass(frozen=True)
class _Kind:
    """What a process has for all its life."""

    program: str
    assembly: Path
    path: str
    coverage: str | None

    @classmethod
    def find(cls) -> "_Kind":
        return cls(str(find_powershell()), compile_stand_ins(), os.environ["PATH"], os.environ.get(COVERAGE))


class Engine:
    """A process of PowerShell: the power of one machine, and of another one or its next boot when that is off.

    A first call in a new process costs more than most tests do.
    """

    _spare: ClassVar[list["Engine"]] = []
    _sparing: ClassVar = threading.Lock()

    def __init__(self, kind: _Kind) -> None:
        self._kind = kind
        self._owner: PowerShellProcess | None = None
        self._lock = threading.Lock()
        self._event = threading.Condition()
        self._said = ""
        self._machines = 0
        self._printed = ""
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process

    @classmethod
    def take(cls, owner: "PowerShellProcess", folder: Path, environment: Mapping[str, str]) -> "Engine":
        """Return a process that begins to serve a machine: it says "ready" when it does."""
        kind = _Kind.find()
        with cls._sparing:
            engine = cls._spare.pop() if cls._spare else None
        if engine is not None and engine._kind == kind and engine.process.poll() is None:
            engine._owner = owner
            engine.send({"folder": str(folder), "environment": dict(environment)})
        else:
            if engine is not None:
                engine.kill()
            engine = cls(kind)
            engine._owner = owner
            engine._start(folder, environment)
        engine._machines += 1
        return engine

    def _start(self, folder: Path, environment: Mapping[str, str]) -> None:
        request_read, request_write = os.pipe()
        answer_read, answer_write = os.pipe()
        try:
            self.process = subprocess.Popen(
                [
                    *(self._kind.program, "-NoProfile", "-NonInteractive"),
                    *("-SettingsFile", str(SOURCES / "settings.json")),
                    *("-File", str(SOURCES / "host.ps1")),
                    *("-Folder", str(folder), "-Assembly", str(self._kind.assembly)),
                    *("-Requests", str(request_read), "-Answers", str(answer_write)),
                ],
                pass_fds=(request_read, answer_write),
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                start_new_session=True,  # a signal for the tests' terminal is none for the machine
            )
        finally:
            os.close(request_read)
            os.close(answer_write)
        self._requests = os.fdopen(request_write, "wb", buffering=0)
        self._reader = threading.Thread(target=self._read, args=(os.fdopen(answer_read, "rb"),), daemon=True)
        self._reader.start()

    def send(self, message: Mapping[str, object]) -> None:
        """Send a message. If the process has ended, nothing is sent: `_read` tells the owner that it ended."""
        data = json.dumps(message).encode() + b"\n"
        with self._lock, contextlib.suppress(BrokenPipeError, ValueError):
            while data:
                data = data[self._requests.write(data) :]

    def retire(self, seconds: float) -> None:
        """Serve this machine no longer: another may have the process, unless something still runs in it so long."""
        self.send({"retire": int(seconds * 1000)})
        with self._event:
            self._event.wait_for(lambda: self._said, 30)
            is_quiet, self._said = self._said == "quiet", ""
        self._leave(is_quiet=is_quiet)

    def _leave(self, *, is_quiet: bool) -> None:
        self._owner = None
        with self._sparing:
            is_spare = is_quiet and len(self._spare) < MOST_SPARE and self._machines < MOST_MACHINES
            if is_spare:
                self._spare.append(self)
        if not is_spare:
            self.kill()

    def read_log(self) -> str:
        """Return what the process itself has printed: why it did not start."""
        if not self._log.closed:
            self._printed = os.pread(self._log.fileno(), 1 << 20, 0).decode(errors="replace")
        return self._printed

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait()
        if self._reader is not threading.current_thread():
            self._reader.join(30)

    def _read(self, answers: IO[bytes]) -> None:
        with answers:
            for line in answers:
                answer = json.loads(line)
                if answer.get("event") in ("quiet", "busy"):
                    self._say(str(answer["event"]))
                elif (owner := self._owner) is not None:
                    owner.take(answer)
                    # Windows has shut down; else somebody cuts its power at this moment
                    if answer.get("is_quiet") and owner.release()[0] is self:
                        self._leave(is_quiet=True)
                        owner.lose()
        self.process.wait()
        with self._lock:
            self._requests.close()
        self.read_log()
        self._log.close()
        self._say("ended")
        if self._owner is not None:
            self._owner.lose()

    def _say(self, what: str) -> None:
        with self._event:
            self._said = what
            self._event.notify_all()


class PowerShellProcess:
    """A warm PowerShell. Its calls may come from any thread; what they print comes from a thread of its own."""

    _ids: ClassVar = itertools.count(1)

    def __init__(self, folder: Path, on_end: Callable[[str], None] = lambda _: None) -> None:
        """Take a machine's folder; ``on_end`` hears why the process ended: "restarting", or "" if it was killed."""
        self._folder = folder
        self._on_end = on_end
        self._calls: dict[str, Call] = {}
        self._lock = threading.Lock()
        self._ready = threading.Event()
        self._engine: Engine | None = None
        self._reason = ""
        self._over = False

    def start(self, timeout: float = 120) -> None:
        """Start it, and wait until it takes calls."""
        self._engine = Engine.take(self, self._folder, self._environment())
        if not self._ready.wait(timeout) or self._over:
            said = self._engine.read_log()
            self.kill()
            raise AssertionError(f"the PowerShell did not start:\n{said}")

    def kept_files(self) -> set[Path]:
        """Return the files that Windows would not let anybody delete: those that it keeps open.

        Linux does not know which are open with FileShare.Delete. Of the files of jobs, those are open for writing only.
        """
        assert self._engine is not None
        kept = set()
        for link in Path(f"/proc/{self._engine.process.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                told = (link.parent.parent / "fdinfo" / link.name).read_text()
                flags = re.search(r"^flags:\s+(\d+)", told, re.MULTILINE)
                if flags and int(flags[1], 8) & os.O_ACCMODE != os.O_WRONLY:
                    kept.add(link.readlink())
        return kept

    def _environment(self) -> dict[str, str]:
        """Return the variables of a Windows machine, plus those that pwsh itself needs on Linux."""
        windows = self._folder / "C" / "Windows"
        temporary = windows / "Temp"
        temporary.mkdir(parents=True, exist_ok=True)
        scenario = json.loads((self._folder / "scenario.json").read_text())
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self._folder),
            "LANG": "C.UTF-8",
            "TERM": "dumb",
            "NO_COLOR": "1",
            "TMPDIR": str(temporary),
            "POWERSHELL_TELEMETRY_OPTOUT": "1",
            "POWERSHELL_UPDATECHECK": "Off",
            "DOTNET_gcServer": "0",
            "DOTNET_TieredPGO": "0",
            "DOTNET_TC_CallCounting": "0",  # most processes end before it pays to compile a method again
            "DOTNET_JITMinOpts": "1",  # nor does it pay to compile one well
            "DOTNET_EnableDiagnostics": "0",
            "DOTNET_EnableWriteXorExecute": "0",  # it makes each compilation dearer
            "SystemRoot": str(windows),
            "windir": str(windows),
            "SystemDrive": "C:",
            "ComSpec": str(windows / "System32" / "cmd.exe"),
            "TEMP": str(temporary),
            "TMP": str(temporary),
            "ProgramData": str(self._folder / "C" / "ProgramData"),
            "ProgramFiles": str(self._folder / "C" / "Program Files"),
            "COMPUTERNAME": scenario["name"],
            "USERNAME": "Administrator",
            "OS": "Windows_NT",
            "PROCESSOR_ARCHITECTURE": "AMD64",
            **({COVERAGE: os.environ[COVERAGE]} if COVERAGE in os.environ else {}),
        }

    def call(
        self, arguments: Sequence[str], stdin: bytes = b"", *, logon: Logon = "network", on_output: Output
    ) -> Call:
        """Begin a call of powershell.exe: its arguments without the program's name."""
        call = Call(id=str(next(self._ids)), on_output=on_output, cancel=lambda: self._cancel(call.id))
        message: dict[str, object] = {
            "id": call.id,
            "arguments": list(arguments),
            "stdin": base64.b64encode(stdin).decode(),
            "logon": logon,
        }
        with self._lock:
            engine = self._engine
            if self._over or engine is None:
                raise ConnectionError("the machine has no power")
            self._calls[call.id] = call
            engine.send(message)
        return call

    def run(
        self, arguments: Sequence[str], stdin: bytes = b"", *, logon: Logon = "network", timeout: float = 120
    ) -> Completed:
        """Make a call and wait for its end."""
        pieces: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
        call = self.call(arguments, stdin, logon=logon, on_output=lambda name, data: pieces[name].append(data))
        code = call.wait(timeout)
        return Completed(code, b"".join(pieces["stdout"]), b"".join(pieces["stderr"]))

    def run_script(self, script: str, *, logon: Logon = "network", timeout: float = 120) -> Completed:
        """Run a script's text as -EncodedCommand."""
        encoded = base64.b64encode(script.encode("utf-16-le")).decode()
        return self.run(["-NoProfile", "-NonInteractive", "-EncodedCommand", encoded], logon=logon, timeout=timeout)

    def _cancel(self, name: str) -> None:
        if self._engine is not None:
            self._engine.send({"id": name, "cancel": True})

    def take(self, answer: Mapping[str, object]) -> None:
        """Take an answer of the process."""
        if "event" in answer:
            if answer["event"] == "ready":
                self._ready.set()
            else:
                self._reason = str(answer["event"])
            return
        name = str(answer["id"])
        if "exit_code" not in answer:
            if (call := self._calls.get(name)) is not None:  # else it was ended, and has not noticed yet
                call.on_output(str(answer["stream"]), base64.b64decode(str(answer["data"])))
            return
        with self._lock:
            call = self._calls.pop(name)
        call.exit_code = int(str(answer["exit_code"]))
        call.ended.set()

    @property
    def is_alive(self) -> bool:
        """Whether it takes calls."""
        return self._ready.is_set() and not self._over

    def lose(self) -> None:
        """Take notice that the process has ended."""
        with self._lock:
            self._over = True
            left = list(self._calls.values())
            self._calls.clear()
        self._ready.set()
        for call in left:
            call.ended.set()
        self._on_end(self._reason)

    def release(self) -> tuple[Engine | None, bool]:
        """Have the process no longer. Returns it, and whether no call runs in it."""
        with self._lock:
            engine, self._engine = self._engine, None
            return engine, self.is_alive and not self._calls and not self._reason

    def kill(self, seconds: float = 0.05) -> None:
        """Cut the power: what runs ends at once. If nothing runs, or only for so long, the process stays."""
        engine, is_idle = self.release()
        if engine is not None and is_idle:
            engine.retire(seconds)
        elif engine is not None:
            engine.kill()
        if engine is not None and not self._over:
            self.lose()

    def switch_off(self) -> None:
        """End it for good, as ``kill`` does, and let what still runs come to its end."""
        self.kill(seconds=1)
