"""Which of the offered versions is pending, which is to be installed, and which is blocked. Versions are "N-1"."""

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.domain.model import Selection, Update
from tasks.domain.states import Classification, UpdateState
from tasks.machines.managers.rpm.advisories import Advisory, index_advisories
from tasks.machines.managers.rpm.dnf.holds import Holds
from tasks.machines.managers.rpm.dnf.offers import OfferedPackage
from tasks.machines.managers.rpm.dnf.pending_updates import DnfState, build_pending_updates
from tasks.machines.managers.rpm.dnf.transaction import parse_transaction
from tasks.machines.managers.rpm.packages import InstalledPackage
from tasks.machines.managers.rpm.repositories import parse_repository_priorities
from tasks.rules.updates.selection import select_updates
from tests.support.builders import make_package_state

KEY = ("p", "noarch")
UNMET = """ Problem: cannot install the best update candidate for package p-1-1.noarch
  - nothing provides nowhere needed by p-3-1.noarch
Operation aborted.
"""  # dnf 4.14


def offer(number: int, repository: str = "main", vendor: str = "V") -> OfferedPackage:
    return OfferedPackage("p", "p", "noarch", f"{number}-1", repository, 1, "p", vendor)


def security(number: int, severity: str = "Important") -> Advisory:
    return Advisory(f"A-{number}", "security", severity, packages={KEY: (f"{number}-1",)})


def pending(
    offers: Sequence[OfferedPackage],
    *,
    takes: int | None,
    words: str = "Operation aborted.\n",
    advisories: Sequence[Advisory] = (),
    hidden: Sequence[OfferedPackage] = (),
    priorities: Mapping[str, int] | None = None,
    unread: frozenset[str] = frozenset(),
) -> tuple[Update, ...]:
    taken = f"---> Package p.noarch {takes}-1 will be an upgrade\n" if takes else ""
    return build_pending_updates(
        DnfState(
            installed=[InstalledPackage("p", "p", "noarch", "1-1", None, "V")],
            offers=offers,
            hidden_offers=hidden,
            advisories=index_advisories(advisories),
            advisory_sources={each.repository: each.repository not in unread for each in (*offers, *hidden)},
            transaction=parse_transaction(taken + words),
            priorities=priorities or {},
        )
    )


def test_a_newer_fix_that_cannot_be_installed_is_pending_beside_what_can() -> None:
    first, second = pending([offer(2), offer(3)], takes=2, words=UNMET, advisories=[security(3, "Critical")])
    assert (first.available, first.classification, first.blocked) == ("2-1", Classification.OTHER, "")
    assert (second.available, second.classification) == ("3-1", Classification.CRITICAL)
    assert "nothing provides nowhere needed by p-3-1.noarch" in second.blocked
    assert (second.name, second.id) == ("p", "p=3-1"), "what can be installed keeps the id of the package"


def test_what_can_be_installed_is_chosen_and_the_rest_is_told() -> None:
    updates = pending([offer(2), offer(3)], takes=2, words=UNMET, advisories=[security(2), security(3, "Critical")])
    wanted = Selection(classifications=frozenset({Classification.CRITICAL, Classification.SECURITY}))
    chosen, skipped = select_updates(make_package_state(updates=updates), wanted)
    assert [update.available for update in chosen] == ["2-1"]
    assert [(result.update.available, "nowhere" in result.reason) for result in skipped] == [("3-1", True)]
    assert skipped[0].state is not UpdateState.NOT_SELECTED


def test_of_two_repositories_the_one_with_priority_is_taken() -> None:
    """p 3 is a fix of the distribution; the owner prefers the packages of "own"."""
    files = parse_repository_priorities("own\t10\nmain\tgarbage\n")
    (first, second) = pending(
        [offer(2, "own"), offer(3)], takes=2, advisories=[security(3)], priorities=files, unread=frozenset({"own"})
    )
    assert (first.available, second.available) == ("2-1", "3-1")
    assert second.blocked == "an upgrade leaves it out: main has a lower priority than own"
    (alone,) = pending([offer(3)], takes=None, advisories=[security(3)], priorities=files)
    assert (alone.id, alone.classification, alone.blocked) == ("p", Classification.SECURITY, second.blocked)


def test_a_security_version_of_a_repository_without_priority_is_not_taken_instead() -> None:
    (update,) = pending(
        [offer(2), offer(3, "own")], takes=3, advisories=[security(2)], priorities={"own": 10}, unread=frozenset()
    )
    assert (update.available, update.security_version, update.older_versions) == ("3-1", "", ())
    (same,) = pending([offer(2), offer(3)], takes=3, advisories=[security(2)])
    assert (same.security_version, same.older_versions) == ("2-1", ("2-1",))


def test_another_vendors_version_is_not_taken_instead() -> None:
    (update,) = pending([offer(2, vendor="Other"), offer(3)], takes=3, advisories=[security(2)])
    assert (update.available, update.security_version) == ("3-1", "")
    (kept,) = pending([offer(3, vendor="Other")], takes=None, advisories=[security(3)])
    assert kept.blocked == "an upgrade leaves it out: it is of another vendor (V -> Other)"


def test_a_fix_that_the_owner_excludes_is_held_beside_what_can_be_installed() -> None:
    first, second = pending([offer(2)], takes=2, advisories=[security(3)], hidden=[offer(2), offer(3)])
    assert (first.held, second.available, second.held, second.blocked) == (False, "3-1", True, "")


