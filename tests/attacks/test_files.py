"""Files that decide what runs, planted by another user; and secrets of the controller, sent to a machine."""

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tasks.domain.states import HookKind
from tests.contract.hooks.calls import call
from tests.support.command import run_command
from tests.support.ssh_server import Server, new_key

FLEET = "machines:\n- {name: stolen, address: 127.0.0.1, port: 1}\n"
WEEKLY = "schedule: {starts: '2026-01-06 02:00', hours: 2, recurs: {every: week}, zone: UTC}\n"
OF_THE_CONTROLLER = "what only the controller knows"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")


def as_nobody(command: str) -> None:
    """Let the user nobody run a command of the shell."""
    subprocess.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-ec", command], check=True)


class Controller:
    """The command of a user (root here), in a folder that others can reach."""

    def __init__(self, home: Path, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            "HOME": str(home),
            "PATH": os.environ["PATH"],
            "FLEETPATCH_RECORDS_URL": f"sqlite:///{home}/records.db",
        }

    def run(self, *words: str) -> CompletedProcess[str]:
        return run_command(words, self.environment, self.folder)


@pytest.fixture
def controller() -> Iterator[Controller]:
    with tempfile.TemporaryDirectory(prefix="fleetpatch-attacks-") as name:  # nobody can't enter pytest's own folders
        Path(name).chmod(0o755)
        home, shared = Path(name, "home"), Path(name, "shared")
        home.mkdir(mode=0o700)
        shared.mkdir()
        shared.chmod(0o1777)
        yield Controller(home, shared)


def require_refused(done: CompletedProcess[str], *words: str) -> None:
    assert done.returncode not in {0, None}, done.stdout
    said = " ".join((done.stdout + done.stderr).split())
    assert all(word in said for word in words), said


def test_a_fleet_planted_in_a_shared_folder_is_not_taken(controller: Controller) -> None:
    """Attacker: any local user. Way: ./fleet.yaml in a folder like /tmp, where an administrator calls fleetpatch.

    What must hold: the command refuses it, and says whose it is.
    """
    as_nobody(f"printf '%s' '{FLEET}' > {controller.folder}/fleet.yaml")
    for command in (["machines"], ["assess"], ["doctor"], ["patch", "*", "--yes"]):
        require_refused(controller.run(*command), "belongs to nobody", "chown root")


def test_a_fleet_in_a_folder_that_all_can_write_is_not_taken(controller: Controller) -> None:
    """Attacker: any local user. Way: the file is root's, its folder is not sticky: they put theirs in its place.

    What must hold: the file is refused before anybody has exchanged it.
    """
    controller.folder.chmod(0o777)
    (controller.folder / "fleet.yaml").write_text(FLEET)
    require_refused(controller.run("machines"), "everybody can write to its folder", "chmod go-w")


def test_a_link_that_is_exchanged_again_and_again_leads_to_no_planted_file(controller: Controller) -> None:
    """Attacker: any local user. Way: a link to a good file becomes one to theirs between the check and the reading.

    What must hold: of many readings at any moment none takes the planted machine.
    """
    good = controller.folder.parent / "good.yaml"
    good.write_text("machines: [{name: mine}]\n")
    place = f"{controller.folder}/links"
    as_nobody(f"mkdir -m 0777 {place}; printf '%s' '{FLEET}' > {place}/bad.yaml")
    loop = (
        f"while :; do ln -sfn {good} {place}/x; mv -T {place}/x {place}/fleet.yaml; "
        f"ln -sfn bad.yaml {place}/x; mv -T {place}/x {place}/fleet.yaml; done"
    )
    words = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c", loop]
    with subprocess.Popen(words) as attacker:
        try:
            time.sleep(0.05)
            for _ in range(20):
                done = controller.run("machines", "--inventory", f"{place}/fleet.yaml")
                require_refused(done)
                assert "stolen" not in done.stdout
        finally:
            attacker.kill()


@pytest.mark.parametrize("name", ["fleet.yaml", "machines.csv", "hosts.ini", "group_vars/all.yml"])
def test_an_inventory_that_a_group_can_write_is_not_taken(controller: Controller, name: str) -> None:
    """Attacker: a member of a group. Way: an inventory, or the variables of an Ansible inventory, of mode 0664.

    What must hold: the command refuses all of it, and says how to mend it or to trust the group.
    """
    folder = controller.folder / "inventory"
    (folder / "group_vars").mkdir(parents=True)
    texts = {"fleet.yaml": FLEET, "machines.csv": "name\nstolen\n", "hosts.ini": "stolen\n", "group_vars/all.yml": ""}
    for key in {name, "hosts.ini"} if "/" in name else {name}:
        (folder / key).write_text(texts[key] or "ansible_port: 23\n")
    (folder / name).chmod(0o664)
    os.chown(folder / name, 0, 65534)
    require_refused(controller.run("machines", "--inventory", str(folder)), "can write to it (mode 0664)", "chmod g-w")


