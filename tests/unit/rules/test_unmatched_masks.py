from hypothesis import given

from tasks.domain.model import MachinePlan, Selection
from tasks.rules.updates.selection import describe_unmatched_masks, has_matching_name, select_updates
from tests.unit.rules.examples import an_update, selections, states

PLANS = (
    MachinePlan("web", (an_update(id="1", name="openssl"),), ()),
    MachinePlan("db", (an_update(id="2", name="nginx"),), ()),
)


def test_a_mask_that_matches_nothing_is_told_with_the_nearest_name() -> None:
    selection = Selection(
        include=("opensll", "apache=2.*", "nginx=9", "open*"), exclude=("ngnix", "kernel*", "openssl")
    )
    assert describe_unmatched_masks(selection, PLANS) == (
        "no pending update matches the include mask 'opensll'. Did you mean 'openssl'?",
        "no pending update matches the include mask 'apache=2.*'.",
        "no pending update matches the exclude mask 'ngnix'. Did you mean 'nginx'?",
    )


def test_nothing_is_said_of_machines_of_which_nothing_is_known() -> None:
    assert describe_unmatched_masks(Selection(include=("opensll",)), (MachinePlan("web", (), ()),)) == ()


@given(states, selections)
def test_include_masks_that_match_are_never_told(state, selection):
    chosen, skipped = select_updates(state, selection)
    sentences = describe_unmatched_masks(selection, (MachinePlan("web", tuple(chosen), tuple(skipped)),))
    for mask in selection.include:
        is_matched = any(has_matching_name(mask, update) for update in state.updates)
        is_told = any(f"the include mask {mask!r}." in sentence for sentence in sentences)
        assert is_told is (bool(state.updates) and not is_matched)
