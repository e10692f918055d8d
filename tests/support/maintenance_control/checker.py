"""Checks each rule of maintenance control against what was done. It shares no code with what decides."""

from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta

from tasks.rules.maintenance.model import ApplyCause, ApplyMode, GroupState, GroupView, Look, PackageEnd
from tests.support.maintenance_control.world import DAY, Group, Run, World

RULES = (
    "held until a person, its last window or its last day",
    "the last window is the last one that ends before",
    "each window, where it is asked for",
    "applied soon after the last day, or told why not",
    "the last day never moves later",
    "counted from the first moment that it was seen",
    "a renamed configuration postpones nothing",
    "an empty package ends",
    "nothing ends while a machine was never read",
    "applied begins anew",
    "what is left stays in its package",
    "no run in a freeze",
    "one run at a time",
    "outside of the schedule once",
    "a refused run is tried once a day",
    "what does not wait does not wait",
    "people are told that it is held",
    "people are told that no window is left",
    "closed before the first look",
    "a look twice changes nothing",
    "an unreadable inventory changes nothing",
)


@dataclass
class _Memory:
    """What the checker itself knows of a group."""

    looked_at: datetime | None = None
    first: datetime | None = None
    number: int = 0


class Checker:
    """Counts how often each rule was at stake, and how often it was broken."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.at_stake: Counter[str] = Counter()
        self.violations: dict[str, list[str]] = defaultdict(list)
        self._memory: dict[str, _Memory] = defaultdict(_Memory)
        self._runs: dict[str, list[Run]] = defaultdict(list)

    def check(self, rule: str, what: str, *, is_kept: bool) -> None:
        """Count one case of a rule."""
        assert rule in RULES, rule
        self.at_stake[rule] += 1
        if not is_kept:
            self.violations[rule].append(what)

    def see_look(self, group: Group, before: GroupState, view: GroupView, look: Look, now: datetime) -> None:
        """Check a look that is about to be remembered."""
        after, memory, name = look.state, self._memory[group.name], f"{group.name} {now:%m-%d %H:%M}"
        if view.problem:
            self.check("an unreadable inventory changes nothing", name, is_kept=after == before and look.start is None)
            return
        lacking = [(m.name, u) for m in view.machines for u in m.updates]
        unread = [m.name for m in view.machines if m.answered_at is None]
        is_active = any(each.ended_at is None for each in before.applications)
        self._see_end(before, view, look, name, unread=bool(unread), is_active=is_active)
        if view.machines and not lacking and not unread and not is_active:
            self.check("an empty package ends", name, is_kept=after.package is None)
        self._see_first(memory, before, after, view, look, now, name)
        memory.looked_at = now
        package = after.package
        if package is None:
            return
        last = package.first_seen + group.policy.hold
        if now < last and not after.applications:
            self.check(
                "people are told that it is held", name, is_kept=self._is_told(group, look, after.number, "held")
            )
            allowed = [w for w in view.windows if w.end > now and not self._is_frozen(group, w.start, w.end)]
            if not any(w.start < last for w in allowed) and group.policy.apply is ApplyMode.LAST_WINDOW:
                told = self._is_told(group, look, after.number, "no-window")
                self.check("people are told that no window is left", name, is_kept=told)
        if now >= last and not is_active:
            self._see_overdue(group, after, look, now, name)
        if look.start is not None:
            self._see_start(group, after, now, name)

    def _see_end(
        self, before: GroupState, view: GroupView, look: Look, name: str, *, unread: bool, is_active: bool
    ) -> None:
        if before.package is not None and (unread or not view.machines) and before.applications == ():
            self.check("nothing ends while a machine was never read", name, is_kept=look.ended is None)
        ended = look.ended
        if before.package is not None and before.applications and not is_active:
            run = before.applications[-1]
            left = [
                m.name
                for m in view.machines
                if any(u.since <= run.began_at for u in m.updates)
                and not (m.name in run.done and m.answered_at is not None and m.answered_at <= run.ended_at)  # type: ignore[operator]
            ]
            if left:
                kept = look.state.package is not None and look.state.number == before.number
                self.check("what is left stays in its package", f"{name}: {left}", is_kept=kept)
            elif not unread and not run.refusal and view.machines:
                is_new = ended is not None and ended.end is PackageEnd.APPLIED
                fresh = look.state.package
                later = fresh is None or (fresh.first_seen >= run.began_at and fresh.number == before.number + 1)
                self.check("applied begins anew", name, is_kept=is_new and later)

    def _see_first(
        self,
        memory: _Memory,
        before: GroupState,
        after: GroupState,
        view: GroupView,
        look: Look,
        now: datetime,
        name: str,
    ) -> None:
        package = after.package
        if package is None:
            memory.first = None
            return
        if before.package is not None and before.package.number == package.number:
            self.check("the last day never moves later", name, is_kept=package.first_seen <= before.package.first_seen)
            return
        oldest = min(u.since for m in view.machines for u in m.updates)
        floor = memory.looked_at or now
        if look.ended is not None and look.ended.end is PackageEnd.APPLIED:
            floor = before.applications[-1].began_at
        if view.inherited is not None and before.number == 0:
            rule = "a renamed configuration postpones nothing"
            self.check(rule, name, is_kept=package.first_seen <= view.inherited)
        else:
            rule = "counted from the first moment that it was seen"
            self.check(
                rule, f"{name}: {package.first_seen}", is_kept=package.first_seen == min(now, max(oldest, floor))
            )

    def _see_overdue(self, group: Group, after: GroupState, look: Look, now: datetime, name: str) -> None:
        began = [each for each in group.asked if each.number == after.number and not each.refusal]
        told = self._is_told(group, look, after.number, "overdue")
        is_kept = look.start is not None or told
        if not self._is_frozen(group, now, now + group.policy.window) and not began:
            refused = [each for each in group.asked if each.number == after.number and each.refusal]
            is_recent = bool(refused) and now - refused[-1].began_at <= DAY
            is_kept = look.start is not None or (told and is_recent)
        self.check("applied soon after the last day, or told why not", name, is_kept=is_kept)

    def _see_start(self, group: Group, after: GroupState, now: datetime, name: str) -> None:
        outside = [
            each
            for each in group.asked
            if each.number == after.number and each.cause is ApplyCause.OVERDUE and "/overdue/" in each.key
        ]
        began = [each for each in outside if not each.refusal]
        self.check("outside of the schedule once", name, is_kept=not began)
        if outside:
            recent = now - outside[-1].began_at < DAY
            self.check("a refused run is tried once a day", name, is_kept=not recent)

    def see_run(self, group: Group, before: GroupState, run: Run) -> None:
        """Check a run that has begun."""
        name = f"{group.name} {run.start:%m-%d %H:%M} {run.cause}"
        start, end = (run.window.start, run.window.end) if run.window is not None else (run.start, run.end)
        self.check("no run in a freeze", name, is_kept=not self._is_frozen(group, start, end))
        if before.looked_at is None:
            self.check("closed before the first look", name, is_kept=run.only_exceptions)
        if run.only_exceptions:
            hosts = [host for host in group.hosts if host.name not in run.skipped_hosts]
            late = [host.name for host in hosts if set(host.lacks.values()) & group.policy.not_held.classifications]
            self.check("what does not wait does not wait", f"{name}: {late}", is_kept=not late)
            return
        self.check("one run at a time", name, is_kept=not any(each.ended_at is None for each in before.applications))
        package = before.package
        if package is None:
            return
        last = package.first_seen + group.policy.hold
        if run.cause is ApplyCause.PERSON:
            return
        if group.policy.apply is ApplyMode.EACH_WINDOW and run.window is not None:
            self.check("each window, where it is asked for", name, is_kept=run.cause is ApplyCause.SCHEDULE)
            return
        is_last_window = run.window is not None and (before.applications or self._is_last(group, run, last))
        self.check(
            "held until a person, its last window or its last day",
            name,
            is_kept=run.start >= last or bool(is_last_window),
        )
        if run.window is not None and run.start < last and not before.applications:
            self.check(
                "the last window is the last one that ends before", name, is_kept=self._is_last(group, run, last)
            )

    def _is_last(self, group: Group, run: Run, last: datetime) -> bool:
        """Return whether no later window could have been used, as far as was known at the last look."""
        assert run.window is not None
        looked_at = self._memory[group.name].looked_at or run.start
        known = [freeze for freeze in group.freezes if freeze.reason != "declared at once" or freeze.start <= looked_at]
        later = []
        for window in self.world.list_windows(group, run.window.start + timedelta(minutes=1)):
            frozen = any(freeze.start < window.end and window.start < freeze.end for freeze in known)
            if window.end <= last and not frozen:
                later.append(window)
        return not later

    def see_closed_window(self, group: Group, before: GroupState, start: datetime) -> None:
        """Check a window in which nothing was installed."""
        if group.policy.has_exceptions:
            self.check("what does not wait does not wait", f"{group.name} {start}", is_kept=False)
        if before.looked_at is None:
            self.check("closed before the first look", f"{group.name} {start}", is_kept=True)

    def see_repetition(self, group: Group, before: GroupState, again: Look, asked: int) -> None:
        """Check that a second look at the same moment changes nothing, and begins nothing more."""
        same = again.state == before and len(group.asked) == asked and again.ended is None
        self.check("a look twice changes nothing", f"{group.name} {before.looked_at}", is_kept=same)

    @staticmethod
    def _is_frozen(group: Group, start: datetime, end: datetime) -> bool:
        return any(freeze.start < end and start < freeze.end for freeze in group.freezes)

    @staticmethod
    def _is_told(group: Group, look: Look, number: int, word: str) -> bool:
        key = f"hold/{group.name}/{number}/{word}"
        return key in group.told or any(news.key == key for news in look.news)
