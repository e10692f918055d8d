"""The job that restarts services, by this machine's own shells, over a systemd that is made of files."""

import fcntl
import os
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tasks.domain.protocols.transport import Script, ScriptParameter, ScriptRecord
from tasks.machines.managers.apt.assessment import UPDATER_UNITS, UPDATERS_SCRIPT
from tasks.machines.managers.running_programs import find_services_to_restart
from tasks.machines.transport.output_decoder import ScriptOutputDecoder, generate_nonce
from tasks.machines.transport.posix_shell import build_script_stdin
from tasks.machines.transport.script_library import compose_script, load_script
from tasks.rules.machine_checks.services import build_protected_unit_masks

SHELLS = [shell for shell in ("dash", "bash", "busybox") if shutil.which(shell)]
SYSTEMCTL = """#!/bin/sh
# a unit is a folder with files active, type and along: what goes down with it
units=$(dirname "$0")/units
while :; do case $1 in --*) ;; *) break ;; esac; shift; done
verb=$1; shift
properties=''
while :; do case $1 in -p) properties="$properties $2"; shift 2 ;; --*) shift ;; *) break ;; esac; done
echo "$verb $*" >>"$units/../asked"
for unit in "$@"; do
  it=$units/$unit
  case $verb in
    show) for each in $properties; do case $each in
        Type) printf 'Type=%s\\n' "$(cat "$it/type" 2>/dev/null)" ;;
        ActiveState) printf 'ActiveState=%s\\n' "$(cat "$it/active" 2>/dev/null || echo inactive)" ;;
        KillMode) printf 'KillMode=%s\\n' "$(cat "$it/mode" 2>/dev/null || echo process)" ;;
        MainPID) printf 'MainPID=%s\\n' "$(cat "$it/pid" 2>/dev/null)" ;;
        BoundBy) printf 'BoundBy=%s\\n' "$(cat "$it/along" 2>/dev/null)" ;;
        *) printf '%s=\\n' "$each" ;;
      esac; done ;;
    is-active) state=$(cat "$it/active" 2>/dev/null || echo inactive); echo "$state"; [ "$state" = active ] || exit 3 ;;
    try-restart) [ ! -e "$it/fails" ] || { echo failed >"$it/active"; echo "Job for $unit failed." >&2; exit 1; } ;;
  esac
done
"""
DPKG_QUERY = '#!/bin/sh\ncat "$(dirname "$0")/packages" 2>/dev/null || :\n'


class Machine:
    """A folder that holds systemctl with its units."""

    def __init__(self, place: Path, shell: str) -> None:
        self.place, self.shell = place, shell
        (place / "units").mkdir()
        (place / "database").mkdir()
        for name, text in (("systemctl", SYSTEMCTL), ("dpkg-query", DPKG_QUERY)):
            (place / name).write_text(text)
            (place / name).chmod(0o755)

    def unit(self, name: str, active: str = "active", kind: str = "simple", along: str = "") -> Path:
        it = self.place / "units" / name
        it.mkdir()
        for file, text in (("active", active), ("type", kind), ("along", along)):
            (it / file).write_text(f"{text}\n")
        return it

    def told(self, *units: str, latest: int = 9999999999, exclude: tuple[str, ...] = ()) -> list[ScriptRecord]:
        params: dict[str, ScriptParameter] = {
            "work": "restart",
            "units": units,
            "keep": build_protected_unit_masks(UPDATER_UNITS, exclude),
            "latest": str(latest),
            "locks": (str(self.place / "database/lock-frontend"), str(self.place / "database/lock")),
        }
        nonce = generate_nonce()
        words = [self.shell, *(["sh"] if self.shell == "busybox" else []), "-s"]
        path = {"PATH": f"{self.place}:{os.environ['PATH']}", "FP_JOB_DIR": str(self.place)}
        script = compose_script(Script("restart_services", package=UPDATERS_SCRIPT.package))
        text = b'echo "$$ 1 boot 0" >"$FP_JOB_DIR/meta"\n' + build_script_stdin(script, params, nonce)
        done = subprocess.run(words, input=text, capture_output=True, check=False, timeout=240, env=path)
        decoder = ScriptOutputDecoder(nonce)
        decoder.feed_stdout(done.stdout)
        result = decoder.build_output()
        assert result.exit_code == 0, done.stderr
        assert result.records[-1]["kind"] == "finished"
        return list(result.records[:-1])

    def said(self, *units: str, latest: int = 9999999999, exclude: tuple[str, ...] = ()) -> list[tuple[object, ...]]:
        records = self.told(*units, latest=latest, exclude=exclude)
        return [(r["kind"], r["unit"], r["why"], r["detail"]) for r in records if r["kind"] == "restart_left"]

    def restarted(self) -> list[str]:
        asked = self.place / "asked"
        lines = asked.read_text().splitlines() if asked.exists() else []
        return [line.split()[-1] for line in lines if line.startswith("try-restart")]


