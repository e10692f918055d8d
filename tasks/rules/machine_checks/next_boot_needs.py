"""What the next boot of a machine needs, and what a reboot ends: faults of fstab and crypttab, mounts by hand. Pure."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from inventory.data_class import dataclass
from tasks.domain.model import Finding
from tasks.domain.states import FindingLevel

BOOT_NEEDS_CHECK: Final = "boot needs"
"""The check whether the next boot comes up without a person. A finding keeps the machine from being rebooted."""
REBOOT_LOSS_CHECK: Final = "reboot loss"
"""The check for what a reboot ends, and nothing begins again."""

_NETWORK_TYPES: Final = re.compile(
    r"nfs\d?|cifs|smb3|ceph|glusterfs|fuse\.(glusterfs|sshfs|s3fs|rclone)|9p|lustre|ocfs2|gfs2"
)
_VOLUME_TYPES: Final = re.compile(
    rf"ext[234]|xfs|btrfs|vfat|exfat|ntfs\d?|f2fs|jfs|iso9660|udf|virtiofs|overlay|fuseblk|{_NETWORK_TYPES.pattern}"
)
_OTHERS_PLACES: Final = re.compile(
    r"/(proc|sys|dev|run|snap|tmp|media|var/(run|snap)|var/lib/(docker|containers?|containerd|kubelet|snapd|lxc|lxd|lxcfs|"
    r"incus|machines|rancher|crio|nfs))(/|$)"
)
"""Where others mount, and mount again: the kernel, container engines, snapd, desktops."""
_OTHERS_UNITS: Final = re.compile(r"fleetpatch-|(snap|docker|libpod|crio|user|cockpit)[-.]|[0-9a-f]{32,}")
_ACTIVE: Final = frozenset({"active", "activating", "reloading"})
_AUTOMATIC_KEYS: Final = frozenset({"clevis", "systemd-tpm2"})
_MAX_SHOWN: Final = 10


@dataclass(frozen=True, slots=True)
class FstabLine:
    """A line of fstab. ``is_device_there``: None if the line names no device, or that can't be told."""

    number: int
    text: str
    is_device_there: bool | None = None


@dataclass(frozen=True, slots=True)
class EncryptedVolume:
    """A volume of crypttab, or one that the initramfs opens. ``is_needed``: the system's file system is on it."""

    name: str
    key: str
    options: str
    tokens: str
    is_needed: bool


@dataclass(frozen=True, slots=True)
class BootSurvey:
    """What a machine says of its next boot, and of what a reboot ends.

    Attributes:
        ignores_devices: systemd ignores entries with a device: in a container.
        units: of systemd: the default target, the mounts, and the units that were made at run time; their properties.
        people: users and what they left running.
    """

    fstab: tuple[FstabLine, ...] = ()
    volumes: tuple[EncryptedVolume, ...] = ()
    units: tuple[Mapping[str, str], ...] = ()
    people: tuple[tuple[str, str], ...] = ()
    ignores_devices: bool = False


def find_boot_faults(survey: BootSurvey, *, allow_passphrase: bool = False) -> tuple[Finding, ...]:
    """Return blocking findings about why the next boot would not come up, or would wait for a person."""
    faults = [
        Finding.block(
            BOOT_NEEDS_CHECK,
            f"line {line.number} of fstab {fault}: {line.text.strip()[:200]}",
            "Correct or remove that line, or give it the option nofail, and look at it: findmnt --verify; mount -a",
        )
        for line in survey.fstab
        if (fault := _find_line_fault(line, ignores_devices=survey.ignores_devices))
    ]
    asked = [] if allow_passphrase else sorted(volume.name for volume in survey.volumes if asks_passphrase(volume))
    if asked:
        message = f"its boot asks for the passphrase of an encrypted volume: {', '.join(asked)}"
        remedy = (
            "Reboot it with a person at its console, let its TPM or a tang server open the volume, or say that "
            "somebody answers: reboot_with_passphrase."
        )
        faults.append(Finding.block(BOOT_NEEDS_CHECK, message, remedy))
    return tuple(faults)


