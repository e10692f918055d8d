"""The pages of runs: the list with its filters, a run, one machine of it, the whole report, two runs side by side."""

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

import pytest

from fleetpatch.live.live_runs import MAX_RUNS, read_live_runs
from tasks.domain.model import JobOutput, RunReport
from tasks.domain.protocols.records import ProgressRow
from tasks.domain.states import OperationState
from tasks.records.run_progress import SqlRunProgress
from tests.support import builders as make
from tests.support.fake_clock import FakeClock
from tests.support.web_fleet import SampleFleet, fill_site
from tests.support.web_fleet_machines import HOSTILE_MACHINES, XSS
from tests.support.web_site import Site, serve_site


@dataclass
class Sample:
    site: Site
    fleet: SampleFleet

    def read(self, path: str) -> str:
        """Return the text of a page, without its marks."""
        answer = self.site.get(path.format(**self.fleet.runs))
        assert answer.status_code == 200, path
        assert len(answer.content) < 1_000_000
        assert "<script>window" not in answer.text
        assert not re.search(r"<[^>]* (style|onclick|onerror)=", answer.text)
        body = answer.text.partition("<main")[2]
        return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", body)).split())


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sample]:
    place = tmp_path_factory.mktemp("site")
    fleet = fill_site(place)
    with serve_site(place, clock=FakeClock(fleet.now), zone="Europe/Berlin") as site:
        yield Sample(site, fleet)


def list_ids(sample: Sample, query: str) -> list[str]:
    answer = sample.site.get(f"/runs?{query}".format(**sample.fleet.runs))
    assert answer.status_code == 200
    return re.findall(r'<th scope="row"><a href="/runs/([^"]+)"', answer.text)


def test_runs_are_listed_newest_first_in_parts(sample: Sample) -> None:
    first, second = list_ids(sample, ""), list_ids(sample, "page=2")
    assert len(first) == 50
    assert second
    assert sorted([*first, *second], reverse=True) == [*first, *second]


def test_runs_are_filtered(sample: Sample) -> None:
    runs = sample.fleet.runs
    assert runs["failed"] in list_ids(sample, "state=Failed&kind=patch")
    assert set(list_ids(sample, "state=InProgress")) == {runs["waiting"], runs["live"], runs["dead"]}
    assert set(list_ids(sample, "configuration=staging-daily&since=6")) & {runs["succeeded"], runs["failed"]} == {
        runs["succeeded"]
    }
    assert list_ids(sample, "q=NAME%3DDB-0") == [runs["dead"]]
    assert list_ids(sample, "q=%25") == []
    assert list_ids(sample, "machine=odd-1&kind=patch") == [runs["hostile"]]
    assert set(list_ids(sample, "machine=win-1&kind=patch")) == {runs["live"]}
    assert list_ids(sample, "since=2026-11-23T07%3A00&kind=patch")[-1] == runs["dead"]
    for text in ("yesterday", "0001-01-01", "9999-12-31T23:00-12:00", "²"):
        assert "since: a date" in sample.read(f"/runs?since={text}")
    assert "No run matches" in sample.read("/runs?kind=nothing")


def test_a_run_of_several_sites_shows_its_parts_and_a_part_its_run(sample: Sample) -> None:
    told = sample.read("/runs/{sites}")
    run = sample.fleet.runs["sites"]
    assert "Sites 3 runs at the sites of these machines" in told
    done, silent, never = (told.partition(f" {run}-{number} ")[2][:400] for number in (1, 2, 3))
    assert done.startswith("default the assessment 2 Succeeded Mon 23 Nov 2026 07:00 CET Mon 23 Nov 2026 07:03 CET")
    assert silent.startswith("hamburg the assessment 1 InProgress silent since Mon 23 Nov 2026 07:00 CET")
    site = "rome-with-a-name-as-long-as-a-site-may-be"
    assert never.startswith(f"{site} the assessment 2 NotStarted \N{EN DASH} \N{EN DASH} the site rome has not read it")
    page = sample.site.get(f"/runs/{run}").text
    assert [f'href="/runs/{run}-{number}"' in page for number in (1, 2, 3)] == [True, True, False]
    assert f'Part of</dt><dd><a href="/runs/{run}">{run}</a>' in sample.site.get(f"/runs/{run}-2").text
    assert "Part of" not in sample.read("/runs/{assessed}")


