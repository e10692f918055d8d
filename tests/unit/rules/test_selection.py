from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.domain.model import PinnedUpdates, Selection
from tasks.domain.states import Classification, Severity, UpdateState
from tasks.rules.updates.selection import describe_unapplied_limits, find_forbidden_updates, select_updates
from tests.unit.managers.windows_records import guid
from tests.unit.rules.examples import SKIPPED, a_state, an_update, selections, states

NOTHING: frozenset[str] = frozenset()


def outcome(update, **selection):
    chosen, skipped = select_updates(a_state(update), Selection(**selection))
    return ("chosen", "") if chosen else (skipped[0].state, skipped[0].reason)


@given(states, selections)
def test_chosen_and_skipped_are_all_that_is_pending(state, selection):
    chosen, skipped = select_updates(state, selection)
    ids = [update.id for update in chosen] + [result.update.id for result in skipped]
    assert sorted(ids) == sorted(update.id for update in state.updates)
    assert all(result.state in SKIPPED and result.reason for result in skipped)


@given(states, selections)
def test_nothing_held_blocked_or_excluded_is_ever_chosen(state, selection):
    chosen, _ = select_updates(state, selection)
    for update in chosen:
        assert not update.held
        assert not update.blocked
        assert not update.given_up or any(not set("*?[") & set(mask) for mask in selection.include)
        assert update.name not in state.held
        assert update.name not in selection.exclude
        assert not (selection.exclude_requiring_reboot and update.requires_reboot)
    assert not {update.id for update in chosen} & find_forbidden_updates(state, selection).keys()


@given(states, selections)
def test_severities_only_take_away_and_only_what_no_mask_includes(state, selection):
    limited, skipped = select_updates(state, selection)
    anything = replace(selection, severities=frozenset())
    whole = {result.update.id: result for result in select_updates(state, anything)[1]}
    for update in limited:
        is_wanted = not selection.severities or Severity.rate(update.severity) in selection.severities
        assert is_wanted or selection.include
    for result in skipped:
        if "severity" in result.reason:
            assert result.state is UpdateState.NOT_SELECTED
            assert Severity.rate(result.update.severity) not in selection.severities
    if selection.severities in (frozenset(), frozenset(Severity)):
        assert {result.update.id for result in skipped} == whole.keys()


@given(states, selections)
def test_terms_are_accepted_only_if_the_request_does(state, selection):
    chosen, skipped = select_updates(state, selection)
    assert selection.accept_licences or not any(update.needs_licence for update in chosen)
    assert not (selection.accept_licences and any("licence" in result.reason for result in skipped))


@given(states, selections)
def test_the_choice_follows_the_order_of_the_machine(state, selection):
    chosen, skipped = select_updates(state, selection)
    order = {update.id: place for place, update in enumerate(state.updates)}
    for ids in ([update.id for update in chosen], [result.update.id for result in skipped]):
        assert ids == sorted(ids, key=order.__getitem__)


@given(states, selections)
def test_superseding_loses_nothing_for_good(state, selection):
    chosen, skipped = select_updates(state, selection)
    kept = {update.name for update in chosen}
    for result in skipped:
        if result.reason.startswith("superseded"):
            assert kept  # something that includes it, directly or in turn, is installed


@pytest.mark.parametrize(
    "mask", ["openssl", "open*", "openssl:amd64", "*:amd64", "openssl=9.9", " openssl ", "openss[kl]"]
)
def test_exclude_masks_win_and_ignore_versions(mask):
    assert outcome(an_update(), exclude=(mask,), include=("openssl",)) == (
        UpdateState.EXCLUDED,
        f'excluded by mask "{mask}"',
    )


@pytest.mark.parametrize("mask", ["OpenSSL", "ssl", "openssl:i386", "", "=1.1", "openssl-*"])
def test_masks_that_do_not_match(mask):
    assert outcome(an_update(), exclude=(mask,))[0] == "chosen"
    assert outcome(an_update(), classifications=NOTHING, include=(mask,))[0] is UpdateState.NOT_SELECTED


@pytest.mark.parametrize("name", ["kernel.x86_64", "kernel:x86_64", "kernel"])
def test_masks_match_the_name_without_its_architecture(name):
    update = an_update(name, arch="x86_64")
    assert outcome(update, classifications=NOTHING, include=("kernel",))[0] == "chosen"


