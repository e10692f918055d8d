"""Whether a Debian or Ubuntu machine needs a reboot. Pure.

The sources of a need to reboot, and what it means if they report nothing:

- ``/run/reboot-required`` means yes. Its absence means no only if a package is installed that would create it: Ubuntu's
  update-notifier-common, or unattended-upgrades. Debian alone never creates it.
- The kernel: it means yes if the running kernel is older than the newest of its flavour in /boot, or is an older build
  of the same one. It means no if the newest is running. A machine without its own kernel (a container, or a machine
  whose host boots it) has nothing to load. If there are kernels, but none of the running flavour, the answer is
  unknown.
- needrestart checks the kernel too (KSTA 1: current, 2: a compatible one is newer, 3: a newer one, 0: unknown) and the
  processor's microcode (UCSTA 2: a newer one is installed). Other processes that run old code are in its list of
  services: it is enough to restart them.

So one yes means yes. A current kernel means no: on these systems only the kernel and the creators of the flag require
reboots. Without its own kernel, the answer is no if a package would have created the flag, or if somebody has looked at
what processes run: needrestart, or the scan of an assessment. Otherwise the answer is unknown.
"""

import re
from collections.abc import Iterable
from datetime import datetime

from inventory.data_class import dataclass
from tasks.domain.model import LivePatching, RebootNeed
from tasks.domain.protocols.transport import ScriptRecord
from tasks.domain.states import YesNoUnknown
from tasks.machines.managers.apt.kernels import KERNEL_RELEASE_PATTERN, parse_flavour
from tasks.machines.managers.live_patches import date_newer_kernel, mitigate_reboot
from tasks.machines.managers.running_programs import NEEDRESTART_PATTERN
from tasks.machines.managers.script_output import require_boolean, require_text
from tasks.machines.managers.versions import DebianVersion

_KERNEL_PACKAGE_PATTERN = re.compile(r"linux-base|linux-image-[a-z0-9.+~-]+")
"""The packages that ask for a reboot only for a new kernel."""
_KERNEL_TIME_PATTERN = re.compile(r"^\S*/linux-image-(?:unsigned-)?(\S+)\.list ([0-9]{1,12})$", re.MULTILINE)
_DEBIAN_BUILD_PATTERN = re.compile(r"\bDebian (\S+)")


@dataclass(frozen=True, slots=True)
class _RebootIndication:
    """The answer of one source. UNKNOWN without a reason: it has no answer. ``since``: see RebootNeed."""

    answer: YesNoUnknown
    reason: str = ""
    is_kernel: bool = False
    since: datetime | None = None


def find_apt_reboot_need(
    record: ScriptRecord, needrestart: str | None, live: LivePatching | None = None, *, has_scanned: bool = False
) -> RebootNeed:
    """Combine the sources, as the module docstring describes.

    ``needrestart`` is the output of ``needrestart -b``, or None if it is not installed. ``has_scanned``: all processes
    were looked at for replaced files without it.
    """
    states = dict(NEEDRESTART_PATTERN.findall(needrestart or ""))
    views = [
        view
        for view in (_check_flag_file(record), _check_kernel(record), *_check_needrestart(states))
        if view.answer is YesNoUnknown.YES
    ]
    if views:
        since = next((view.since for view in views if view.since is not None), None)
        need = RebootNeed(YesNoUnknown.YES, tuple(dict.fromkeys(view.reason for view in views)), since=since)
        return mitigate_reboot(need, live, only_kernel=all(view.is_kernel for view in views))
    kernel = _check_kernel(record)
    if kernel.answer is YesNoUnknown.NO or states.get("KSTA") == "1":
        return RebootNeed(YesNoUnknown.NO)
    if _has_own_kernel(record):
        return RebootNeed(YesNoUnknown.UNKNOWN, (kernel.reason,))
    if require_boolean(record, "hook") or needrestart is not None or has_scanned:
        return RebootNeed(YesNoUnknown.NO)
    return RebootNeed(
        YesNoUnknown.UNKNOWN,
        ("the machine has no kernel of its own, and neither needrestart nor a reboot-required hook",),
    )


def _check_flag_file(record: ScriptRecord) -> _RebootIndication:
    if not require_boolean(record, "flag"):
        return _RebootIndication(YesNoUnknown.NO if require_boolean(record, "hook") else YesNoUnknown.UNKNOWN)
    packages = tuple(dict.fromkeys(require_text(record, "asked_by").split()))
    is_kernel = bool(packages) and all(_KERNEL_PACKAGE_PATTERN.fullmatch(name) for name in packages)
    asked_by = f" ({', '.join(packages)})" if packages else ""
    return _RebootIndication(YesNoUnknown.YES, f"/run/reboot-required{asked_by}", is_kernel)


def _find_kernel_images(record: ScriptRecord) -> list[str]:
    return [name for name in require_text(record, "images").split() if KERNEL_RELEASE_PATTERN.match(name)]


def _has_own_kernel(record: ScriptRecord) -> bool:
    return not require_boolean(record, "container") and bool(_find_kernel_images(record))


def _check_kernel(record: ScriptRecord) -> _RebootIndication:
    if not _has_own_kernel(record):
        return _RebootIndication(YesNoUnknown.UNKNOWN)
    running = require_text(record, "kernel")
    peers = [name for name in _find_kernel_images(record) if parse_flavour(name) == parse_flavour(running)]
    if running not in peers:
        return _RebootIndication(YesNoUnknown.UNKNOWN, f"the running kernel {running} is none of those in /boot")
    if newer := [name for name in peers if DebianVersion(name) > DebianVersion(running)]:
        reason = f"kernel {max(newer, key=DebianVersion)} is installed, {running} is running"
        return _RebootIndication(YesNoUnknown.YES, reason, is_kernel=True, since=_date_kernels(record, newer))
    build, package = _DEBIAN_BUILD_PATTERN.search(require_text(record, "build")), require_text(record, "package")
    if build and package and DebianVersion(package) > DebianVersion(build[1]):
        reason = f"kernel {running} is installed as {package}, {build[1]} is running"
        return _RebootIndication(YesNoUnknown.YES, reason, is_kernel=True, since=_date_kernels(record, [running]))
    return _RebootIndication(YesNoUnknown.NO)


def _date_kernels(record: ScriptRecord, kernels: Iterable[str]) -> datetime | None:
    """Return when the first of these kernels was installed, by dpkg's list of the package's files."""
    listed = record.get("kernel_times")
    times = dict(_KERNEL_TIME_PATTERN.findall(listed)) if isinstance(listed, str) else {}
    return date_newer_kernel(int(times[name]) for name in kernels if name in times)


def _check_needrestart(states: dict[str, str]) -> tuple[_RebootIndication, ...]:
    views: list[_RebootIndication] = []
    if states.get("KSTA") in {"2", "3"}:
        current, expected = states.get("KCUR", "?"), states.get("KEXP", "?")
        reason = f"needrestart: kernel {expected} is installed, {current} is running"
        views.append(_RebootIndication(YesNoUnknown.YES, reason, is_kernel=True))
    if states.get("UCSTA") == "2":
        views.append(_RebootIndication(YesNoUnknown.YES, "needrestart: newer processor microcode is installed"))
    return tuple(views)
