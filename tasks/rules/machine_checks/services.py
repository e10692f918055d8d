"""Checks services after patching: they must run and listen again. Says which ones a run may restart. Pure."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from inventory.name_lists import format_count, join_first_names
from tasks.domain.model import Finding, PackageState, RebootNeed, Services
from tasks.domain.states import YesNoUnknown
from tasks.rules.machine_checks.listeners import find_vanished_listeners
from tasks.rules.machine_checks.units import (
    ServiceStatus,
    UnitStatus,
    check_service_starts,
    check_units,
    find_failed_service_units,
    has_ended_by_itself,
)


def check_services(
    before: Services,
    after: Services,
    *,
    rebooted: bool = False,
    units: Sequence[UnitStatus] = (),
    services: Sequence[ServiceStatus] = (),
) -> tuple[Finding, ...]:
    """Return findings about services after patching. A newly failed unit or a missing listener blocks.

    Units that had failed before do not count. New services do not count either. Where the machine says what ran before,
    only that counts. Without a reboot, a service that ended without an error was stopped by somebody, such as an
    installer. After a reboot, it has ended by itself: some do so at each boot. ``units`` and ``services`` tell what
    systemd and Windows say of those that find_missing_units and find_missing_services name.
    """
    shown = ((before.active_units, after.active_units), (before.running, after.running), (before.runs, after.runs))
    unread = any(earlier and not now for earlier, now in shown)
    if not before.known or not after.known or unread:
        remedy = "Give this machine probes of its own, so that its health can be checked."
        return (Finding.warn("services", "the machine can't show which services run", remedy),)
    findings: list[Finding] = list(check_units(units, before, after, rebooted=rebooted))
    findings += check_service_starts(services, rebooted=rebooted)
    unit_names = {unit.name for unit in units} | set(after.late)
    new = set(after.failed) - set(before.failed)
    failed = find_failed_service_units(sorted((new & set(before.running) if before.running else new) - unit_names))
    if failed:
        remedy = "Read their logs on the machine, repair them and start them."
        findings.append(Finding.block("services", f"failed since patching: {join_first_names(failed)}", remedy))
    ended = sorted(set(before.running) & set(after.ended))
    if ended and not rebooted:
        message = f"stopped since patching, and not started again: {join_first_names(ended)}"
        findings.append(Finding.block("services", message, "Find out who stopped them, and start them."))
    late = find_late_services(before, after)
    if late:
        message = f"not started yet since the boot, because the system starts them late: {join_first_names(late)}"
        findings.append(Finding.warn("services", message, "Look on the machine whether they run now."))
    ports = find_vanished_listeners(before, after)
    if ports:
        remedy = "Read the logs of the service that listened there, and start it."
        findings.append(Finding.block("ports", f"nothing listens any more on {join_first_names(ports)}", remedy))
    over = [*ended, *(unit.name for unit in units if has_ended_by_itself(unit, rebooted=rebooted))]
    over += [service.name for service in services if not service.runs]
    return tuple(findings) or (_build_all_good(before, over),)


def _build_all_good(before: Services, over: Sequence[str]) -> Finding:
    """Return the finding without any fault. It says no more than was compared."""
    if not before.running and not before.active_units:
        return Finding.good("services", "no service has failed since, and services listen on every port as before")
    by_themselves = f", or has ended by itself: {join_first_names(over)}" if over else ""
    return Finding.good("services", f"everything that ran before runs now{by_themselves}")


def find_late_services(before: Services, after: Services) -> list[str]:
    """Return the services that ran before, and that the system is still to start after the boot."""
    return sorted(set(before.running) & set(after.late))


SERVICE_RESTART_CHECK = "services-to-restart"
"""The check of services that use replaced files, and of their restarts."""

SYSTEM_MANAGER = "systemd"
"""Process 1 in the lists of services that run replaced files. It is no unit. It executes itself anew."""

_CHECKED_UNITS = ("ssh.service", "sshd.service", "*getty@*", "console-getty.service")
"""Masks of units that a run restarts only after a look at the machine, and that go down with no other unit.

