"""The apt manager over recorded conversations: what it asks for, and what it makes of the answers."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.domain.errors import (
    DeadlineExceeded,
    ListsUnread,
    ManagerError,
    ProtocolViolation,
    RepositoryError,
    RequestError,
    ScriptFailed,
    UnsupportedSystem,
)
from tasks.domain.protocols.clock import Deadline, SystemClock
from tasks.domain.protocols.package_manager import JobKind, Transaction
from tasks.domain.protocols.transport import Job, JobStatus, Script, ScriptResult
from tasks.machines.managers.apt.assessment import parse_apt_assessment
from tasks.machines.managers.apt.manager import AptManager
from tasks.machines.managers.registry import find_manager
from tests.support.builders import make_facts, make_update
from tests.unit.managers.recordings import describe, recorded, wanted

DEADLINE = Deadline.after(SystemClock(), 60)
APT = AptManager()


class Replay:
    """A transport that gives one recorded answer and remembers what was asked."""

    def __init__(self, answer: ScriptResult) -> None:
        self.answer = answer
        self.asked: list[Script] = []

    def run_script(self, script: Script, *, deadline: Deadline) -> ScriptResult:
        self.asked.append(script)
        return self.answer

    def start_job(self, job: Job, *, deadline: Deadline) -> JobStatus:
        raise NotImplementedError

    def poll_job(
        self, job_id: str, *, deadline: Deadline, events_from: int = 0, log_from: int = 0, wait_seconds: float = 0.0
    ) -> JobStatus:
        raise NotImplementedError

    def close(self) -> None:
        pass


@pytest.mark.parametrize("name", ["debian-12", "debian-12-troubled", "debian-12-partial"])
def test_real_assessments(name: str) -> None:
    state = parse_apt_assessment(recorded(f"{name}.apt_assess"))
    assert describe(state) == wanted(f"{name}.apt_assess")


def test_an_assessment_is_one_question() -> None:
    replay = Replay(recorded("debian-12.apt_assess"))
    APT.assess(replay, refresh=True, deadline=DEADLINE)
    APT.assess(replay, refresh=False, deadline=DEADLINE)
    assert [(script.name, script.read_only, dict(script.params)) for script in replay.asked] == [
        ("apt_assess", True, {"refresh": "yes", "lock_wait_seconds": "60", "refresh_seconds": "300"}),
        ("apt_assess", True, {}),
    ]


def test_no_repository_answers() -> None:
    with pytest.raises(RepositoryError):
        parse_apt_assessment(recorded("debian-12-unreachable.apt_assess"))


def test_a_machine_that_knows_no_repository_is_not_called_up_to_date() -> None:
    result = recorded("debian-12.apt_assess")
    bare = tuple(
        dict(record) | {"text": "Package files:\n 100 /var/lib/dpkg/status\n     release a=now\n"}
        if record.get("name") == "releases"
        else record
        for record in result.records
    )
    with pytest.raises(RepositoryError, match="no package source is configured"):
        parse_apt_assessment(ScriptResult(bare, 0))
    unread = tuple(dict(each) | {"unread": True} if each["kind"] == "state" else each for each in bare)
    with pytest.raises(ListsUnread, match="never read"):
        parse_apt_assessment(ScriptResult(unread, 0))
    assert not ListsUnread.transient, "asking again changes nothing"
    texts = {"lists": "", "sources": "'http://a.example/dists/bookworm/InRelease' a_InRelease 0", "validity": ""}
    told = tuple(
        {"kind": "section", "name": name, "text": text, "exit_code": 0, "stderr": ""} for name, text in texts.items()
    )
    with pytest.raises(ListsUnread, match="never read"):  # and not the same of each repository
        parse_apt_assessment(ScriptResult((*(each for each in unread if each.get("name") != "update"), *told), 0))


@pytest.mark.parametrize(("name", "is_told"), [("debian-12", True), ("debian-12-partial", False)])
@pytest.mark.parametrize("label", ["Debian", "Example"])
def test_what_was_not_read_may_be_the_security_repository(name: str, is_told: bool, label: str) -> None:
    """One cause, one finding: nobody is told to configure what is configured, and could not be read."""
    text = json.dumps(recorded(f"{name}.apt_assess").records)
    for old, new in (("Debian-Security", label), ("l=Debian", f"l={label}"), ("o=Debian", f"o={label}")):
        text = text.replace(old, new)
    text = text.replace("-security", "-other").replace("a=oldstable-updates", "a=oldstable")
    state = parse_apt_assessment(ScriptResult(tuple(json.loads(text)), 0))
    told = [*state.warnings, *(each.message for each in state.repository_problems)]
    assert any("configured" in each for each in told) is is_told
    assert told


def test_work_in_progress_is_not_called_broken() -> None:
    state = parse_apt_assessment(recorded("debian-12-troubled.apt_assess"))
    assert state.problems == ()
    assert state.lock_holder.startswith("apt-get (pid ")
    assert state.at_work


def test_the_same_machine_left_alone_is_broken() -> None:
    result = recorded("debian-12-troubled.apt_assess")
    state = parse_apt_assessment(ScriptResult(tuple(r for r in result.records if r["kind"] != "lock"), 0))
    assert (state.repairable, state.interrupted) == (True, True)
    assert "lab-failing 2.0 is half-configured" in state.problems


class Successive(Replay):
    """A transport that gives one answer after the other, the last one for ever."""

    def __init__(self, *answers: ScriptResult) -> None:
        super().__init__(answers[0])
        self.answers = answers

    def run_script(self, script: Script, *, deadline: Deadline) -> ScriptResult:
        super().run_script(script, deadline=deadline)
        return self.answers[min(len(self.asked), len(self.answers)) - 1]


def _changed_meanwhile() -> ScriptResult:
    """The troubled machine, as an administrator's transaction ended while it was read."""
    result = recorded("debian-12-troubled.apt_assess")
    records = (r for r in result.records if r["kind"] != "lock")
    return ScriptResult(tuple(dict(r) | {"changed": True} if r["kind"] == "state" else r for r in records), 0)


