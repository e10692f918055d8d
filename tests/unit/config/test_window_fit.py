"""Whether machines fit into their windows: what `config check` says, from which durations, and what would do."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from deployments.checks.finding import ConfigurationFinding
from deployments.checks.window_checks import check_capacity
from deployments.configuration.model import Inventories
from deployments.preview.window_fit import read_learned
from inventory.machine import Inventory, Limits, Machine, MachineSet, OsFamily, PatchOwner
from inventory.resource_limits import Resource, ResourceKind, ResourceLimits
from tasks.records.fleets import use_fleet
from tasks.records.measures import LearnedDurations
from tasks.records.setup import open_records
from tasks.rules.calendar.checks import FindingSeverity
from tests.unit.config.folder import WEEKLY, Folder

NOTHING = LearnedDurations()
ONE_WAVE = "waves: {percent: 100, at_once: 20}"


def make_machines(count: int, **fields: Any) -> tuple[Machine, ...]:
    return tuple(replace(Machine(f"m{number:04}", "10.0.0.1"), **fields) for number in range(count))


def check(
    folder: Folder, text: str, inventory: Inventory, learned: LearnedDurations = NOTHING
) -> list[ConfigurationFinding]:
    configurations = folder.read(f"name: web\nscope: '*'\n{text}\n")
    return list(check_capacity(configurations, Inventories({None: inventory}), learned))


def learn(inventory: Inventory, **measures: float) -> LearnedDurations:
    names = [machine.name for machine in inventory.machines]
    return LearnedDurations(dict.fromkeys(names, measures), dict.fromkeys(names, 10.0))


def test_a_fleet_that_is_too_large_is_told_with_the_numbers_that_would_do(folder: Folder) -> None:
    (finding,) = check(folder, f"{WEEKLY}\n{ONE_WAVE}", Inventory(make_machines(5_000)))
    assert (finding.configuration, finding.severity, finding.key) == ("web", FindingSeverity.WARNS, "window")
    assert finding.message == (
        "about 300 of its 5000 machines fit into its window of 2 h, if all have updates: 20 at once in one wave, "
        "7 min 7 s each (by defaults, nothing was learned yet)"
    )
    assert finding.remedy == "Write 334 for `at_once` under `waves`, or give it a window of 1 d 6 h."
    wide = ONE_WAVE.replace("20", "334")
    assert check(folder, f"{WEEKLY}\n{wide}", Inventory(make_machines(5_000))) == []


def test_the_notice_before_a_reboot_counts(folder: Folder) -> None:
    inventory, text = Inventory(make_machines(200)), f"{WEEKLY}\n{ONE_WAVE}"

    assert check(folder, text, inventory) == []
    (finding,) = check(folder, f"{text}\nannounce: {{enabled: true}}", inventory)
    assert "about 100 of its 200 machines fit into its window of 2 h" in finding.message
    assert check(folder, f"{text}\nannounce: {{enabled: true}}\nreboot: Never", inventory) == []


def test_what_past_runs_took_counts_and_machines_without_any_are_said(folder: Folder) -> None:
    inventory = Inventory(make_machines(400))
    learned = learn(
        inventory,
        transaction_seconds=10,
        install_seconds_per_update=1,
        download_bytes_per_second=1e9,
        reboot_seconds=40,
    )
    text = f"{WEEKLY}\n{ONE_WAVE}"
    assert len(check(folder, text, inventory)) == 1
    assert check(folder, text, inventory, learned) == []
    slow = learn(inventory, transaction_seconds=600, install_seconds_per_update=1, reboot_seconds=600)
    (finding,) = check(folder, text, inventory, slow)
    assert "(as learned from past runs)" in finding.message
    some = LearnedDurations(dict(list(slow.measures.items())[:3]), slow.updates)
    (finding,) = check(folder, text, inventory, some)
    assert "(learned of 3, defaults for the others)" in finding.message


def test_no_time_is_kept_and_none_is_used_for_reboots_that_never_happen(folder: Folder) -> None:
    inventory = Inventory(make_machines(500))
    assert len(check(folder, f"{WEEKLY}\n{ONE_WAVE}", inventory)) == 1
    assert check(folder, f"{WEEKLY}\n{ONE_WAVE}\nreboot: Never", inventory) == []


def test_windows_machines_take_longer_and_a_machine_has_its_own_reserve(folder: Folder) -> None:
    text = f"{WEEKLY}\n{ONE_WAVE}"
    assert check(folder, text, Inventory(make_machines(60))) == []
    assert len(check(folder, text, Inventory(make_machines(60, os=OsFamily.WINDOWS)))) == 1
    (finding,) = check(folder, text, Inventory(make_machines(1, limits=Limits(reboot_reserve_minutes=119))))
    assert finding.remedy.endswith("or larger waves. More machines at once are not enough.")


def test_members_of_a_set_limits_and_waves_are_the_reason_where_they_are(folder: Folder) -> None:
    machines = make_machines(40)
    members = tuple(machine.name for machine in machines)
    text = f"{WEEKLY}\n{ONE_WAVE}"
    assert check(folder, text, Inventory(machines)) == []
    one_by_one = MachineSet("db", "*", members, max_unavailable=1)
    (finding,) = check(folder, text, Inventory(machines, sets=(one_by_one,)))
    assert "about 15 of its 40 machines" in finding.message
    limits = ResourceLimits({Resource(ResourceKind.HYPERVISOR, "esx-1"): 1})
    on_one_host = make_machines(40, hypervisor="esx-1")
    (finding,) = check(folder, text, Inventory(on_one_host, limits=limits))
    assert "about 15 of its 40 machines" in finding.message
    (finding,) = check(folder, f"{WEEKLY}\nwaves: {{size: 1}}", Inventory(machines))
    assert "20 at once in 40 waves" in finding.message


def test_machines_of_others_and_disabled_configurations_do_not_count(folder: Folder) -> None:
    text = f"{WEEKLY}\n{ONE_WAVE}"
    assert check(folder, text, Inventory(make_machines(5_000, owner=PatchOwner.MANUAL))) == []
    assert check(folder, f"{text}\nenabled: false", Inventory(make_machines(5_000))) == []


def test_each_zone_of_the_machines_has_its_own_run(folder: Folder) -> None:
    text = f"{WEEKLY.replace('Europe/Berlin', 'machine')}\n{ONE_WAVE}"
    here, there = make_machines(310, zone="Europe/Berlin"), make_machines(310, zone="Asia/Tokyo")
    inventory = Inventory((*here, *(replace(each, name=f"t{each.name}") for each in there[:300])))
    (finding,) = check(folder, text, inventory)
    assert "about 300 of its 310 machines" in finding.message
    assert finding.message.endswith("(Europe/Berlin)")


def test_to_ask_what_past_runs_tell_makes_no_records_for_a_fleet(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'records.db'}"
    open_records(url).close()
    with use_fleet("site-a"):
        assert read_learned(url) == (LearnedDurations(), "")
    assert not list(tmp_path.glob("records@*"))
