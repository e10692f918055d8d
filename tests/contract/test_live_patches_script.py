"""What live_patches.sh reads, with stand-ins for the tools and the kernel's folder. It does not wait for slow tools."""

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tasks.domain.model import LivePatching
from tasks.domain.protocols.transport import ScriptResult
from tasks.machines.managers.live_patches import parse_live_patches
from tasks.machines.managers.script_output import parse_sections
from tasks.machines.transport.script_library import load_script

RUNNING, NEXT, NEWEST, OTHER = "5.14.0-427.13.1", "5.14.0-427.16.1", "5.14.0-427.18.1", "5.14.0-503.1.1"
ENTRIES = {
    "5.14.0-362.8.1": "- kernel: an old one {CVE-2020-0001}",
    RUNNING: "- kernel: what it fixed itself {CVE-2023-0001}\n- and more",
    NEXT: "- kernel: two at once {CVE-2024-1086 CVE-2024-26642}",
    NEWEST: "- kernel: another [RHEL-1] {CVE-2024-26643}\n- kernel: the first again {CVE-2024-1086}",
}
RPM = """#!/bin/sh
case "$*" in
  *"-qa --qf "*) printf 'kpatch-patch-5_14_0-427_13_1\\t1\\t3.el9_4\\n' ;;
  "-q --changelog "*) cat "{place}/changelogs/$3" 2>/dev/null || {{ echo "package $3 is not installed"; exit 1; }} ;;
  *"-qf --qf "*)
    echo "error: file /nowhere: No such file" >&2
    printf 'file /boot/x is not owned by any package\\nkernel-core\\t{running}.el9_4\\tx86_64\\n'; exit 1 ;;
  *) cat "{place}/kernels" ;;
esac
"""


class Machine:
    """A folder with stand-ins for the tools, and the script that reads them."""

    def __init__(self, place: Path) -> None:
        self.place, self.sys = place, place / "sys"
        (place / "changelogs").mkdir()
        (place / "bin").mkdir()
        self.tool("uname", f"#!/bin/sh\necho {RUNNING}.el9_4.x86_64\n")
        self.tool("rpm", RPM.format(place=place, running=RUNNING))
        self.kernels(RUNNING)

    def tool(self, name: str, text: str) -> None:
        """Put a stand-in there."""
        (self.place / "bin" / name).write_text(text)
        (self.place / "bin" / name).chmod(0o755)

    def patch(self, name: str, enabled: str = "1", transition: str | None = "0") -> None:
        """Load a live patch."""
        folder = self.sys / "kernel/livepatch" / name
        folder.mkdir(parents=True)
        (folder / "enabled").write_text(f"{enabled}\n")
        if transition is not None:
            (folder / "transition").write_text(f"{transition}\n")

    def kernels(self, *releases: str) -> None:
        """Install kernels, each with the changelog of its stream up to its own build."""
        (self.place / "kernels").write_text("".join(f"{each}.el9_4\tx86_64\n" for each in releases))
        builds = list(ENTRIES)
        for each in releases:
            if each not in ENTRIES:
                text = "* Mon Jan 01 2026 A <a@b> [other]\n- another stream {CVE-2025-0001}\n"
            else:
                upto = reversed(builds[: builds.index(each) + 1])
                text = "".join(f"* Mon May 06 2024 A <a@b> [{build}]\n{ENTRIES[build]}\n\n" for build in upto)
            (self.place / "changelogs" / f"kernel-core-{each}.el9_4.x86_64").write_text(text)

    def assess(self, container: str = "false") -> tuple[dict[str, Any], ...]:
        """Run the script."""
        script = load_script("live_patches", "tasks.machines.managers.apt")
        for known in ("/sys/", "/snap/"):
            script = script.replace(known, f"{self.place}{known}")
        script = script.replace("timeout -k 5 20", "timeout -k 1 1")
        text = f"exec 3>&1\n{load_script('prelude')}\n{script}\nassess_live_patches {container}\n"
        path = f"{self.place}/bin:/usr/bin:/bin"
        done = subprocess.run(
            ["/bin/sh", "-s"], input=text, capture_output=True, text=True, check=True, env=os.environ | {"PATH": path}
        )
        assert done.stderr == ""
        return tuple(json.loads(line) for line in done.stdout.splitlines())

    def read(self) -> LivePatching | None:
        """Run the script, and read its records."""
        result = ScriptResult(self.assess(), 0)
        return parse_live_patches(result, parse_sections(result, "assess"))


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_without_live_patches_nothing_is_asked(machine: Machine) -> None:
    machine.tool("rpm", f"#!/bin/sh\ntouch {machine.place}/asked\n")
    assert machine.assess() == ()
    assert not (machine.place / "asked").exists()