def test_packages_that_change_as_they_are_read_are_read_again() -> None:
    machine = Successive(_changed_meanwhile(), recorded("debian-12.apt_assess"))
    state = APT.assess(machine, refresh=True, deadline=DEADLINE)
    assert (state.problems, state.at_work) == ((), "")
    assert [dict(script.params) for script in machine.asked] == [
        {"refresh": "yes", "lock_wait_seconds": "60", "refresh_seconds": "300"},
        {},
    ]


class TooSlow(Successive):
    """A transport that has no time left for a second question."""

    def run_script(self, script: Script, *, deadline: Deadline) -> ScriptResult:
        if self.asked:
            raise DeadlineExceeded("the time is over")
        return super().run_script(script, deadline=deadline)


def test_an_answer_is_kept_when_there_is_no_time_to_read_again() -> None:
    state = APT.assess(TooSlow(_changed_meanwhile()), refresh=True, deadline=DEADLINE)
    assert (state.problems, state.at_work, state.lock_holder) == ((), "a process that has just ended", "")
    assert state.updates


def test_packages_that_change_at_every_reading_are_not_judged() -> None:
    machine = Successive(_changed_meanwhile())
    state = APT.assess(machine, refresh=False, deadline=DEADLINE)
    assert (state.problems, state.unfinished, state.at_work) == ((), (), "a process that has just ended")
    assert len(machine.asked) == 3


def test_a_failed_script_shows_what_it_printed() -> None:
    with pytest.raises(ScriptFailed) as caught:
        parse_apt_assessment(ScriptResult((), 1, "dpkg-query: no such file"))
    assert caught.value.output_tail == "dpkg-query: no such file"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=4,
)


@settings(max_examples=60)
@given(st.data())
def test_garbled_answers_raise_only_our_errors(data: st.DataObject) -> None:
    records = [dict(record) for record in recorded("debian-12.apt_assess").records]
    victim: dict[str, Any] = data.draw(st.sampled_from(records))
    victim[data.draw(st.sampled_from(sorted(victim)))] = data.draw(JSON)
    if data.draw(st.booleans()):
        records.pop(data.draw(st.integers(0, len(records) - 1)))
    try:
        state = parse_apt_assessment(ScriptResult(tuple(records), 0))
    except (ManagerError, ProtocolViolation) as error:
        assert error.message  # noqa: PT017 (some garbage is harmless, so not every example raises)
    else:
        assert state.manager == "apt"


def test_installed_counts_only_what_is_whole() -> None:
    updates = [make_update(id=name, name=name) for name in ("lab-plain", "openssl", "nosuch")]
    replay = Replay(recorded("debian-12.apt_installed"))
    assert APT.read_installed_versions(replay, updates, deadline=DEADLINE) == {
        "lab-plain": "1.0",
        "openssl": "3.0.20-1~deb12u2",
    }
    half = [dict(record) for record in replay.answer.records]
    half[-1]["text"] = (
        "lab-plain\tall\tok\thalf-configured\t2.0\nopenssl\ti386\tok\tinstalled\t9\nx\tall\treinstreq\tinstalled\t1\n"
    )
    assert APT.read_installed_versions(Replay(ScriptResult(tuple(half), 0)), updates, deadline=DEADLINE) == {}
    assert APT.read_installed_versions(replay, [], deadline=DEADLINE) == {}


