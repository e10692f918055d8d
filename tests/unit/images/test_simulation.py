"""Many groups of machines, many faults: what no rolling upgrade may ever do. Mutants of the rules are noticed."""

import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import flows.engine.health_counter as counting
import tasks.steps.image_upgrade as upgrading
from flows.request.patch_request import WavesRequest
from tasks.domain.images import RolloutLimits
from tasks.domain.model import RunReport
from tasks.domain.provided_machines import ProviderAct
from tasks.rules.components.health import exceeds_percent
from tasks.rules.components.tries import find_try
from tests.support.fake_provider import ProviderFault
from tests.support.fleet import outcome_of, result_of
from tests.support.image_fleet import NEW, OLD, ImageFleet, make_group

REPLACE, RESTORE = ProviderAct.REPLACE_OS_DISK, ProviderAct.RESTORE_OS_DISK
GROUPS_OF_A_MUTANT = 80


def make_fleet(seed: int) -> ImageFleet:
    """A group of one to twelve machines with faults of all kinds; the same seed makes the same."""
    chance = random.Random(seed)
    batch = chance.choice((5, 20, 34, 50))
    limits = RolloutLimits(batch, max(batch, 20), chance.choice((0, 20, 50)))
    fleet = ImageFleet(chance.randint(1, 12), replace(make_group(), limits=limits))
    names = sorted(fleet.versions)
    share = chance.choice((0, 0.1, 0.4, 1))
    for faults in (fleet.bad, fleet.dead):
        faults |= {(name, NEW) for name in names if chance.random() < share / 4}
    fleet.sick = {name for name in names if chance.random() < 0.06}
    fleet.fails = {name: "no cluster" for name in names if chance.random() < share / 2}
    fleet.hypervisor.faults[REPLACE] = [chance.choice(list(ProviderFault)) for _ in range(chance.choice((0, 0, 2)))]
    fleet.hypervisor.faults[RESTORE] = [chance.choice((ProviderFault.AWAY_AFTER, ProviderFault.AWAY_BEFORE))]
    return fleet


def find_violations(fleet: ImageFleet, report: RunReport) -> list[str]:
    """What a run has done that it may not do."""
    limits, total = fleet.group.limits, len(fleet.versions)
    faults = fleet.broken()
    tries = {outcome.machine: attempt for outcome in report.outcomes if (attempt := find_try(outcome)) is not None}
    upgraded: list[bool] = []
    unhealthy = set(fleet.sick)
    for wave in report.waves:
        if len(wave.machines) > max(1, total * limits.batch // 100):
            faults.append(f"a batch of {len(wave.machines)} of {total}")
        begun = [name for name in wave.machines if fleet.orders_of(name)]
        if begun and exceeds_percent(len(unhealthy), total, limits.unhealthy):
            faults.append(f"a batch began with {len(unhealthy)} of {total} unhealthy")
        if begun and exceeds_percent(upgraded.count(False), len(upgraded), limits.unhealthy_upgraded):
            faults.append(f"a batch began after {upgraded.count(False)} of {len(upgraded)} failed")
        tried = [name for name in wave.machines if name in tries]
        upgraded += [tries[name].succeeded for name in tried if not _was_refused(report, name)]
        unhealthy |= {name for name in tried if not tries[name].succeeded}
    for name, version in fleet.versions.items():
        is_bad = (name, NEW) in fleet.bad | fleet.dead or name in fleet.fails
        if version == NEW and is_bad:
            faults.append(f"{name} keeps a disk with which it is not healthy")
        if fleet.orders_of(name) and name in fleet.sick:
            faults.append(f"{name} was unhealthy before, and got a new disk")
        if version == NEW and not tries[name].succeeded:
            faults.append(f"{name} has the new disk, and counts as failed")
        if version == OLD and name in tries and tries[name].succeeded:
            faults.append(f"{name} has its old disk, and counts as upgraded")
    return faults


def _was_refused(report: RunReport, name: str) -> bool:
    """Whether the provider refused to replace the disk, as people read it in the report."""
    result = result_of(outcome_of(report, name), "component:image:web")
    return result.reason == f"{REPLACE} was refused"


def upgrade(seed: int) -> list[str]:
    fleet = make_fleet(seed)
    waves = WavesRequest(percent=fleet.group.limits.batch, round_down=True, at_once=1)
    return find_violations(fleet, fleet.upgrade(waves=waves))


@settings(max_examples=settings().max_examples * 2)
@given(seed=st.integers(0, 2**32))
def test_no_group_is_harmed(seed: int) -> None:
    assert upgrade(seed) == []


@pytest.mark.parametrize(
    ("place", "name", "mutant"),
    [
        (counting, "explain_unhealthy_scope", lambda *_words, **_named: ""),
        (counting, "explain_unhealthy_upgraded", lambda *_words: ""),
        (upgrading, "put_disk_back", lambda *_words: "not put back"),
        (upgrading, "_run_scripts", lambda *_words: ""),
    ],
)
def test_a_mutant_is_noticed(
    place: object, name: str, mutant: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place, name, mutant)
    if name == "put_disk_back":
        monkeypatch.setattr("tasks.steps.component_upgrade.put_disk_back", mutant)
    assert any(upgrade(seed) for seed in range(GROUPS_OF_A_MUTANT))


@given(count=st.integers(0, 500), total=st.integers(1, 500), percent=st.integers(0, 100))
def test_exactly_the_share_is_allowed(count: int, total: int, percent: int) -> None:
    assert exceeds_percent(count, total, percent) is (count / total > percent / 100 + 1e-12)
