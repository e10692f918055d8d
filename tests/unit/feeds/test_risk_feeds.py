"""Risk feeds: real excerpts, and files that are damaged, half copied, stale, too large or something else."""

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from tasks.records.feeds import feed_text
from tasks.records.feeds.feed_files import FeedKind
from tasks.records.feeds.risk_feeds import RiskFeeds, find_idle_rules, load_risk_feeds
from tasks.rules.automatic.model import CveRisk, RiskRule

DATA = Path(__file__).parents[2] / "data" / "feeds"
KEV = "known_exploited_vulnerabilities.json"
EPSS = "epss_scores-2026-09-29.csv"
NVD = "nvdcve-2.0-modified.json"
NOW_BY_NAME = {
    KEV: datetime(2025, 3, 1, tzinfo=UTC),
    EPSS: datetime(2026, 10, 1, tzinfo=UTC),
    NVD: datetime(2025, 12, 24, tzinfo=UTC),
}
ALL_CVES = frozenset({"CVE-2025-21418", "CVE-2025-55182", "CVE-2024-3049", "CVE-2006-5983", "CVE-2020-0001"})


def load(folder: Path, name: str, cves: frozenset[str] = ALL_CVES, max_age_days: float = 14) -> RiskFeeds:
    return load_risk_feeds(folder, cves, max_age_days, NOW_BY_NAME[name])


def put(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)


def read_data(name: str) -> bytes:
    return (DATA / name).read_bytes()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (KEV, {"CVE-2025-21418": CveRisk(exploited_since=date(2025, 2, 11))}),
        (EPSS, {"CVE-2025-55182": CveRisk(epss=0.99802)}),
        (NVD, {"CVE-2024-3049": CveRisk(cvss=5.9), "CVE-2006-5983": CveRisk(cvss=6.0)}),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_a_real_excerpt_says_only_what_was_asked(
    tmp_path: Path, name: str, expected: dict[str, CveRisk], packed: bool
) -> None:
    content = read_data(name)
    put(tmp_path, name + ".gz" * packed, gzip.compress(content) if packed else content)
    feeds = load(tmp_path, name)
    assert (dict(feeds.risks), feeds.problems) == (expected, ())
    assert len(feeds.kinds) == 1


def test_what_several_feeds_say_is_joined(tmp_path: Path) -> None:
    put(tmp_path, NVD, read_data(NVD))
    put(tmp_path, EPSS, read_data(EPSS).replace(b"CVE-2025-55182", b"CVE-2024-3049"))
    feeds = load_risk_feeds(tmp_path, ALL_CVES, 3650, NOW_BY_NAME[EPSS])
    assert feeds.risks["CVE-2024-3049"] == CveRisk(epss=0.99802, cvss=5.9)
    assert feeds.kinds == {FeedKind.EPSS, FeedKind.CVSS}


def test_the_newest_version_of_cvss_counts_and_of_its_scores_the_highest(tmp_path: Path) -> None:
    document = json.loads(read_data(NVD))
    metrics = document["vulnerabilities"][2]["cve"]["metrics"]
    metrics["cvssMetricV2"] = [{"type": "Primary", "cvssData": {"baseScore": 10.0}}]
    metrics["cvssMetricV40"] = [{"type": "Secondary", "cvssData": {"baseScore": 7.1}}]
    put(tmp_path, NVD, json.dumps(document).encode())
    assert load(tmp_path, NVD).risks["CVE-2024-3049"].cvss == 7.1


def cut(share: float) -> Callable[[bytes], bytes]:
    return lambda content: content[: int(len(content) * share)]


