"""Every option of every verb, given something that makes no sense."""

from pathlib import Path

import pytest

from tests.contract.cli.conftest import Stage
from tests.unit.bad_input.conftest import Refused

WORD = "hunter2"  # a password in a URL, which is told to nobody
PLAN = ("plan", "web")
LONG = "9" * 5000

OPTIONS = [
    ("--minutes", "0", "--minutes"),
    ("--minutes", "-5", "--minutes"),
    ("--minutes", "nan", "--minutes"),
    ("--minutes", "inf", "--minutes"),
    ("--minutes", "1e999", "--minutes"),
    ("--minutes", "44641", "--minutes"),
    ("--minutes", "two", "--minutes"),
    ("--minutes", "", "--minutes"),
    ("--zone", "", "no time zone"),
    ("--zone", "CEST", "CEST"),
    ("--zone", "../../etc/passwd", "no time zone"),
    ("--zone", "\udcff", "--zone"),
    ("--zone", "x" * 65, "--zone"),
    ("--start", "soon", "--start"),
    ("--start", "", "--start"),
    ("--start", "2026-02-30 10:00", "--start"),
    ("--start", "9999-12-31 23:30", "too far in the future"),
    ("--start", "0001-01-01", "too far in the future"),
    ("--start", "-1e18", "--start"),
    ("--reserve", "-1", "--reserve"),
    ("--reserve", "241", "--reserve"),
    ("--canary", "-1", "--canary"),
    ("--canary", "nan%", "--canary"),
    ("--canary", "101%", "--canary"),
    ("--canary", "%", "--canary"),
    ("--canary", "5%%", "--canary"),
    ("--canary", "", "--canary"),
    ("--canary", "1e3", "--canary"),
    ("--canary", LONG, "--canary"),
    ("--wave-size", "0", "--wave-size"),
    ("--wave-size", "1.5", "--wave-size"),
    ("--wave-size", LONG[:30], "--wave-size"),
    ("--wave-percent", "0", "--wave-percent"),
    ("--wave-percent", "101", "--wave-percent"),
    ("--at-once", "0", "--at-once"),
    ("--at-once", "501", "--at-once"),
    ("--pause", "-1", "--pause"),
    ("--pause", "1441", "--pause"),
    ("--failure-budget", "-1", "--failure-budget"),
    ("--failure-budget", "-1%", "--failure-budget"),
    ("--failure-budget", "some", "--failure-budget"),
    ("--unreachable-percent", "-1", "--unreachable-percent"),
    ("--unreachable-percent", "101", "--unreachable-percent"),
    ("--max-reboots", "11", "--max-reboots"),
    ("--max-reboots", "-1", "--max-reboots"),
    ("--reboot", "sometimes", "sometimes"),
    ("--classification", "urgent", "urgent"),
    ("--include", "", "--include"),
    ("--include", "x" * 201, "--include"),
    ("--exclude", " ", "--exclude"),
    ("--published-before", "soon", "--published-before"),
    ("--published-before", "2026-13-01", "--published-before"),
    ("--request", "", "--request"),
    ("--request", "none.yaml", "none.yaml"),
    ("--request", "~nobody-at-all/x.yaml", "~nobody-at-all"),
    ("--request", "fleet.yaml/x", "fleet.yaml/x"),
    ("--inventory", "", "--inventory"),
    ("--inventory", "none.yaml", "none.yaml"),
    ("--inventory", "~nobody-at-all/x", "~nobody-at-all"),
    ("--inventory", "\udcff", "no such file"),
    ("--inventory", "/dev/null", "/dev/null"),
    ("--inventory", "/dev/zero", "no regular file"),
    ("--report", "", "--report"),
]

SCOPES = ["", " ", ",", "!", "=", "env=", "env=nope", "nam=web", "web,", "a|b|", "address=10.0.0.0/99", "address=x"]
SCOPES += ["\udcff", "x" * 2001, "[bold]x", "\x1b[2J\x9b1m", "\u202eweb", "name=[", "env=prod,!env=prod", "../../etc"]

WORDS = [
    (("dance",), "dance"),
    (("plan", "web", "--nonsense"), "--nonsense"),
    (("plan", "web", "web"), "unexpected"),
    (("plan", "web", "--minutes"), "--minutes"),
    (("plan", "web", "--only-included"), "--include"),
    (("plan", "web", "--only-included", "-c", "Security", "--include", "x"), "--classification"),
    (("plan", "web", "--start", "2027-03-28 02:30", "--zone", "Europe/Berlin"), "does not exist"),
    (("plan", "web", "--published-before", "2026-03-29 02:30", "--zone", "Europe/Berlin"), "does not exist"),
    (("patch", "web", "--no-prefect", "--yes", "--minutes", "0"), "--minutes"),
    (("patch", "nobody", "--no-prefect", "--yes"), "nobody"),
    (("patch", "--no-prefect", "--yes"), "scope"),
    (("assess", "web", "--at-once", "0"), "--at-once"),
    (("assess", "web", "--at-once", "many"), "--at-once"),
    (("assess", "nobody"), "nobody"),
    (("assess", "web", "--report", ""), "--report"),
    (("doctor", "web", "--at-once", "501"), "--at-once"),
    (("machines", "nobody"), "nobody"),
    (("updates", "nobody"), "nobody"),
    (("updates", "--by", "colour"), "colour"),
    (("inventory", "dance"), "dance"),
    (("inventory", "list", "nobody"), "nobody"),
    (("inventory", "check", "none"), "none"),
    (("inventory", "check", ""), "empty"),
    (("inventory", "check", "~nobody-at-all/x"), "~nobody-at-all"),
    (("runs", "--limit", "0"), "--limit"),
    (("runs", "--limit", "10001"), "--limit"),
    (("runs", "--limit", "1e3"), "--limit"),
    (("runs", "--kind", "nonsense"), "--kind"),
    (("show", "no-such-run"), "no run"),
    (("show", ""), "no run"),
    (("show", "\udcff"), "no run"),
    (("report", "no-such-run"), "no run"),
    (("report", "last", "--format", "pdf"), "pdf"),
    (("report", "last", "--to", ""), "--to"),
    (("why", "nobody"), "nobody"),
    (("why", "\udcff"), "\\udcff"),
    (("why", "web", "--runs", "0"), "--runs"),
    (("why",), "MACHINE"),
    (("version", "please"), "please"),
]

