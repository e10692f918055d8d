"""guests.sh in real shells, with stand-ins for virsh, qm and pct that write down what they are asked."""

import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tasks.domain.protocols.transport import ScriptRecord
from tasks.machines.transport.output_decoder import ScriptOutputDecoder, generate_nonce
from tasks.machines.transport.posix_shell import build_script_stdin
from tasks.machines.transport.script_library import load_script
from tests.support.shells import SHELLS

UUID = "3c9d1f6e-0d7a-4b52-9a3e-5f2d8d9b0c11"
NOTE = 'echo "$(basename "$0") $*" >>"$(dirname "$0")/../asked"\n'
DISKS = '"$(dirname "$0")/../disks"'
TOOLS = {
    "virsh": f"""case "$*" in
*--state-running*) echo {UUID} ;;
*--state-paused* | *--state-other*) ;;
*domname*) echo 'web $(id) "1"' ;;
*domblklist*--inactive*) cat {DISKS}.inactive 2>/dev/null || cat {DISKS} ;;
*domblklist*) cat {DISKS} ;;
*) {NOTE} ;;
esac
""",
    "qm": """case $1 in list) cat <<'T'
      VMID NAME                 STATUS     MEM(MB)    BOOTDISK(GB) PID
       100 db                   running    2048              32.00 1234
       101 spare                stopped    2048              32.00 0
T
;; *) """
    + NOTE
    + ";; esac\n",
    "pct": """case $1 in list) cat <<'T'
VMID       Status     Lock         Name
7          running                 proxy
8          stopped    backup       old
T
;; *) """
    + NOTE
    + ";; esac\n",
    "pvesh": NOTE,
    "hostname": "echo host-1\n",
}
ALL = f"libvirt:{UUID}\nqemu:100\nlxc:7"


SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""The folders that prelude.sh adds to the search path."""


@dataclass(slots=True)
class Host:
    place: Path
    shell: list[str]
    system_path: str = SYSTEM_PATH

    def run(self, **given: str) -> Sequence[ScriptRecord]:
        nonce = generate_nonce()
        done = subprocess.run(
            [*self.shell, "-s"],
            input=build_script_stdin(load_script("guests"), given, nonce).replace(
                SYSTEM_PATH.encode(), self.system_path.encode()
            ),
            capture_output=True,
            env={"PATH": f"{self.place / 'tools'}:{self.system_path}"},
            check=False,
            timeout=120,
        )
        decoder = ScriptOutputDecoder(nonce)
        decoder.feed_stdout(done.stdout)
        output = decoder.build_output()
        assert output.records, done.stderr
        return output.records

    def wait_for_orders(self, count: int) -> list[str]:
        """Return what the tools were asked to do: orders come in any order, and after the script's end."""
        note, until = self.place / "asked", time.monotonic() + 60
        while time.monotonic() < until:
            lines = note.read_text().splitlines() if note.exists() else []
            if len(lines) >= count:
                return sorted(lines)
            time.sleep(0.02)
        pytest.fail("the orders did not come")

    def be_without(self, *tools: str) -> None:
        """Hide these tools, those of this machine as well: it may be a hypervisor host."""
        folder = self.place / "system"
        folder.mkdir()
        for program in (path for place in SYSTEM_PATH.split(":") for path in Path(place).iterdir()):
            if program.name not in tools and not (folder / program.name).is_symlink():
                (folder / program.name).symlink_to(program)
        for tool in tools:
            (self.place / "tools" / tool).unlink()
        self.system_path = str(folder)

    def replace(self, tool: str, text: str) -> None:
        (self.place / "tools" / tool).write_text(f"#!/bin/sh\n{text}")


@pytest.fixture(params=[name for name, words in SHELLS.items() if shutil.which(words[0])])
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Host:
    (tmp_path / "tools").mkdir()
    for name, text in TOOLS.items():
        tool = tmp_path / "tools" / name
        tool.write_text(f"#!/bin/sh\n{text}")
        tool.chmod(0o755)
    (tmp_path / "disks").write_text(
        " Type  Device  Target  Source\n------\n file  disk    vda     /d/web 1.layer\n file  cdrom   sda     -\n"
    )
    words = SHELLS[request.param]
    return Host(tmp_path, [str(shutil.which(words[0])), *words[1:]])


