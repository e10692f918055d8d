"""Rehearsals on copies of real virtual machines: what they find, what they can reach, and what is left of them."""

import subprocess
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tasks.domain.model import RunReport
from tasks.domain.states import OperationState, Step
from tasks.machines.providers.libvirt.overlay import choose_card_name
from tasks.rules.rehearsal import measure_phases
from tests.lab.engine import Telling, outcome_of
from tests.lab.killing import Controllers, its_lease_is_over, wait_for
from tests.lab.vm.conftest import BootVms
from tests.lab.vm.machines import Vm, VmLab
from tests.lab.vm.provided import ProvidedFleet

STATE = "cat /proc/sys/kernel/random/boot_id; sha256sum /var/lib/dpkg/status; find /etc /usr/bin /boot -newer /mark"


class CopyWatch(Telling):
    """Looks at the copy when its assessment has ended, while it runs."""

    def __init__(self, look: Callable[[], None]) -> None:
        super().__init__()
        self._look = look

    def on_message(self, message: str) -> None:
        """Look, once."""
        super().on_message(message)
        if ": assess: Succeeded" in message:
            self._look()


class Rehearsed(ProvidedFleet):
    """A machine that can be rehearsed on."""

    def rehearse(self, *masks: str, **fields: Any) -> RunReport:
        return self.patch(*masks, rehearse=True, only_machines=[self.vm.name], **fields)

    def ask_copy(self, command: str) -> str:
        """Run a command on the copy, by its way in."""
        port = (self.vm.folder / f"{self.vm.name}.rehearsal/port").read_text().strip()
        words = ["ssh", "-i", str(self.vm.key), "-p", port, "-o", "StrictHostKeyChecking=no"]
        words += ["-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "patch@127.0.0.1", command]
        done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
        return done.stdout


def assert_nothing_left(lab: VmLab, vm: Vm) -> None:
    assert lab.hypervisor.virsh("list", "--all", "--name").split() == [name.name for name in lab.machines()]
    assert list(vm.folder.glob("*.rehearsal")) == []
    card = choose_card_name(lab.hypervisor.uri, vm.name)
    assert not Path(f"/run/fleetpatch-{card}").exists()
    for question in (["ip", "netns"], ["ip", "-o", "link"], ["ps", "-eo", "args"], ["mount"]):
        assert card not in subprocess.run(question, capture_output=True, text=True, check=True).stdout, question
    assert "Operation" not in lab.hypervisor.virsh("domjobinfo", vm.name)


MIRROR, REDIRECTING, ELSEWHERE = "mirror.rehearsal.test", "redirecting.rehearsal.test", "elsewhere.rehearsal.test"
LOOK = """
for place in {places}; do timeout 20 bash -c "echo >/dev/tcp/$place" 2>&1 | grep -oE -m 1 'No route to host$|refused$'
  echo "${{PIPESTATUS[0]}} $place"; done
for name in {names}; do getent ahosts "$name" || echo "unknown $name"; done
timeout 20 bash -c 'echo >/dev/tcp/192.0.2.53/53' && echo any name server answers by TCP
ip -o -4 address show eth0 | grep -c 'dynamic' | sed 's/^/leases /'
ip route show default; networkctl status eth0 | grep 'DNS:'
"""


class NetworkOfTheMachine:
    """Its name server, and a mirror that sends its clients elsewhere. The hypervisor's host resolves the mirrors."""

    def __init__(self, address: str, place: Path) -> None:
        self.address, self._log, self._hosts = address, place / "names", Path("/etc/hosts")
        words = ["dnsmasq", "--conf-file=/dev/null", "--pid-file=", "--no-resolv", "--no-hosts", "--bind-interfaces"]
        words += [f"--host-record={name},{address}" for name in (MIRROR, REDIRECTING, ELSEWHERE)]
        words += ["--log-queries", f"--log-facility={self._log}", f"--listen-address={address}", "--keep-in-foreground"]
        self._server = subprocess.Popen(words)
        self._mirror = ThreadingHTTPServer((address, 8098), _Elsewhere)
        Thread(target=self._mirror.serve_forever, daemon=True).start()
        self._lines = ""
        self.resolve_to(address)

    def resolve_to(self, address: str) -> None:
        """Let the names of the mirrors have this address on this machine; "": none."""
        lines = f"{address} {MIRROR} {REDIRECTING}\n" if address else ""
        text = self._hosts.read_text()
        self._hosts.write_text(text.replace(self._lines, lines) if self._lines else text + lines)
        self._lines = lines

    def count_questions(self) -> int:
        return self._log.read_text().count("query[")

    def close(self) -> None:
        self.resolve_to("")
        self._mirror.shutdown()
        self._mirror.server_close()
        self._server.kill()
        self._server.wait()


class _Elsewhere(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(302)
        self.send_header("Location", f"http://{ELSEWHERE}:8099{self.path}")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Be silent."""


def use_mirror(vm: Vm, url: str) -> None:
    suites = ("bookworm-security", "bookworm-updates")
    sources = "".join(f"deb [trusted=yes] {url}/vm {suite} main\\n" for suite in suites)
    vm.sh(f"printf '{sources}' >/etc/apt/sources.list; touch /mark; sync; sleep 1", root=True)


def ask_for_address(vm: Vm, name_server: str) -> None:
    """Let a machine use DHCP from its next boot on: the copy is the first to do that."""
    network = "[Match]\\nName=eth0\\n[Network]\\nDHCP=ipv4\\n"
    vm.sh(
        "sed -i '/^ip addr flush/d' /usr/local/sbin/lab-identity; cd /etc/systemd;"
        "systemctl unmask systemd-networkd systemd-networkd.socket; systemctl enable systemd-networkd;"
        f"printf '{network}' >network/10.network; echo nameserver {name_server} >/etc/resolv.conf",
        root=True,
    )


def is_alive(pid: str) -> bool:
    """Return whether a process runs. A zombie has no command line."""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_bad_update_is_found_on_a_copy_that_reaches_only_its_mirror(
    vm_lab: VmLab, vms: BootVms, tmp_path: Path
) -> None:
    vm, peer = vms(2)
    fleet = Rehearsed(vm_lab, vm, tmp_path)
    host = f"{fleet.net}.1"
    fleet.let_copies_reach(f"{MIRROR}:8099", f"{REDIRECTING}:8098")
    ask_for_address(vm, host)
    use_mirror(vm, f"http://{MIRROR}:8099")
    before = vm.sh(STATE, root=True)
    six = peer.sh("ip -6 -o address show eth0 scope link").split()[3].partition("/")[0] + "%eth0"
    assert vm.sh(f"timeout 20 bash -c 'head -c 4 </dev/tcp/{six}/22'") == "SSH-", "the machine reaches it"
    seen: dict[str, str] = {}
    inside: list[str] = []
    network = NetworkOfTheMachine(host, tmp_path)

    def look() -> None:
        network.resolve_to(peer.address)  # the copy goes on with what was pinned
        asked = network.count_questions()
        places = f"{peer.address}/22 {six}/22 {host}/22 192.0.2.7/443 {MIRROR}/8099 {vm.address}/22"
        names = f"{MIRROR} {ELSEWHERE} packages.example.com"
        seen["tries"] = fleet.ask_copy(LOOK.format(places=places, names=names))
        seen["identity"] = fleet.ask_copy("hostname; cat /proc/sys/kernel/random/boot_id; sudo touch /etc/of-the-copy")
        seen["asked"] = str(network.count_questions() - asked)
        card = choose_card_name(vm_lab.hypervisor.uri, vm.name)
        inside.extend(subprocess.check_output(["ip", "netns", "pids", card], text=True).split())

    try:
        report = fleet.rehearse("lab-failing", "lab-plain", watch=CopyWatch(look))
        outcome = outcome_of(report, vm)
        assert (outcome.state, "a copy of vm-1 failed: " in outcome.reason) == (OperationState.NOT_STARTED, True), (
            report
        )
        lines = seen["tries"].splitlines()
        # nobody answers for the link-local address of the peer
        places = ["No route to host", f"1 {peer.address}/22", f"124 {six}/22"]
        places += ["refused", f"1 {host}/22", "No route to host", "1 192.0.2.7/443"]
        places += [f"0 {MIRROR}/8099", f"0 {vm.address}/22"]
        assert lines[: len(places)] == places
        assert f"{host} STREAM {MIRROR}" in map(" ".join, map(str.split, lines)), "what was pinned"
        assert [line for line in lines if line.startswith("unknown")] == [
            f"unknown {ELSEWHERE}",
            "unknown packages.example.com",
        ]
        assert "any name server answers by TCP" in lines
        assert "leases 1" in lines, "its address is from DHCP"
        assert any(line.startswith(f"default via {host}") for line in lines), lines
        assert seen["asked"] == "0", "the real name server was not asked"
        assert len(inside) >= 2, inside
        assert not [pid for pid in inside if is_alive(pid)]
        assert seen["identity"].splitlines()[0] == vm.name
        assert seen["identity"].splitlines()[1] not in before
        assert vm.sh(STATE, root=True) == before, "the machine was not touched"
        assert vm.sh("ls /etc/of-the-copy 2>&1 || true").startswith("ls: cannot access")
        peer_saw = peer.sh(f"journalctl -t sshd --no-pager | grep -c 'from {vm.address}' || true", root=True)
        assert peer_saw.strip() == "0"
        assert f"it could reach {MIRROR}:8099 {host}" in str(report.notes)
        assert_nothing_left(vm_lab, vm)
    finally:
        network.close()


def test_a_mirror_that_redirects_the_copy_to_another_one_is_told(vm_lab: VmLab, vms: BootVms, tmp_path: Path) -> None:
    (vm,) = vms(1)
    fleet = Rehearsed(vm_lab, vm, tmp_path)
    host = f"{fleet.net}.1"
    fleet.let_copies_reach(f"{REDIRECTING}:8098")
    vm.sh(f"echo nameserver {host} >/etc/resolv.conf", root=True)
    use_mirror(vm, f"http://{REDIRECTING}:8098")  # the machine can follow it
    network = NetworkOfTheMachine(host, tmp_path)
    try:
        report = fleet.rehearse("lab-plain")
    finally:
        network.close()
    outcome = outcome_of(report, vm)
    assert (outcome.state, "could not be made" in outcome.reason) == (OperationState.NOT_STARTED, True), report
    assert f"`repositories` of its provider lacks {ELSEWHERE}" in outcome.reason, report
    assert_nothing_left(vm_lab, vm)


@pytest.mark.slow
def test_a_rehearsal_predicts_the_minutes_of_the_machine(vm_lab: VmLab, vms: BootVms, tmp_path: Path) -> None:
    (vm,) = vms(1)
    vm.crash()  # it boots by GRUB, as its copy does
    vm.wait_login()
    fleet = Rehearsed(vm_lab, vm, tmp_path)
    report = fleet.rehearse("lab-reboot", "lab-plain", "lab-slow")
    outcome = outcome_of(report, vm)
    assert outcome.state is OperationState.SUCCEEDED, report
    assert outcome.prediction is not None
    assert outcome.prediction.basis == "rehearsed"
    assert outcome.reboot_result is not None
    assert outcome.reboot_result.count == 1
    real = measure_phases(outcome)
    assert outcome.prediction.total_seconds == pytest.approx(real.total_seconds, rel=0.3), (outcome.prediction, real)
    assert any(f"rehearsal on a copy of {vm.name}: passed; 3 updates in " in note for note in report.notes)
    assert Step.REBOOT in {record.step for record in outcome.steps}
    assert_nothing_left(vm_lab, vm)


def test_a_copy_that_a_killed_controller_and_an_absent_provider_have_left_is_deleted(
    vm_lab: VmLab, vms: BootVms, tmp_path: Path
) -> None:
    (vm,) = vms(1)
    controllers = Controllers(Rehearsed(vm_lab, vm, tmp_path))
    try:
        run = controllers.patch(rehearse=True, scope=vm.name, updates={"classifications": [], "include": ["lab-plain"]})
        copy = f"{vm.name}.rehearsal"
        wait_for(lambda: copy in vm_lab.hypervisor.virsh("list", "--name").split(), "the copy")
        run.kill()
        its_lease_is_over(controllers)
        run_id = controllers.newest().run.id
        told = controllers.start("providers", vm.name).end()
        assert (told.code, f"copy of a rehearsal: rehearsal-{run_id}-1" in told.out) == (0, True), told

        vm_lab.hypervisor.stop_daemon()
        ended = controllers.resume("--finalize")
        assert ended.states == {vm.name: "NotStarted"}
        assert f"the copy rehearsal-{run_id}-1 of {vm.name} may still be there" in ended.out
        doctor = controllers.start("doctor", "--here", "--json").end()
        assert f"rehearsal-{run_id}-1 of {vm.name}" in doctor.out
        assert controllers.start("reconcile", "--no-prefect").end().code == 3, "the provider is away still"

        vm_lab.hypervisor.start()
        assert copy in vm_lab.hypervisor.virsh("list", "--name").split(), "it ran on"
        done = controllers.start("reconcile", "--no-prefect").end()
        assert (done.code, f"{vm.name}: copy rehearsal-{run_id}-1: Deleted" in done.err) == (0, True), done
        assert "rehearsal-" not in controllers.start("doctor", "--here", "--json").end().out
        assert_nothing_left(vm_lab, vm)
    finally:
        controllers.end()
        vm_lab.hypervisor.start()