def test_newer_versions_without_advisories_are_unknown_unless_another_repository_has_priority() -> None:
    strange = frozenset({"other"})
    _, second = pending([offer(2), offer(3, "other")], takes=2, unread=strange)
    assert (second.classification, bool(second.blocked)) == (Classification.UNCLASSIFIED, True)
    assert len(pending([offer(2), offer(3, "other")], takes=2, unread=strange, priorities={"main": 1})) == 1


def test_without_an_answer_no_repository_takes_the_place_of_one_with_priority() -> None:
    first, second = pending(
        [offer(2, "own"), offer(3)], takes=None, words="Error: x\n", advisories=[security(3)], priorities={"own": 10}
    )
    assert (first.available, first.blocked, second.available) == ("2-1", "", "3-1")
    assert second.blocked == "an upgrade leaves it out: main has a lower priority than own"


@pytest.mark.public_report("https://github.com/pulp/pulp_rpm/pull/611")
def test_a_fix_that_no_repository_has_is_pending() -> None:
    first, second = pending([offer(2)], takes=2, advisories=[security(3, "Critical"), security(2)])
    assert (first.available, first.blocked) == ("2-1", "")
    assert (second.id, second.classification, second.origins) == ("p=3-1", Classification.CRITICAL, ())
    assert second.blocked == "no enabled repository has this version, which A-3 names"
    (alone,) = pending([], takes=None, advisories=[security(3)])
    assert (alone.id, bool(alone.blocked)) == ("p=3-1", True)


@pytest.mark.public_report("https://github.com/rocky-linux/peridot/issues/79")
def test_advisories_of_another_stream_or_that_are_no_fixes_are_not_missed() -> None:
    modular = Advisory("A-9", "security", packages={KEY: ("9-1.module+el8",)})
    assert pending([], takes=None, advisories=[modular, Advisory("A-8", "bugfix", packages={KEY: ("8-1",)})]) == ()
    installed = [InstalledPackage("p", "p", "noarch", "1-1.module+el8")]
    assert build_pending_updates(DnfState(installed, offers=(), advisories=index_advisories([modular]))) == ()


def test_a_fix_that_no_repository_has_has_the_installed_epoch() -> None:
    state = DnfState(
        installed=[InstalledPackage("p", "p", "noarch", "1:1-1")],
        offers=(),
        advisories=index_advisories([Advisory("A", "security", packages={KEY: ("2-1",)}, knows_epochs=False)]),
    )
    (update,) = build_pending_updates(state)
    assert update.available == "1:2-1"


def test_without_an_answer_nothing_is_blocked() -> None:
    (update,) = pending([offer(2)], takes=None, words="Error: Failed to do anything\n", advisories=[security(2)])
    assert update.blocked == ""


def test_a_lock_holds_and_does_not_block() -> None:
    state = DnfState(
        installed=[InstalledPackage("p", "p", "noarch", "1-1", None, "V")],
        offers=[offer(2)],
        transaction=parse_transaction("Nothing to do.\n"),
        holds=Holds(locks=("p-1-1.*",)),
    )
    (update,) = build_pending_updates(state)
    assert (update.held, update.blocked) == (True, "")


REPOSITORIES = st.sampled_from(["main", "own", "other"])


@given(
    st.lists(st.builds(offer, st.integers(2, 9), REPOSITORIES, st.sampled_from(["V", "W", ""])), min_size=1),
    st.lists(st.builds(offer, st.integers(2, 9), REPOSITORIES)),
    st.sets(st.integers(1, 9)),
    st.dictionaries(REPOSITORIES, st.integers(1, 200)),
    st.data(),
)
def test_each_offered_security_version_is_pending(
    offers: list[OfferedPackage],
    hidden: list[OfferedPackage],
    fixes: set[int],
    priorities: dict[str, int],
    data: st.DataObject,
) -> None:
    numbers = sorted({int(each.version[:-2]) for each in offers})
    takes = data.draw(st.none() | st.sampled_from(numbers))
    advisories = [security(number) for number in fixes]
    updates = pending(offers, takes=takes, advisories=advisories, hidden=hidden, priorities=priorities)

    offered = {int(each.version[:-2]) for each in (*offers, *hidden)}
    for number in fixes & offered:
        covering = [update for update in updates if int(update.available[:-2]) >= number]
        assert any(f"A-{number}" in update.advisories for update in covering)
        assert all(update.classification is Classification.SECURITY for update in covering[:1])
    assert len({update.id for update in updates}) == len(updates)
    free = [update for update in updates if not update.blocked and not update.held]
    assert [update.available for update in free] == ([f"{takes}-1"] if takes else [])
    for update in free:  # what may be installed in its place is no worse for dnf
        best = min(priorities.get(each.repository, 99) for each in offers if each.version == update.available)
        for version in (update.security_version, *update.older_versions):
            assert not version or any(
                each.version == version and priorities.get(each.repository, 99) <= best for each in offers
            )


def test_of_two_new_versions_that_conflict_neither_is_blocked() -> None:
    """The upgrade of everything takes any one of them, and a run takes the more urgent one."""
    words = (
        "---> Package q.noarch 2-1 will be an upgrade\n"
        " Problem: package p-2-1.noarch conflicts with q >= 2 provided by q-2-1.noarch\n"
        "  - cannot install the best update candidate for package p-1-1.noarch\n"
    )
    (update,) = pending([offer(2)], takes=None, words=words, advisories=[security(2)])
    assert update.blocked == ""
