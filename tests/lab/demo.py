"""The demonstration: a real machine of each family, behind on security updates, patched before your eyes.

    python -m tests.lab.demo [--keep]

Its pages are served meanwhile: open their address and watch the run. Where the lab can't run, this machine is planned
for instead, through the same flow; nothing is changed on it.
"""

import argparse
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from fleetpatch.cli.runtime.exit_codes import ExitCode
from tests.lab.fleet import Flavour, Lab, LabHost
from tests.support.web_process import WebProcess

HERE = Path(__file__).resolve().parents[2]
PLACE = HERE / "reports" / "demo"
COMMAND = Path(sys.executable).with_name("fleetpatch")
SETTINGS = PLACE / "fleetpatch.env"
ENVIRONMENT = {"FLEETPATCH_RECORDS_URL": f"sqlite:///{PLACE / 'records.db'}", "FLEETPATCH_SETTINGS": str(SETTINGS)}
"""The demonstration has records of its own, and goes by no settings file of the user or the host."""
FAMILIES: tuple[Flavour, ...] = ("apt", "dnf", "zypper")
THIS_MACHINE = "name: this-machine, transport: local, address: localhost"
REBOOTS = 2  # number of the host that gets a package whose security update asks for a reboot: the one with dnf
MAY_REBOOT = 1  # the one with apt gets new libraries. D-Bus may use them, and only a reboot renews D-Bus
OUTDATED = r"grep -lE ' r-xp .* /(usr|lib)[^ ]* \(deleted\)$' /proc/[0-9]*/maps 2>/dev/null | wc -l"
console = Console()


@dataclass(frozen=True)
class Look:
    """What a host itself says, asked over plain OpenSSH."""

    pending: int
    boot_id: str
    outdated: int  # processes that run replaced files


def main() -> int:
    """Run the demonstration; the exit code is 0 when the hosts themselves say that all went well."""
    parser = argparse.ArgumentParser(description="Watch fleetpatch patch a real machine of each family.")
    parser.add_argument("--keep", action="store_true", help="leave the machines and the pages up until Ctrl-C")
    asked = parser.parse_args()
    PLACE.mkdir(parents=True, exist_ok=True)
    SETTINGS.write_text("")
    lab = Lab("demo")
    reason = lab.reason_it_cannot_run()
    if reason:
        return plan_this_machine(reason, keep=asked.keep)
    try:
        return patch_the_lab(lab, keep=asked.keep)
    finally:
        lab.down()


@contextmanager
def serve_pages(inventory: Path, *, keep: bool) -> Iterator[None]:
    """Serve the pages of the demonstration's records during a block; if they are kept, until Ctrl-C after it."""
    web = WebProcess({**ENVIRONMENT, "FLEETPATCH_INVENTORY": str(inventory)}, PLACE / "web.log")
    web.start()
    console.print(f"[bold]Pages: {web.url}[/]  (open them now: they show the run while it goes)")
    try:
        yield
        if keep:
            console.print(f"It all stays up until Ctrl-C. Pages: [bold]{web.url}[/]", soft_wrap=True)
            wait_for_interrupt()
            console.print("Ending the pages and the machines …")
    finally:
        web.stop()


def wait_for_interrupt() -> None:
    """Wait for Ctrl-C, or for the signal by which services are ended."""
    ended = threading.Event()
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, lambda *_: ended.set())
    ended.wait()


def patch_the_lab(lab: Lab, *, keep: bool) -> int:
    """Boot a host of each family, patch them, and ask them what became of it."""
    lab.down()
    console.print("[bold]Preparing the machines' images[/] (the first time: a minute or two, with downloads) …")
    lab.script("build", timeout=1800)
    began = time.monotonic()
    console.print("[bold]Booting three machines[/], with apt, dnf and zypper …")
    hosts = [host for family in FAMILIES for host in lab.up(1, family)]
    hosts[REBOOTS - 1].sh("rpm -U /var/cache/lab/lab-reboot-sec-1.0*.rpm", root=True)
    inventory = PLACE / "fleet.yaml"
    inventory.write_text(lab.inventory_text())
    before = {host.name: look(host) for host in hosts}
    show("Before", hosts, before, before)
    words = ["patch", "*", "--inventory", str(inventory), "--minutes", "60", "--canary", "1", "--wave-size", "2"]
    with serve_pages(inventory, keep=keep):
        code = fleetpatch(*words, "--reboot", "IfRequired", "--report", str(PLACE), "--yes")
        return tell_result(hosts, before, code, began)


