"""Stand-ins for the tools of image-based systems. They answer with the recordings, and change from one to the next."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from tasks.domain.protocols.transport import SHARED_SCRIPTS
from tasks.machines.managers.image.bootc.tool import BOOTC
from tasks.machines.managers.image.manager import ImageManager, ImageTool
from tasks.machines.managers.image.rpm_ostree.tool import RPM_OSTREE
from tasks.machines.managers.image.transactional_update.tool import TRANSACTIONAL_UPDATE
from tasks.machines.transport import script_library
from tasks.machines.transport.posix_shell import PosixShell
from tests.unit.managers.recordings import section

FAMILIES: Mapping[str, tuple[ImageTool, Mapping[str, str]]] = {
    "bootc": (
        BOOTC,
        {
            "old": "rhel-image-mode-9-update",
            "downloaded": "rhel-image-mode-9-downloaded",
            "staged": "rhel-image-mode-9-staged",
            "new": "rhel-image-mode-9-rollback-queued",
        },
    ),
    "rpm-ostree": (
        RPM_OSTREE,
        {
            "old": "fedora-coreos-43-update",
            "staged": "fedora-coreos-43-staged",
            "fell-back": "fedora-coreos-43-fell-back",
        },
    ),
    "transactional-update": (
        TRANSACTIONAL_UPDATE,
        {"old": "sle-micro-5.5-update", "staged": "sle-micro-5.5-staged", "new": "sle-micro-5.5-current"},
    ),
}
HEX_DIGITS = "".join(f"{digit:x}" for digit in range(16))
DIGESTS: Mapping[str, str] = {
    "bootc": f"sha256:{HEX_DIGITS[::-1] * 4}",
    "rpm-ostree": "c3d4" * 16,
}

BOOTC_TOOL = """#!/bin/sh
cd {home}
echo "bootc $*" >>calls
case "$*" in
  'upgrade --help') cat help 2>/dev/null ;;
  status*) cat "status-$(cat phase)" ;;
  *--check*) echo 'Update available for: registry.example/ops/rhel-bootc:9'; echo "  Digest: $(cat offered)" ;;
  *--download-only*) echo downloaded >phase; [ ! -e on-download ] || . ./on-download ;;
  upgrade*) [ ! -e on-upgrade ] || . ./on-upgrade; echo staged >phase ;;
esac
"""
RPM_OSTREE_TOOL = """#!/bin/sh
cd {home}
echo "rpm-ostree $*" >>calls
case "$*" in
  'upgrade --help') echo '  --bypass-driver        Force an upgrade' ;;
  status*) cat "status-$(cat phase)" ;;
  *--check*) echo AvailableUpdate: ;;
  *--download-only*) [ ! -e on-download ] || . ./on-download ;;
  upgrade*) [ ! -e on-upgrade ] || . ./on-upgrade; echo staged >phase ;;
esac
"""
ANSWER = """#!/bin/sh
cd {home}
echo "TOOL $*" >>calls
phase=$(cat phase)
case "TOOL $*" in
  'ostree rev-parse '*) cat offered ;;
  *list-updates*) cat "updates-$phase"; [ ! -e updates-code ] || exit "$(cat updates-code)" ;;
  *--cve) cat "cves-$phase" ;;
  *list-patches*) cat "patches-$phase" ;;
  'rpm '*) cat installed-staged ;;
  findmnt*) echo "/@/.snapshots/$(sed -n s/running=//p "system-$phase")/snapshot" ;;
  btrfs*) echo "ID 270 gen 99 top level 266 path @/.snapshots/$(sed -n s/default=//p "system-$phase")/snapshot" ;;
  transactional-update*) [ ! -e on-upgrade ] || . ./on-upgrade; echo staged >phase ;;
esac
"""


class ImageHost:
    """A folder with the stand-ins of one family, and its manager."""

    def __init__(self, family: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        tool, phases = FAMILIES[family]
        self.family, self.manager, self.place = family, ImageManager(tool), place
        self.lock = place / "lock"
        for phase, name in phases.items():
            for part in ("status", "updates", "patches", "cves", "system", "installed"):
                try:
                    (place / f"{part}-{phase}").write_text(section(f"{name}.image_assess", part, "image"))
                except ValueError:
                    continue  # that family has no such section
        (place / "offered").write_text(DIGESTS.get(family, ""))
        self.enter("old")
        others: tuple[str, ...] = ("zypper", "rpm", "findmnt", "btrfs", "transactional-update")
        others = others if family == "transactional-update" else ("ostree",)
        texts = {"bootc": BOOTC_TOOL, "rpm-ostree": RPM_OSTREE_TOOL}
        texts |= {name: ANSWER.replace("TOOL", name) for name in others}
        (place / "tools").mkdir()
        for name, text in texts.items():
            (place / "tools" / name).write_text(text.replace("{home}", str(place)))
            (place / "tools" / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{place}/tools:/usr/bin:/bin")
        load = script_library.load_script
        paths = {"/ostree/lock": str(self.lock), "/run/transactional-update.pid": str(place / "pid")}
        paths["/etc/transactional-update.conf"] = str(place / "conf")

        def load_for_stand_ins(name: str, package: str = SHARED_SCRIPTS) -> str:
            text = load(name, package)
            for path, stand_in in paths.items():
                text = text.replace(f" {path}", f" {stand_in}").replace(f"<{path}", f"<{stand_in}")
            return text

        monkeypatch.setattr(PosixShell, "load_own_script", staticmethod(load_for_stand_ins))

    def breaks(self, tool: str, words: str) -> None:
        """Let a tool fail from now on if it is called with these words."""
        path = self.place / "tools" / tool
        first, _, rest = path.read_text().partition("\n")
        fault = f'case "$*" in *{words}*) echo "error: no space left" >&2; exit 1 ;; esac'
        path.write_text(f"{first}\n{fault}\n{rest}")

    def enter(self, phase: str) -> None:
        """Let the tools answer as in this phase from now on."""
        (self.place / "phase").write_text(f"{phase}\n")

    @property
    def phase(self) -> str:
        """The phase that the tools are in."""
        return (self.place / "phase").read_text().strip()

    def on(self, what: str, text: str) -> None:
        """Do this in the shell at "download" or "upgrade"; "exit" ends the tool."""
        (self.place / f"on-{what}").write_text(f"{text}\n")

    def can_download(self) -> None:
        """Let bootc be one that can download without staging."""
        (self.place / "help").write_text("      --download-only\n")

    @property
    def changes(self) -> list[str]:
        """What the tools were told to change, in order."""
        calls = (self.place / "calls").read_text().splitlines()
        words = ("upgrade", "cancel", "up", "patch", "dup")
        asked = [call for call in calls if "--help" not in call and "--check" not in call]
        return [call for call in asked if any(word in call.split()[1:] for word in words)]
