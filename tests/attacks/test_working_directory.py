"""Files that other users put into the current folder of whoever starts fleetpatch: modules, and settings of Prefect."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from fleetpatch.cli.main import main
from flows.prefect_api.port_listeners import build_server_command, open_listener
from flows.prefect_api.server_settings import require_trusted_settings
from inventory.files.file_trust import UntrustedFile
from tests.support.environment import PYTHONPATH, without_ours

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")

COMMAND = str(Path(sys.executable).with_name("fleetpatch"))
MODULES = ("prefect/__init__.py", "flows/__init__.py", "deployments/__init__.py", "logging/__init__.py", "uvicorn.py")


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder like /tmp. Who runs code of it leaves the file ``ran``."""
    with tempfile.TemporaryDirectory(prefix="fleetpatch-attacks-") as name:  # nobody can't enter pytest's own folders
        Path(name).chmod(0o755)
        folder = Path(name, "shared")
        folder.mkdir()
        folder.chmod(0o1777)
        yield folder


def plant(folder: Path, name: str, text: str) -> None:
    """Let the user nobody write a file."""
    become = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-ec")
    script = 'mkdir -p "$(dirname "$1")"; cat > "$1"'
    subprocess.run([*become, script, "sh", str(folder / name)], input=text, text=True, check=True)


def plant_modules(folder: Path) -> None:
    for name in MODULES:
        plant(folder, name, f"open({str(folder / 'ran')!r}, 'w').close()\n")


def start(words: Sequence[str], folder: Path, **variables: str) -> CompletedProcess[str]:
    ours = {"HOME": str(folder.parent / "home"), "PYTHONPATH": PYTHONPATH, "DO_NOT_TRACK": "1"}
    environment = {**without_ours(), **ours, **variables}
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120)