PAST = [
    (("show", "%"), "no run"),
    (("show", "_"), "no run"),
    (("show", "2"), "several"),
    (("show", "last", "--machine", "nobody"), "no machine"),
    (("show", "last", "--machine", "\udcff"), "no machine"),
    (("report", "2"), "several"),
]

RECORDS = [
    ("nonsense", "can't be read as a URL"),
    ("", "can't be read as a URL"),
    ("http://example.org/x", "unknown kind: 'http'"),
    ("mysql://u:" + WORD + "@h/d", "unknown kind: 'mysql'"),
    ("sqlite://", "names no file"),
    ("sqlite:///:memory:", "names no file"),
    ("sqlite:///file:x?mode=memory", "names no file"),
    ("postgresql://u:" + WORD + "@", "names no database"),
    ("postgresql://[::1/x", "can't be read as a URL"),
    ("postgresql://h:port/x", "can't be read as a URL"),
    ("sqlite:///no.db", "not a database"),
    ("sqlite:///.", "directory"),
    ("sqlite:///fleet.yaml/x.db", "fleet.yaml"),
    ("sqlite:///~nobody-at-all/x.db", "~nobody-at-all"),
    ("sqlite:////proc/nowhere/x.db", "/proc/nowhere"),
    ("\udcff", "can't be read as a URL"),
]


@pytest.mark.parametrize(("option", "value", "told"), OPTIONS)
def test_an_option(refused: Refused, option: str, value: str, told: str) -> None:
    refused(*PLAN, option, value, told=told)


@pytest.mark.parametrize("scope", SCOPES)
def test_a_scope(refused: Refused, scope: str) -> None:
    refused("plan", "--", scope)


@pytest.mark.parametrize(("words", "told"), WORDS)
def test_a_verb(refused: Refused, words: tuple[str, ...], told: str) -> None:
    refused(*words, told=told)


@pytest.mark.parametrize(("url", "told"), RECORDS)
def test_records(refused: Refused, stage: Stage, url: str, told: str) -> None:
    (stage.folder / "no.db").write_bytes(b"rubbish" * 1000)
    said = refused("runs", "--records", url, told=told, code=5)
    assert "hunter2" not in said.err


def test_a_run_in_the_past(stage: Stage, refused: Refused) -> None:
    stage.add("other")
    for _ in range(2):
        stage.run("assess", "other")
    for words, told in PAST:
        refused(*words, told=told)


@pytest.mark.parametrize("verb", [("patch", "web", "--no-prefect", "--yes"), PLAN, ("assess", "web")])
@pytest.mark.parametrize("place", ["fleet.yaml", "fleet.yaml/x", "/proc/nowhere", "~nobody-at-all/x"])
def test_a_report_that_could_not_be_written_is_told_before_anything_is_done(
    refused: Refused, verb: tuple[str, ...], place: str
) -> None:
    refused(*verb, "--report", place, told="~nobody" if place.startswith("~") else "can't be written", code=5)


@pytest.mark.parametrize("words", [(), ("inventory",)])
def test_asked_for_nothing_it_shows_what_there_is(stage: Stage, words: tuple[str, ...]) -> None:
    said = stage.run(*words)
    assert said.code == 2
    assert "Usage: " in said.out


def test_an_option_given_badly_is_told_to_programs_too(stage: Stage) -> None:
    for words in (
        ("plan", "web", "--minutes", "x"),
        ("plan", "\x1b[2J"),
        ("show", "\udcff"),
        ("runs", "--records", "x"),
    ):
        said = stage.run(*words, "--json")
        assert said.json["error"]["message"]
        assert said.json["error"]["exitCode"] == said.code
        assert said.out.isascii()


def test_a_mistyped_option_does_not_reach_the_folder(stage: Stage) -> None:
    stage.run("patch", "web", "--no-prefect", "--yes", "--report", "")
    stage.run("runs", "--records", "sqlite:///~nobody-at-all/records.db")
    assert {path.name for path in Path(stage.folder).iterdir()} <= {"fleet.yaml", "records.db"}