@pytest.mark.parametrize(
    ("mask", "expected"),
    [("openssl=1.1", "chosen"), ("openssl=1.*", "chosen"), ("openssl=1.0", UpdateState.NOT_SELECTED)],
)
def test_an_include_may_pin_a_version(mask, expected):
    state, reason = outcome(an_update(), classifications=NOTHING, include=(mask,))
    assert state == expected
    if expected != "chosen":
        assert "another version than 1.1" in reason


def test_an_include_adds_to_the_classifications():
    other = an_update("vim", classification=Classification.OTHER)
    assert outcome(other)[0] is UpdateState.NOT_SELECTED
    assert outcome(other, include=("v*",))[0] == "chosen"
    assert outcome(an_update(), include=("vim",))[0] == "chosen"


@pytest.mark.parametrize("mask", ["KB5046616", "5046616", "kb504*", "*cumulative*"])
def test_masks_match_knowledge_base_numbers_and_titles(mask):
    update = an_update("2026-11 Cumulative Update", arch="", kb="KB5046616", classification=Classification.UPDATES)
    assert outcome(update, include=(mask,))[0] == "chosen"
    bare = an_update("2026-11 Cumulative Update", arch="", kb="5046616", classification=Classification.UPDATES)
    assert outcome(bare, exclude=(mask,))[0] is UpdateState.EXCLUDED


@pytest.mark.parametrize("mask", ["KB5046616", "5046616", "kb504*", "*KB5046616", "*cumulative*", "KB5044030"])
def test_masks_match_every_number_and_the_title_of_an_update_with_a_name_of_its_own(mask):
    update = an_update("KB5044030+KB5046616", arch="", kb="KB5044030+KB5046616", title="2026-11 Cumulative Update")
    assert outcome(update, exclude=(mask,))[0] is UpdateState.EXCLUDED
    assert outcome(update, exclude=("*preview*", "KB504661", "46616"))[0] == "chosen"


def test_an_optional_update_is_only_selected_by_a_mask():
    preview = an_update("KB1", arch="", kb="KB1", title="A Preview", optional="a preview")
    state, reason = outcome(preview)
    assert state is UpdateState.NOT_SELECTED
    assert reason == "it is a preview, which only an include mask selects"
    assert outcome(preview, include=("*preview",))[0] == "chosen"
    assert outcome(preview, include=("*preview",), exclude=("KB1",))[0] is UpdateState.EXCLUDED


def test_security_includes_extended_support_and_names_what_it_needs():
    esm = an_update(classification=Classification.SECURITY_ESM)
    blocked = an_update(classification=Classification.SECURITY_ESM, blocked="UA_ESM_REQUIRED")
    assert outcome(esm)[0] == "chosen"
    state, reason = outcome(blocked)
    assert state is UpdateState.BLOCKED
    assert "UA_ESM_REQUIRED" in reason


def test_a_servicing_stack_goes_with_the_classes_that_may_need_it():
    stack = an_update("stack", classification=Classification.UPDATES, severity="Low", needed_by_classes=("Security",))
    assert outcome(stack, severities=frozenset({Severity.CRITICAL})) == ("chosen", "")
    assert outcome(stack, classifications=frozenset({Classification.DEFINITION}))[0] is UpdateState.NOT_SELECTED
    assert outcome(stack, exclude=("stack",))[0] is UpdateState.EXCLUDED
    assert outcome(replace(stack, optional="a preview"))[0] is UpdateState.NOT_SELECTED


def test_the_reason_names_what_was_selected():
    both = frozenset({Classification.SECURITY, Classification.CRITICAL})
    vim = an_update("vim", classification=Classification.OTHER)
    assert outcome(vim, classifications=both)[1] == (
        "classification Other is not selected (selected: Critical, Security)"
    )
    assert outcome(vim, classifications=NOTHING, include=("nginx",))[1] == (
        "classification Other is not selected (selected: none) and no include mask names it"
    )


@pytest.mark.parametrize("word", ["Low", "low", " LOW "])
def test_a_severity_that_is_not_selected_is_the_reason(word):
    severities = frozenset({Severity.IMPORTANT, Severity.CRITICAL})
    state, reason = outcome(an_update(severity=word), severities=severities)
    assert state is UpdateState.NOT_SELECTED
    assert reason == f"severity {word} is not selected (selected: Critical, Important)"
    assert outcome(an_update(severity=word), severities=severities, include=("openssl",))[0] == "chosen"
    assert outcome(an_update(severity=word), severities=frozenset({Severity.LOW}))[0] == "chosen"


def test_what_has_no_severity_is_unspecified():
    assert outcome(an_update(), severities=frozenset({Severity.LOW}))[1] == (
        "severity Unspecified is not selected (selected: Low)"
    )
    assert outcome(an_update(), severities=frozenset({Severity.UNSPECIFIED}))[0] == "chosen"