def test_modules_in_the_current_folder_are_not_run(
    shared: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Attacker: any local user. Way: ./prefect, ./flows and others in a folder like /tmp, where root starts fleetpatch.

    What must hold: no process that fleetpatch starts runs them: a Prefect server, and the processes that Prefect itself
    starts.
    """
    plant_modules(shared)
    commands: list[list[str]] = []
    with open_listener("127.0.0.1", 0) as listener:
        commands.append([*build_server_command(listener)])  # it does not inherit the socket, and ends
    for command in commands:
        started = start(command, shared, FLEETPATCH_RECORDS_URL=f"sqlite:///{tmp_path}/records.db")
        assert not (shared / "ran").exists(), started.stderr

    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    main(["version"])
    started = start((sys.executable, "-m", "uvicorn", "--version"), shared, PYTHONSAFEPATH=os.environ["PYTHONSAFEPATH"])
    assert not (shared / "ran").exists(), started.stderr
    assert "uvicorn" in started.stdout


LOAD = "import flows, prefect"


@pytest.mark.parametrize("name", [".env", "prefect.toml", "pyproject.toml", "../home/.prefect/profiles.toml"])
def test_settings_of_prefect_are_not_taken_from_others(
    shared: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attacker: any local user. Way: a file from which Prefect takes the program of its log, where root starts
    fleetpatch.

    What must hold: it is refused before Prefect is loaded, and the error names the file.
    """
    shared.chmod(0o755)
    home = shared.parent / "home"
    (home / ".prefect").mkdir(parents=True)
    file = shared / name
    file.write_text("")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("PREFECT_HOME", raising=False)
    monkeypatch.chdir(shared)
    require_trusted_settings()
    os.chown(file, 65534, -1)
    with pytest.raises(UntrustedFile, match=f"{file.name}, and it belongs to nobody"):
        require_trusted_settings()


def test_prefect_is_not_loaded_where_others_can_put_settings(shared: Path) -> None:
    """Attacker: any local user. Way: the folder is like /tmp; the file is put there after a look, before Prefect's.

    What must hold: neither a command nor a program with our flows loads Prefect there, or goes on where it is loaded.
    Commands that need none work.
    """
    plant(shared, "log.yml", f"version: 1\nhandlers: {{x: {{(): os.system, command: 'touch {shared}/ran'}}}}\n")
    plant(shared, ".env", f"PREFECT_LOGGING_CONFIG_PATH={shared}/log.yml\n")
    refused = start((COMMAND, "prefect", "version"), shared)
    assert (refused.returncode, "belongs to nobody" in refused.stderr) == (5, True), refused.stderr
    (shared / ".env").unlink()
    refused = start((COMMAND, "prefect", "version"), shared)
    assert (refused.returncode, "everybody can write" in refused.stderr) == (5, True), refused.stderr
    assert "chmod" not in refused.stderr
    for program in (("-c", LOAD), ("-c", "import prefect, flows")):
        refused = start((sys.executable, *program), shared)
        assert (refused.returncode, "everybody can write" in refused.stderr) == (1, True), refused.stderr
    assert start((COMMAND, "version"), shared).returncode == 0
    assert not (shared / "ran").exists()


PLACES = {
    "PREFECT_HOME": ("", "profiles.toml"),
    "PREFECT_PROFILES_PATH": ("mine.toml", "mine.toml"),
    "PREFECT_LOGGING_CONFIG_PATH": ("later/log.yml", "later/log.yml"),
}


@pytest.mark.parametrize("variable", PLACES)
@pytest.mark.parametrize("mode", [0o777, 0o1777], ids=oct)
def test_no_settings_come_later_into_a_named_place(
    shared: Path, variable: str, mode: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attacker: any local user. Way: PREFECT_HOME, or the folder of a named file of settings, is one where everybody
    can make files. The file is put there after the look, before Prefect's.

    What must hold: the place is refused while the file is absent.
    """
    name, later = PLACES[variable]
    monkeypatch.chdir(Path.home())
    monkeypatch.setenv("PREFECT_HOME", str(shared.parent / "home"))
    monkeypatch.setenv(variable, str(shared / name))
    shared.chmod(mode)
    with pytest.raises(UntrustedFile, match=f"{shared}.*everybody can write") as refused:
        require_trusted_settings()
    assert ("chmod" in refused.value.hint) is (variable == "PREFECT_HOME")
    plant(shared, later, "")
    with pytest.raises(UntrustedFile, match=r"belongs to nobody|everybody can write"):
        require_trusted_settings()


def test_prefects_own_folder_is_made_before_others_can(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Attacker: any local user. Way: make the folder of PREFECT_HOME, in a folder like /tmp, before Prefect does.

    What must hold: it is ours, and closed, before Prefect is loaded; or it is refused.
    """
    monkeypatch.chdir(Path.home())
    monkeypatch.setenv("PREFECT_HOME", str(shared / "prefect"))
    require_trusted_settings()
    status = (shared / "prefect").stat()
    assert (status.st_uid, status.st_mode & 0o777) == (os.geteuid(), 0o700)
    (shared / "prefect").rmdir()
    plant(shared, "prefect/profiles.toml", "")
    with pytest.raises(UntrustedFile, match="belongs to nobody"):
        require_trusted_settings()
    monkeypatch.setenv("PREFECT_HOME", str(shared / "not-yet/prefect"))
    with pytest.raises(UntrustedFile, match="everybody can write"):
        require_trusted_settings()


def test_a_project_of_ones_own_keeps_its_settings(shared: Path) -> None:
    shared.chmod(0o755)
    (shared / "pyproject.toml").write_text("[tool.prefect]\napi = {url = 'http://127.0.0.1:9/api'}\n")
    asked = "prefect.settings\nprint(prefect.settings.PREFECT_API_URL.value())"
    for loads in (f"import flows, {asked}", f"import prefect, flows, {asked}"):
        loaded = start((sys.executable, "-c", loads), shared)
        assert loaded.stdout.split() == ["http://127.0.0.1:9/api"], loaded.stderr
