"""Rules broken on purpose, each with the check that must notice it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import count
from typing import Any

from tasks.rules.maintenance import look, windows
from tasks.rules.maintenance.model import ApplyCause, ApplyMode, GroupState, GroupView, HoldPolicy, Look
from tasks.rules.maintenance.windows import Permission, WindowVerdict

_NUMBERS = count()


@dataclass(frozen=True)
class Mutation:
    """One broken rule.

    Attributes:
        rule: the check that must notice it.
        place: the module in which a name is replaced.
        attribute: that name.
        make: returns the replacement, given the original.
    """

    name: str
    rule: str
    place: Any
    attribute: str
    make: Callable[[Any], Any]


def _answer(value: Any) -> Callable[[Any], Any]:
    return lambda _: lambda *_words, **_named: value


def _first_window(_: Any) -> Any:
    def choose(policy: HoldPolicy, allowed: Any, last: Any, now: Any) -> Any:
        return allowed[0].start if allowed else None

    return choose


def _any_mode(original: Any) -> Any:
    def find(policy: HoldPolicy, *words: Any, **named: Any) -> Any:
        return original(replace(policy, apply=ApplyMode.LAST_WINDOW), *words, **named)

    return find


def _moving_first(original: Any) -> Any:
    def keep(state: GroupState, view: GroupView, now: Any) -> GroupState:
        kept: GroupState = original(state, view, now)
        updates = [update.since for _, update in view.iterate_updates()]
        if kept.package is None or not updates:
            return kept
        return replace(kept, package=replace(kept.package, first_seen=min(updates)))

    return keep


def _creeping_first(original: Any) -> Any:
    def keep(state: GroupState, view: GroupView, now: Any) -> GroupState:
        kept: GroupState = original(state, view, now)
        if kept.package is None:
            return kept
        return replace(kept, package=replace(kept.package, first_seen=kept.package.first_seen - timedelta(seconds=1)))

    return keep


def _seen_now(_: Any) -> Any:
    return lambda updates, state, view, now: now


def _no_heritage(original: Any) -> Any:
    return lambda updates, state, view, now: original(updates, state, replace(view, inherited=None), now)


def _ignore_unread(_: Any) -> Any:
    return lambda view: not any(machine.updates for machine in view.machines)


def _busy_or_not(original: Any) -> Any:
    def choose(policy: HoldPolicy, state: GroupState, view: GroupView, now: Any) -> Any:
        return original(policy, replace(state, applications=()), view, now)

    return choose


def _again_and_again(original: Any) -> Any:
    def choose(policy: HoldPolicy, state: GroupState, view: GroupView, now: Any) -> Any:
        active = tuple(each for each in state.applications if each.is_active)
        start = original(policy, replace(state, applications=active), view, now)
        return start and replace(start, key=f"{start.key}/{next(_NUMBERS)}")

    return choose


def _nothing_but_all(original: Any) -> Any:
    def judge(*words: Any, **named: Any) -> WindowVerdict:
        verdict: WindowVerdict = original(*words, **named)
        is_all = verdict.permission is Permission.ALL
        return verdict if is_all else replace(verdict, permission=Permission.NOTHING)

    return judge


def _open_at_first(original: Any) -> Any:
    def judge(policy: HoldPolicy, state: GroupState, *words: Any) -> WindowVerdict:
        if state.looked_at is None:
            return WindowVerdict(Permission.ALL, "", ApplyCause.SCHEDULE)
        verdict: WindowVerdict = original(policy, state, *words)
        return verdict

    return judge


def _silent(word: str) -> Callable[[Any], Any]:
    def make(original: Any) -> Any:
        return lambda *words: (news for news in original(*words) if not news.key.endswith(f"/{word}"))

    return make


def _blind(original: Any) -> Any:
    def look_at(policy: HoldPolicy, state: GroupState, view: GroupView, now: Any) -> Look:
        done: Look = original(policy, state, replace(view, problem=""), now)
        return done

    return look_at


MUTATIONS = (
    Mutation("every window applies", "held until a person, its last window or its last day",
             windows, "_find_cause", _answer(ApplyCause.LAST_WINDOW)),
    Mutation("the first window applies", "the last window is the last one that ends before",
             look, "choose_window", _first_window),
    Mutation("the mode is ignored", "each window, where it is asked for", windows, "_find_cause", _any_mode),
    Mutation("nothing begins by itself", "applied soon after the last day, or told why not",
             look, "choose_start", _answer(None)),
    Mutation("additions move the last day", "the last day never moves later", look, "_keep_package", _moving_first),
    Mutation("counted from the look", "counted from the first moment that it was seen",
             look, "clip_first_seen", _seen_now),
    Mutation("a new name begins anew", "a renamed configuration postpones nothing",
             look, "clip_first_seen", _no_heritage),
    Mutation("empty packages stay", "an empty package ends", look, "is_empty", _answer(value=False)),
    Mutation("unread is empty", "nothing ends while a machine was never read", look, "is_empty", _ignore_unread),
    Mutation("applied is not noticed", "applied begins anew", look, "_is_applied", _answer(value=False)),
    Mutation("what failed is forgotten", "what is left stays in its package", look, "find_remaining", _answer(())),
    Mutation("freezes are ignored", "no run in a freeze", look, "find_present_freeze", _answer(None)),
    Mutation("busy groups are taken", "one run at a time", look, "choose_start", _busy_or_not),
    Mutation("retried by itself", "outside of the schedule once", look, "choose_start", _again_and_again),
    Mutation("refused all day", "a refused run is tried once a day", look, "REFUSAL_PAUSE", lambda _: timedelta(0)),
    Mutation("everything waits", "what does not wait does not wait", windows, "judge_window", _nothing_but_all),
    Mutation("held in silence", "people are told that it is held", look, "_iterate_news", _silent("held")),
    Mutation("no word of no window", "people are told that no window is left",
             look, "_iterate_news", _silent("no-window")),
    Mutation("open before the first look", "closed before the first look",
             windows, "judge_window", _open_at_first),
    Mutation("the first moment creeps", "a look twice changes nothing", look, "_keep_package", _creeping_first),
    Mutation("unreadable is empty", "an unreadable inventory changes nothing", look, "look_at_group", _blind),
)  # fmt: skip
