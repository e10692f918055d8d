"""The four ways to ask the same of the same machines, each as its own people would start it.

OpenSSH, Ansible and pyinfra run exactly the text that fleetpatch's transport puts on a machine's stdin: prelude, facts
and assessment, as root. They then only carry text; what is learned from it is fleetpatch's work alone.
"""

import base64
import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tasks.domain.protocols.transport import Script
from tasks.machines.managers.apt.manager import ASSESS_SCRIPT
from tasks.machines.managers.rpm.manager import DNF, ZYPPER
from tasks.machines.transport.output_decoder import build_frame_mark
from tasks.machines.transport.posix_shell import build_script_stdin
from tasks.machines.transport.script_library import compose_script
from tests.lab.fleet import Flavour, LabHost

PARALLEL = 50
ASSESS_SCRIPTS: Final[Mapping[Flavour, Script]] = {
    "apt": ASSESS_SCRIPT,
    "dnf": Script("rpm_assess", package=DNF.package),
    "zypper": Script("rpm_assess", package=ZYPPER.package),
}
_NONCE = "0" * 32
_SHELL = "sudo -n /bin/sh -s"
FLEETPATCH = Path(sys.executable).with_name("fleetpatch")
BEFORE: Final = ", before"
"""Behind the name of a contender that is another commit."""
_START: Final = "import sys; sys.argv[0] = 'fleetpatch'; from fleetpatch.cli.command import main; sys.exit(main())"


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


def find_program(checkout: Path | None = None) -> tuple[str, ...]:
    """Return the words that start fleetpatch: the command that people use, or another checkout's."""
    return (str(FLEETPATCH),) if checkout is None else (*_python_in(checkout), "-c", _START)


def _python_in(checkout: Path) -> tuple[str, ...]:
    return "env", "-C", str(checkout), f"PYTHONPATH={checkout}", sys.executable


def require_own_modules(checkout: Path) -> None:
    """Check that fleetpatch, started in another checkout, has that one's modules.

    Raises:
        RuntimeError: it has not.
    """
    names = ("fleetpatch", "flows", "tasks", "inventory", "deployments")
    text = f"import sys\nfor name in {names}: print(getattr(__import__(name), '__file__', None) or '')"
    done = subprocess.run([*_python_in(checkout), "-c", text], capture_output=True, text=True, check=False)
    files = done.stdout.splitlines()
    if (
        done.returncode != 0
        or len(files) != len(names)
        or not all(Path(file).is_relative_to(checkout) for file in files)
    ):
        raise RuntimeError(f"{checkout} is no checkout of fleetpatch: {' '.join(files)} {done.stderr[-300:]}".strip())


def homes_in(work: Path) -> dict[str, str]:
    """Return the variables that give fleetpatch records and a Prefect of its own."""
    return {
        "PREFECT_HOME": str(work / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "XDG_DATA_HOME": str(work / "data"),
    }


def payload(flavour: Flavour) -> bytes:
    """What an assessment sends: both scripts in one go, which saves the others a connection."""
    scripts = [compose_script(script) for script in (Script("facts"), ASSESS_SCRIPTS[flavour])]
    return build_script_stdin("\n".join(f"(\n{text}\n)" for text in scripts), {"refresh": "yes"}, _NONCE)


def ssh_options(host: LabHost) -> list[str]:
    """Options of ssh for a lab machine, as words."""
    options = {"BatchMode": "yes", "IdentitiesOnly": "yes", "StrictHostKeyChecking": "yes", "LogLevel": "ERROR"}
    options["UserKnownHostsFile"] = str(host.known_hosts)
    return [word for key, value in options.items() for word in ("-o", f"{key}={value}")]


def _one_word(flavour: Flavour) -> str:
    """The payload for those who can't put anything on stdin."""
    return f"printf %s {base64.b64encode(payload(flavour)).decode()} | base64 -d | {_SHELL}"


def openssh(hosts: list[LabHost], work: Path) -> Contender:
    """A process for each machine, 50 at once, started by xargs."""
    outputs = work / "openssh"
    outputs.mkdir()
    (work / "payload").write_bytes(payload(hosts[0].flavour))
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
        _one_word(hosts[0].flavour),
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
    command = (
        str(programs / "pyinfra"),
        "-y",
        "--parallel",
        str(PARALLEL),
        str(inventory),
        "exec",
        "--",
        _one_word(hosts[0].flavour),
    )
    return Contender("pyinfra exec", command, _ends_in, {"LC_ALL": "C.UTF-8"})


def fleetpatch(hosts: list[LabHost], work: Path, checkout: Path | None = None) -> Contender:
    """The command that people use, with records and Prefect's home of its own; or that of another checkout."""
    home = work / ("before" if checkout else "now")
    home.mkdir()
    inventory = home / "fleet.yaml"
    inventory.write_text(hosts[0].lab.inventory_text())
    command = (*find_program(checkout), "assess", "*", "--inventory", str(inventory), "--json")
    return Contender(f"fleetpatch assess{BEFORE if checkout else ''}", command, _assessed, homes_in(home))


def _assessed(printed: Path) -> int:
    report = json.loads(printed.read_text())
    return sum(
        machine["status"] == "Succeeded" and machine["criticalAndSecurityPatchCount"] > 0
        for machine in report["machines"]
    )