sshd: its configuration is valid, and a restart ends no session. A console: nobody is logged in there.
"""

NEVER_RESTARTED_UNITS = (
    # they hold logins
    *("ssh@*", "sshd@*"),
    *("dbus*", "systemd-logind.service", "elogind.service", "user@*"),
    *("display-manager.service", "gdm*", "greetd.service", "kdm*", "lightdm*", "lxdm*", "ly.service", "nodm*", "sddm*"),
    *("slim.service", "wdm*", "xdm*", "*vncserver@*", "x2go*", "xrdp*"),
    # they provide the network, and perhaps the connection of this run
    *(
        "networking.service",
        "network-manager.service",
        "NetworkManager*",
        "ModemManager*",
        "wpa_supplicant*",
        "iwd.service",
        *("connman*", "dhcpcd*", "openvswitch*", "ovs-*", "cloudflared*", "nebula*", "netbird*", "teleport*"),
    ),
    *("openvpn*", "*swan*", "wg-quick@*", "bird*", "frr.service", "quagga*", "tinc*", "tailscaled*", "zerotier*"),
    "firewalld*",  # it drops the rules that others have added
    # a restart also stops the programs below them
    *("docker*", "containerd*", "libvirt*", "virtlogd.service", "virtlockd.service", "virtqemud.service", "lxcfs*"),
    *("xendomains.service", "zfs-fuse.service"),
    # a restart moves services of a cluster to other machines
    *("corosync*", "keepalived*", "pacemaker*", "patroni*", "sanlock*", "sbd.service", "wdmd*"),
    # they run once
    *("emergency.service", "rescue.service", "rc-local.service", "cron-*"),
    "fleetpatch-*",
)
"""Masks of units that no run restarts. Only a reboot renews them."""

_UNIT_PATTERN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9:_.\\@-]*\.service")


def build_protected_unit_masks(updater_units: Iterable[str], exclude: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the masks of all units that go down with no other unit: these here, the updaters, and the owner's."""
    return (*NEVER_RESTARTED_UNITS, *_CHECKED_UNITS, *updater_units, *exclude)


def find_restartable_services(packages: PackageState | None, exclude: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the services that use replaced files and that a run may restart, in the machine's order, systemd last."""
    if packages is None:
        return ()
    masks = (*NEVER_RESTARTED_UNITS, *packages.updater_units, *exclude)
    names = [name for name in packages.services_to_restart if _UNIT_PATTERN.fullmatch(name) and not _fits(name, masks)]
    reexecutes = SYSTEM_MANAGER in packages.services_to_restart and not _fits(SYSTEM_MANAGER, exclude)
    return (*names, *([SYSTEM_MANAGER] if reexecutes else []))


def find_reboot_only_services(packages: PackageState, exclude: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the services that use replaced files and that only a reboot renews.

    Not those that their owner excludes: that decision is not for a reboot to go round. Nor updaters: their next start
    renews them, and stopping one may make it install.
    """
    restartable, kept = find_restartable_services(packages, exclude), (*packages.updater_units, *exclude)
    return tuple(n for n in packages.services_to_restart if n not in restartable and not _fits(n, kept))


def _fits(name: str, masks: Iterable[str]) -> bool:
    return any(fnmatchcase(form, mask) for form in (name, name.removesuffix(".service")) for mask in masks)


def count_reboot_only_services(packages: PackageState, exclude: Iterable[str] = ()) -> RebootNeed:
    """Return a machine's need to reboot, with the services that only a reboot renews. No live patch renews them."""
    names, need = find_reboot_only_services(packages, exclude), packages.reboot
    if not names:
        return need
    reasons = need.reasons if need.answer is YesNoUnknown.YES else ()
    reason = f"only a reboot renews {join_first_services(names)}, which run replaced files"
    return replace(need, answer=YesNoUnknown.YES, reasons=(*reasons, reason), mitigated_by="")


def check_outdated_services(
    packages: PackageState, exclude: Iterable[str] = (), *, may_renew: bool = True
) -> tuple[Finding, ...]:
    """Return a finding about services that use replaced files, or nothing. After a reboot there are none.

    ``may_renew``: False on a machine where this run installed nothing, and may neither restart nor reboot anything: its
    owner has decided that. This is a remark, and so are updaters: their next start renews them.
    """
    names = packages.services_to_restart
    if not names:
        return ()
    restartable = find_restartable_services(packages, exclude)
    reboot_only = find_reboot_only_services(packages, exclude)
    kept = [name for name in names if name not in (*restartable, *reboot_only) and _fits(name, exclude)]
    remedies = [
        remedy.format(join_first_services(group))
        for group, remedy in (
            (restartable, "Restart {}, or have a run do so (restart_services: IfRequired)."),
            (reboot_only, "No run restarts {}: a reboot does, or you by hand."),
            (kept, "The request excludes {}: restart them when it suits you."),
        )
        if group
    ] or ["Nothing: the next start of an updater renews it."]
    remedies += ["`systemctl daemon-reexec` renews systemd itself."] if SYSTEM_MANAGER in names else []
    counted = format_count(len(names), "service", ("still runs", "still run"))
    message = f"{counted} files that updates have replaced: {join_first_services(names)}"
    build = Finding.warn if may_renew and (restartable or reboot_only or kept) else Finding.remark
    return (build(SERVICE_RESTART_CHECK, message, " ".join(remedies)),)


def drop_updaters(packages: PackageState) -> tuple[str, ...]:
    """Return the services that use replaced files without the system's own updaters: their next start renews them."""
    return tuple(name for name in packages.services_to_restart if not _fits(name, packages.updater_units))


def join_first_services(names: Iterable[str]) -> str:
    """Return the first eight names and the number of the others."""
    return join_first_names(tuple(names), 8)