@given(st.text(max_size=20))
def test_every_word_is_some_severity(word):
    assert Severity.rate(word) in Severity
    assert Severity.rate(word.swapcase()) is Severity.rate(word)


@pytest.mark.parametrize(
    ("word", "severity"),
    [
        ("moderate", "Moderate"),
        ("Medium", "Moderate"),
        ("high", "Important"),
        ("None", "Unspecified"),
        ("x", "Unspecified"),
    ],
)
def test_the_words_of_other_publishers(word, severity):
    assert Severity.rate(word) == severity


def test_a_plan_names_the_updates_whose_terms_it_accepts():
    update = an_update(needs_licence=True)
    assert outcome(update)[0] is UpdateState.EXCLUDED
    (note,) = describe_unapplied_limits([update], Selection(accept_licences=True))
    assert note == "licence terms are accepted, as the request says, of openssl"


def test_unclassified_needs_an_explicit_choice():
    update = an_update(classification=Classification.UNCLASSIFIED)
    everything_else = frozenset(Classification) - {Classification.UNCLASSIFIED}
    state, reason = outcome(update, classifications=everything_else)
    assert state is UpdateState.NOT_SELECTED
    assert "Unclassified is not selected" in reason
    assert outcome(update, classifications=frozenset({Classification.UNCLASSIFIED}))[0] == "chosen"


def test_held_is_excluded_even_when_it_is_included_by_name():
    expected = (UpdateState.EXCLUDED, "a hold on the machine excludes it")
    assert outcome(an_update(held=True), include=("openssl",)) == expected
    state = a_state(an_update(), held=("openssl",))
    assert select_updates(state, Selection())[1][0].reason == expected[1]


def test_reboots_that_are_not_wanted():
    assert outcome(an_update(requires_reboot=True), exclude_requiring_reboot=True)[0] is UpdateState.EXCLUDED
    unknown = an_update(requires_reboot=None)
    selection = Selection(exclude_requiring_reboot=True)
    assert outcome(unknown, exclude_requiring_reboot=True)[0] == "chosen"
    assert "openssl" in describe_unapplied_limits([unknown], selection)[0]
    assert describe_unapplied_limits([an_update(requires_reboot=False)], selection) == ()


def test_the_limit_of_publication():
    limit = datetime(2026, 11, 1, tzinfo=UTC)
    young = an_update(published=datetime(2026, 11, 2, tzinfo=UTC))
    state, reason = outcome(young, published_before=limit, include=("*",))
    assert state is UpdateState.EXCLUDED
    assert reason == "published 2026-11-02 00:00 UTC, after the limit of 2026-11-01 00:00 UTC"
    assert outcome(an_update(published=limit), published_before=limit)[0] == "chosen"
    assert describe_unapplied_limits(
        [an_update(f"p{number}") for number in range(5)], Selection(published_before=limit)
    )[0].endswith("p4")
    undated = [an_update(f"p{number}") for number in range(7)]
    assert describe_unapplied_limits(undated, Selection(published_before=limit))[0].endswith("p4 and 2 more")


def test_without_a_publication_the_first_sight_in_the_fleet_decides():
    limit = datetime(2026, 11, 1, tzinfo=UTC)
    update = an_update(security_version="2", older_versions=("2",))
    seen = {(update.name, "2"): limit, (update.name, update.available): limit + timedelta(days=1)}
    every = frozenset(Classification)
    state, reason = outcome(update, published_before=limit, first_seen=tuple(seen.items()), classifications=every)
    assert state is UpdateState.EXCLUDED
    assert reason == (
        "of unknown publication, and first seen in the fleet 2026-11-02 00:00 UTC, after the limit of "
        "2026-11-01 00:00 UTC"
    )
    # its security fix is older
    assert (
        outcome(update, published_before=limit, first_seen=tuple(seen.items()))[0] == "chosen"
    )  # its security fix is older
    young = replace(update, published=limit + timedelta(days=2))  # the newest version is
    assert outcome(young, published_before=limit, first_seen=tuple(seen.items()))[0] == "chosen"
    known = Selection(published_before=limit, first_seen=tuple(seen.items()))
    assert describe_unapplied_limits([update], known) == ()
    assert describe_unapplied_limits([an_update("other")], known)[0].endswith("is not known: other")
    published = an_update(published=limit)
    later = {(published.name, published.available): limit + timedelta(days=1)}
    assert outcome(published, published_before=limit, first_seen=tuple(later.items()))[0] == "chosen"


