"""Enrolment for live patches in a real shell: what is read, and which commands of the vendors a change runs."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tasks.domain.model import HotpatchEnrolment
from tasks.domain.protocols.transport import ScriptResult
from tasks.domain.states import FindingLevel
from tasks.machines.managers.live_patch_enrolment import find_enrolment_commands, parse_live_patch_enrolment
from tasks.machines.managers.script_output import parse_sections
from tasks.machines.transport.script_library import load_script
from tasks.rules.hotpatch import HotpatchAction, plan_change

PACKAGE = "tasks.machines.managers.apt"
ENROLL, UNENROLL, ENABLE, DISABLE = HotpatchAction
PRODUCT = "sle-module-live-patching/15.6/x86_64"
PRO = """#!/bin/sh
case $2 in
  *is_attached*) echo '{"data": {"attributes": {"is_attached": ATTACHED}}}' ;;
  *) echo '{"data": {"attributes": {"enabled_services": [SERVICES]}}}' ;;
esac
"""


class Machine:
    """A folder with stand-ins for the tools and for /etc."""

    def __init__(self, place: Path) -> None:
        self.place = place
        (place / "bin").mkdir()
        (place / "etc/dnf/plugins").mkdir(parents=True)
        self.tool("uname", "#!/bin/sh\necho x86_64\n")
        self.tool("systemctl", "#!/bin/sh\nexit 1\n")

    def system(self, name: str, version: str = "1") -> None:
        (self.place / "etc/os-release").write_text(f'ID="{name}"\nVERSION_ID="{version}"\n')

    def tool(self, name: str, text: str) -> None:
        path = self.place / "bin" / name
        path.write_text(text)
        path.chmod(0o755)

    def packages(self, *names: str) -> None:
        known = "|".join(names) or "none"
        self.tool("rpm", f"#!/bin/sh\ncase $2 in {known}) exit 0 ;; esac\nexit 1\n")

    def shell(self, text: str, **environment: str) -> list[dict[str, Any]]:
        environment = os.environ | {"PATH": f"{self.place}/bin:/usr/bin:/bin"} | environment
        done = subprocess.run(
            ["/bin/sh", "-s"], input=text, capture_output=True, text=True, check=True, env=environment, timeout=60
        )
        return [json.loads(line) for line in done.stdout.splitlines()]

    def read(self, container: str = "false") -> HotpatchEnrolment | None:
        scripts = "\n".join(load_script(each, PACKAGE) for each in ("live_patches", "live_patch_enrolment"))
        scripts = scripts.replace("/etc/", f"{self.place}/etc/")
        records = self.shell(
            f"exec 3>&1\n{load_script('prelude')}\n{scripts}\nassess_live_patch_enrolment {container}\n"
        )
        result = ScriptResult(tuple(records), 0)
        return parse_live_patch_enrolment(result, parse_sections(result, "assess"))

    def enrol(self, provider: str, action: str) -> tuple[list[str], dict[str, Any]]:
        """Run the job, and return the commands that it ran, and its last record."""
        for name in ("pro", "dnf", "systemctl", "SUSEConnect", "zypper"):
            if not (self.place / "bin" / name).exists() or name == "systemctl":
                self.tool(name, f'#!/bin/sh\necho "{name} $*" >>{self.place}/ran\n')
        (self.place / "log").touch()
        script = load_script("enrol_live_patches", PACKAGE)
        words = f"provider) echo {provider} ;; action) echo {action} ;; *) echo {PRODUCT} ;;"
        shims = f"fp_param() {{ case $1 in {words} esac; }}"
        text = f"exec 3>&1 >>{self.place}/log 2>&1\n{load_script('prelude')}\n{shims}\n{script}\n"
        records = self.shell(text, FP_JOB_DIR=str(self.place))
        ran = self.place / "ran"
        return (ran.read_text().splitlines() if ran.exists() else []), records[-1]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


class TestReading:
    @pytest.mark.parametrize(
        ("attached", "services", "enrolled", "receives"),
        [
            ("true", '{"name": "esm-infra"}, {"name": "livepatch"}', True, True),
            ("true", '{"name": "esm-infra"}', True, False),
            ("false", "", False, False),
            ("nonsense", "nonsense", None, None),
        ],
    )
    def test_ubuntu(
        self, machine: Machine, attached: str, services: str, enrolled: bool | None, receives: bool | None
    ) -> None:
        machine.system("ubuntu", "24.04")
        machine.tool("pro", PRO.replace("ATTACHED", attached).replace("SERVICES", services))
        found = machine.read()
        assert found is not None
        assert (found.provider, found.means, found.enrolled, found.receives) == ("livepatch", "pro", enrolled, receives)
        (finding,) = found.prerequisites
        assert finding.level is {True: FindingLevel.GOOD, False: FindingLevel.BLOCK, None: FindingLevel.WARN}[enrolled]

    def test_red_hat(self, machine: Machine) -> None:
        machine.system("rhel", "9.4")
        machine.packages()
        assert machine.read() is None or Path("/usr/bin/dnf").exists()
        machine.tool("dnf", "#!/bin/sh\nexit 1\n")
        found = machine.read()
        assert found is not None
        assert (found.provider, found.enrolled, found.receives) == ("kpatch", False, False)
        machine.packages("kpatch-dnf")
        (machine.place / "etc/dnf/plugins/kpatch.conf").write_text("[main]\nenabled = 1\nautoupdate = True\n")
        found = machine.read()
        assert found is not None
        assert (found.enrolled, found.receives) == (True, True)
        assert "not enabled" in found.prerequisites[0].message
        machine.tool("systemctl", "#!/bin/sh\nexit 0\n")
        found = machine.read()
        assert found is not None
        assert found.prerequisites == ()

    def test_suse(self, machine: Machine) -> None:
        machine.system("sles", "15.6")
        machine.packages("sle-module-live-patching-release")
        found = machine.read()
        assert found is not None
        assert (found.enrolled, found.receives, found.product) == (True, False, PRODUCT)
        machine.packages("sle-module-live-patching-release", "patterns-lp-lp_sles")
        assert (found := machine.read()) is not None
        assert found.receives is True
        machine.system("sles", "12.5")
        assert (found := machine.read()) is not None
        assert found.prerequisites[0].level is FindingLevel.BLOCK

    def test_others_and_containers_are_asked_nothing(self, machine: Machine) -> None:
        machine.system("debian", "12")
        assert machine.read() is None
        machine.system("ubuntu", "24.04")
        machine.tool("pro", f"#!/bin/sh\ntouch {machine.place}/asked\n")
        assert machine.read(container="true") is None
        assert not (machine.place / "asked").exists()


@pytest.mark.parametrize(
    ("provider", "action"),
    [
        *(("livepatch", each) for each in HotpatchAction),
        *(("kpatch", each) for each in HotpatchAction),
        *(("klp", each) for each in (ENROLL, UNENROLL, ENABLE)),
    ],
)
def test_a_change_runs_exactly_the_commands_that_the_plan_shows(
    machine: Machine, provider: str, action: HotpatchAction
) -> None:
    is_on = not action.wants_patches
    enrolled = action is not ENROLL
    enrolment = HotpatchEnrolment(provider, "tool", enrolled, is_on, PRODUCT)
    ran, ended = machine.enrol(provider, action)
    assert tuple(ran) == find_enrolment_commands(enrolment, action)
    assert plan_change(action, enrolment, has_provider=False, commands=ran).steps == tuple(ran)
    assert (ended["kind"], ended["exit_code"], ended["error"]) == ("enrolment_ended", 0, "")


def test_a_command_that_fails_ends_the_change_with_its_words(machine: Machine) -> None:
    machine.tool("dnf", "#!/bin/sh\necho 'Error: no package kpatch' >&2\nexit 1\n")
    ran, ended = machine.enrol("kpatch", ENROLL)
    assert ran == []
    assert (ended["exit_code"], ended["error"]) == (1, "Error: no package kpatch")


def test_what_is_not_known_is_refused(machine: Machine) -> None:
    ran, ended = machine.enrol("klp", DISABLE)
    assert (ran, ended["exit_code"]) == ([], 64)