@pytest.mark.parametrize("name", ["weekly.yaml", "freeze.ics"])
def test_configurations_and_their_calendars_are_not_taken_from_others(controller: Controller, name: str) -> None:
    """Attacker: a local user. Way: a configuration of theirs among mine, or the .ics file of my freezes is theirs.

    What must hold: `config check` refuses, so that nothing is deployed from it.
    """
    folder = controller.folder / "configurations"
    folder.mkdir()
    calendar = "BEGIN:VCALENDAR\nVERSION:2.0\nPRODID:x\nEND:VCALENDAR\n"
    (folder / "weekly.yaml").write_text(f"name: weekly\nscope: '*'\n{WEEKLY}freezes: [{{file: freeze.ics}}]\n")
    (folder / "freeze.ics").write_text(calendar)
    done = controller.run("config", "check", str(folder), "--inventory", "none")
    assert "not trusted" not in done.stdout + done.stderr
    os.chown(folder / name, 65534, -1)
    require_refused(controller.run("config", "check", str(folder)), "belongs to nobody")


def test_a_request_file_of_somebody_else_starts_nothing(controller: Controller) -> None:
    """Attacker: a local user. Way: the file of `patch --request` in a shared folder.

    What must hold: the command refuses it.
    """
    as_nobody(f"echo \"scope: '*'\" > {controller.folder}/request.yaml")
    done = controller.run("patch", "--request", str(controller.folder / "request.yaml"), "--yes")
    require_refused(done, "belongs to nobody")


@pytest.mark.parametrize("kind", [HookKind.CONTROLLER_COMMAND, HookKind.PYTHON])
def test_programs_and_modules_of_hooks_are_not_taken_from_others(
    controller: Controller, monkeypatch: pytest.MonkeyPatch, kind: HookKind
) -> None:
    """Attacker: a local user. Way: the program or the Python module of a hook is theirs.

    What must hold: it does not run, and the hook has failed, so that what it was to allow does not happen.
    """
    folder, proof = controller.folder, controller.folder / "proof"
    if kind is HookKind.PYTHON:
        text = f"from pathlib import Path\nPath({str(proof)!r}).touch()\ndef tell(event): pass\n"
        name, target = "attack_by_module.py", "attack_by_module:tell"
        monkeypatch.syspath_prepend(str(folder))
    else:
        text, name, target = f"#!/bin/sh\necho > {proof}\n", "hook.sh", f"{folder}/hook.sh"
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)
    os.chown(folder / name, 65534, -1)
    result = call(kind, target)
    assert not result.succeeded
    assert "belongs to nobody" in result.message
    assert not proof.exists()
    os.chown(folder / name, 0, -1)
    assert call(kind, target).succeeded
    assert proof.exists()


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Server]:
    server = Server(new_key(tmp_path / "host"), takes="keyboard-interactive")
    yield server
    server.close()


def write_fleet(controller: Controller, listener: Server, credential: str) -> None:
    known = controller.folder.parent / "known_hosts"
    key = listener.host_key
    known.write_text(f"[127.0.0.1]:{listener.port} {key.get_name()} {key.get_base64()}\n")
    (controller.folder / "fleet.yaml").write_text(
        f"host_keys: {{known_hosts: {known}}}\n"
        f"machines: [{{name: a, address: 127.0.0.1, port: {listener.port}, user: u, credential: '{credential}'}}]\n"
    )


def test_the_listener_would_hear_a_password(controller: Controller, listener: Server) -> None:
    """The stage itself: a secret of a machine does reach the listener, so that its silence below means something."""
    controller.environment["MACHINE_PASSWORD"] = "of-the-machine"
    write_fleet(controller, listener, "env:MACHINE_PASSWORD")
    controller.run("doctor")
    assert listener.answers == ["of-the-machine"]


@pytest.mark.parametrize(
    "name", ["FLEETPATCH_RECORDS_URL", "PREFECT_API_AUTH_STRING", "VAULT_TOKEN", "AWS_SECRET_ACCESS_KEY", "PGPASSWORD"]
)
def test_variables_of_the_controller_reach_no_machine(controller: Controller, listener: Server, name: str) -> None:
    """Attacker: who may write the inventory. Way: a credential that names a variable of the worker itself.

    What must hold: the inventory is refused, and the machine that the attacker named receives nothing.
    """
    controller.environment.setdefault(name, OF_THE_CONTROLLER)
    write_fleet(controller, listener, f"env:{name}")
    require_refused(controller.run("doctor"), f"the variable {name} is no credential of a machine")
    assert (listener.accepted, listener.answers) == (0, [])