def test_figures_of_a_run_are_in_the_list(sample: Sample) -> None:
    told = sample.read("/runs?state=Failed&configuration=production-weekly")
    assert re.search(r"40 6 failed 3 with warnings 14 not begun 226 2 20 3 required", told)
    assert "nobody works on it" in sample.read("/runs?q=db-0")


def test_figures_stay_true_when_the_kept_ones_are_too_many(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    path = "/runs?state=Failed&configuration=production-weekly"
    before = sample.read(path)  # its figures are kept now
    monkeypatch.setattr("fleetpatch.pages.runs._MAX_KEPT_FIGURES", 0)
    assert [sample.read(path), sample.read(path)] == [before, before]


def test_a_run_shows_its_reasons_waves_and_updates(sample: Sample) -> None:
    told = sample.read("/runs/{failed}")
    assert "6 of 40 machines failed; wave 4 was not begun" in told
    assert "Failed 2 machines 1 of 10 updates failed: postgresql-15 web-15 app-05" in told
    assert "Wave 1, canary 2 machines" in told
    assert told.index("Machines of wave 3 with their state") < told.index("Machines of wave 4 with their state")
    assert "data directory is owned by uid 1001" in told
    assert "excluded by mask docker*" in told
    assert "drain-load-balancer" in told or "Before and after" in told
    assert "Now" not in told.split()[:12]


def test_states_are_filtered_and_problems_come_first(sample: Sample) -> None:
    page = sample.site.get(_url(sample, "failed", "order=state")).text
    first = re.findall(r'<td data-label="State"><span class="badge s-(\w+)"', page)
    assert first[:6] == ["Failed"] * 6
    assert set(first[-3:]) == {"Succeeded"}
    failed = sample.site.get(_url(sample, "failed", "state=Failed")).text
    assert len(re.findall(r'<td data-label="State">', failed)) == 6


def _url(sample: Sample, what: str, query: str) -> str:
    return f"/runs/{sample.fleet.runs[what]}?{query}"


def test_a_run_in_progress_shows_its_plan_and_what_it_does(sample: Sample) -> None:
    told = sample.read("/runs/{live}")
    assert "3 of 9 machines done" in told
    assert "left in the window" in told
    assert "package 4 of 10: postgresql-15" in told
    assert "waits for wave 3" in told
    assert "10 Chosen" in told
    page = sample.site.get("/runs/{live}".format(**sample.fleet.runs)).text
    assert '<noscript><meta http-equiv="refresh"' in page
    assert f'sse-connect="/live/runs/{sample.fleet.runs["live"]}?seen=' in page


def test_a_run_without_a_process_does_not_look_as_if_it_went_on(sample: Sample) -> None:
    told = sample.read("/runs/{dead}")
    assert "No process works on this run" in told
    assert "process 666" in told
    assert "it was at install: package 2 of 10: libssl3" in told
    assert "left in the window" in told
    assert "Machines at work" not in told


def test_a_plan_that_waits_leads_to_its_approval(sample: Sample) -> None:
    page = sample.site.get("/runs/{waiting}".format(**sample.fleet.runs)).text
    assert f'<a href="/approvals/{sample.fleet.runs["waiting"]}">' in page
    assert "16 machines planned" in sample.read("/runs/{waiting}")


def test_a_prefix_leads_to_the_run_and_an_unknown_id_nowhere(sample: Sample) -> None:
    whole = sample.fleet.runs["failed"]
    answer = sample.site.get(f"/runs/{whole[:-2]}")
    assert (answer.status_code, answer.headers["location"]) == (303, f"/runs/{whole}")
    for path in ("/runs/nope", "/runs/2026", "/runs/nope/report", f"/runs/{whole}/machines/nope", "/live/runs/nope"):
        assert sample.site.get(path).status_code == 404, path
    assert sample.site.get(f"/runs/{whole}/machines/nope?log=all").status_code == 404
    assert sample.site.get("/runs/compare?left=nope&right=nope").status_code == 404


def test_one_machine_of_a_run(sample: Sample) -> None:
    told = sample.read("/runs/{failed}/machines/web-15")
    assert "1 of 10 updates failed: postgresql-15" in told
    assert re.search(r"install \d\d:\d\d:\d\d 6 min 28 s Failed", told)
    assert "Reboot Required : not rebooted" in told
    assert re.search(r"\d\d:\d\d:\d\d 6 min 28 s", told)
    assert "is not owned by postgres" in told
    assert "Undo" in told or "exit 100" in told
    working = sample.read("/runs/{live}/machines/web-12")
    assert "package 4 of 10: postgresql-15" in working


def test_a_whole_log_is_a_sanitized_file(sample: Sample) -> None:
    answer = sample.site.get("/runs/{hostile}/machines/odd-1?log=all".format(**sample.fleet.runs))
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["content-disposition"].startswith("attachment; filename=")
    assert "\x1b" not in answer.text
    assert "\\u202e" in answer.text


def test_hostile_names_are_only_text(sample: Sample) -> None:
    for name in ("odd-1", *HOSTILE_MACHINES):
        answer = sample.site.get(f"/runs/{sample.fleet.runs['hostile']}/machines/{quote(name, safe='')}")
        assert answer.status_code == 200, name
        assert XSS not in answer.text


def test_broken_packages_have_their_remedy_on_the_page_of_their_machine(sample: Sample) -> None:
    findings = sample.site.get("/machines/odd-1").text.partition("Findings and their remedies")[2]
    assert "Repair it on the machine, as these words say." in findings.partition("</ul>")[0]


def test_a_long_log_is_cut(tmp_path: Path) -> None:
    fleet = fill_site(tmp_path, hostile=False)
    with serve_site(tmp_path, clock=FakeClock(fleet.now)) as site:
        text = "".join(f"line {number} <b>\n" for number in range(400_000))
        site.records.save(JobOutput(fleet.runs["failed"], "web-15", "install-9", text))
        answer = site.get(f"/runs/{fleet.runs['failed']}/machines/web-15")
        assert "line 399999" in answer.text
        assert "the whole as text" in answer.text
        assert len(answer.content) < 300_000
        whole = site.get(f"/runs/{fleet.runs['failed']}/machines/web-15?log=all")
        assert "line 1 <b>\n" in whole.text
        assert "line 399999 <b>\n" in whole.text


def test_runs_that_nobody_executes_hide_no_live_run(tmp_path: Path) -> None:
    clock = FakeClock(make.at(0))
    with serve_site(tmp_path, clock=clock) as site:
        for seconds, kind in (*((number, "patch") for number in range(1, MAX_RUNS + 1)), (30, "assess")):
            at, name = clock.now() - timedelta(seconds=seconds), f"{kind}-{seconds}"
            run = make.make_run(id=name, kind=kind, state=OperationState.IN_PROGRESS, started_at=at, ended_at=None)
            site.records.save(run)
        live = read_live_runs(site.context)
    assert [each.line.run_id for each in live.runs][:2] == ["assess-30", "patch-1"]
    assert (len(live.runs), live.more) == (MAX_RUNS, 1)


def test_a_long_journal_is_cut_aloud(tmp_path: Path) -> None:
    with serve_site(tmp_path, clock=FakeClock(fill_site(tmp_path, hostile=False).now)) as site:
        site.records.save(make.make_report(run=make.make_run(id="r-1"), outcomes=(make.make_outcome(run_id="r-1"),)))
        for number in range(405):
            site.records.append_entry(make.make_journal_entry(run_id="r-1", key=f"key-{number}"))
        page = site.get(f"/runs/r-1/machines/{make.MACHINE}").text
    assert "400 lines, the last ones; 5 earlier ones not shown" in page
    assert "key-404" in page
    assert "key-4<" not in page


def test_the_whole_report_has_its_own_style_and_no_script(sample: Sample) -> None:
    answer = sample.site.get("/runs/{failed}/report".format(**sample.fleet.runs))
    policy = answer.headers["content-security-policy"]
    assert "style-src 'sha256-" in policy
    assert "script-src" not in policy
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "<h1>" in answer.text
    assert "'self'" in sample.site.get("/runs").headers["content-security-policy"]


def test_two_runs_are_compared_changes_first(sample: Sample) -> None:
    told = sample.read("/runs/compare?left={warnings}&right={failed}")
    assert "Machines that differ" in told
    rows = told[told.index("What differs") :]
    assert rows.index("app-03 left , right state") < rows.index("only in the right run")
    assert "8 are the same in both" in told
    assert "Updates that differ" in told
    choice = sample.read("/runs/compare?right={failed}")
    assert "those like it first" in choice
    assert choice.index("production-weekly") < choice.index("staging-daily")


def test_a_run_of_thousands_of_machines_is_shown_in_parts(tmp_path: Path) -> None:
    names = [f"m{number:04}" for number in range(2000)]
    with serve_site(tmp_path) as site:
        now = site.context.clock.now()
        run = make.make_run(id="big", state=OperationState.FAILED, started_at=now - timedelta(hours=1), ended_at=now)
        outcomes = tuple(
            make.make_outcome(
                machine=name,
                run_id="big",
                state=OperationState.FAILED if number % 100 == 99 else OperationState.SUCCEEDED,
                reason=f"reason {number % 100}",
            )
            for number, name in enumerate(names)
        )
        waves = (make.make_wave(machines=tuple(names)),)
        site.records.save(RunReport(run, outcomes, waves))
        page = site.get("/runs/big")
        assert len(page.content) < 1_000_000
        shown = re.findall(r'<th scope="row"><a href="/runs/big/machines/(m\d+)"', page.text)
        assert len(shown) == 200
        assert shown[:2] == ["m0099", "m0199"]
        assert shown[20] == "m0000"
        assert "200 of 2000" in page.text


def test_progress_before_there_is_a_plan(tmp_path: Path) -> None:
    with serve_site(tmp_path) as site:
        now = site.context.clock.now()
        run = make.make_run(
            id="new", kind="assess", window=None, state=OperationState.IN_PROGRESS, started_at=now, ended_at=None
        )
        site.records.save(run)
        assert "selecting machines" in site.get("/runs/new").text
        rows = [ProgressRow("", "assess", "InProgress", None, "", now, now)]
        rows += [ProgressRow(f"m{n}", "", "NotStarted", None, "", now, now, None, n) for n in range(4)]
        rows += [ProgressRow("m5", "", "NotStarted", None, "waits: 20 machines use jump host b", now, now, None, 5)]
        rows += [ProgressRow("m4", "assess", "Succeeded", 1.0, "updates pending: 7", now, now, None, 4)]
        SqlRunProgress(site.records.database).save("new", rows)
        page = site.get("/runs/new").text
        assert "assessing: 1 of 6" in page
        assert "waits: 20 machines use jump host b" in page
        assert "updates pending: 7" in page
        assert "No process works" not in page
        late = [ProgressRow("", "assess", "InProgress", None, "", now, now - timedelta(minutes=5))]
        SqlRunProgress(site.records.database).save("new", late)
        page = site.get("/runs/new").text
        assert "No process works on this run" in page
        assert re.search(
            r"Nothing has been heard from it since <time[^>]*>[^<]*</time>, <span[^>]*>5 min 0\d s</span> ago", page
        )


def test_the_timeline_of_a_run_without_a_window_is_in_the_zone_that_the_page_names(tmp_path: Path) -> None:
    run = make.make_run(window=None, site="hamburg", version="0.0.9", prefect_version="3.8.8")
    with serve_site(tmp_path, clock=FakeClock(make.at(300)), zone="Asia/Tokyo") as site:
        site.records.save(run)
        site.records.save(make.make_outcome())
        text = site.get(f"/runs/{run.id}").text
    assert "times of day in Asia/Tokyo" in text
    assert "at the site hamburg, by fleetpatch 0.0.9 and Prefect 3.8.8" in text
    hours = {hour for hour, _ in re.findall(r'class="ticktext"[^>]*>([0-9]{2}):([0-9]{2})', text)}
    assert hours
    assert hours <= {f"{(make.START + timedelta(hours=9 + later)).hour:02}" for later in range(2)}
