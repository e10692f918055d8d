"""The figures of a random history, computed naively here, are those of every page, of the API, metrics and commands."""

import csv
import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from fleetpatch.access.login_admin import create_access_token
from flows.compliance.document import make_compliance_document
from inventory.loader import load_inventory
from tasks.domain.model import Assessment
from tasks.domain.states import Classification, UpdateState, YesNoUnknown
from tasks.records.machine_rows import build_machine_row
from tasks.records.queries.machines import read_machine_states
from tasks.records.queries.tables import QueryTables
from tasks.reports.export.tabular_formats import build_row_json
from tasks.reports.query.engine import open_query
from tasks.rules.compliance.model import DEFAULT_SLA_DAYS, Month
from tests.contract.web.test_true_figures import read_row, read_tiles
from tests.support import builders as make
from tests.support.fake_clock import FakeClock
from tests.support.web_site import Site, serve_site

START = datetime(2026, 11, 2, 12, tzinfo=UTC)
DAY, WEEK = timedelta(days=1), timedelta(days=7)
MACHINES = ("web-1", "web-2", "db-1")
GONE = "gone-1"
URGENT = {Classification.CRITICAL: "critical", Classification.SECURITY: "security"}
URGENT[Classification.SECURITY_ESM] = "security"
NAMES = ("kernel", "openssl", "tzdata", "curl")


@dataclass(frozen=True)
class Event:
    """Something that is stored, ``hours`` after what was stored before.

    Attributes:
        what: "answer", "failure", "install" (a run, which looks before and after) or "late" (an answer of a day ago).
    """

    what: str
    machine: str
    hours: float
    updates: Sequence[tuple[str, Classification, int]] = ()
    reboot: YesNoUnknown = YesNoUnknown.NO
    is_broken: bool = False
    services: int = 0
    is_looked_at: bool = True


EVENTS = st.builds(
    Event,
    what=st.sampled_from(["answer", "answer", "failure", "install", "late"]),
    machine=st.sampled_from([*MACHINES, GONE]),
    hours=st.one_of(st.floats(0.1, 30), st.floats(60, 190)),
    updates=st.lists(
        st.tuples(st.sampled_from(NAMES), st.sampled_from(Classification), st.integers(0, 40)),
        max_size=4,
        unique_by=lambda each: each[0],
    ),
    reboot=st.sampled_from(YesNoUnknown),
    is_broken=st.booleans(),
    services=st.integers(0, 2),
    is_looked_at=st.booleans(),
)


@dataclass
class World:
    """A site, and all that was stored in it."""

    site: Site
    clock: FakeClock
    token: str
    history: list[Assessment] = field(default_factory=list)

    def store(self, number: int, each: Event) -> None:
        self.clock.advance(each.hours * 3600)
        now, run_id = self.clock.now(), f"run-{number}"
        updates = tuple(
            make.make_update(name=name, classification=kind, published=START - days * DAY if days else None)
            for name, kind, days in each.updates
        )
        common = {"machine": each.machine, "run_id": run_id}
        state = make.make_package_state(
            updates=updates,
            reboot=make.make_package_state().reboot.__class__(each.reboot),
            problems=("curl is unpacked but not configured",) if each.is_broken else (),
            services_to_restart=tuple(f"{n}.service" for n in range(each.services)),
        )
        if each.what == "failure":
            made = [make.make_failed_assessment(**common, at=now)]
        elif each.what == "install":
            done = make.make_package_state(updates=updates[1:])
            before = make.make_assessment(**common, at=now - timedelta(minutes=9), packages=state)
            made = [before, make.make_assessment(**common, at=now, packages=done)]
        else:
            made = [
                make.make_assessment(**common, at=now - (DAY if each.what == "late" else timedelta(0)), packages=state)
            ]
        run = make.make_run(id=run_id, kind="patch", started_at=now - timedelta(minutes=10), ended_at=now)
        result = tuple(make.make_update_result(update=one, state=UpdateState.INSTALLED) for one in updates[:1])
        outcome = make.make_outcome(**common, started_at=run.started_at, ended_at=now, updates=result)
        outcomes = (outcome,) if each.what == "install" else ()
        self.site.records.save(
            make.make_report(run=run, outcomes=outcomes, assessments=tuple(made), plans=(), waves=())
        )
        self.history += made

    def get(self, path: str) -> Any:
        return self.site.get(f"/api/v1{path}", headers={"Authorization": f"Bearer {self.token}"}).json()


