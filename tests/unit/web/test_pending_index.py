"""The pending updates in memory always say what the rows say."""

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fleetpatch.updates.pending_index import PendingIndex
from tasks.records.queries.updates import PendingUpdateRow

NOW = datetime(2026, 11, 23, tzinfo=UTC)


def make_row(machine: str, name: str = "openssl", **changes: Any) -> PendingUpdateRow:
    values: dict[str, Any] = {
        "arch": "amd64",
        "classification": "Security",
        "severity": "Important",
        "installed": "1",
        "available": "2",
        "kb": "",
        "held": False,
        "blocked": "",
        "published": None,
        "title": "",
        "since": NOW,
    }
    return PendingUpdateRow(assessment=1, machine=machine, name=name, **(values | changes))


def describe(index: PendingIndex) -> dict[str, dict[str, object]]:
    """What the index says, with names instead of bits."""
    return {
        name: {
            "machines": set(index.list_machines(update.machines)),
            "withheld": set(index.list_machines(update.withheld)),
            "versions": {version: set(index.list_machines(bits)) for version, bits in update.versions.items()},
            "oldest": update.find_oldest(update.machines),
        }
        for name, update in index.updates.items()
    }


_ROWS = st.lists(
    st.builds(
        lambda name, version, held, days: (name, {"available": version, "held": held, "since": NOW - days}),
        st.sampled_from(["a", "b", "c"]),
        st.sampled_from(["1", "2"]),
        st.booleans(),
        st.integers(0, 5).map(lambda days: timedelta(days=days)),
    ),
    max_size=4,
    unique_by=lambda row: row[0],
)


@given(st.lists(st.tuples(st.sampled_from(["m1", "m2", "m3"]), _ROWS), max_size=12))
def test_after_any_changes_it_is_as_if_it_were_new(changes: list[tuple[str, list[tuple[str, dict[str, Any]]]]]) -> None:
    changed, fresh = PendingIndex(), PendingIndex()
    for machine, rows in changes:
        changed.replace_machine(machine, [make_row(machine, name, **values) for name, values in rows])
    for machine, rows in dict(changes).items():
        fresh.replace_machine(machine, [make_row(machine, name, **values) for name, values in rows])
    assert describe(changed) == describe(fresh)


def test_a_set_of_machines_holds_only_those_that_were_named() -> None:
    index = PendingIndex()
    for number in range(20):
        index.replace_machine(f"m{number}", [make_row(f"m{number}")])
    bits = index.select_machines(["m3", "m8", "m19", "nobody"])
    assert set(index.list_machines(bits)) == {"m3", "m8", "m19"}
    assert bits.bit_count() == 3


def test_the_newest_version_is_that_of_the_newest_publication() -> None:
    index = PendingIndex()
    index.replace_machine("m1", [make_row("m1", available="9", published=NOW - timedelta(days=9))])
    index.replace_machine("m2", [make_row("m2", available="10", published=NOW)])
    index.replace_machine("m3", [make_row("m3", available="9", published=NOW - timedelta(days=9))])
    update = index.updates["openssl"]
    assert update.find_version(update.machines) == ("10", 1)
    assert update.find_version(index.select_machines(["m1", "m3"])) == ("9", 0)


def test_cves_count_only_for_versions_that_machines_lack() -> None:
    index = PendingIndex()
    index.replace_machine("m1", [make_row("m1", available="2")])
    index.replace_machine("m2", [make_row("m2", available="3")])
    index.replace_cves([("openssl", "1", "CVE-1"), ("openssl", "2", "CVE-2"), ("openssl", "3", "CVE-3")])
    update = index.updates["openssl"]
    assert index.find_cves(update, update.machines) == {"CVE-2", "CVE-3"}
    assert index.find_cves(update, index.select_machines(["m2"])) == {"CVE-3"}
    assert set(index.list_machines(index.select_with_cves())) == {"m1", "m2"}
