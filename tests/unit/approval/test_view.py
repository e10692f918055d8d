"""How a plan is shown to whoever is to approve it."""

from dataclasses import replace

from flows.approval.plan_rendering import build_machine_table, describe_plan, render_plan_markdown
from inventory.name_lists import join_first_names
from tasks.domain.model import RunReport, UpdateResult
from tasks.domain.states import UpdateState, YesNoUnknown
from tasks.reports.export.markdown import MAX_CHARACTERS, limit_table
from tests.support import builders as make

HOSTILE = "<img src=x onerror=alert(1)> [click](javascript:alert(1)) | `x`"


def report_of(**plan: object) -> RunReport:
    made = make.make_plan(**plan)
    return make.make_report(
        run=make.make_run(scope="env=prod", started_by="bob"),
        plans=(made, replace(made, machine="web-2")),
        waves=(make.make_wave(number=1, machines=(made.machine, "web-2")),),
        assessments=(),
    )


def test_the_sentence_counts_updates_machines_fixes_and_reboots() -> None:
    known = make.make_update(cves=("CVE-1", "CVE-2"))
    again = make.make_update(name="libssl3", cves=("CVE-2",))
    other = make.make_other_update(cves=None)
    report = report_of(chosen=(known, again, other), reboot_expected=YesNoUnknown.YES)
    said = describe_plan(report)
    assert said.startswith("6 updates on 2 machines (4 critical or security, 2 CVEs); 2 reboots; the slowest machine")


def test_a_reboot_that_nobody_can_tell_beforehand_is_said() -> None:
    report = report_of(chosen=(make.make_update(),), reboot_expected=YesNoUnknown.UNKNOWN)
    assert "; 2 reboots possible;" in describe_plan(report)


def test_twins_stand_once_with_every_update_and_every_reason() -> None:
    skipped = UpdateResult(make.make_update(name="kernel"), UpdateState.EXCLUDED, "held by its administrator")
    text = render_plan_markdown(
        report_of(chosen=(make.make_update(),), skipped=(skipped,), notes=("a note",)), "a" * 64, "02:45 CET"
    )
    assert text.count("openssl") == 1
    assert "### web-1, web-2: 1 update" in text.replace("&#45;", "-")
    for word in ("CVE", "3.0.16", "held by its administrator", "kernel", "a note", "bob", "02:45 CET", "a" * 12):
        assert word in text


def test_nothing_that_a_machine_says_acts() -> None:
    update = make.make_update(name=HOSTILE, available=HOSTILE, installed=HOSTILE, cves=(HOSTILE,))
    skipped = UpdateResult(update, UpdateState.EXCLUDED, HOSTILE)
    report = report_of(machine=HOSTILE, chosen=(update,), skipped=(skipped,), notes=(HOSTILE,))
    text = render_plan_markdown(report, "a" * 64, HOSTILE) + str(build_machine_table(report))
    assert "<img" not in text
    assert "](javascript" not in text
    assert "alert(1)" not in text


def test_a_huge_plan_stays_readable() -> None:
    many = tuple(make.make_update(name=f"package-{n}") for n in range(500))
    text = render_plan_markdown(report_of(chosen=many), "a" * 64, "soon")
    assert "and 400 more" in text
    assert len(text) < 60_000


def test_the_table_has_a_row_a_machine_in_the_order_of_the_waves() -> None:
    rows = build_machine_table(report_of(chosen=(make.make_update(),), reboot_expected=YesNoUnknown.NO))
    assert [(row["Wave"], row["Updates"], row["CVEs"], row["Reboot"]) for row in rows] == [(1, 1, 1, "no")] * 2


def test_names_are_cut() -> None:
    assert join_first_names(["a", "b", "c"], 2) == "a, b and 1 more"


def test_the_plan_of_a_large_fleet_is_cut_where_it_says_so_after_what_is_unusual() -> None:
    names = tuple(f"web-{number:04}" for number in range(1200))
    plans = tuple(
        make.make_plan(
            machine=name,
            chosen=tuple(make.make_update(name=f"a-long-name-of-a-package-{n}-{name}") for n in range(100)),
        )
        for name in names[:600]
    )
    report = make.make_report(
        plans=plans,
        assessments=tuple(make.make_failed_assessment(machine=name) for name in names[600:]),
        waves=(make.make_wave(machines=names),),
    )
    text = render_plan_markdown(report, "a" * 64, "soon")
    assert len(text) < MAX_CHARACTERS + 200
    assert text.endswith(f"\nThe plan is longer: fleetpatch show {report.run.id}\n")
    assert text.index("web-0600 has no plan") < text.index("and 580 more without a plan") < text.index("### web-0000")
    rows, said = limit_table(build_machine_table(report), "Machines")
    assert (len(rows), said) == (500, "Machines (the first 500 of 600 rows)")
    assert limit_table(rows, "Machines") == (rows, "Machines")
