"""Runs of the command in which every kind of secret is a canary and much goes wrong, and what they leave behind."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import psycopg
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat, PublicFormat

from tests.lab.canaries import FakeAgent, ProcessWatch, Search, new_canary
from tests.lab.fleet import Lab, LabHost
from tests.support.forked import start_forked
from tests.support.postgres import fresh_database, server
from tests.support.prefect_tables import copy_tables

KINDS: Final = (
    "sudo-env", "sudo-file", "passphrase", "login-block", "wrong-sudo", "wrong-login", "check-login", "check-token",
    "records", "records-wrong", "records-garbled",
)  # fmt: skip
BLOCK: Final = "fleet-login"
COMMAND: Final = Path(sys.executable).with_name("fleetpatch")
MAKE_BLOCK: Final = """
import asyncio, os, shutil
from prefect.blocks.system import Secret  # which makes PREFECT_HOME
from prefect.client.orchestration import PrefectClient
from prefect.server.api.server import create_app
shutil.copyfile(os.environ["TABLES"], os.path.join(os.environ["PREFECT_HOME"], "prefect.db"))
async def save():
    async with PrefectClient(create_app(ephemeral=True)) as client:  # a server of its own would be another process
        await Secret(value=os.environ["VALUE"]).asave(os.environ["BLOCK"], client=client)
asyncio.run(save())
"""
PATCH: Final = (
    *("--debug", "--yes", "--only-included", "--minutes", "30", "--reboot", "Never"),
    *("--failure-budget", "100%", "--wave-percent", "100"),
)
# Every log record of every logger at every level, whatever the program sets: each process writes a file of its own.
SPY: Final = """
import gc, logging, os
gc.set_threshold(50_000, 20, 50)  # as tests/support/python does
_folder, _files = os.environ["LOG_SPY"], {}
def find_file():
    if (pid := os.getpid()) not in _files:  # the server of a run begins as a copy of its process
        _files[pid] = open(os.path.join(_folder, f"{pid}.log"), "a", buffering=1, errors="surrogateescape")
    return _files[pid]
_format = logging.Formatter("%(name)s %(levelname)s %(message)s")
_handle = logging.Logger.handle
def handle(self, record):
    find_file().write(_format.format(record) + "\\n")
    if record.levelno >= self.getEffectiveLevel():
        _handle(self, record)