class Naive:
    """The figures of a history, computed from every assessment of it."""

    def __init__(self, history: Sequence[Assessment], now: datetime) -> None:
        self.now, self.history = now, history
        self.newest = {name: self._find_newest(name) for name in MACHINES}
        self.counting = {n: each for n, each in self.newest.items() if each is not None and now - each.at <= WEEK}

    def _find_newest(self, machine: str) -> Assessment | None:
        answers = [each for each in self.history if each.machine == machine and each.packages is not None]
        return max(answers, key=lambda each: each.at, default=None)

    @staticmethod
    def judge(answer: Assessment | None) -> str:
        if answer is None or answer.packages is None:
            return "NotAssessed"
        kinds = [each.classification for each in answer.packages.updates]
        if any(kind in URGENT for kind in kinds) or answer.packages.problems:
            return "NonCompliant"
        return "NotAssessed" if Classification.UNCLASSIFIED in kinds else "Compliant"

    @staticmethod
    def count(answer: Assessment | None) -> Counter[str]:
        packages = answer.packages if answer is not None else None
        found = packages.updates if packages is not None else ()
        return Counter(URGENT.get(each.classification, "other") for each in found)

    @property
    def states(self) -> dict[str, str]:
        """A try without an answer hides nothing that a machine lacks, and does not say that it lacks nothing."""
        found = {name: self.judge(self.counting.get(name)) for name in MACHINES}
        unsure = {name for name in self.silent if found[name] == "Compliant"}
        return found | dict.fromkeys(unsure, "NotAssessed")

    @property
    def silent(self) -> set[str]:
        """The machines that did not answer the last time."""
        tries = {name: [each for each in self.history if each.machine == name] for name in MACHINES}
        return {name for name, found in tries.items() if found and max(found, key=lambda one: one.at).packages is None}

    def find_time(self, machine: str) -> str:
        """Return when a machine last answered, as programs read it; "" for never."""
        answer = self.newest[machine]
        return answer.at.isoformat() if answer is not None else ""

    @property
    def pending(self) -> Counter[str]:
        return sum((self.count(each) for each in self.counting.values()), Counter[str]())

    def list_lacking(self, kind: str) -> set[str]:
        return {name for name, each in self.counting.items() if self.count(each)[kind]}

    @property
    def rebooting(self) -> set[str]:
        packages = {name: each.packages for name, each in self.counting.items()}
        return {name for name, each in packages.items() if each is not None and each.reboot.answer == "yes"}

    @property
    def oldest(self) -> datetime | None:
        """Since when the first of the pending updates has been seen on its machine."""
        answers = {name: each.packages for name, each in self.newest.items() if each is not None}
        found = (
            self._find_since(name, update.name)
            for name, packages in answers.items()
            for update in (packages.updates if packages is not None else ())
        )
        return min(found, default=None)

    def _find_since(self, machine: str, update: str) -> datetime:
        """Return the first answer of those in a row that have it. One that came after a newer one is not in the row."""
        since, last = None, None
        for each in self.history:
            if each.machine != machine or each.packages is None or (last is not None and each.at < last):
                continue
            last = each.at
            if update not in [one.name for one in each.packages.updates]:
                since = None
            elif since is None:
                since = each.at
        assert since is not None
        return since


def read_metric(text: str, name: str, **labels: str) -> float:
    """Return the sum of a metric over all labels that are not given."""
    found = 0.0
    for line in re.findall(rf"^{name}(?:{{.*}})? .*$", text, re.MULTILINE):
        if all(f'{key}="{value}"' in line for key, value in labels.items()):
            found += float(line.rsplit(" ", 1)[1])
    return found