@pytest.fixture(params=SHELLS)
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Machine:
    return Machine(tmp_path, request.param)


def test_services_are_restarted_one_after_the_other_and_their_end_is_told(machine: Machine) -> None:
    machine.unit("nginx.service")
    (machine.unit("cron.service") / "fails").touch()
    first, end, second, failed = machine.told("nginx.service", "cron.service")
    assert (first["kind"], first["unit"]) == ("restart_started", "nginx.service")
    assert (end["exit_code"], end["active"], end["error"]) == (0, "active", "")
    assert (second["kind"], second["unit"]) == ("restart_started", "cron.service")
    assert (failed["exit_code"], failed["active"], failed["error"]) == (1, "failed", "Job for cron.service failed.")
    assert isinstance(end["at"], int)


def test_what_does_not_run_or_runs_once_is_left(machine: Machine) -> None:
    machine.unit("stopped.service", active="inactive")
    machine.unit("once.service", kind="oneshot")
    assert machine.said("stopped.service", "once.service", "gone.service") == [
        ("restart_left", "stopped.service", "inactive", "inactive"),
        ("restart_left", "once.service", "oneshot", ""),
        ("restart_left", "gone.service", "inactive", "inactive"),
    ]
    assert machine.restarted() == []


def test_systemd_executes_itself_anew(machine: Machine) -> None:
    machine.unit("init.scope", kind="")
    begun, end = machine.told("systemd")
    assert (begun["unit"], end["unit"], end["exit_code"], end["active"]) == ("systemd", "systemd", 0, "active")
    asked = (machine.place / "asked").read_text().splitlines()
    assert [line.split()[0] for line in asked if "try-restart" in line or "daemon" in line] == ["daemon-reexec"]


def test_sshd_is_restarted_only_if_it_starts_again_and_ends_no_session(machine: Machine) -> None:
    ssh, sshd = machine.unit("ssh.service"), machine.place / "sshd"
    sshd.write_text("#!/bin/sh\necho 'bad line 3' >&2\nexit 255\n")
    sshd.chmod(0o755)
    assert machine.said("ssh.service") == [("restart_left", "ssh.service", "configuration", "bad line 3")]
    sshd.write_text('#!/bin/sh\n[ "$*" = -t ]\n')
    (ssh / "mode").write_text("control-group\n")
    assert machine.said("ssh.service") == [("restart_left", "ssh.service", "sessions", "KillMode=control-group")]
    assert machine.restarted() == []
    (ssh / "mode").write_text("process\n")
    assert machine.said("ssh.service") == []
    assert machine.restarted() == ["ssh.service"]


def test_a_console_is_restarted_only_while_nobody_is_logged_in_there(machine: Machine) -> None:
    console = machine.unit("getty@tty1.service")
    waiting = subprocess.Popen([_copy_of_sleep(machine.place / "agetty"), "60"])
    try:
        (console / "pid").write_text(f"{os.getpid()}\n")
        ((_, _, why, program),) = machine.said("getty@tty1.service")
        assert (why, program) == ("login", Path("/proc/self/comm").read_text().strip())
        (console / "pid").write_text(f"{waiting.pid}\n")
        assert machine.said("getty@tty1.service") == []
        assert machine.restarted() == ["getty@tty1.service"]
    finally:
        waiting.kill()
        waiting.wait()


@pytest.mark.parametrize("mode", ["mixed", "process"])
def test_a_service_that_holds_a_container_is_left(machine: Machine, mode: str) -> None:
    web, neighbour = machine.unit("web.service"), machine.unit("other.service")
    for unit in (web, neighbour):
        (unit / "mode").write_text(f"{mode}\n")
    holding = subprocess.Popen([_copy_of_sleep(machine.place / "conmon"), "60"])
    try:
        (web / "pid").write_text(f"{holding.pid}\n")
        wanted = [("restart_left", "web.service", "guests", "conmon")]
        assert machine.said("web.service", "other.service") == wanted
        assert machine.restarted() == ["other.service"]
        (machine.unit("init.scope") / "pid").write_text(f"{holding.pid}\n")
        assert machine.said("systemd") == []  # it executes itself anew, and ends nothing
    finally:
        holding.kill()
        holding.wait()