def tell_result(hosts: list[LabHost], before: dict[str, Look], code: int, began: float) -> int:
    """Ask the hosts, print what became of them, and return the exit code."""
    after = {host.name: look(host) for host in hosts}
    show("After, as the machines themselves say", hosts, before, after)
    faults = judge(hosts, before, after)
    if code != ExitCode.SUCCESS:
        faults.append(f"fleetpatch ended with exit code {code}")
    reports = sorted(PLACE.glob("*/report.html"), key=lambda path: path.stat().st_mtime)
    if not reports:
        faults.append("there is no HTML report")
    for fault in faults:
        console.print(f"[red]✗ {fault}[/]")
    if faults:
        return 1
    rebooted = ", ".join(host.name for host in hosts if before[host.name].boot_id != after[host.name].boot_id)
    console.print(f"[green]✓ Every security update is installed and in effect. Rebooted: {rebooted}.[/]")
    console.print(f"  {time.monotonic() - began:.0f} s from booting the machines to here.")
    console.print(f"  Report: {reports[-1]}")
    return 0


def judge(hosts: list[LabHost], before: dict[str, Look], after: dict[str, Look]) -> list[str]:
    """Return what is not as it should be."""
    faults = []
    for host in hosts:
        if after[host.name].pending:
            faults.append(f"{host.name} still lacks {after[host.name].pending} security updates")
        if after[host.name].outdated:
            faults.append(f"{host.name} still runs replaced files in {after[host.name].outdated} processes")
        rebooted = before[host.name].boot_id != after[host.name].boot_id
        if rebooted != (host is hosts[REBOOTS - 1]) and host is not hosts[MAY_REBOOT - 1]:
            faults.append(f"{host.name} was {'rebooted unasked' if rebooted else 'not rebooted'}")
    return faults


def look(host: LabHost) -> Look:
    """Ask a host over plain OpenSSH."""
    outdated = int(host.sh(OUTDATED, root=True))
    return Look(host.pending_security(), host.boot_id(), outdated)


def show(title: str, hosts: list[LabHost], before: dict[str, Look], now: dict[str, Look]) -> None:
    """Print what the hosts say."""
    columns = ("machine", "family", "address", "security updates pending", "rebooted")
    table = Table(*columns, title=title, title_justify="left")
    for host in hosts:
        rebooted = "yes" if before[host.name].boot_id != now[host.name].boot_id else "no"
        table.add_row(host.name, host.flavour, host.address, str(now[host.name].pending), rebooted)
    console.print(table)


def plan_this_machine(reason: str, *, keep: bool) -> int:
    """Plan for this machine through the same flow, dry."""
    console.print(f"[yellow]The lab can't run here: {reason}[/]")
    console.print("So this machine itself is planned for. [bold]Nothing on it is changed.[/]")
    inventory = PLACE / "this-machine.yaml"
    privilege = "" if os.geteuid() == 0 else ", privilege: none"
    inventory.write_text(f"machines: [{{{THIS_MACHINE}{privilege}}}]\n")
    words = ["--inventory", str(inventory), "--minutes", "60"]
    unread = not any(Path("/var/lib/apt/lists").glob("*_Packages*"))
    with serve_pages(inventory, keep=keep):
        code = fleetpatch("patch", "*", *words, "--dry-run", "--no-refresh", "--report", str(PLACE))
        tell_how_to_apply(inventory, unread=unread)
    # Where repositories were never read, nothing can be known of what is pending; reading them would change it.
    return 0 if unread else code


def tell_how_to_apply(inventory: Path, *, unread: bool) -> None:
    """Print what to do now. Root trusts no inventory of another user, so it gets one of its own."""
    console.print("To apply it, as root:", style="bold")
    place = shlex.quote(str(inventory))
    if os.geteuid() != 0:
        place = "~/this-machine.yaml"
        console.print(f"  echo 'machines: [{{{THIS_MACHINE}}}]' > {place}", soft_wrap=True, markup=False)
    console.print(f"  {COMMAND} patch '*' --inventory {place} --minutes 60", soft_wrap=True)
    if unread:
        console.print("This machine has never read its package repositories, so there was nothing to plan with.")
        console.print("  As root: apt-get update; then make demo again.")


def fleetpatch(*words: str) -> int:
    """Run the command as a person would."""
    console.print(f"[bold]$ fleetpatch {' '.join(words)}[/]", soft_wrap=True)
    return subprocess.run([COMMAND, *words], env={**os.environ, **ENVIRONMENT}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