def compare(world: World) -> None:
    """Compare all that says figures with the naive ones."""
    now = world.clock.now()
    naive = Naive(world.history, now)
    states, pending = Counter(naive.states.values()), naive.pending
    words = ("Compliant", "NonCompliant", "NotAssessed")
    page = world.site.get("/").text
    shares = dict(re.findall(r'href="/machines\?compliance=(\w+)"><b[^>]*>(\d+)</b>', page))
    assert shares == {word: str(states[word]) for word in words}
    tiles = read_tiles(page)
    for kind in ("critical", "security"):
        value, note = tiles[f"{kind.capitalize()} pending"]
        assert value == str(len(naive.list_lacking(kind)))
        assert re.findall(r"[0-9]+", note) == [str(pending[kind])]
    assert tiles["Need a reboot"][0] == str(len(naive.rebooting))
    oldest = naive.oldest
    days = (now - oldest).days if oldest is not None else None
    shown = "\N{EN DASH}" if days is None else f"{days} day" if days == 1 else f"{days} days"
    assert tiles["Oldest missing update"][0] == shown
    overview = world.get("/overview")
    assert [overview[name] for name in ("compliant", "nonCompliant", "notAssessed")] == [states[word] for word in words]
    for kind in ("critical", "security", "other"):
        assert overview[f"{kind}PatchCount"] == pending[kind]
    assert overview["rebootRequired"] == len(naive.rebooting)
    compare_lists(world, naive)
    compare_metrics(world, naive, states)
    compare_query(world, naive)
    compare_command(world, naive)
    compare_document(world, naive)


def compare_lists(world: World, naive: Naive) -> None:
    rows = list(csv.DictReader(io.StringIO(world.site.get("/machines.csv").text.lstrip("\ufeff"))))
    assert {each["name"]: each["compliance"] for each in rows} == naive.states
    times = {name: naive.find_time(name).replace("+00:00", "Z") for name in MACHINES}
    assert {each["name"]: each["answered_at"] for each in rows} == times
    page = world.site.get("/machines").text
    for each in rows:
        name, before = each["name"], naive.judge(naive.newest[each["name"]])
        assert each["last_known_compliance"] == (before if naive.newest[name] is not None else "")
        told = read_row(page, name)["Compliance"]
        is_as_before = before == naive.states[name] or naive.newest[name] is None
        age = "(just now|.* ago)" if name in naive.silent and naive.newest[name] is not None else ""
        as_now = f"{naive.states[name]} answered {age}" if age else naive.states[name]
        assert re.fullmatch(as_now if is_as_before else f"NotAssessed {before} (just now|.* ago)", told)
    for each in rows:
        counts, known = naive.count(naive.newest[each["name"]]), naive.newest[each["name"]] is not None
        assert [each[kind] for kind in ("critical", "security", "other")] == [
            str(counts[kind]) if known else "" for kind in ("critical", "security", "other")
        ]
    for query, names in (
        *(
            (f"compliance={word}", {n for n, state in naive.states.items() if state == word})
            for word in set(naive.states.values())
        ),
        ("show=critical", naive.list_lacking("critical")),
        ("show=security", naive.list_lacking("security")),
        ("reboot=yes", naive.rebooting),
    ):
        page = world.site.get(f"/machines?{query}").text
        assert set(re.findall(r'<th scope="row"><a href="/machines/([^"]+)"', page)) == names, query
    for each in world.get("/machines")["items"]:
        name = each["machineName"]
        counts = naive.count(naive.newest[name])
        assert each["complianceState"] == naive.states[name]
        assert [datetime.fromisoformat(each["assessedDateTime"] or "9999-01-01")] == [
            datetime.fromisoformat(naive.find_time(name) or "9999-01-01")
        ]
        assert bool(each["error"]) == (name in naive.silent)
        assert each["rebootRequired"] == ("yes" if name in naive.rebooting else each["rebootRequired"])
        if naive.newest[name] is not None:
            assert each["criticalAndSecurityPatchCount"] == counts["critical"] + counts["security"]
            assert each["otherPatchCount"] == counts["other"]
        patches = world.get(f"/machines/{name}")["patches"]
        newest = naive.newest[name]
        lacking = newest.packages.updates if newest is not None and newest.packages is not None else ()
        assert {one["patchName"] for one in patches} == {one.name for one in lacking}
        for one in patches:
            assert datetime.fromisoformat(one["sinceDateTime"]) == naive._find_since(name, one["patchName"])
    missing = Counter(
        update.name
        for answer in naive.newest.values()
        for update in (answer.packages.updates if answer is not None and answer.packages is not None else ())
    )
    assert {each["patchName"]: each["machines"] for each in world.get("/updates")["items"]} == missing


