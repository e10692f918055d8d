"""Examples of nouns, and strategies that make them up."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from hypothesis import strategies as st

from tasks.domain.model import PackageState, RebootNeed, Selection, Update, UpdateResult
from tasks.domain.protocols.package_manager import SimulationResult
from tasks.domain.states import Classification, Severity, UpdateState, YesNoUnknown

NOW = datetime(2026, 11, 20, 1, 0, tzinfo=UTC)


def an_update(name="openssl", **fields):
    arch = fields.pop("arch", "amd64")
    defaults = {
        "id": f"{name}:{arch}",
        "installed": "1.0",
        "available": "1.1",
        "classification": Classification.SECURITY,
    }
    return Update(name=name, arch=arch, **(defaults | fields))


def a_state(*updates, answer=YesNoUnknown.NO, **fields):
    return PackageState(manager="apt", updates=tuple(updates), reboot=RebootNeed(answer), **fields)


def a_result(name, state, reason=""):
    return UpdateResult(an_update(name), state, reason)


NAMES = ("openssl", "libc6", "linux-image-amd64", "kernel", "mysql-server", "vim", "nginx", "libstdc++6", "python3.11")
MASKS = (
    "*",
    "openssl",
    "lib*",
    "kernel*",
    "linux-*",
    "vim:amd64",
    "mysql*=1.*",
    "openssl=9",
    "=1",
    "",
    "n?inx",
    "KB42",
    "7",
)

updates = st.builds(
    an_update,
    name=st.sampled_from(NAMES),
    arch=st.sampled_from(("amd64", "i386", "all")),
    classification=st.sampled_from(Classification),
    available=st.sampled_from(("1.1", "2.0-1")),
    group=st.sampled_from(("", "", "", "one", "two")),
    held=st.booleans(),
    blocked=st.sampled_from(("", "", "UA_ESM_REQUIRED: attach a subscription")),
    requires_reboot=st.sampled_from((None, True, False)),
    kb=st.sampled_from(("", "", "KB42", "7")),
    published=st.sampled_from((None, datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 15, tzinfo=UTC))),
    replaces=st.lists(st.sampled_from([f"{name}:amd64" for name in NAMES]), max_size=2).map(tuple),
    size_bytes=st.sampled_from((None, 0, 1_000_000)),
    severity=st.sampled_from(("", "Critical", "important", "Medium", "LOW", "Negligible")),
    needs_licence=st.booleans(),
    given_up=st.sampled_from(("", "", "", "its last 3 tries failed")),
)
states = st.builds(
    lambda pending, held: a_state(*pending, held=tuple(held)),
    st.lists(updates, max_size=12, unique_by=lambda update: update.id),
    st.lists(st.sampled_from(NAMES), max_size=2),
)
selections = st.builds(
    Selection,
    classifications=st.frozensets(st.sampled_from(Classification)),
    include=st.lists(st.sampled_from(MASKS), max_size=3).map(tuple),
    exclude=st.lists(st.sampled_from(MASKS[1:]), max_size=2).map(tuple),
    exclude_requiring_reboot=st.booleans(),
    published_before=st.sampled_from((None, datetime(2026, 11, 1, tzinfo=UTC))),
    severities=st.frozensets(st.sampled_from(Severity)),
    accept_licences=st.booleans(),
)


@dataclass
class FakeSolver:
    """A package manager: updates may need something, remove packages, be gone, be refused, or conflict in pairs.

    Attributes:
        names_culprits: whether it names the updates that it refuses, and those that ``keep`` contradicts.
    """

    needs: Mapping[str, Iterable[str]] = field(default_factory=dict)
    removes: Mapping[str, Iterable[str]] = field(default_factory=dict)
    gone: Collection[str] = ()
    refuses: Collection[str] = ()
    conflicts: Iterable[tuple[str, str]] = ()
    names_culprits: bool = True
    asked: list[tuple[str, ...]] = field(default_factory=list)

    def __call__(self, wanted, *, keep=()):
        ids = [update.id for update in wanted]
        self.asked.append(tuple(ids))
        changed = self.find_needed(ids)
        gone = {update_id: "it is gone" for update_id in ids if update_id in self.gone}
        culprits = changed & {*self.refuses, *self.gone} - gone.keys()
        clashes = [f"{one} conflicts with {other}" for one, other in self.conflicts if {one, other} <= changed]
        culprits |= {each for pair in self.conflicts if set(pair) <= changed for each in pair}
        if keep:
            culprits |= {each for each in changed if set(self.removes.get(each, ())) & set(keep)}
            culprits |= {each for each in changed if set(self.needs.get(each, ())) & set(keep)}
        words = [f"{each} can't go" for each in sorted(culprits)] + clashes
        if gone or words:
            named = frozenset(culprits) if self.names_culprits else frozenset()
            return SimulationResult({}, refused=gone, refusal="; ".join(words or ["gone"]), named=named)
        removals = {name for each in changed for name in self.removes.get(each, ())}
        return SimulationResult(dict.fromkeys(sorted(changed), "1.1"), tuple(sorted(removals)))

    def find_needed(self, ids):
        """Return ids, and the ids of all that they need."""
        found, waiting = set(), list(ids)
        while waiting:
            update_id = waiting.pop()
            if update_id not in found:
                found.add(update_id)
                waiting += self.needs.get(update_id, ())
        return found


SKIPPED = {UpdateState.EXCLUDED, UpdateState.BLOCKED, UpdateState.NOT_SELECTED}
