"""The four ways to ask the same of the same machines, each as its own people would start it.

OpenSSH, Ansible and pyinfra run exactly the text that fleetpatch's transport puts on a machine's stdin: prelude, facts
and assessment, as root. They then only carry text; what is learned from it is fleetpatch's work alone.
"""

import base64
import json
import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tasks.domain.protocols.transport import Script
from tasks.machines.managers.apt.manager import ASSESS_SCRIPT
from tasks.machines.transport.output_decoder import build_frame_mark
from tasks.machines.transport.posix_shell import build_script_stdin
from tasks.machines.transport.script_library import compose_script
from tests.lab.fleet import LabHost

PARALLEL = 50
SCRIPTS = (Script("facts"), ASSESS_SCRIPT)
_NONCE = "0" * 32
_SHELL = "sudo -n /bin/sh -s"
FLEETPATCH = Path(sys.executable).with_name("fleetpatch")


@dataclass(frozen=True)
class Contender:
    """One way of asking: what is started, with which variables, and how to see how many machines answered in full.

    Attributes:
        good_codes: exit codes with which it is counted.
    """

    name: str
    command: tuple[str, ...]
    answered: Callable[[Path], int]
    environment: Mapping[str, str] = field(default_factory=dict)
    good_codes: frozenset[int] = frozenset({0})


def errors_of(printed: Path) -> Path:
    """Where a command's stderr is."""
    return printed.with_name(f"{printed.name}.err")


def _ends_in(printed: Path) -> int:
    return _ends(printed) + _ends(errors_of(printed))


def _ends(file: Path) -> int:
    return file.read_text(errors="replace").count(f"{build_frame_mark(_NONCE)}! 0")


def payload() -> bytes:
    """What an assessment sends: both scripts in one go, which saves the others a connection."""
    scripts = [compose_script(script) for script in SCRIPTS]
    return build_script_stdin("\n".join(f"(\n{text}\n)" for text in scripts), {"refresh": "yes"}, _NONCE)


def ssh_options(host: LabHost) -> list[str]:
    """Options of ssh for a lab machine, as words."""
    options = {"BatchMode": "yes", "IdentitiesOnly": "yes", "StrictHostKeyChecking": "yes", "LogLevel": "ERROR"}
    options["UserKnownHostsFile"] = str(host.known_hosts)
    return [word for key, value in options.items() for word in ("-o", f"{key}={value}")]


def _one_word() -> str:
    """The payload for those who can't put anything on stdin."""
    return f"printf %s {base64.b64encode(payload()).decode()} | base64 -d | {_SHELL}"


def openssh(hosts: list[LabHost], work: Path) -> Contender:
    """A process for each machine, 50 at once, started by xargs."""
    outputs = work / "openssh"
    outputs.mkdir()
    (work / "payload").write_bytes(payload())
    (work / "addresses").write_text("".join(f"{host.address}\n" for host in hosts))
    words = ["ssh", "-F", "none", "-i", str(hosts[0].key), "-l", hosts[0].user, *ssh_options(hosts[0])]
    one = f'exec {shlex.join(words)} "$1" {shlex.quote(_SHELL)} < {work}/payload > {outputs}/"$1"'
    command = ("xargs", "-a", str(work / "addresses"), "-P", str(PARALLEL), "-n", "1", "sh", "-c", one, "sh")
    return Contender("OpenSSH", command, lambda _: sum(_ends(file) for file in outputs.iterdir()))


def ansible(hosts: list[LabHost], work: Path, programs: Path) -> Contender:
    """Ansible's raw module: no Python on the machine, so its cheapest way."""
    inventory = work / "ansible.ini"
    inventory.write_text(
        "".join(
            f"{h.name} ansible_host={h.address} ansible_user={h.user} ansible_ssh_private_key_file={h.key}\n"
            for h in hosts
        )
    )
    command = (
        str(programs / "ansible"),
        "all",
        "-i",
        str(inventory),
        "-f",
        str(PARALLEL),
        "-m",
        "raw",
        "-a",
        _one_word(),
    )
    environment = {
        "ANSIBLE_HOME": str(work / "ansible"),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_SSH_COMMON_ARGS": shlex.join(ssh_options(hosts[0])),
        "LC_ALL": "C.UTF-8",
    }
    return Contender("Ansible raw -f 50", command, _ends_in, environment)


def pyinfra(hosts: list[LabHost], work: Path, programs: Path) -> Contender:
    """A pyinfra command with pyinfra's own connector."""
    inventory = work / "fleet.py"
    data = [
        (
            host.name,
            {
                "ssh_hostname": host.address,
                "ssh_user": host.user,
                "ssh_key": str(host.key),
                "ssh_known_hosts_file": str(host.known_hosts),
                "ssh_strict_host_key_checking": "yes",
            },
        )
        for host in hosts
    ]
    inventory.write_text(f"hosts = {data!r}\n")
    command = (str(programs / "pyinfra"), "-y", "--parallel", str(PARALLEL), str(inventory), "exec", "--", _one_word())
    return Contender("pyinfra exec", command, _ends_in, {"LC_ALL": "C.UTF-8"})


def fleetpatch(hosts: list[LabHost], work: Path) -> Contender:
    """The command that people use, with records and Prefect's home of its own."""
    inventory = work / "fleet.yaml"
    inventory.write_text(hosts[0].lab.inventory_text())
    command = (str(FLEETPATCH), "assess", "*", "--inventory", str(inventory), "--json")
    environment = {
        "PREFECT_HOME": str(work / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "XDG_DATA_HOME": str(work / "data"),
    }
    return Contender("fleetpatch assess", command, _assessed, environment)


def _assessed(printed: Path) -> int:
    report = json.loads(printed.read_text())
    return sum(
        machine["status"] == "Succeeded" and machine["criticalAndSecurityPatchCount"] > 0
        for machine in report["machines"]
    )