def test_it_lists_what_runs_of_all_hypervisors(host: Host) -> None:
    *guests, end = host.run(work="list")
    assert end["kind"] == "listed"
    assert [(guest["id"], guest["name"], guest["state"]) for guest in guests] == [
        (f"libvirt:{UUID}", 'web $(id) "1"', "running"),
        ("qemu:100", "db", "running"),
        ("lxc:7", "proxy", "running"),
    ]


@pytest.mark.parametrize(
    ("inactive", "disks"),
    [
        (" file  disk  vda  /d/web 1.layer\n file  cdrom  sda  /d/cd.iso\n", "alike"),
        (" file  disk  vda  /d/web 1\n", "other"),
        (None, "unknown"),
    ],
)
def test_a_guest_that_would_start_from_other_disks_is_told(host: Host, inactive: str | None, disks: str) -> None:
    later = host.place / "disks.inactive"
    if inactive is None:
        host.replace("virsh", TOOLS["virsh"].replace(f"cat {DISKS}.inactive 2>/dev/null || cat {DISKS}", "exit 1"))
    else:
        later.write_text(inactive)
    guests = {str(record.get("id")): record.get("disks") for record in host.run(work="list")}
    assert (guests[f"libvirt:{UUID}"], guests["qemu:100"]) == (disks, None)


def test_a_hypervisor_that_does_not_tell_is_not_empty(host: Host) -> None:
    host.replace("virsh", "echo 'error: failed to connect' >&2; exit 1\n")
    records = host.run(work="list")
    assert [record["why"] for record in records if record["kind"] == "unread"] == ["virsh: error: failed to connect"]
    assert records[-1]["kind"] == "listed"


def test_a_guest_that_sleeps_or_is_just_going_off_is_not_away(host: Host) -> None:
    host.replace("virsh", f'case "$*" in *--state-other*) echo {UUID} ;; esac\n')
    assert [guest["state"] for guest in host.run(work="list") if guest["kind"] == "guest"] == [
        "paused",
        "running",
        "running",
    ]


def test_a_host_without_a_known_hypervisor_is_not_empty(host: Host) -> None:
    host.be_without("virsh", "qm", "pct")
    unread, end = host.run(work="list")
    assert (unread["why"], end["kind"]) == ("none of virsh, qm and pct is there", "listed")


ORDERS = {
    ("away", "shutdown"): [f"virsh -c qemu:///system shutdown {UUID}", "qm shutdown 100", "pct shutdown 7"],
    ("away", "move"): [
        f"virsh -c qemu:///system migrate --live --persistent --undefinesource {UUID} qemu+ssh://host-2/system",
        "qm migrate 100 host-2 --online 1",
        "pct migrate 7 host-2 --restart 1",
    ],
    ("back", "shutdown"): [f"virsh -c qemu:///system start {UUID}", "qm start 100", "pct start 7"],
    ("back", "move"): [
        f"virsh -c qemu+ssh://host-2/system migrate --live --persistent --undefinesource {UUID} qemu+ssh://host-1/system",
        "pvesh create /nodes/host-2/qemu/100/migrate --target host-1 --online 1",
        "pvesh create /nodes/host-2/lxc/7/migrate --target host-1 --restart 1",
    ],
    ("force", "shutdown"): [f"virsh -c qemu:///system destroy {UUID}", "qm stop 100", "pct stop 7"],
}


@pytest.mark.parametrize(("work", "action"), ORDERS)
def test_each_order_is_the_hypervisors_own(host: Host, work: str, action: str) -> None:
    records = host.run(work=work, action=action, target="host-2", guests=ALL)
    assert [record["kind"] for record in records] == ["ordered"] * 3
    assert host.wait_for_orders(3) == sorted(ORDERS[work, action])


def test_a_container_is_not_paused(host: Host) -> None:
    records = host.run(work="away", action="pause", target="", guests=ALL)
    assert [record["kind"] for record in records] == ["ordered", "ordered", "failed"]
    assert host.wait_for_orders(2) == sorted(
        [f"virsh -c qemu:///system managedsave {UUID}", "qm suspend 100 --todisk 1"]
    )


@pytest.mark.parametrize("guest", ["libvirt:x;reboot", "qemu:1 2", "lxc:", "docker:1", "qemu:$(id)", "--all"])
def test_what_is_no_id_is_no_order(host: Host, guest: str) -> None:
    records = host.run(work="force", action="shutdown", target="", guests=guest)
    assert "failed" in {record["kind"] for record in records}
    asked = host.place / "asked"
    assert not asked.exists() or "stop 1\n" in asked.read_text()  # of "qemu:1 2" only the first word is an id
