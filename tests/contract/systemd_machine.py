"""A machine whose systemd is made of files, for the script that has a system's own updaters rest."""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from zlib import crc32

import pytest

from tasks.domain.protocols.transport import ScriptRecord
from tasks.machines.managers.apt.assessment import UPDATERS_SCRIPT
from tasks.machines.transport.output_decoder import ScriptOutputDecoder, generate_nonce
from tasks.machines.transport.posix_shell import build_script_stdin
from tasks.machines.transport.script_library import compose_script, load_script_parameters

SHELLS = [shell for shell in ("dash", "bash", "busybox") if shutil.which(shell)]
in_every_shell = pytest.mark.parametrize("machine", SHELLS, indirect=True)
SYSTEMCTL = """#!/bin/sh
# a unit is a folder with files active and enabled; etc is there when its owner has masked it, run when only at runtime
units=${0%/*}/units
while :; do case $1 in --now | --runtime) ;; --*) ;; *) break ;; esac; shift; done
verb=$1; shift
[ ! -e "$units/gone" ] || { echo 'System has not been booted with systemd' >&2; exit 1; }
for unit in "$@"; do case $unit in -* | *,*) continue ;; *) ;; esac; done
echo "$verb $unit" >>"$units/../asked"
it=$units/$unit
case $unit in fleetpatch-*) rm -f "$units/../timer"; exit ;; esac
[ -d "$it" ] || { printf 'LoadState=not-found\\nActiveState=inactive\\nUnitFileState=\\n'; exit; }
load=loaded; read -r enabled <"$it/enabled"
[ ! -e "$it/etc" ] || load=masked enabled=masked
[ ! -e "$it/run" ] || load=masked enabled=masked-runtime
[ ! -e "$it/busy" ] || [ "$verb" = show ] || : >"$it/reloading"  # nothing is answered from the first change on
[ ! -e "$it/reloading" ] || [ "$verb" != show ] || { echo 'Connection timed out' >&2; exit 1; }
[ ! -e "$it/stuck" ] || [ "$verb" = show ] || { echo "no, says $unit" >&2; exit 1; }
case $verb in
  show) read -r active <"$it/active"
    if [ -e "$it/id" ]; then echo "Id=$(cat "$it/id")"; else echo "Id=$unit"; fi
    printf 'LoadState=%s\\nActiveState=%s\\nUnitFileState=%s\\n' "$load" "$active" "$enabled" ;;
  stop) if [ -e "$it/run" ]; then echo failed; else echo inactive; fi >"$it/active" ;;
  mask) : >"$it/run" ;;
  enable | disable) [ "$load" = loaded ] || { echo "Unit $unit is masked." >&2; exit 1; } # always with --now
    echo "${verb}d" >"$it/enabled"; if [ "$verb" = enable ]; then echo active; else echo inactive; fi >"$it/active" ;;
  unmask) rm -f "$it/run" ;;
  start) [ "$load" = loaded ] || { echo "Unit $unit is masked." >&2; exit 1; }; echo active >"$it/active" ;;
esac
"""


SYSTEMD_RUN = """#!/bin/sh
# as the real one: the command waits for its time
[ ! -e "${0%/*}/no-timers" ] || { echo 'Unknown option' >&2; exit 1; }
echo "$@" >"${0%/*}/armed"
while [ "$1" != /bin/sh ]; do shift; done; shift
printf '%s\\n' "$@" >"${0%/*}/timer"
"""


class Machine:
    """A folder that holds systemctl with its units, the lock and what the script remembers."""

    def __init__(self, place: Path, shell: str) -> None:
        self.place, self.shell, self.script = place, shell, UPDATERS_SCRIPT
        self.units, self.file = place / "units", place / "updaters"
        self.units.mkdir()
        (place / "systemctl").write_text(SYSTEMCTL)
        (place / "systemctl").chmod(0o755)
        (place / "systemd-run").write_text(SYSTEMD_RUN)
        (place / "systemd-run").chmod(0o755)
        (place / "jobs").mkdir(mode=0o700)
        self.take_lock("run")

    def take_lock(self, run: str, attempt: int = 1, until: int = 9999999999) -> None:
        (self.place / "machine-lock").write_text(f"{run}\n{until}\nsomebody\n{attempt}\n")

    def unit(self, name: str, active: str = "active", enabled: str = "enabled") -> Path:
        it = self.units / name
        it.mkdir()
        (it / "active").write_text(f"{active}\n")
        (it / "enabled").write_text(f"{enabled}\n")
        return it

    def active(self, name: str) -> str:
        return (self.units / name / "active").read_text().strip()

    def masked(self, name: str) -> bool:
        return (self.units / name / "run").exists()

    def told(self, work: str, run: str = "run", attempt: int = 1, until: int = 0) -> list[ScriptRecord]:
        order = {"work": work, "lock_run": run, "lock_attempt": str(attempt), "root": str(self.place / "jobs")}
        params = {**self.script.params, **order, "lock_until": str(until)}
        nonce = generate_nonce()
        script = replace(self.script, params=params)
        text = build_script_stdin(compose_script(script), {**params, **load_script_parameters(script)}, nonce)
        words = [self.shell, *(["sh"] if self.shell == "busybox" else []), "-s"]
        path = {"PATH": f"{self.place}:/usr/bin:/bin"}
        done = subprocess.run(words, input=text, capture_output=True, check=False, timeout=240, env=path)
        decoder = ScriptOutputDecoder(nonce)
        decoder.feed_stdout(done.stdout)
        result = decoder.build_output()
        assert result.exit_code == 0
        return list(result.records)

    @property
    def armed(self) -> bool:
        """Whether the machine has a timer of its own that brings them back."""
        return (self.place / "timer").exists()

    def lock_ends(self) -> None:
        """Let that timer's time come."""
        words = (self.place / "timer").read_text().splitlines()
        shell = [self.shell, *(["sh"] if self.shell == "busybox" else [])]
        path = {"PATH": f"{self.place}:/usr/bin:/bin"}
        subprocess.run([*shell, *words], check=True, timeout=240, env=path)

    def said(self, work: str, run: str = "run", attempt: int = 1) -> list[tuple[object, object]]:
        return [(r["kind"], r.get("unit") or r.get("why")) for r in self.told(work, run, attempt)]


def asked(machine: Machine) -> list[str]:
    """What systemctl was asked to do, in order."""
    return (machine.place / "asked").read_text().splitlines()


def build_machine(request: pytest.FixtureRequest, place: Path) -> Machine:
    """Return one in the shell that is asked for, else in one that the test's name decides."""
    own = SHELLS[crc32(request.function.__name__.encode()) % len(SHELLS)]
    return Machine(place, getattr(request, "param", own))
