"""The components of a disk that is replaced, by properties: none is forgotten, and none comes that may not."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tasks.domain.components import Component, InstalledComponent
from tasks.rules.components.versions import find_listed_version, rank_version
from tasks.rules.images.components import explain_no_return, is_missing, list_disk_components
from tests.support.components import make_component, make_versions
from tests.support.image_fleet import make_group

NAMES = ("amber", "blue", "cyan", "dust", "ebony", "fern")
VERSIONS = ("1.0.0", "1.1.0", "1.2.0-rc1", "2.0.0")


@st.composite
def components(draw: st.DrawFn) -> tuple[Component, ...]:
    """Some components in any order, none before itself, some with a question of their own, some versions withdrawn."""
    names = draw(st.lists(st.sampled_from(NAMES), unique=True))
    made = []
    for name in names:
        after = draw(st.sets(st.sampled_from(NAMES)))
        versions = tuple(
            replace(version, withdrawn="it loses data" if draw(st.booleans()) else "")
            for version in make_versions(*draw(st.lists(st.sampled_from(VERSIONS), min_size=1, unique=True)))
        )
        made.append(
            make_component(
                name,
                versions=versions,
                after=tuple(sorted(other for other in after if other < name)),
                version_command=draw(st.sampled_from(("", "ask"))),
            )
        )
    return tuple(made)


answers = st.builds(
    lambda name, version, problem: InstalledComponent(name, None if problem else version, problem),
    st.sampled_from(NAMES),
    st.sampled_from((None, *VERSIONS, "v1.0", "9.9.9", "latest")),
    st.sampled_from(("", "", "", "it ended with 3")),
)


@given(
    components(),
    st.lists(answers, unique_by=lambda one: one.name),
    st.sets(st.sampled_from(NAMES)),
    st.sets(st.sampled_from(NAMES)),
)
def test_each_component_has_one_fate(
    known: tuple[Component, ...], told: list[InstalledComponent], enrolled: set[str], seen: set[str]
) -> None:
    disk = list_disk_components((*known, make_group()), told, enrolled, seen)
    by_name = {answer.name: answer for answer in told}
    unknown = disk.unknown or {}
    order = list(disk.versions)
    for component in known:
        name, answer = component.name, by_name.get(component.name)
        fates = [name in disk.versions, name in disk.absent, name in unknown]
        refused = [text for text in disk.refusals if f"{name} " in text or f" {name} is" in text]
        if answer is None or answer.problem:
            must_be_known = name in enrolled | seen or not component.version_command
            assert (fates, bool(refused)) == ([False, False, not must_be_known], must_be_known)
        elif answer.version is None:
            assert (fates, refused) == ([False, name in enrolled, False], [])
        else:
            listed = find_listed_version(component.versions, answer.version)
            may_come = listed is not None and not listed.withdrawn
            assert (fates, bool(refused)) == ([may_come, False, False], not may_come)
            if listed is not None and may_come:
                assert disk.versions[name] == listed.version
                assert explain_no_return(component, disk.versions[name]) == ""
                before = [other for other in component.after if other in order]
                assert all(order.index(other) < order.index(name) for other in before)
    assert "image:web" not in {*disk.versions, *disk.absent, *unknown}


@given(st.sampled_from(VERSIONS), answers)
def test_a_version_is_missing_where_nothing_or_an_older_one_is(version: str, answer: InstalledComponent) -> None:
    missing = is_missing(version, answer)
    present, wanted = rank_version(answer.version or ""), rank_version(version)
    assert wanted is not None
    if answer.problem or answer.version == "latest":
        assert missing is None
    elif present is None:
        assert missing is True
    else:
        assert missing is (present < wanted)


def test_what_was_not_told_is_not_known() -> None:
    assert is_missing("1.0.0", None) is None


def test_an_order_over_a_component_that_is_absent_still_holds() -> None:
    first, middle, last = (
        make_component("c"),
        make_component("b", after=("c",)),
        make_component("a", after=("b",)),
    )
    told = [InstalledComponent("a", "1.0.0"), InstalledComponent("b"), InstalledComponent("c", "1.0.0")]
    assert list(list_disk_components((last, middle, first), told, ()).versions) == ["c", "a"]