def _copy_of_sleep(place: Path) -> str:
    return str(shutil.copy(shutil.which("sleep") or "/bin/sleep", str(place)))


def test_what_must_not_go_down_is_not_taken_along_however_far_away(machine: Machine) -> None:
    machine.unit("a.service", along="b.service c.service")
    machine.unit("b.service", along="a.service display-manager.service")  # a circle
    machine.unit("c.service")
    session = machine.unit("display-manager.service")
    wanted = [("restart_left", "a.service", "keep", "display-manager.service")]
    assert machine.said("a.service", "c.service") == wanted
    assert machine.restarted() == ["c.service"]
    (session / "active").write_text("inactive\n")
    assert machine.said("a.service") == []
    assert machine.said("a.service", exclude=("c.*",)) == [("restart_left", "a.service", "keep", "c.service")]


def test_nothing_begins_after_its_latest_start_or_a_wish_to_stop(machine: Machine) -> None:
    machine.unit("nginx.service")
    assert machine.said("nginx.service", latest=1000) == [("restart_left", "nginx.service", "window", "")]
    (machine.place / "stop").touch()
    assert machine.said("nginx.service") == [("restart_left", "nginx.service", "stop", "")]
    assert machine.restarted() == []


def test_nothing_is_restarted_while_somebody_changes_packages(machine: Machine) -> None:
    machine.unit("nginx.service")
    with (machine.place / "database/lock").open("w") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        name = Path("/proc/self/comm").read_text().strip()
        wanted = [("restart_left", "nginx.service", "lock", f"{name} (pid {os.getpid()})")]
        assert machine.said("nginx.service") == wanted
    assert machine.said("nginx.service") == []


def test_nothing_is_restarted_amid_packages_that_are_half_done(machine: Machine) -> None:
    machine.unit("nginx.service")
    (machine.place / "packages").write_text("ok unpacked nginx\nok triggers-pending man-db\nok installed dash\n")
    wanted = [("restart_left", "nginx.service", "packages", "nginx is unpacked")]
    assert machine.said("nginx.service") == wanted
    (machine.place / "packages").write_text("ok installed nginx\nok triggers-pending man-db\n")
    assert machine.said("nginx.service") == []


def test_masks_stay_no_file_names_after_a_look_at_packages(machine: Machine) -> None:
    machine.unit("a.service", along="c.service")
    machine.unit("b.service", along="c.service")
    machine.unit("c.service")
    assert [left[2] for left in machine.said("a.service", "b.service", exclude=("*",))] == ["keep", "keep"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root puts programs into /opt")
@pytest.mark.parametrize(("name", "is_told"), [("lib/old", True), ("temp/old", False), ("lib/jna123.tmp", False)])
@pytest.mark.parametrize("shell", SHELLS)
def test_only_files_that_an_update_has_replaced_are_told(shell: str, name: str, *, is_told: bool) -> None:
    with TemporaryDirectory(prefix="lab-", dir="/opt") as folder:
        program = Path(folder, name)
        program.parent.mkdir()
        running = subprocess.Popen([_copy_of_sleep(program), "60"])
        try:
            program.unlink()
            text = "\n".join(load_script(part, UPDATERS_SCRIPT.package) for part in ("cgroups", "outdated_programs"))
            words = [shell, *(["sh"] if shell == "busybox" else []), "-c", f"{text}\nfp_outdated"]
            done = subprocess.run(words, capture_output=True, check=True, text=True, timeout=60)
        finally:
            running.kill()
            running.wait()
    assert (f"0\t{program.name}\t" in done.stdout) is is_told, done.stdout


def test_services_are_told_without_needrestart_by_their_processes() -> None:
    told = "\n".join(
        [
            "33\tnginx\t/system.slice/nginx.service",
            "0\tnginx\t/system.slice/nginx.service",
            "1000\tbash\t/user.slice/user-1000.slice/session-2.scope",
            "1000\tbash\t/system.slice/ssh.service",  # a login
            "0\tsshd\t/system.slice/ssh.service",
            "0\tsystemd\t/init.scope",
            "1001\tnode\t/system.slice/app@one.service/sub",
            "nonsense",
            "\t\t",
        ]
    )
    assert find_services_to_restart(told) == ("app@one.service", "nginx.service", "ssh.service", "systemd")
    assert find_services_to_restart(told, "") == ()