def replace(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        assert old in content
        return content.replace(old, new)

    return change


def pack_and_cut(content: bytes) -> bytes:
    return gzip.compress(content)[:-20]


def pack_and_damage(content: bytes) -> bytes:
    packed = bytearray(gzip.compress(content))
    packed[len(packed) // 2] ^= 0xFF
    return bytes(packed)


FAULTS: list[tuple[str, str, Callable[[bytes], bytes], str]] = [
    *[(name, "empty", lambda _: b"", "is empty") for name in (KEV, EPSS, NVD)],
    *[
        (name, f"cut {share}", cut(share), "ends in the middle")
        for name in (KEV, NVD)
        for share in (0.001, 0.02, 0.4, 0.7, 0.999)
    ],
    (EPSS, "cut", cut(0.7), "ends in the middle of a line, as if half copied"),
    *[(name, "packed and cut", pack_and_cut, "ends in the middle, as if half copied") for name in (KEV, EPSS, NVD)],
    *[(name, "damaged pack", pack_and_damage, "is damaged: it can't be unpacked") for name in (KEV, EPSS, NVD)],
    *[
        (name, "utf-16", lambda content: content.decode().encode("utf-16"), "is no UTF-8 text")
        for name in (KEV, EPSS, NVD)
    ],
    (NVD, "latin-1", lambda content: content.decode().encode("latin-1"), "is no UTF-8 text"),
    (KEV, "web page", lambda _: b"<!DOCTYPE html><html>Access denied</html>", "is no JSON of a feed"),
    (EPSS, "web page", lambda _: b"<html>\nno\n</html>\n", "is no file of EPSS scores: its first line"),
    (KEV, "another feed", lambda _: read_data(NVD), "is no catalogue of CISA"),
    (NVD, "another feed", lambda _: read_data(KEV), "is no file of NVD"),
    (KEV, "entries missing", replace(b'"count": 3', b'"count": 1280'), "it has 3 of 1280 entries"),
    (NVD, "entries missing", replace(b'"resultsPerPage" : 3', b'"resultsPerPage" : 9'), "it has 3 of 9 entries"),
    (NVD, "old format", replace(b'"version" : "2.0",\n  "time', b'"version" : "1.1",\n  "time'), "JSON format 2.0"),
    (KEV, "no date", replace(b'"dateReleased": "2025', b'"dateReleased": "soon'), "has no date: `dateReleased`"),
    (EPSS, "no date", replace(b"score_date:2026-09-29", b"score_date:29.09.26"), "has no date: `score_date`"),
    (NVD, "no date", replace(b'"timestamp" : "2025', b'"timestamp" : "x'), "has no date: `timestamp`"),
    (EPSS, "no header", replace(b"cve,epss,percentile\n", b""), "its second line is not"),
    (EPSS, "no probability", replace(b"0.99802", b"nan"), "line 8 has no probability"),
    (EPSS, "too large probability", replace(b"0.99802", b"99.802"), "line 8 has no probability"),
    (EPSS, "row cut", replace(b"CVE-2025-55178,0.00504,0.40651", b"CVE-2025-55178"), "line 7 is no"),
    (KEV, "something after it", lambda content: content + content, "has something after its end"),
    (KEV, "deep", lambda _: b'{"a":' + b"[" * 100_000, "it is nested too deep"),
    (KEV, "a list", lambda _: b"[1]", "is no JSON of a feed"),
    (KEV, "nothing in it", lambda _: b"{}", "is no complete catalogue"),
]


@pytest.mark.parametrize(
    ("name", "change", "message"), [(n, c, m) for n, _, c, m in FAULTS], ids=[f"{n} {w}" for n, w, _, _ in FAULTS]
)
def test_a_bad_file_is_named_with_a_remedy_and_the_other_feeds_count(
    tmp_path: Path, name: str, change: Callable[[bytes], bytes], message: str
) -> None:
    put(tmp_path, name, change(read_data(name)))
    feeds = load(tmp_path, name)
    assert not feeds.risks
    assert not feeds.kinds
    (problem,) = feeds.problems
    assert problem.file == str(tmp_path / name)
    assert message in problem.message
    assert problem.hint.endswith(".")
    other = EPSS if name != EPSS else NVD
    put(tmp_path, other, read_data(other))
    both = load_risk_feeds(tmp_path, ALL_CVES, 3650, NOW_BY_NAME[EPSS])
    assert both.risks
    assert both.problems == (problem,)


@pytest.mark.parametrize("name", [KEV, EPSS, NVD])
@pytest.mark.parametrize(
    ("days", "message"), [(10, "days old, more than 9.5"), (-3, "is in the future"), (5, ""), (-1, "")]
)
def test_the_date_within_decides_and_not_that_of_the_file(tmp_path: Path, name: str, days: int, message: str) -> None:
    put(tmp_path, name, read_data(name))
    os.utime(tmp_path / name, (0, 0))
    (at,) = [each.at for each in load(tmp_path, name, max_age_days=3650).files]
    feeds = load_risk_feeds(tmp_path, ALL_CVES, 9.5, at + timedelta(days=days))
    assert bool(feeds.risks) == (not message)
    assert [message in each.message and bool(each.hint) for each in feeds.problems] == [True] * bool(message)


def test_of_several_copies_the_newest_good_one_counts(tmp_path: Path) -> None:
    new = read_data(EPSS).replace(b"0.99802", b"0.5").replace(b"2026-09-29", b"2026-09-30")
    put(tmp_path, "epss_scores-2026-09-28.csv", read_data(EPSS).replace(b"0.99802", b"0.1").replace(b"09-29", b"08-01"))
    put(tmp_path, EPSS, read_data(EPSS))
    put(tmp_path, "epss_scores-current.csv.gz", gzip.compress(new))
    feeds = load(tmp_path, EPSS)
    assert (feeds.risks["CVE-2025-55182"].epss, feeds.problems) == (0.5, ())
    put(tmp_path, "epss_scores-current.csv.gz", gzip.compress(new)[:-9])
    feeds = load(tmp_path, EPSS)
    assert feeds.risks["CVE-2025-55182"].epss == 0.99802
    assert ["ends in the middle" in each.message for each in feeds.problems] == [True]


def test_a_newer_file_of_nvd_corrects_that_of_the_year(tmp_path: Path) -> None:
    put(tmp_path, "nvdcve-2.0-2024.json", read_data(NVD).replace(b"5.9", b"9.8").replace(b"2025-12-21", b"2025-12-20"))
    put(tmp_path, NVD, read_data(NVD))
    assert load(tmp_path, NVD).risks["CVE-2024-3049"].cvss == 5.9


def test_a_file_of_nvd_for_other_years_is_not_read(tmp_path: Path) -> None:
    put(tmp_path, "nvdcve-2.0-2019.json", b"not read")
    put(tmp_path, "nvdcve-2.0-2002.json", read_data(NVD))
    feeds = load(tmp_path, NVD, frozenset({"CVE-1999-0001", "CVE-2024-3049"}))
    assert (list(feeds.risks), feeds.problems) == (["CVE-2024-3049"], ())
    assert load(tmp_path, NVD, frozenset()).kinds == {FeedKind.CVSS}


def test_what_is_no_feed_is_named_and_what_is_being_copied_is_not(tmp_path: Path) -> None:
    for name in (".hidden", f"{NVD}.part", "README.md", "nvdcve-2.0-2024.meta", f"{EPSS}.gz.tmp"):
        put(tmp_path, name, b"x")
    assert load(tmp_path, KEV).problems == ()
    put(tmp_path, "nvdcve-1.1-2024.json", b"{}")
    (problem,) = load(tmp_path, KEV).problems
    assert "is no known feed by its name" in problem.message
    assert KEV in problem.hint


def test_a_pipe_or_folder_with_the_name_of_a_feed_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / KEV)
    (tmp_path / EPSS).mkdir()
    (tmp_path / NVD).symlink_to("nowhere")
    feeds = load(tmp_path, KEV)
    assert [Path(each.file).name for each in feeds.problems] == [EPSS, KEV, NVD]
    assert all("can't be read" in each.message for each in feeds.problems)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    (problem,) = load(tmp_path / "none", KEV).problems
    assert str(problem).startswith(f"{tmp_path}/none can't be read: No such file or directory. Correct `feeds`")
    assert load_risk_feeds(None, ALL_CVES, 14, NOW_BY_NAME[KEV]) == RiskFeeds()


def test_text_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_text, "MAX_TEXT_BYTES", 8 * 1024**2)
    for name in (KEV, EPSS, NVD):
        put(tmp_path, f"{name}.gz", gzip.compress(b'{"title": 1' + b" " * 64 * 1024**2))
    problems = load(tmp_path, KEV).problems
    assert [each.message for each in problems] == [
        "is no table: it has a line that is too long",
        *["has more than 8 MiB of text"] * 2,
    ]


