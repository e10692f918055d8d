"""What the next boot needs, and what a reboot ends."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.domain.model import Finding
from tasks.domain.states import FindingLevel, YesNoUnknown
from tasks.rules.machine_checks.next_boot_needs import (
    BootSurvey,
    EncryptedVolume,
    FstabLine,
    asks_passphrase,
    find_boot_faults,
    find_losses,
    keep_true_losses,
    soften_faults,
)

YES, NO = YesNoUnknown.YES, YesNoUnknown.NO
GONE = "names a device that does not exist"


def levels(findings: tuple[Finding, ...]) -> list[FindingLevel]:
    return [finding.level for finding in findings]


@pytest.mark.parametrize(
    ("text", "device", "fault"),
    [
        ("UUID=1 /data ext4 defaults 0 2", NO, GONE),
        ("/dev/sdx1 /data ext4", NO, GONE),
        ("UUID=1 /data ext4 defaults 0 2", YES, ""),
        ("UUID=1 /data ext4 defaults 0 2", None, ""),
        ("UUID=1 /data ext4 nofail,noatime 0 2", NO, ""),
        ("UUID=1 /data ext4 noauto 0 2", NO, ""),
        ("UUID=1 /data ext4 noauto,x-systemd.automount 0 2", NO, ""),
        ("UUID=1 /data ext4 _netdev 0 2", NO, ""),
        ("UUID=1 / ext4 defaults 0 1", NO, ""),
        ("UUID=1 none swap sw 0 0", NO, ""),
        ("nas:/export /data nfs defaults 0 0", None, ""),
        ("UUID=1 /data", YES, "is broken: it has 2 of at least 3 fields"),
        ("UUID=1 data ext4 defaults 0 2", YES, "is broken: its mount point"),
        ("UUID=1 /data ext4 defaults, noatime 0 2", YES, "is broken: its fields 5 and 6"),
        ("tmpfs /tmp tmpfs size=1g", None, ""),
    ],
)
def test_a_line_of_fstab_without_which_no_boot_ends_keeps_a_machine_from_its_reboot(
    text: str, device: YesNoUnknown | None, fault: str
) -> None:
    findings = find_boot_faults(BootSurvey(fstab=(FstabLine(3, text, device),)))
    assert levels(findings) == [FindingLevel.BLOCK] * bool(fault)
    assert all(finding.message.startswith(f"line 3 of fstab {fault}") for finding in findings)
    survived = find_boot_faults(BootSurvey(fstab=(FstabLine(3, text, device),), is_fstab_proven=True))
    assert levels(survived) == [FindingLevel.BLOCK if fault == GONE else FindingLevel.REMARK] * bool(fault)
    ignored = find_boot_faults(BootSurvey(fstab=(FstabLine(3, text, device),), ignores_devices=True))
    assert len(ignored) == len(findings) - (fault == GONE)


def test_a_device_of_which_nothing_is_known_is_told_and_does_not_block() -> None:
    line = FstabLine(3, "UUID=1 /data ext4", YesNoUnknown.UNKNOWN)
    findings = find_boot_faults(BootSurvey(fstab=(line,)))
    assert levels(findings) == [FindingLevel.WARN]
    assert soften_faults(findings) == findings
    assert find_boot_faults(BootSurvey(fstab=(line,), ignores_devices=True)) == ()


@given(st.text(max_size=80))
def test_any_line_of_fstab_can_be_read(text: str) -> None:
    find_boot_faults(BootSurvey(fstab=(FstabLine(1, text, YesNoUnknown.NO),)))


@pytest.mark.parametrize(
    ("key", "options", "tokens", "is_needed", "asks"),
    [
        ("none", "luks", "", True, True),
        ("none", "luks", "", False, True),
        ("", "", "", True, True),
        ("-", "luks,discard", "", True, True),
        ("none", "luks,nofail", "", False, False),
        ("none", "luks,nofail", "", True, True),
        ("none", "noauto", "", False, False),
        ("none", "tpm2-device=auto", "", True, True),
        ("none", "tpm2-device=auto", "systemd-tpm2 ", True, False),
        ("none", "tpm2-device=auto", "tpm2-pin ", True, True),
        ("none", "tpm2-device=auto", "tpm2-pin clevis ", True, False),
        ("none", "tpm2-device=auto,tpm2-pin=yes", "systemd-tpm2 ", True, True),
        ("/etc/keys/blob", "tpm2-device=auto", "", True, False),
        ("none", "luks", "clevis ", True, False),
        ("none", "luks", "systemd-tpm2 ", True, False),
        ("none", "luks", "systemd-fido2 ", True, True),
        ("/etc/keys/data.key", "luks", "", False, False),
        ("/dev/urandom", "swap", "", False, False),
    ],
)
def test_a_boot_that_asks_for_a_passphrase_is_known_before(
    key: str, options: str, tokens: str, is_needed: bool, asks: bool
) -> None:
    volume = EncryptedVolume("data_crypt", key, options, tokens, is_needed)
    assert asks_passphrase(volume) is asks
    survey = BootSurvey(volumes=(volume,))
    assert len(find_boot_faults(survey)) == asks
    assert find_boot_faults(survey, allow_passphrase=True) == ()


def test_a_key_file_that_does_not_exist_opens_nothing() -> None:
    volume = EncryptedVolume("data_crypt", "missing:/etc/keys/data.key", "luks", "", is_needed=False)
    (finding,) = find_boot_faults(BootSurvey(volumes=(volume,)))
    assert finding.level is FindingLevel.BLOCK
    assert finding.message.endswith("volume: data_crypt (its key file /etc/keys/data.key does not exist)")


def unit(name: str, seconds: float, **properties: str) -> dict[str, str]:
    shown = {"Id": name, "ActiveState": "active", "ActiveEnterTimestampMonotonic": f"{seconds * 1e6:.0f}"}
    return {**shown, **properties}


def mount(where: str, seconds: float = 5000.0, **properties: str) -> dict[str, str]:
    return unit("x.mount", seconds, **{"Where": where, "What": "/dev/sdb1", "Type": "xfs", **properties})


TRANSIENT = {"FragmentPath": "/run/systemd/transient/x"}
BOOTED = unit("multi-user.target", 30)


@pytest.mark.parametrize(
    ("shown", "is_lost"),
    [
        (mount("/srv/data"), True),
        (mount("/srv/data", 31), False),  # by a script of the boot
        (mount("/srv/data", Type="nfs4"), True),
        (mount("/srv/data", Type="tmpfs"), False),
        (mount("/var/lib/docker/overlay2/1/merged"), False),
        (mount("/snap/core/1"), False),
        (mount("/home/u/.local/share/containers/storage/overlay"), False),
        (mount("/net/nas/export", Type="nfs4"), False),
        (mount("/direct mount", Type="cifs"), False),
        (mount("/network", Type="nfs4"), True),
        (mount("/declared"), False),
        (mount("/with blank"), False),
        (mount("/srv/data", FragmentPath="/run/systemd/generator/x.mount"), False),
        (mount("/srv/data", FragmentPath="/etc/systemd/system/x.mount"), False),
        (mount("/srv/data", FragmentPath=TRANSIENT["FragmentPath"]), True),
        (unit("run-r1.service", 5000, **TRANSIENT), True),
        (unit("run-r1.service", 5000, FragmentPath="/etc/systemd/system/x.service"), False),
        (unit("run-r1.service", 5000, **TRANSIENT, ActiveState="failed"), False),
        (unit("fleetpatch-updaters.timer", 5000, **TRANSIENT), False),
        (unit("backup.timer", 5000, **TRANSIENT), True),
    ],
)
def test_what_no_boot_brings_back_is_told(shown: dict[str, str], is_lost: bool) -> None:
    declared = FstabLine(1, "UUID=1 /declared ext4"), FstabLine(2, r"UUID=2 /with\040blank ext4")
    automounts = "/net", r"/direct\040mount"
    findings = find_losses(BootSurvey(fstab=declared, units=(BOOTED, shown), automounts=automounts), 120)
    assert [finding.level for finding in findings] == [FindingLevel.WARN] * is_lost


@pytest.mark.parametrize(
    ("targets", "fault", "told"),
    [
        ((unit("multi-user.target", 0), unit("basic.target", 20)), "", "was mounted by hand"),
        ((unit("multi-user.target", 0), unit("basic.target", 0)), "", "when its boot ended is not known"),
        ((BOOTED,), "systemctl ended with 1", "is not known: systemctl ended with 1"),
    ],
)
def test_a_boot_without_a_known_end_is_told(targets: tuple[dict[str, str], ...], fault: str, told: str) -> None:
    (finding,) = find_losses(BootSurvey(units=(*targets, mount("/srv/data")), units_fault=fault), 120)
    assert finding.level is FindingLevel.WARN
    assert told in finding.message


def test_after_a_reboot_only_what_it_has_ended_is_told() -> None:
    survey = BootSurvey(
        units=(BOOTED, mount("/srv/a"), mount("/srv/b"), unit("run-r1.service", 5000, **TRANSIENT)),
        people=(("alice", "tmux: server"),),
    )
    before = find_losses(survey, 120)
    again = BootSurvey(units=(unit("multi-user.target", 20), mount("/srv/b", 25)))
    now = find_losses(again, boot_seconds=None)
    told = [finding.message for finding in keep_true_losses(before, now, rebooted=True)]
    assert [message.split()[4] for message in told] == ["/srv/a", "run-r1.service", "alice"]
    assert keep_true_losses(before, (), rebooted=False) == ()
    assert keep_true_losses(keep_true_losses(before, now, rebooted=True), now, rebooted=True)


@pytest.mark.parametrize(
    ("state", "kinds", "level"),
    [
        ("1", "1 3", None),  # the TPM alone, and a recovery password
        ("1", "4 9", None),  # Network Unlock beside a PIN
        ("1", "4 3", FindingLevel.BLOCK),
        ("1", "5", FindingLevel.BLOCK),
        ("1", "6", FindingLevel.BLOCK),
        ("1", "2", FindingLevel.BLOCK),
        ("1", "8", FindingLevel.BLOCK),
        ("1", "3", FindingLevel.BLOCK),
        ("1", "", FindingLevel.BLOCK),
        ("0", "4", None),
        ("2", "4", FindingLevel.BLOCK),
        ("2", "1", None),
    ],
)
def test_bitlocker_asks_unless_it_is_off_or_opened_without_a_person(
    state: str, kinds: str, level: FindingLevel | None
) -> None:
    survey = BootSurvey(volumes=(EncryptedVolume("C:", "bitlocker", state, kinds, is_needed=True),))
    assert levels(find_boot_faults(survey)) == [level] * (level is not None)
    assert find_boot_faults(survey, allow_passphrase=True) == ()


def test_a_volume_that_could_not_be_asked_keeps_a_machine_from_its_reboot_and_an_unlisted_one_does_not() -> None:
    unread = BootSurvey(volumes=(EncryptedVolume("C:", "unread", "Generic failure", "", is_needed=True),))
    (finding,) = find_boot_faults(unread)
    assert finding.level is FindingLevel.BLOCK
    assert finding.message.endswith("of an encrypted volume could not be read: C: (Generic failure)")
    assert "manage-bde -status" in finding.remedy
    assert "reboot_with_passphrase" in finding.remedy
    assert find_boot_faults(unread, allow_passphrase=True) == ()
    unlisted = BootSurvey(volumes=(EncryptedVolume("C:", "unlisted", "", "", is_needed=True),))
    assert levels(find_boot_faults(unlisted)) == [FindingLevel.REMARK]
