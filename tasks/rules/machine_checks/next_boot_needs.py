"""What the next boot of a machine needs, and what a reboot ends: faults of fstab and crypttab, mounts by hand. Pure."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from inventory.data_class import dataclass
from tasks.domain.model import Finding
from tasks.domain.states import FindingLevel, YesNoUnknown

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
    r"incus|machines|rancher|crio|nfs)|.+/containers/storage/overlay)(/|$)"
)
"""Where others mount, and mount again: the kernel, container engines, snapd, desktops."""
_OTHERS_UNITS: Final = re.compile(r"fleetpatch-|(snap|docker|libpod|crio|user|cockpit)[-.]|[0-9a-f]{32,}")
_ACTIVE: Final = frozenset({"active", "activating", "reloading"})
_MISSING: Final = "missing:"
"""Before the key of a volume whose file does not exist."""
_AUTOMATIC_KEYS: Final = frozenset({"clevis", "systemd-tpm2"})
_LINE_REMEDY: Final = (
    "Correct or remove that line, or give it the option nofail, and look at it: findmnt --verify; mount -a"
)
_VOLUME_REMEDY: Final = (
    "Look at it (manage-bde -status, cryptsetup luksDump). Let its TPM or a tang server open the volume, suspend "
    "BitLocker (Suspend-BitLocker), or reboot it with a person at its console (reboot_with_passphrase)."
)
_MAX_SHOWN: Final = 10
_BITLOCKER, _BITLOCKER_OFF = "bitlocker", "0"
"""The key of a volume of Windows: its options are the state, and its tokens the types of Win32_EncryptableVolume."""
_UNREAD, _UNLISTED = "unread", "unlisted"
"""The keys of a volume that could not be asked (its options say why), and of one that BitLocker does not know."""
_OPENED_ALONE: Final = frozenset({"1", "9"})
"""BitLocker opens a drive by itself with these types of protectors: the TPM, and the network (Network Unlock)."""


@dataclass(frozen=True, slots=True)
class FstabLine:
    """A line of fstab. ``device``: whether its device is there; None if the line names none."""

    number: int
    text: str
    device: YesNoUnknown | None = None


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
        is_fstab_proven: fstab is older than this boot, which has come up with it.
        units: of systemd: targets of the boot, the mounts, and the units that were made at run time; their properties.
        units_fault: why the units could not be read, or "".
        automounts: below these folders, others mount by themselves.
        people: users and what they left running.
    """

    fstab: tuple[FstabLine, ...] = ()
    volumes: tuple[EncryptedVolume, ...] = ()
    units: tuple[Mapping[str, str], ...] = ()
    people: tuple[tuple[str, str], ...] = ()
    ignores_devices: bool = False
    is_fstab_proven: bool = False
    units_fault: str = ""
    automounts: tuple[str, ...] = ()


def find_boot_faults(survey: BootSurvey, *, allow_passphrase: bool = False) -> tuple[Finding, ...]:
    """Return findings about the next boot: that it can't end or waits for a person, and what could not be read."""
    faults = [finding for line in survey.fstab if (finding := _check_line(survey, line))]
    asked = [
        f"{volume.name} (its key file {volume.key.removeprefix(_MISSING)} does not exist)"
        if volume.key.startswith(_MISSING)
        else volume.name
        for volume in filter(asks_passphrase, survey.volumes)
    ]
    unread = [f"{volume.name} ({volume.options})" for volume in survey.volumes if volume.key == _UNREAD]
    about = "its boot asks for the passphrase, PIN or key of an encrypted volume"
    for message, names in ((about, asked), (f"whether {about} could not be read", unread)):
        if names and not allow_passphrase:
            faults.append(Finding.block(BOOT_NEEDS_CHECK, f"{message}: {', '.join(sorted(names))}", _VOLUME_REMEDY))
    faults += [
        Finding.remark(BOOT_NEEDS_CHECK, f"BitLocker does not list {volume.name}, so its boot should not ask")
        for volume in survey.volumes
        if volume.key == _UNLISTED
    ]
    return tuple(faults)