def test_on_windows_the_id_tells_updates_apart_that_have_one_number_and_revision():
    limit, month = datetime(2026, 11, 1, tzinfo=UTC), timedelta(days=30)
    old, new = (an_update("KB890830", id=guid(n), kb="KB890830", available="rev 200") for n in (1, 2))
    revised = replace(old, available="rev 201")
    first_seen = ((("KB890830", guid(1)), limit), (("KB890830", guid(2)), limit + month))
    for update, expected in ((old, "chosen"), (revised, "chosen"), (new, UpdateState.EXCLUDED)):
        assert outcome(update, published_before=limit, first_seen=first_seen)[0] == expected
    pinned = PinnedUpdates("august", frozenset({old.key}))
    assert outcome(old, pinned_updates=pinned)[0] == "chosen"
    state, reason = outcome(new, pinned_updates=pinned)
    assert state is UpdateState.NOT_SELECTED
    assert reason == "run august has tested another KB890830 rev 200, not the one that is offered"
    assert outcome(revised, pinned_updates=pinned)[1].endswith("has tested rev 200, and not rev 201, which is offered")


@given(states, selections)
def test_no_first_sight_counts_where_the_publication_is_known_and_none_takes_in(state, selection):
    """A later sight only takes away, and only what has no publication of its own."""
    dated = replace(selection, first_seen=tuple((key, datetime(2026, 11, 2, tzinfo=UTC)) for key in state.versions))
    chosen, kept = (select_updates(state, each)[0] for each in (selection, dated))
    assert set(kept) <= {*chosen, *(old for old in state.updates if old not in chosen)}
    limited = selection.published_before is not None
    known = [update for update in kept if update.published is None]
    assert not (limited and known)
    assert {update.id for update in chosen if update.published} <= {update.id for update in kept}


def test_the_newer_one_supersedes():
    old, middle, new = (
        an_update("old"),
        an_update("mid", replaces=("old:amd64",)),
        an_update("new", replaces=("mid:amd64",)),
    )
    chosen, skipped = select_updates(a_state(old, middle, new), Selection())
    assert chosen == (new,)
    assert [(result.update, result.reason) for result in skipped] == [
        (old, "superseded by mid, which includes it"),
        (middle, "superseded by new, which includes it"),
    ]


def test_an_excluded_newer_one_supersedes_nothing():
    old, new = an_update("old"), an_update("new", replaces=("old:amd64",))
    assert select_updates(a_state(old, new), Selection(exclude=("new",)))[0] == (old,)


def test_two_that_replace_each_other_are_both_kept():
    one, two = an_update("one", replaces=("two:amd64",)), an_update("two", replaces=("one:amd64",))
    assert select_updates(a_state(one, two), Selection())[0] == (one, two)


def metapackage(available="6.1.150", **more):
    return an_update("linux-image-amd64", available=available, classification=Classification.SECURITY, **more)


def new_package(name, needed_by):
    return an_update(name, installed=None, classification=Classification.SECURITY, needed_by=needed_by)


def test_a_new_package_is_chosen_only_with_the_version_that_needs_it():
    """A kernel of -updates, where only the metapackage's fix of -security is wanted, which needs another kernel."""
    meta = metapackage(security_version="6.1.140", older_versions=("6.1.140",))
    kernel = new_package("linux-image-41", meta.id)
    modules = new_package("linux-modules-41", kernel.id)
    state = a_state(meta, kernel, modules)

    ((chosen,), skipped) = select_updates(state, Selection())
    assert (chosen.name, chosen.available) == (meta.name, "6.1.140")
    assert [(result.update.name, result.state) for result in skipped] == [
        (kernel.name, UpdateState.NOT_SELECTED),
        (modules.name, UpdateState.NOT_SELECTED),
    ]
    assert "only linux-image-amd64 6.1.150 needs it" in skipped[0].reason

    for more in ({"newest": True}, {"include": ("linux-image-amd64",)}):
        assert [update.id for update in select_updates(state, Selection(**more))[0]] == [meta.id, kernel.id, modules.id]
    named = select_updates(state, Selection(include=(kernel.name,)))[0]
    assert kernel.id in [update.id for update in named]


def test_a_new_package_goes_with_an_update_that_is_blocked_or_excluded():
    for meta in (metapackage(blocked="PHASED"), metapackage(held=True)):
        assert select_updates(a_state(meta, new_package("kernel", meta.id)), Selection())[0] == ()