def _find_line_fault(line: FstabLine, *, ignores_devices: bool) -> str:
    fields = line.text.split()
    if len(fields) < 3:
        return f"is broken: it has {len(fields)} of at least 3 fields"
    _, target, kind, *rest = fields
    options = set((rest[0] if rest else "defaults").split(","))
    if kind != "swap" and target != "none" and not target.startswith("/"):
        return "is broken: its mount point is no absolute path"
    if any(not number.isdecimal() for number in rest[1:3]):
        return "is broken: its fields 5 and 6 are no numbers"
    is_optional = options & {"noauto", "nofail", "x-systemd.automount", "_netdev"} or kind in {"swap", "ignore"}
    if is_optional or _NETWORK_TYPES.fullmatch(kind) or target in {"/", "none"}:
        return ""  # the boot goes on without it; what / is, the boot loader says
    if line.is_device_there is False and not ignores_devices:
        return "names a device that does not exist, and the boot waits for it"
    return ""


def asks_passphrase(volume: EncryptedVolume) -> bool:
    """Return whether a boot can't go on before a person has given the passphrase of a volume."""
    options = {option.partition("=")[0] for option in volume.options.split(",")}
    if not volume.is_needed and options & {"noauto", "nofail", "_netdev"}:
        return False
    if options & {"tpm2-device", "keyscript", "swap", "plain", "tmp"} or any(
        key in volume.tokens for key in _AUTOMATIC_KEYS
    ):
        return False
    return volume.key in {"", "none", "-"}


def find_losses(survey: BootSurvey, boot_seconds: float | None) -> tuple[Finding, ...]:
    """Return findings about what a reboot ends, and nothing begins again: one finding for each thing.

    What began in the boot, or up to ``boot_seconds`` after it, the boot begins again: a script, a cluster. None: all
    that was made at run time is told, whenever it began.
    """
    by_hand = [
        unit for unit in survey.units if unit.get("ActiveState") in _ACTIVE and _began_later(survey, unit, boot_seconds)
    ]
    findings = [
        *(
            Finding.warn(
                REBOOT_LOSS_CHECK,
                f"{unit['Where']} ({unit.get('What', 'unknown')}) was mounted by hand: no boot mounts it",
                "Enter it into fstab, or mount it again after the reboot.",
            )
            for unit in by_hand
            if _is_hand_mount(survey, unit)
        ),
        *(
            Finding.warn(
                REBOOT_LOSS_CHECK,
                f"{unit['Id']} was made at run time (systemd-run): no boot starts it",
                "Make it a unit with a file, or start it again after the reboot.",
            )
            for unit in by_hand
            if unit.get("FragmentPath", "").startswith("/run/systemd/transient/")
            and unit.get("Id", "").endswith((".service", ".timer"))
            and not _OTHERS_UNITS.match(unit["Id"])
        ),
    ]
    findings += [
        Finding.remark(REBOOT_LOSS_CHECK, f"{user} has {program} running, which a reboot ends")
        for user, program in survey.people
    ]
    return tuple(findings[:_MAX_SHOWN])


def _began_later(survey: BootSurvey, unit: Mapping[str, str], boot_seconds: float | None) -> bool:
    if boot_seconds is None:
        return True
    booted = max((_read_seconds(each) for each in survey.units if each.get("Id", "").endswith(".target")), default=0.0)
    return booted > 0 and _read_seconds(unit) > booted + boot_seconds


def _is_hand_mount(survey: BootSurvey, unit: Mapping[str, str]) -> bool:
    where, file = unit.get("Where", ""), unit.get("FragmentPath", "")
    declared = {_unescape(fields[1]) for line in survey.fstab if len(fields := line.text.split()) > 1}
    is_of_file = file != "" and not file.startswith("/run/systemd/transient/")
    is_volume = _VOLUME_TYPES.fullmatch(unit.get("Type", "")) is not None
    return where != "" and not (is_of_file or where in declared or _OTHERS_PLACES.match(where)) and is_volume


def _read_seconds(unit: Mapping[str, str]) -> float:
    text = unit.get("ActiveEnterTimestampMonotonic", "")
    return int(text) / 1e6 if text.isdecimal() else 0.0


def _unescape(path: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), path)


def keep_true_losses(findings: Iterable[Finding], now: Sequence[Finding], *, rebooted: bool) -> tuple[Finding, ...]:
    """Return the findings without what no reboot has ended, or what has begun again since."""
    kept = (finding for finding in findings if finding.check != REBOOT_LOSS_CHECK or (rebooted and finding not in now))
    return tuple(
        replace(finding, message=f"ended by the reboot: {finding.message}")
        if finding.check == REBOOT_LOSS_CHECK and not finding.message.startswith("ended by")
        else finding
        for finding in kept
    )


def soften_faults(faults: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return faults of the next boot as warnings, for a machine that may still be patched: it is only not rebooted."""
    return tuple(
        replace(fault, level=FindingLevel.WARN, message=f"it can't be rebooted: {fault.message}") for fault in faults
    )