def test_a_container_has_no_kernel_to_patch(machine: Machine) -> None:
    machine.patch("kpatch_a")
    assert machine.assess("true") == ()


def test_the_fixes_of_newer_kernels_are_those_above_the_running_ones_changelog(machine: Machine) -> None:
    machine.patch("kpatch_5_14_0_427_13_1_1_3")
    machine.kernels("5.14.0-362.8.1", RUNNING, NEXT, NEWEST, OTHER)
    others = {r["release"]: (r["relation"], r["cves"]) for r in machine.assess() if r["kind"] == "other_kernel"}
    assert others == {
        "5.14.0-362.8.1.el9_4": ("older", ""),
        f"{NEXT}.el9_4": ("newer", "CVE-2024-1086 CVE-2024-26642"),
        f"{NEWEST}.el9_4": ("newer", "CVE-2024-26643 CVE-2024-1086 CVE-2024-26642"),
        f"{OTHER}.el9_4": ("unknown", ""),
    }


@pytest.mark.parametrize(
    ("fixed", "unfixed"),
    [("CVE-2024-1086 CVE-2024-26642 CVE-2024-26643", ()), ("CVE-2024-1086", ("CVE-2024-26642", "CVE-2024-26643"))],
)
def test_a_live_patch_is_compared_with_the_newer_kernel(machine: Machine, fixed: str, unfixed: tuple[str, ...]) -> None:
    machine.patch("kpatch_5_14_0_427_13_1_1_3")
    machine.tool("kpatch", "#!/bin/sh\n")
    machine.kernels(RUNNING, NEWEST)
    changelog = f"* Mon May 06 2024 A <a@b> [1-3]\n- kernel: all of them {{{fixed}}}\n"
    (machine.place / "changelogs/kpatch-patch-5_14_0-427_13_1-1-3.el9_4").write_text(changelog)
    live = machine.read()
    assert live is not None
    assert (live.provider, live.kernel) == ("kpatch", f"{RUNNING}.el9_4.x86_64")
    assert live.cves == tuple(sorted(fixed.split()))
    assert live.unfixed_cves == unfixed


def test_a_live_patch_of_an_older_kernel_has_no_transition(machine: Machine) -> None:
    machine.patch("kpatch_a", transition=None)
    live = machine.read()
    assert live is not None
    assert live.patches == ("kpatch_a",)


def test_a_package_that_is_not_loaded_is_seen(machine: Machine) -> None:
    machine.tool("kpatch", "#!/bin/sh\n")
    live = machine.read()
    assert live is not None
    assert live.problem == "kpatch_5_14_0_427_13_1_1_3 is installed, but not loaded"


@pytest.mark.parametrize("tool", ["canonical-livepatch", "klp", "ksplice", "uptrack-show"])
def test_a_tool_that_hangs_is_left_and_is_a_problem(machine: Machine, tool: str) -> None:
    machine.patch("a")
    machine.tool(tool, "#!/bin/sh\ntrap '' TERM\nexec sleep 600\n")
    began = time.monotonic()
    live = machine.read()
    assert live is not None
    assert live.problem == f"{live.provider} gave no answer in time"
    assert time.monotonic() - began < 300


def test_tools_are_asked_for_what_they_print(machine: Machine) -> None:
    for tool in ("canonical-livepatch", "pro", "klp", "ksplice"):
        machine.tool(tool, '#!/bin/sh\necho "$@"\n')
    records = machine.assess()
    assert {r["name"]: r["text"] for r in records if r["kind"] == "section"} == {
        "canonical_livepatch": "status --format json\n",
        "pro_reboot_required": "api u.pro.security.status.reboot_required.v1\n",
        "klp": "-v patches\n",
        "ksplice": "kernel show\n",
    }
    assert records[-1]["kind"] == "live_patching"