def _check_line(survey: BootSurvey, line: FstabLine) -> Finding | None:
    begin, text = f"line {line.number} of fstab", line.text.strip()[:200]
    if broken := _find_break(line):
        if survey.is_fstab_proven:
            return Finding.remark(BOOT_NEEDS_CHECK, f"{begin} {broken}, but this boot came up with it: {text}")
        return Finding.block(BOOT_NEEDS_CHECK, f"{begin} {broken}: {text}", _LINE_REMEDY)
    _, target, kind, *rest = line.text.split()
    options = set((rest[0] if rest else "defaults").split(","))
    is_optional = options & {"noauto", "nofail", "x-systemd.automount", "_netdev"} or kind in {"swap", "ignore"}
    if is_optional or survey.ignores_devices or _NETWORK_TYPES.fullmatch(kind) or target in {"/", "none"}:
        return None  # the boot goes on without it; what / is, the boot loader says
    if line.device is YesNoUnknown.NO:
        fault = f"{begin} names a device that does not exist, and the boot waits for it: {text}"
        return Finding.block(BOOT_NEEDS_CHECK, fault, _LINE_REMEDY)
    if line.device is YesNoUnknown.UNKNOWN:
        fault = f"{begin} names a device of which blkid does not say whether it exists: {text}"
        return Finding.warn(BOOT_NEEDS_CHECK, fault, "Look for it before a reboot: lsblk -f; findmnt --verify")
    return None


def _find_break(line: FstabLine) -> str:
    fields = line.text.split()
    if len(fields) < 3:
        return f"is broken: it has {len(fields)} of at least 3 fields"
    if fields[2] != "swap" and fields[1] != "none" and not fields[1].startswith("/"):
        return "is broken: its mount point is no absolute path"
    if any(not number.isdecimal() for number in fields[4:6]):
        return "is broken: its fields 5 and 6 are no numbers"
    return ""


def asks_passphrase(volume: EncryptedVolume) -> bool:
    """Return whether a boot can't go on before a person has given the passphrase, or a PIN, of a volume."""
    if volume.key == _BITLOCKER:
        return volume.options != _BITLOCKER_OFF and not _OPENED_ALONE & set(volume.tokens.split())
    options = {option.partition("=")[0]: option.partition("=")[2] for option in volume.options.split(",")}
    if not volume.is_needed and options.keys() & {"noauto", "nofail", "_netdev"}:
        return False
    if options.get("tpm2-pin", "no") not in {"no", "false", "off", "0"}:
        return True
    if options.keys() & {"keyscript", "swap", "plain", "tmp"} or _AUTOMATIC_KEYS & set(volume.tokens.split()):
        return False
    return volume.key in {"", "none", "-"} or volume.key.startswith(_MISSING)


def find_losses(survey: BootSurvey, boot_seconds: float | None) -> tuple[Finding, ...]:
    """Return findings about what a reboot ends, and nothing begins again: one finding for each thing.

    What began in the boot, or up to ``boot_seconds`` after it, the boot begins again: a script, a cluster. None: all
    that was made at run time is told, whenever it began.
    """
    booted = max((_read_seconds(unit) for unit in survey.units if unit.get("Id", "").endswith(".target")), default=0.0)
    begin = -1.0 if boot_seconds is None else booted + boot_seconds
    by_hand = [unit for unit in survey.units if unit.get("ActiveState") in _ACTIVE and _read_seconds(unit) > begin]
    fault = survey.units_fault or ("when its boot ended is not known" if survey.units and not booted else "")
    if fault and boot_seconds is not None:
        by_hand = []
    findings = [
        *build_unread_losses(fault),
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


def build_unread_losses(fault: str) -> tuple[Finding, ...]:
    """Return a warning that what a reboot ends is not known, or nothing without a fault."""
    message = f"which mounts and units a reboot ends is not known: {fault}"
    remedy = "Look at them: findmnt; systemctl list-units"
    return (Finding.warn(BOOT_NEEDS_CHECK, message, remedy),) if fault else ()


def _is_hand_mount(survey: BootSurvey, unit: Mapping[str, str]) -> bool:
    where, file = unit.get("Where", ""), unit.get("FragmentPath", "")
    declared = {_unescape(fields[1]) for line in survey.fstab if len(fields := line.text.split()) > 1}
    is_of_file = file != "" and not file.startswith("/run/systemd/transient/")
    is_volume = _VOLUME_TYPES.fullmatch(unit.get("Type", "")) is not None
    is_others = any(f"{where}/".startswith(f"{_unescape(place).rstrip('/')}/") for place in survey.automounts)
    is_known = is_of_file or is_others or where in declared or _OTHERS_PLACES.match(where)
    return where != "" and not is_known and is_volume


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
        replace(fault, level=FindingLevel.WARN, message=f"it can't be rebooted: {fault.message}")
        if fault.level is FindingLevel.BLOCK
        else fault
        for fault in faults
    )
