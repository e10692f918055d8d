"""What of a run goes back: only what is still as the run has left it, and never a kernel."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.domain.model import InstallResult, Selection, Update, UpdateResult
from tasks.domain.protocols.package_manager import InstalledKernels, KernelPackage
from tasks.domain.states import Classification, FindingLevel, UpdateState
from tasks.domain.undo import InstalledChange, UndoSnapshot
from tasks.rules.undo import (
    REMOVAL_TERMS,
    UndoChoice,
    choose_changes,
    collect_order,
    describe_losses,
    describe_plan,
    describe_undo,
    find_removals,
    group_reasons,
    keep_others,
    mark_removals,
)
from tests.contract.test_snapshots import make_row
from tests.support import builders as make

RUN = "20260310-010000-aaaaaa"
NAMES = ("bash", "libssl3", "linux-image-6", "shop")
versions = st.sampled_from(["1", "2", "3"])
changes = st.builds(
    lambda name, before, after: InstalledChange(a_change(name, before, after).update, after),
    st.sampled_from(NAMES),
    st.none() | versions,
    versions,
)


def a_change(name: str = "shop", before: str | None = "1", after: str = "2") -> InstalledChange:
    return InstalledChange(Update(name, name, "all", before, after, Classification.OTHER), after)


def a_kernel(name: str, version: str, *, running: bool) -> KernelPackage:
    update = Update(name, name, "all", version, version, Classification.OTHER)
    return KernelPackage(update, "6", "", 0, is_image=True, is_running=running, is_removable=True)


def choose(*of: InstalledChange, now: dict[str, str], **facts: object) -> UndoChoice:
    values: dict[str, object] = {"kernels": InstalledKernels(), "held": (), "selection": Selection(), **facts}
    return choose_changes(of, now, run_id=RUN, **values)  # type: ignore[arg-type]


@given(
    of=st.lists(changes, max_size=4, unique_by=lambda change: change.update.id),
    now=st.dictionaries(st.sampled_from(NAMES), versions),
    held=st.sets(st.sampled_from(NAMES)),
    masks=st.sets(st.sampled_from(["lib*", "shop", "linux-*"])),
    kernel=versions,
    running=st.booleans(),
    obstacle=st.sampled_from(["", "apt can't tell"]),
)
def test_only_what_is_as_the_run_has_left_it_goes_back(
    of: list[InstalledChange],
    now: dict[str, str],
    held: set[str],
    masks: set[str],
    kernel: str,
    running: bool,
    obstacle: str,
) -> None:
    kernels = InstalledKernels("6", (a_kernel("linux-image-6", kernel, running=running),), obstacle=obstacle)
    selection = Selection(exclude=tuple(masks))
    choice = choose(*of, now=now, kernels=kernels, held=held, selection=selection)
    removals = find_removals(choice.skipped)

    told = [*(update.id for update in choice.back), *(result.update.id for result in choice.skipped)]
    assert sorted(told) == sorted(change.update.id for change in of)
    assert all(result.reason for result in choice.skipped)
    by_id = {change.update.id: change for change in of}
    for update in (*choice.back, *removals):
        change = by_id[update.id]
        assert now[update.id] == change.after == update.installed
        assert update.id not in held
        assert not (update.id == "linux-image-6" and now[update.id] == kernel)
    assert {update.available for update in choice.back} <= {change.update.installed for change in of}
    assert all(update.goes_back and update.installed != update.available for update in choice.back)
    assert all(by_id[update.id].update.installed is None and not obstacle for update in removals)
    stays = keep_others(selection, choice.skipped).exclude
    assert not {update.name for update in choice.back} & set(stays)


def test_the_reasons() -> None:
    kernels = InstalledKernels(
        "6.1", (a_kernel("linux-image-6", "2", running=True), a_kernel("linux-image-7", "2", running=False))
    )
    of = [a_change(name) for name in ("shop", "gone", "newer", "back", "held", "linux-image-6", "linux-image-7", "out")]
    now = dict.fromkeys(("shop", "held", "linux-image-6", "linux-image-7", "out"), "2") | {"newer": "3", "back": "1"}
    choice = choose(*of, now=now, kernels=kernels, held=("held",), selection=Selection(exclude=("out",)))
    assert [(update.id, update.installed, update.available) for update in choice.back] == [("shop", "2", "1")]
    assert {result.update.id: (result.state, result.reason) for result in choice.skipped} == {
        "gone": (UpdateState.BLOCKED, f"it is not wholly installed now; run {RUN} has installed 2"),
        "newer": (UpdateState.BLOCKED, f"it has changed again since (run {RUN} has installed 2, 3 is there now)"),
        "back": (UpdateState.NOT_SELECTED, "version 1 is there already"),
        "held": (UpdateState.EXCLUDED, "a hold on the machine excludes it"),
        "linux-image-6": (
            UpdateState.BLOCKED,
            "it belongs to the running kernel 6.1, which is never taken away",
        ),
        "linux-image-7": (
            UpdateState.BLOCKED,
            "a kernel stays beside the others (6.1 is running): choose one in the boot menu",
        ),
        "out": (UpdateState.EXCLUDED, 'excluded by mask "out"'),
    }


def test_a_component_is_put_back_by_its_own_command() -> None:
    change = a_change("component:exporter")
    choice = choose(change, now={change.update.id: "2"})
    assert choice.back == ()
    assert "components upgrade component:exporter --to 1" in choice.skipped[0].reason


@pytest.mark.parametrize(
    ("before", "words"),
    [
        ("1", "it is an OS disk: `fleetpatch images upgrade web --to 1` gives all machines of the group that version"),
        (None, "it is an OS disk, and its version before is not known"),
    ],
)
def test_an_os_disk_is_put_back_by_the_command_of_its_group(before: str | None, words: str) -> None:
    change = a_change("component:image:web", before)
    change = replace(change, update=replace(change.update, name="image:web"))
    choice = choose(change, now={change.update.id: "2"})
    assert (choice.back, [result.reason for result in choice.skipped]) == ((), [words])


def test_what_came_anew_is_removed_afterwards_and_told() -> None:
    choice = choose(a_change("lib", None), a_change(), now={"lib": "2", "shop": "2"})
    (removal,) = find_removals(choice.skipped)
    assert (removal.id, removal.installed, removal.available) == ("lib", "2", "2")
    gone, stays = (mark_removals(choice.skipped, now, {"lib": "it is needed"}) for now in ({}, {"lib": "2"}))
    assert (gone[0].state, gone[0].version_after) == (UpdateState.INSTALLED, None)
    assert (stays[0].state, stays[0].reason) == (UpdateState.BLOCKED, "not removed: it is needed")
    assert find_removals(gone) == find_removals(stays) == ()
    notes = describe_plan(RUN, "by the package manager", "no promise", choice, ["dnf history undo 7"])
    assert notes == (
        f"undo of run {RUN} by the package manager",
        "no promise",
        f"to be removed ({REMOVAL_TERMS}), because the run has newly installed it: lib",
        "files and data that have changed since stay as they are",
        'the next run installs them again unless its request has this line below `updates`: exclude: ["shop"]',
        "the package manager said after that run: dnf history undo 7",
    )


def test_what_is_not_back_is_a_warning() -> None:
    choice = choose(a_change(), a_change("ssl"), now={"shop": "2", "ssl": "3"})
    done = UpdateResult(choice.back[0], UpdateState.INSTALLED, "", "1")
    warning, note = describe_undo([done, *choice.skipped], ["patch:x"])
    assert (warning.level, note.level) == (FindingLevel.WARN, FindingLevel.GOOD)
    assert "ssl: it has changed again since" in warning.message
    assert "sealed, do not have patch:x" in warning.message
    assert 'exclude: ["shop"]' in note.message
    assert describe_undo([make.make_update_result()], ()) == ()


def test_the_versions_are_those_of_the_sealed_plans() -> None:
    """An outcome that somebody has changed in the database can't name another version to go back to."""
    update = make.make_update()
    result = make.make_update_result(update=replace(update, installed="0.1-evil"))
    alien = make.make_update_result(update=make.make_update(name="alien"))
    plan = make.make_plan(chosen=(update,), skipped=())
    outcome = make.make_outcome(updates=(result, alien))
    order = collect_order(replace(make.make_report(), outcomes=(outcome,), plans=(plan,)))
    assert order.changes == {outcome.machine: (InstalledChange(update, update.available),)}
    assert order.unknown == {outcome.machine: ("alien:amd64",)}