def own_key(controller: Controller) -> str:
    """A key that fleetpatch made for itself."""
    path = Path(controller.environment["HOME"], ".local/share/fleetpatch/keys/server-password")
    path.parent.mkdir(parents=True, mode=0o700)
    path.write_text("the-password-of-the-server\n")
    path.chmod(0o600)
    return str(path)


def own_named_file(controller: Controller) -> str:
    """A file that a variable of the worker names."""
    path = Path(controller.environment["HOME"], "token")
    path.write_text("the-token-of-the-worker\n")
    path.chmod(0o600)
    controller.environment["VAULT_TOKEN_FILE"] = str(path)
    return str(path)


def own_environment(_: Controller) -> str:
    """The environment of the worker, as a file."""
    return "/proc/self/environ"


def own_systemd_credential(controller: Controller) -> str:
    """A key that systemd gives fleetpatch."""
    folder = Path(controller.environment["HOME"], "credentials")
    folder.mkdir(mode=0o700)
    (folder / "fleetpatch-server-password").write_text("the-password-of-the-server\n")
    (folder / "fleetpatch-server-password").chmod(0o400)
    controller.environment["CREDENTIALS_DIRECTORY"] = str(folder)
    return str(folder / "fleetpatch-server-password")


def same_as_own_key(controller: Controller) -> str:
    """The file of an own key under another name, as a container sees it that mounts both."""
    key = Path(own_key(controller))
    other = Path(controller.environment["HOME"], "keys-of-machines")
    other.hardlink_to(key)
    return str(other)


def same_as_own_systemd_credential(controller: Controller) -> str:
    """The file of an own credential under another name. Docker mounts a secret from the machine's own file."""
    key = Path(own_systemd_credential(controller))
    other = Path(controller.environment["HOME"], "decisions")
    other.hardlink_to(key)
    return str(other)


@pytest.mark.parametrize(
    ("build", "by_link"),
    [
        (own_key, False),
        (own_key, True),
        (own_named_file, False),
        (own_environment, True),
        (own_systemd_credential, True),
        (same_as_own_key, False),
        (same_as_own_systemd_credential, False),
    ],
)
def test_private_files_of_the_controller_reach_no_machine(
    controller: Controller, listener: Server, build: Callable[[Controller], str], *, by_link: bool
) -> None:
    """Attacker: who may write the inventory. Way: file: to a private file of the worker, plain or through a link.

    What must hold: the machine that the attacker named receives nothing, and the refusal names the file.
    """
    path = build(controller)
    if by_link:
        link = controller.folder / "innocent"
        link.symlink_to(path)
        path = str(link)
    write_fleet(controller, listener, f"file:{path}")
    require_refused(controller.run("doctor"), f"{Path(path).name} is no credential of a machine")
    assert listener.answers == []


def test_a_key_of_fleetpatch_that_systemd_gives_reaches_no_machine(controller: Controller, listener: Server) -> None:
    """Attacker: who may write the inventory. Way: systemd: with the name of fleetpatch's own credential.

    What must hold: the inventory is refused.
    """
    own_systemd_credential(controller)
    write_fleet(controller, listener, "systemd:fleetpatch-server-password")
    require_refused(controller.run("doctor"), "fleetpatch-server-password is no credential of a machine")
    assert listener.accepted == 0


@pytest.mark.parametrize(
    ("of_the_worker", "of_the_inventory"),
    [
        ("env:THE_TOKEN", "env:THE_TOKEN"),
        ("systemd:the-token", "systemd:the-token"),
        ("vault:secret/worker#token", "vault:secret//worker#token"),
        ("prefect:the-token", "prefect:secret/the-token"),
        ("file:~/token", "file:{home}/token"),
        ("systemd:the-token", "file:{home}/credentials/the-token"),
    ],
)
def test_what_a_variable_of_the_controller_refers_to_reaches_no_machine(
    controller: Controller, listener: Server, of_the_worker: str, of_the_inventory: str
) -> None:
    """Attacker: who may write the inventory. Way: the same reference as in a variable of the worker, or the same file.

    What must hold: the machine that the attacker named receives nothing.
    """
    home = Path(controller.environment["HOME"])
    (home / "credentials").mkdir(mode=0o700)
    for path in (home / "token", home / "credentials/the-token"):
        path.write_text(OF_THE_CONTROLLER)
        path.chmod(0o600)
    controller.environment |= {
        "FLEETPATCH_VAULT_TOKEN": of_the_worker,
        "CREDENTIALS_DIRECTORY": str(home / "credentials"),
        "THE_TOKEN": OF_THE_CONTROLLER,
    }
    write_fleet(controller, listener, of_the_inventory.format(home=home))
    require_refused(controller.run("doctor"), "is no credential of a machine")
    assert listener.answers == []
