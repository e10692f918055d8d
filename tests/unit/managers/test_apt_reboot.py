"""Whether a reboot is needed: every witness, and what their silence means."""

from datetime import UTC, datetime
from typing import Any

import pytest

from tasks.domain.protocols.transport import ScriptResult
from tasks.domain.states import YesNoUnknown
from tasks.machines.managers.apt.assessment import parse_apt_assessment
from tasks.machines.managers.apt.reboot_need import find_apt_reboot_need
from tasks.machines.managers.running_programs import find_services_to_restart
from tests.unit.managers.recordings import recorded

OLD, NEW = "6.1.0-28-amd64", "6.1.0-41-amd64"
CURRENT = "NEEDRESTART-VER: 3.6\nNEEDRESTART-KCUR: 6.1.0-28-amd64\nNEEDRESTART-KSTA: 1\n"


def record(**changes: Any) -> dict[str, Any]:
    """A virtual machine that runs the only kernel it has."""
    base = {
        "kind": "reboot",
        "container": False,
        "flag": False,
        "hook": False,
        "kernel": OLD,
        "build": "#1 SMP PREEMPT_DYNAMIC Debian 6.1.119-1 (2024-11-22)",
        "package": "6.1.119-1",
        "asked_by": "",
        "images": OLD,
    }
    return base | changes


def listed(*kernels: tuple[str, int]) -> str:
    return "\n".join(f"/var/lib/dpkg/info/linux-image-{name}.list {seconds}" for name, seconds in kernels)


@pytest.mark.parametrize(
    ("changes", "seconds"),
    [
        ({"images": f"{NEW}\n{OLD}", "kernel_times": listed((OLD, 100), (NEW, 300), ("amd64", 50))}, 300),
        (
            {
                "images": f"{NEW}\n6.1.0-30-amd64\n{OLD}",
                "kernel_times": listed((NEW, 300), ("unsigned-6.1.0-30-amd64", 200), (OLD, 100)),
            },
            200,
        ),
        ({"package": "6.1.123-1", "kernel_times": listed((OLD, 400))}, 400),
        ({"images": f"{NEW}\n{OLD}", "kernel_times": listed((OLD, 100))}, None),
        ({"images": f"{NEW}\n{OLD}", "kernel_times": listed((NEW, 999_999_999_999))}, None),
        ({"images": f"{NEW}\n{OLD}"}, None),
    ],
)
def test_a_newer_kernel_tells_when_the_first_of_them_was_installed(
    changes: dict[str, Any], seconds: int | None
) -> None:
    need = find_apt_reboot_need(record(**changes), None)
    assert need.answer is YesNoUnknown.YES
    assert need.since == (None if seconds is None else datetime.fromtimestamp(seconds, UTC))


CONTAINER = {"container": True, "kernel": "6.18.44-other", "images": "", "package": ""}


@pytest.mark.parametrize(
    ("changes", "needrestart", "answer", "reason"),
    [
        ({}, None, YesNoUnknown.NO, ""),
        (
            {"flag": True, "asked_by": "libc6\nlibc6\ndbus"},
            None,
            YesNoUnknown.YES,
            "/run/reboot-required (libc6, dbus)",
        ),
        ({"images": f"{NEW}\n{OLD}"}, None, YesNoUnknown.YES, f"kernel {NEW} is installed, {OLD} is running"),
        ({"images": f"6.1.0-9-amd64\n{OLD}"}, None, YesNoUnknown.NO, ""),
        ({"images": f"{OLD}\n6.1.0-41-cloud-amd64"}, None, YesNoUnknown.NO, ""),
        (
            {"package": "6.1.123-1"},
            None,
            YesNoUnknown.YES,
            f"kernel {OLD} is installed as 6.1.123-1, 6.1.119-1 is running",
        ),
        (
            {"kernel": "5.15.0-130-generic", "images": "5.15.0-130-generic\n5.15.0-25-generic"},
            None,
            YesNoUnknown.NO,
            "",
        ),
        (
            {"images": "6.1.0-28-cloud-amd64"},
            None,
            YesNoUnknown.UNKNOWN,
            f"the running kernel {OLD} is none of those in /boot",
        ),
        ({"images": "6.1.0-28-cloud-amd64"}, CURRENT, YesNoUnknown.NO, ""),
        ({}, CURRENT.replace("KSTA: 1", "KSTA: 3\nNEEDRESTART-KEXP: x"), YesNoUnknown.YES, "needrestart: kernel x is"),
        (
            {},
            CURRENT + "NEEDRESTART-UCSTA: 2\n",
            YesNoUnknown.YES,
            "needrestart: newer processor microcode is installed",
        ),
        ({}, CURRENT.replace("KSTA: 1", "KSTA: 0"), YesNoUnknown.NO, ""),
        (CONTAINER, None, YesNoUnknown.UNKNOWN, "no kernel of its own"),
        (CONTAINER, "NEEDRESTART-VER: 3.6\n", YesNoUnknown.NO, ""),
        (CONTAINER | {"hook": True}, None, YesNoUnknown.NO, ""),
        (CONTAINER | {"flag": True}, None, YesNoUnknown.YES, "/run/reboot-required"),
        (
            CONTAINER | {"images": NEW},
            "NEEDRESTART-VER: 3.6\n",
            YesNoUnknown.NO,
            "",
        ),  # its host's kernel runs, not that one
    ],
)
def test_witnesses(changes: dict[str, Any], needrestart: str | None, answer: YesNoUnknown, reason: str) -> None:
    need = find_apt_reboot_need(record(**changes), needrestart)
    assert need.answer is answer
    assert bool(need.reasons) == bool(reason)
    assert all(reason in told for told in need.reasons)


def test_every_reason_is_told() -> None:
    need = find_apt_reboot_need(record(flag=True, images=f"{OLD} {NEW}"), CURRENT)
    assert len(need.reasons) == 2


def test_services() -> None:
    text = "NEEDRESTART-VER: 3.6\nNEEDRESTART-SVC: nginx.service\nNEEDRESTART-SVC: ssh.service\n"
    assert find_services_to_restart("", text) == ("nginx.service", "ssh.service")
    assert find_services_to_restart("") == ()


def test_own_jobs_are_no_services_to_restart() -> None:
    unit = "fleetpatch-20260310-010000-aaaaaa-install-0-0011223344.service"
    assert find_services_to_restart("", f"NEEDRESTART-SVC: {unit}\nNEEDRESTART-SVC: nginx.service\n") == (
        "nginx.service",
    )
    cgroup = "/system.slice/{}"
    outdated = f"0\tsh\t{cgroup.format(unit)}\n0\tnginx\t{cgroup.format('nginx.service')}\n"
    assert find_services_to_restart(outdated) == ("nginx.service",)


def test_a_needrestart_that_fails_does_not_say_that_nothing_runs_replaced_files() -> None:
    result = recorded("debian-12.apt_assess")
    broken = {"kind": "section", "name": "needrestart", "text": "", "exit_code": 2, "stderr": "Can't locate it"}
    scan = {"kind": "section", "name": "outdated", "text": "33\tnginx\t/system.slice/nginx.service\n", "exit_code": 0}
    others = [one for one in result.records if one.get("name") not in {"needrestart", "outdated"}]
    packages = parse_apt_assessment(ScriptResult((scan, broken, *others), exit_code=0))
    assert packages.services_to_restart == ("nginx.service",)
