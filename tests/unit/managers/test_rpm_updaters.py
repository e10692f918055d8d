"""What updates systems with RPM packages by itself: seen by systemd's words and by files, in this machine's shells."""

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.domain.protocols.transport import Script
from tasks.machines.managers.rpm.system_state import (
    NON_INSTALLING_UPDATERS,
    OFFLINE_UPDATE,
    TIMERS,
    UPDATER_UNITS,
    YUM_CRON_UNIT,
    build_rpm_updaters_script,
    find_rpm_updaters,
    find_unpausable_updaters,
)
from tasks.machines.transport.script_library import compose_script, load_script
from tasks.rules.machine_checks.services import build_protected_unit_masks

PACKAGE = "tasks.machines.managers.rpm.dnf"
NOW = 1795238660  # Sat 2026-11-21 05:24:20 UTC


def unit(name: str, active: str = "active", when: str = "") -> str:
    return f"Id={name}\nActiveState={active}\nNextElapseUSecRealtime={when}\n"


def shown(*units: str) -> str:
    return "\n".join(units)


def test_timers_tell_when_they_act_and_services_that_they_run() -> None:
    text = shown(
        unit("yum-cron.service", "inactive"),
        unit("dnf-automatic.timer", when="Sat 2026-11-21 05:26:00 UTC"),
        unit("dnf-automatic.service", "inactive"),
        unit("dnf5-automatic.timer"),
        unit("dnf5-automatic.service", "activating"),
        unit("os-update.timer", when=""),  # it counts from the boot, so no time of day is known
    )
    assert find_rpm_updaters(text, "", NOW) == (
        ("dnf-automatic.timer", 100.0),
        ("dnf5-automatic.service", 0.0),
        ("os-update.timer", None),
    )


def test_services_without_a_timer_are_seen_while_they_are_active() -> None:
    text = shown(unit(YUM_CRON_UNIT), unit("packagekit.service", "inactive"))
    assert find_rpm_updaters(text, "", NOW) == ((YUM_CRON_UNIT, None),)
    assert find_rpm_updaters(unit("packagekit.service"), "", NOW) == (("packagekit.service", None),)


def test_what_no_run_can_pause_is_known() -> None:
    jobs = "/etc/cron.weekly/opensuse.org-online_update\nno path\n"
    text = shown(unit("dnf-automatic.timer"), unit(YUM_CRON_UNIT))
    found = find_rpm_updaters(text, jobs, NOW, offline_update=True)
    assert next(name for name, _ in found) == "dnf-automatic.timer"
    assert find_unpausable_updaters(found) == (
        "/etc/cron.weekly/opensuse.org-online_update",
        OFFLINE_UPDATE,
    )


def test_what_only_downloads_or_waits_to_be_asked_is_told_apart() -> None:
    names = ("dnf-automatic.timer", "dnf-automatic-notifyonly.timer", "packagekit.service")
    assert tuple(name for name in names if name in NON_INSTALLING_UPDATERS) == names[1:]


def test_only_what_runs_no_program_is_ever_stopped() -> None:
    params = build_rpm_updaters_script(PACKAGE).params
    assert {name for name in params["units"] if not name.endswith(".timer")} == {YUM_CRON_UNIT}
    assert not set(params["units"]) & set(params["activated"])


def test_no_run_restarts_an_updater() -> None:
    masks = build_protected_unit_masks(UPDATER_UNITS)
    assert set(UPDATER_UNITS) <= set(masks)


def test_the_machine_is_asked_about_the_same_timers() -> None:
    text = load_script("updater_facts", PACKAGE)
    words = text.partition("fp_updater_timers='")[2].partition("'")[0].split()
    assert set(words) == set(TIMERS)


SYSTEMCTL = """#!/bin/sh
[ "$TZ" = UTC ] || exit 1
while [ "$#" -gt 0 ]; do case $1 in *.timer) printf 'Id=%s\\nActiveState=inactive\\n\\n' "$1" ;; esac; shift; done
"""


@pytest.mark.parametrize("shell", [each for each in ("dash", "bash", "busybox") if shutil.which(each)])
@pytest.mark.parametrize(("setting", "is_on"), [('"true"', True), ('"false"', False), ("yes # as YaST", True)])
def test_jobs_of_cron_count_when_they_are_switched_on(tmp_path: Path, shell: str, setting: str, is_on: bool) -> None:
    job = tmp_path / "etc/cron.weekly/opensuse.org-online_update"
    job.parent.mkdir(parents=True)
    job.touch()
    (tmp_path / "etc/sysconfig").mkdir()
    (tmp_path / "etc/sysconfig/automatic_online_update").write_text(f"AOU_ENABLE_CRONJOB={setting}\n")
    (tmp_path / "systemctl").write_text(SYSTEMCTL)
    (tmp_path / "systemctl").chmod(0o755)
    text = compose_script(Script("updater_facts", package=PACKAGE))
    words = [shell, *(["sh"] if shell == "busybox" else []), "-c", f"{text}\nfp_list_updater_jobs; fp_show_updaters"]
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "fp_etc": str(tmp_path / "etc")}
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60, env=environment)
    jobs = [line for line in done.stdout.splitlines() if line.startswith("/")]
    assert jobs == ([str(job)] if is_on else [])
    assert done.stdout.count("Id=") == len(TIMERS)
    assert done.stderr == ""


def test_a_machine_that_says_nothing_has_none() -> None:
    assert find_rpm_updaters("", "", NOW) == ()


@given(st.text(), st.text(), st.integers(), st.booleans())
def test_garbage_raises_nothing(one: str, two: str, now: int, offline: bool) -> None:
    found = find_rpm_updaters(one, two, now, offline_update=offline)
    assert len(found) <= len(TIMERS) + 24
    assert set(find_unpausable_updaters(found)) <= {name for name, _ in found}