@pytest.mark.parametrize("state", [UpdateState.PENDING, UpdateState.FAILED])
def test_an_update_whose_end_was_not_seen_counts_as_changed(state: UpdateState) -> None:
    update = make.make_update()
    result = make.make_update_result(update=update, state=state, version_after=None)
    plan = make.make_plan(chosen=(update,), skipped=())
    begun = make.make_outcome(updates=(result,), install=InstallResult((result,)))
    order = collect_order(replace(make.make_report(), outcomes=(begun,), plans=(plan,)))
    assert order.changes == {begun.machine: (InstalledChange(update, update.available),)}
    never = replace(begun, install=None)
    assert not collect_order(replace(make.make_report(), outcomes=(never,), plans=(plan,))).changes


def test_the_question_names_the_age_of_what_each_machine_loses_and_who_has_no_snapshot() -> None:
    at = make.at(0)
    row = make_row(ordered_at=at)
    said = describe_losses({"web": UndoSnapshot(row)}, ["web", "db"], make.at(3 * 3600))
    assert said == (
        f"web: all that was written to its OS disks since {at:%Y-%m-%d %H:%M} UTC (3 h) is lost, also data on them; "
        "data disks stay as they are. "
        "db: the run has no snapshot of it, and it stays."
    )


def test_reasons_that_many_updates_share_are_said_once() -> None:
    gone = "the repositories do not have {0} 1 (any more)"
    kinds = {f"p{n}": gone.format(f"p{n}") for n in range(30)}
    kinds |= {f"q{n}": f"it has changed again since (run {RUN} has installed 2, 3.{n} is there now)" for n in range(3)}
    kinds |= {"shop": "a hold on the machine excludes it"}
    results = [
        UpdateResult(replace(a_change(name).update, available="1", goes_back=True), UpdateState.BLOCKED, reason)
        for name, reason in kinds.items()
    ]
    assert group_reasons(results) == [
        "30 packages: the repositories do not have the version (any more): p0, p1, p2, p3, p4 and 25 more",
        "3 packages: it has changed again since: q0, q1, q2",
        "shop: a hold on the machine excludes it",
    ]
    (finding,) = describe_undo(results, ["x"])
    assert len(finding.message) < 500