logging.Logger.handle = handle
logging.Logger.isEnabledFor = lambda self, level: True
"""


@dataclass
class Spill:
    """The runs, and all that is left of them."""

    hosts: dict[str, LabHost]
    given: Path
    """What the owner of the secrets keeps: keys, password files, the inventory."""
    kept: Path
    """What fleetpatch and Prefect keep: the home folder with records, reports and known_hosts; logs."""
    temporary: Path
    canaries: dict[str, str] = field(default_factory=lambda: {kind: new_canary(kind) for kind in KINDS})
    runs: dict[str, subprocess.CompletedProcess[str]] = field(default_factory=dict)
    watch: ProcessWatch = field(default_factory=ProcessWatch)
    agent_visits: dict[str, int] = field(default_factory=dict)
    database: str = ""

    @property
    def home(self) -> Path:
        return self.kept / "home"

    @property
    def logs(self) -> Path:
        return self.kept / "logs"

    @property
    def prefect(self) -> Path:
        return self.kept / "prefect"

    def search(self, *without: str) -> Search:
        return Search({kind: canary for kind, canary in self.canaries.items() if kind not in without})

    def run(self, name: str, *words: str, umask: int = 0o022, agent: Path | None = None, **more: str) -> int:
        """Run a program; its words hold no secret, its environment does."""
        done = subprocess.run(
            words, cwd=self.kept, env=self._environment(agent, more), umask=umask, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, errors="surrogateescape", timeout=400, check=False,
        )  # fmt: skip
        self.runs[name] = done
        return done.returncode

    def _environment(self, agent: Path | None, more: Mapping[str, str]) -> dict[str, str]:
        environment = {key: os.environ[key] for key in ("PATH", "LANG", "LC_ALL") if key in os.environ}
        return environment | {
            "HOME": str(self.home),
            "XDG_DATA_HOME": str(self.home / "data"),
            "TMPDIR": str(self.temporary),
            "PREFECT_HOME": str(self.prefect),
            "PREFECT_LOGGING_LEVEL": "DEBUG",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PYTHONPATH": str(self.given / "spy"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "LOG_SPY": str(self.logs),
            "CANARY_SUDO": self.canaries["sudo-env"],
            "CANARY_PASSPHRASE": self.canaries["passphrase"],
            **({"SSH_AUTH_SOCK": str(agent)} if agent else {}),
            **more,
        }

    def fleetpatch(self, name: str, *words: str, **more: Any) -> int:
        """Run the command with the inventory."""
        return self.run(name, str(COMMAND), *words, "--inventory", str(self.given / "fleet.yaml"), **more)

    def ask(self, name: str, *words: str, agent: Path | None = None, **more: str) -> int:
        """Run the command with the inventory, in a process that starts at once."""
        out, err = self.given / f"{len(self.runs)}.out", self.given / f"{len(self.runs)}.err"
        surroundings = self._environment(agent, {"FLEETPATCH_INVENTORY": str(self.given / "fleet.yaml"), **more})
        command = "tests.lab.spied_command"
        process = start_forked(command, words, place=self.kept, environment=surroundings, out=out, err=err)
        code = process.wait(400)
        self.runs[name] = subprocess.CompletedProcess(words, code, *process.communicate())
        return code


@contextmanager
def spilled(lab: Lab, place: Path) -> Iterator[Spill]:
    """Boot the hosts, do all runs, and let them be looked at."""
    booted = lab.up(5)
    names = ("all", "login", "wrong-sudo", "wrong-login", "off")
    spill = Spill(dict(zip(names, booted, strict=True)), place / "given", place / "kept", place / "temporary")
    for folder in (spill.given / "spy", spill.home, spill.logs, spill.temporary):
        folder.mkdir(parents=True, mode=0o700)
    try:
        _prepare_hosts(spill)
        _write_given(spill)
        copy_tables(spill.given / "tables.db")
        with fresh_database() as address:
            spill.database = address
            _carry_out(spill)
            yield spill
    finally:
        for host in booted:
            host.drop()


def _prepare_hosts(spill: Spill) -> None:
    every, login = spill.hosts["all"], spill.hosts["login"]
    _passwords(every, pwsudo=spill.canaries["sudo-env"])
    _passwords(login, pwsudo=spill.canaries["login-block"], root=spill.canaries["sudo-file"])
    # what is made on a machine must not hang on the umask that its sudo gives
    _sudoers(every, "umask=0000")
    _sudoers(login, "umask=0077", "rootpw")
    (login.root / "etc/lab-failing-fixed").touch()
    spill.hosts["off"].off()


def _passwords(host: LabHost, **passwords: str) -> None:
    text = "".join(f"{user}:{password}\n" for user, password in passwords.items())
    subprocess.run(["chroot", str(host.root), "chpasswd"], input=text, text=True, check=True)


def _sudoers(host: LabHost, *settings: str) -> None:
    lines = [f"Defaults:pwsudo {setting}" for setting in ("umask_override", *settings)]
    file = host.root / "etc/sudoers.d/zz-umask"
    file.write_text("\n".join(lines) + "\n")
    file.chmod(0o440)


def _private(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(0o600)
    return path


def _write_given(spill: Spill) -> None:
    (spill.given / "spy/sitecustomize.py").write_text(SPY)
    for kind in ("sudo-file", "wrong-sudo", "wrong-login"):
        _private(spill.given / kind, spill.canaries[kind] + "\n")
    key = Ed25519PrivateKey.generate()
    lock = BestAvailableEncryption(spill.canaries["passphrase"].encode())
    _private(spill.given / "key", key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, lock))
    with (spill.hosts["all"].root / "home/pwsudo/.ssh/authorized_keys").open("ab") as known:
        known.write(key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH) + b"\n")
    inventory = {
        "host_keys": {"policy": "learn", "known_hosts": str(spill.home / "known_hosts")},
        "machines": [
            {"name": name, "address": host.address, "user": "pwsudo", **_way(spill, name)}
            for name, host in spill.hosts.items()
        ],
    }
    _private(spill.given / "fleet.yaml", yaml.safe_dump(inventory))


def _way(spill: Spill, name: str) -> dict[str, Any]:
    """How a machine is logged in to; each way another kind of secret."""
    lab_key = f"key:{spill.hosts[name].key}"
    host = spill.hosts[name].address
    login = f"ann:{quote(spill.canaries['check-login'], safe='')}"
    token = quote(spill.canaries["check-token"], safe="")
    targets = {
        "answers": f"http://{login}@{host}/?token={token}",
        "refuses": f"http://{login}@{host}:81/?token={token}",
    }
    match name:
        case "all":
            checks = [
                {"name": check, "kind": "http", "target": target, "level": "warn"} for check, target in targets.items()
            ]
            return {
                "credential": f"key:{spill.given}/key?passphrase=env:CANARY_PASSPHRASE",
                "privilege_password": "env:CANARY_SUDO",
                "pre_checks": checks,
                "probes": checks,
            }
        case "login":
            return {"credential": f"prefect:{BLOCK}", "privilege_password": f"file:{spill.given}/sudo-file"}
        case "wrong-sudo":
            return {"credential": lab_key, "privilege_password": f"file:{spill.given}/wrong-sudo"}
        case "wrong-login":
            return {"credential": f"file:{spill.given}/wrong-login"}
        case _:
            return {"credential": lab_key, "privilege_password": "env:CANARY_SUDO"}


def _carry_out(spill: Spill) -> None:
    value: dict[str, Any] = {
        "VALUE": spill.canaries["login-block"],
        "BLOCK": BLOCK,
        "TABLES": str(spill.given / "tables.db"),
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    }
    reports = ("--report", str(spill.home / "reports"))
    secret = {kind: quote(spill.canaries[kind], safe="") for kind in KINDS}
    unreachable = f"postgresql://fleet:{secret['records-wrong']}@127.0.0.1:9/fleet"
    garbled = f"postgresql://fleet:{secret['records-garbled']}@127.0.0.1:port/fleet"
    with_password = spill.database.replace("postgres@", f"postgres:{secret['records']}@")
    with _agent() as agent, spill.watch:
        spill.run("block", sys.executable, "-c", MAKE_BLOCK, agent=agent.path, **value)
        spill.fleetpatch(
            "plain", "patch", "name=all", *PATCH, "--no-prefect", "--json", "--include", "lab-conffile", *reports,
            umask=0, agent=agent.path, FLEETPATCH_RECORDS_URL=with_password,
        )  # fmt: skip
        spill.fleetpatch(
            "flow", "patch", "*", *PATCH, "--include", "lab-plain", "--include", "lab-failing", *reports,
            umask=0o077, agent=agent.path,
        )  # fmt: skip
        for name, url in (("unreachable records", unreachable), ("garbled records", garbled)):
            spill.ask(name, "assess", "all", "--debug", agent=agent.path, FLEETPATCH_RECORDS_URL=url)
        fleet = (spill.given / "fleet.yaml").read_text()
        data = yaml.safe_load(fleet)
        others = [machine for machine in data["machines"] if machine["name"] != "login"]  # whose secret Prefect has
        _private(spill.given / "fleet.yaml", yaml.safe_dump(data | {"machines": others}))
        spill.ask("doctor", "doctor", agent=agent.path)
        spill.agent_visits["never asked for"] = agent.visits
    with _agent() as agent:
        data["machines"] = [{**data["machines"][0], "credential": "agent"}]
        _private(spill.given / "fleet.yaml", yaml.safe_dump(data))
        spill.ask("agent", "assess", "all", agent=agent.path)
        spill.agent_visits["asked for"] = agent.visits
        refused = {"name": "garbled", "kind": "http", "target": f"http://ann:{spill.canaries['check-login']}@h/é"}
        data["machines"] = [{**data["machines"][0], "probes": [refused]}]
        _private(spill.given / "fleet.yaml", yaml.safe_dump(data))
        spill.ask("garbled check", "assess", "all", agent=agent.path)
    _private(spill.given / "fleet.yaml", fleet)


@contextmanager
def _agent() -> Iterator[FakeAgent]:
    with tempfile.TemporaryDirectory(prefix="fp-agent-", dir="/tmp") as folder, FakeAgent(Path(folder, "s")) as agent:
        yield agent


def database_text(address: str) -> bytes:
    """All rows of all tables of a PostgreSQL database."""
    parts: list[bytes] = []
    with psycopg.connect(address) as connection:
        names = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        for (name,) in names:
            with connection.cursor().copy(f'COPY "{name}" TO STDOUT') as rows:
                parts += [bytes(row) for row in rows]
    return b"".join(parts).replace(b"\\\\", b"\\")


def database_log() -> bytes:
    """What the PostgreSQL server has logged."""
    return (server().folder / "log").read_bytes()


def search_host(host: LabHost, search: Search) -> list[str]:
    """Look at every file that a host has written since it was made, at what it holds in memory, and at its journal."""
    hits = search.tree(host.root.parent / "upper")
    hits += search.text(f"{host.name} journal", host.sh("journalctl -a --no-pager -o export", root=True))
    volatile = "find /tmp /run /dev/shm -type f -size -20M -print -exec cat {} + 2>/dev/null; true"
    return hits + search.text(f"{host.name} memory", host.sh(volatile, root=True))