def test_rehearsal_over_a_real_answer() -> None:
    replay = Replay(recorded("debian-12.apt_simulate"))
    updates = [make_update(id="lab-dep-a", name="lab-dep-a", available="2.0")]
    simulation = APT.simulate(replay, updates, deadline=DEADLINE)
    assert simulation.changes["lab-dep-b"] == "2.0"
    assert simulation.download_bytes == 3523016
    assert replay.asked[0].params == {"packages": ("lab-dep-a=2.0",), "keep": (), "downgrades": ""}


def test_a_kept_file_that_was_changed_since_is_named_in_the_reason() -> None:
    words = "E: Version '1.0' for 'kz' was not found\n"
    section = {"kind": "section", "name": "simulation", "text": words, "exit_code": 100, "stderr": ""}
    replay = Replay(ScriptResult(({"kind": "kept_changed", "update": "kz"}, section), 0))
    update = make_update(id="kz", name="kz", installed="2.0", available="1.0", goes_back=True)
    assert APT.simulate(replay, [update], deadline=DEADLINE).refused == {
        "kz": "the repositories do not have kz 1.0 (any more), and the file that a run has kept is not what it was"
    }


def test_a_removal_is_told() -> None:
    replay = Replay(recorded("debian-12-removal.apt_simulate"))
    simulation = APT.simulate(replay, [make_update(id="lab-removes", available="2.0")], deadline=DEADLINE)
    assert simulation.removals == ("lab-plain",)


def job_params(work: JobKind, *transactions: Transaction, **options: Any) -> Mapping[str, Any]:
    script = APT.build_job_script(work, transactions, **options)
    assert not script.read_only
    return script.params


def test_job_parameters() -> None:
    first = make_update(id="a", available="1:2~rc1-1+b2")
    second = make_update(id="libc6:i386", available="2", installed=None)
    params = job_params(
        JobKind.INSTALL,
        Transaction(3, (first,), 1000.9, 10.0),
        Transaction(5, (second,), 2000.0, 10.0),
        allowed=(first, second, first),
        allow_removals=True,
        excluded=("lab-*",),
    )
    assert params == {
        "work": "install",
        "numbers": ("3", "5"),
        "allowed": ("a", "libc6:i386"),
        "allow_removals": "yes",
        "excluded": ("lab-*",),
        "downgrades": "",
        "tx_3_packages": ("a=1:2~rc1-1+b2",),
        "tx_3_present": ("a",),
        "tx_3_latest_start": "1000",
        "tx_5_packages": ("libc6:i386=2",),
        "tx_5_present": (),
        "tx_5_latest_start": "2000",
    }


def test_a_repair_needs_no_packages() -> None:
    params = job_params(JobKind.REPAIR, Transaction(0, (), 5.0, 1.0))
    assert (params["tx_0_packages"], params["allow_removals"]) == ((), "")


@pytest.mark.parametrize("transactions", [(), (Transaction(0, (), 1.0, 1.0),)])
def test_an_installation_of_nothing_is_refused(transactions: tuple[Transaction, ...]) -> None:
    with pytest.raises(RequestError):
        APT.build_job_script(JobKind.INSTALL, transactions)


@pytest.mark.parametrize(
    ("name", "version"), [("-o=x", "1"), ("a", "1 2"), ("a*", "1"), ("a", ""), ("a", "-1"), ("A b", "1")]
)
def test_what_apt_would_take_for_an_option_never_reaches_it(name: str, version: str) -> None:
    with pytest.raises(RequestError):
        APT.build_job_script(JobKind.INSTALL, [Transaction(0, (make_update(id=name, available=version),), 1.0, 1.0)])


def test_what_dpkg_would_take_for_a_pattern_never_reaches_it() -> None:
    with pytest.raises(RequestError):
        APT.read_installed_versions(
            Replay(recorded("debian-12.apt_installed")), [make_update(name="lib*")], deadline=DEADLINE
        )


def test_the_machines_best_known_manager_is_taken() -> None:
    assert find_manager(make_facts(managers=("snap", "apt"))).name == "apt"


@pytest.mark.parametrize("managers", [(), ("pacman",)])
def test_an_unknown_system_says_what_can_be_done(managers: tuple[str, ...]) -> None:
    with pytest.raises(UnsupportedSystem) as caught:
        find_manager(make_facts(managers=managers))
    assert caught.value.hint
