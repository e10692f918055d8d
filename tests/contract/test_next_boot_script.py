"""next_boot.sh in real shells, with stand-ins for the tools that know devices and keys."""

import os
import subprocess
from pathlib import Path

import pytest

from tasks.domain.errors import ProtocolViolation
from tasks.domain.protocols.transport import Script, ScriptResult
from tasks.machines.transport.output_decoder import ScriptOutputDecoder, generate_nonce
from tasks.machines.transport.posix_shell import build_script_stdin
from tasks.machines.transport.script_library import compose_script
from tasks.steps.machine.next_boot import parse_boot_survey
from tests.support.shells import SHELLS

FSTAB = r"""# what blkid knows
UUID=there / ext4 defaults 0 1
UUID=gone /gone ext4
LABEL=My\040Disk /label ext4
LABEL="slow" /slow ext4
/dev/no\040such /path ext4
nas:/export /nas nfs"""
CRYPTTAB = """by_key UUID="luks2" none luks
tpm PARTUUID=tpm none tpm2-device=auto
pin LABEL=pin - tpm2-device=auto
unread UUID=unread none tpm2-device=auto
old UUID=luks1
plain UUID=plain none luks
lost UUID=lost /nowhere/lost.key luks
stick UUID=stick /stick.key:LABEL=stick luks
"""
TOOLS = {
    "blkid": r"""case $2 in UUID=there | 'LABEL=My Disk') ;; UUID=gone) exit 2 ;; *) exit 124 ;; esac""",
    "cryptsetup": r"""case $* in
'luksDump '*by-partuuid/tpm | 'luksDump '*by-label/pin | 'luksDump '*by-uuid/unread)
  printf 'Keyslots:\n  0: luks2\nTokens:\n  3: systemd-tpm2\n\tKeyslot:    1\n' ;;
'token export --token-id 3 '*/tpm) echo '{"type":"systemd-tpm2","tpm2-pin":false,"tpm2-srk":true}' ;;
'token export --token-id 3 '*/pin) echo '{"type":"systemd-tpm2","tpm2-pin": true}' ;;
*) exit 1 ;;
esac""",
    "clevis": r"""case $* in 'luks list -d '*by-uuid/luks1) echo "1: tang '{}'" ;; *) exit 1 ;; esac""",
    "systemctl": r"""printf 'Id=multi-user.target\n\nId=a.mount\nWhere=/a\n'; exit 0""",
}


def run(shell: list[str], place: Path, *, cut: str = "", end: str = "", folder: str = "", **tools: str) -> ScriptResult:
    """Return the answer of a machine whose /etc, and whose state of systemd, are below a folder.

    Args:
        cut: what the script says there.
        end: what the script does there instead.
        folder: the file in /etc that is a folder.
        tools: other stand-ins.
    """
    bin_folder, etc = place / "tools", place / "etc"
    for made in (bin_folder, etc / "cryptsetup-keys.d", etc / "security", place / "system"):
        made.mkdir(parents=True)
    (etc / "fstab").write_text(FSTAB)
    os.utime(etc / "fstab", (0, 0))  # whoever puts a file back keeps its date
    (etc / "crypttab").write_text(CRYPTTAB)
    (etc / "cryptsetup-keys.d/by_key.key").write_text("key")
    if folder:
        (etc / folder).unlink()
        (etc / folder).mkdir()
    (place / "mountinfo").write_text(
        "22 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n"
        "40 22 0:40 / /net\\040work rw shared:9 - autofs /etc/auto.misc rw\n"
    )
    for name, text in {**TOOLS, **tools}.items():
        (bin_folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (bin_folder / name).chmod(0o755)
    script = compose_script(Script("next_boot"))
    if cut:
        assert cut in script
        script = script.replace(cut, end)
    for there, here in (
        ("/etc/", f"{etc}/"),
        ("/proc/self/mountinfo", f"{place}/mountinfo"),
        ("/run/systemd/system", f"{place}/system"),
    ):
        script = script.replace(there, here)
    nonce = generate_nonce()
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    done = subprocess.run(
        [*shell, "-s"],
        input=build_script_stdin(script, {}, nonce),
        capture_output=True,
        env={"PATH": f"{bin_folder}:{path}"},
        check=False,
        timeout=120,
    )
    decoder = ScriptOutputDecoder(nonce)
    decoder.feed_stdout(done.stdout)
    return ScriptResult(decoder.build_output().records, done.returncode, done.stderr.decode())


@pytest.mark.parametrize("shell", SHELLS.values(), ids=SHELLS)
def test_what_a_machine_says_of_its_next_boot(shell: list[str], tmp_path: Path) -> None:
    survey = parse_boot_survey(run(shell, tmp_path))
    devices = [line.device and line.device.value for line in survey.fstab]
    assert devices == ["yes", "no", "yes", "unknown", "no", None]
    assert [(volume.name, volume.tokens) for volume in survey.volumes] == [
        ("by_key", ""),
        ("tpm", "systemd-tpm2 "),
        ("pin", "tpm2-pin "),
        ("unread", "tpm2-pin "),
        ("old", "clevis "),
        ("plain", ""),
        ("lost", ""),
        ("stick", ""),
    ]
    assert [volume.key for volume in survey.volumes[-2:]] == ["missing:/nowhere/lost.key", "/stick.key:LABEL=stick"]
    assert survey.volumes[0].key.endswith("/cryptsetup-keys.d/by_key.key")
    assert not survey.is_fstab_proven, "it was written in this boot, whatever date it has"
    assert survey.automounts == (r"/net\040work",)
    assert [unit["Id"] for unit in survey.units] == ["multi-user.target", "a.mount"]


def test_a_file_that_this_boot_has_read_is_proven_by_it(tmp_path: Path) -> None:
    survey = parse_boot_survey(run(["dash"], tmp_path, stat="echo 1000000000"))
    assert survey.is_fstab_proven


@pytest.mark.parametrize("shell", SHELLS.values(), ids=SHELLS)
def test_a_file_that_cannot_be_read_is_not_an_empty_one(shell: list[str], tmp_path: Path) -> None:
    survey = parse_boot_survey(run(shell, tmp_path / "1", folder="crypttab"))
    (volume,) = survey.volumes
    assert (volume.name, volume.key) == (f"{tmp_path}/1/etc/crypttab", "unread")
    assert "directory" in volume.options
    with pytest.raises(ProtocolViolation, match=r"exit code 1.*fstab: Is a directory"):
        parse_boot_survey(run(shell, tmp_path / "2", folder="fstab"))


@pytest.mark.parametrize("end", ["exit 0", "exit 3"])
def test_half_an_answer_is_none(end: str, tmp_path: Path) -> None:
    answer = run(["dash"], tmp_path, cut="# The encrypted volumes below", end=f"{end}\n#")
    assert answer.find_records("fstab")
    with pytest.raises(ProtocolViolation, match="not whole"):
        parse_boot_survey(answer)


def test_an_answer_counts_only_if_the_script_ended_well(tmp_path: Path) -> None:
    with pytest.raises(ProtocolViolation, match="exit code 1"):
        parse_boot_survey(run(["dash"], tmp_path, cut="\nexit 0\n", end="\nexit 1\n"))


def test_units_that_systemctl_does_not_tell_are_not_none(tmp_path: Path) -> None:
    survey = parse_boot_survey(run(["dash"], tmp_path, systemctl="echo no bus >&2; exit 1"))
    assert "systemctl ended with 1: no bus" in survey.units_fault