def compare_metrics(world: World, naive: Naive, states: Mapping[str, int]) -> None:
    text = world.site.get("/metrics?machines=1").text
    for word in ("Compliant", "NonCompliant", "NotAssessed"):
        assert read_metric(text, "fleetpatch_machines", compliance=word) == states[word]
    for kind in ("critical", "security", "other"):
        assert read_metric(text, "fleetpatch_pending_updates", classification=kind) == naive.pending[kind]
    assert read_metric(text, "fleetpatch_machines_reboot_required") == len(naive.rebooting)
    assert read_metric(text, "fleetpatch_machine_compliant") == states["Compliant"]


def compare_query(world: World, naive: Naive) -> None:
    inventory = load_inventory(world.site.context.settings.inventory)  # type: ignore[arg-type]
    with open_query(QueryTables(world.site.records, None, inventory, now=world.clock.now())) as query:
        sql = "SELECT name, compliance, critical, security, other, reboot FROM machines WHERE in_inventory"
        rows = {row[0]: row[1:] for row in query.ask(sql).list_rows()}
    assert {name: row[0] for name, row in rows.items()} == naive.states
    assert {name for name, row in rows.items() if row[4] == "yes"} == naive.rebooting
    for name, (_, critical, security, other, _reboot) in rows.items():
        counts = naive.count(naive.newest[name])
        known = naive.newest[name] is not None
        assert (critical, security, other) == (
            (counts["critical"], counts["security"], counts["other"]) if known else (None, None, None)
        )


def compare_command(world: World, naive: Naive) -> None:
    inventory = load_inventory(world.site.context.settings.inventory)  # type: ignore[arg-type]
    states = read_machine_states(world.site.records.database)
    for machine in inventory.machines:
        name = machine.name
        row = build_row_json(build_machine_row(name, machine, states.get(name), world.clock.now(), plans=None))
        counts = naive.count(naive.newest[name])
        assert row["complianceState"] == naive.states[name]
        assert row["assessedDateTime"] == (naive.find_time(name).replace("+00:00", "Z") or None)
        assert row["lastKnownComplianceState"] == (naive.judge(naive.newest[name]) if naive.newest[name] else None)
        if naive.newest[name] is not None:
            assert row["criticalAndSecurityPatchCount"] == counts["critical"] + counts["security"]
            assert row["otherPatchCount"] == counts["other"]


def compare_document(world: World, naive: Naive) -> None:
    """The document judges each machine by its last answer of the month, of any age."""
    inventory = load_inventory(world.site.context.settings.inventory)  # type: ignore[arg-type]
    now, month = world.clock.now(), Month.of(world.clock.now())
    sla = (DEFAULT_SLA_DAYS, "the default")
    document = make_compliance_document(world.site.records, inventory, "name=*", month, sla, now)
    for figure in document.machines:
        newest = naive.newest[figure.machine]
        judged = newest if newest is not None and newest.at >= month.start else None
        assert figure.compliance == naive.judge(judged)
    states = Counter(figure.compliance for figure in document.machines)
    week = document.weeks[-1]
    assert (week.compliant, week.non_compliant, week.not_assessed) == tuple(
        states[word] for word in ("Compliant", "NonCompliant", "NotAssessed")
    )


@pytest.mark.slow
@settings(
    max_examples=settings().max_examples // 3,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(events=st.lists(EVENTS, min_size=1, max_size=7))
def test_all_say_what_the_history_says(events: list[Event]) -> None:
    with TemporaryDirectory() as folder:
        place, clock = Path(folder), FakeClock(START)
        listed = [{"name": name, "address": f"192.0.2.{n}"} for n, name in enumerate(MACHINES, 1)]
        (place / "fleet.yaml").write_text(yaml.safe_dump({"machines": listed}))
        with serve_site(place, clock=clock) as site:
            world = World(site, clock, create_access_token(site.records, "bot", ["view"])[1])
            for number, each in enumerate(events):
                event(each.what)
                world.store(number, each)
                if each.is_looked_at:
                    compare(world)
            compare(world)
            clock.advance(8 * 86400)
            compare(world)