def test_one_entry_without_an_end_is_refused(tmp_path: Path) -> None:
    put(tmp_path, KEV, b'{"title": "' + b"x" * 40 * 1024**2)
    assert ["one entry has more than 16 MiB" in each.message for each in load(tmp_path, KEV).problems] == [True]


def test_files_of_real_size_need_little_memory(tmp_path: Path) -> None:
    """300,000 rows of EPSS and 60 MiB of NVD, in a process that may have 100 MiB more than it has at its start."""
    rows = b"".join(b"CVE-2020-%d,0.00351,0.26281\n" % number for number in range(10_000, 310_000))
    put(tmp_path, "epss_scores-x.csv.gz", gzip.compress(b"\n".join(read_data(EPSS).split(b"\n")[:2]) + b"\n" + rows, 1))
    document = json.loads(read_data(NVD))
    record = json.dumps({"cve": {**document["vulnerabilities"][0]["cve"], "descriptions": "x" * 3000}})
    document["resultsPerPage"] = 15_000
    text = json.dumps(document).split('"vulnerabilities"')[0]
    with (tmp_path / NVD).open("w") as file:
        file.write(f'{text}"vulnerabilities": [{record}')
        for _ in range(14_999):
            file.write(f",\n{record}")
        file.write("]}")
    program = (
        "import resource, sys; from pathlib import Path; from datetime import UTC, datetime\n"
        "from tasks.records.feeds.risk_feeds import load_risk_feeds\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "feeds = load_risk_feeds(Path(sys.argv[1]), ['CVE-2020-300000', 'CVE-2006-5983'], 3650,"
        " datetime(2026, 10, 1, tzinfo=UTC))\n"
        "assert len(feeds.risks) == 2 and not feeds.problems, feeds.problems\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True, timeout=120
    )
    assert int(found.stdout) < 30


def test_rules_without_their_feed_are_named(tmp_path: Path) -> None:
    rules = [RiskRule(3, known_exploited=True), RiskRule(7, epss=0.5, cvss=9), RiskRule(14, cvss=7)]
    put(tmp_path, KEV, read_data(KEV))
    assert find_idle_rules(rules, load(tmp_path, KEV)) == {
        2: (FeedKind.EPSS, FeedKind.CVSS),
        3: (FeedKind.CVSS,),
    }
    assert list(find_idle_rules(rules, RiskFeeds())) == [1, 2, 3]
