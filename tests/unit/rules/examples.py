"""Examples of nouns, and strategies that make them up."""

from datetime import UTC, datetime

from hypothesis import strategies as st

from tasks.model import PackageState, RebootNeed, Selection, Update, UpdateResult
from tasks.protocols.package_manager import SimulationResult
from tasks.states import Classification, Severity, UpdateState, YesNoUnknown

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


class FakeSolver:
    """A package manager's resolver: each update may need, remove or be refused something; some pairs conflict."""

    def __init__(self, needs=None, removes=None, refuses=None, conflicts=()):
        self.needs, self.removes, self.refuses = needs or {}, removes or {}, refuses or {}
        self.conflicts = tuple(map(frozenset, conflicts))
        self.asked = []

    def __call__(self, wanted):
        ids = [update.id for update in wanted]
        self.asked.append(tuple(ids))
        changes = {update.id: update.available for update in wanted}
        for update_id in ids:
            changes |= dict.fromkeys(self.needs.get(update_id, ()), "1.1")
        clash = [pair for pair in self.conflicts if pair <= set(ids)]
        refused = {"": f"conflict of {sorted(clash[0])}"} if clash else {}
        refused |= {update_id: self.refuses[update_id] for update_id in ids if update_id in self.refuses}
        removals = tuple(name for update_id in ids for name in self.removes.get(update_id, ()))
        return SimulationResult(changes=changes, removals=removals, refused=refused or None)


SKIPPED = {UpdateState.EXCLUDED, UpdateState.BLOCKED, UpdateState.NOT_SELECTED}
