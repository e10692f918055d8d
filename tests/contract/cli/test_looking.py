"""assess, machines, updates, doctor, runs, show, why, report, inventory, version over a simulated fleet."""

import io
from pathlib import Path

import pytest

from tasks.domain.model import LivePatching, RepositoryProblem
from tasks.domain.rows import list_fields
from tasks.domain.rows.updates import MissingUpdateRow
from tasks.reports.formatting import NO_FIGURE
from tests.contract.cli.conftest import Stage, security
from tests.support.fake_packages import FakePackage


def test_assess_counts_and_keeps(stage: Stage) -> None:
    stage.add("web", security("openssl"), FakePackage("vim"))
    stage.add("gone", security("openssl")).cut(1e9)
    said = stage.run("assess", "--json")
    assert said.code == 1
    rows = {row["machineName"]: row for row in said.json["machines"]}
    assert rows["web"]["criticalAndSecurityPatchCount"] == 1
    assert rows["gone"]["errorDetails"]["code"] == "Unreachable"
    shown = stage.run("machines", "--json").json["machines"]
    assert [(m["machineName"], m["complianceState"], m["readiness"]) for m in shown] == [
        ("web", "NonCompliant", "Ready"),
        ("gone", "NotAssessed", "Not ready"),
    ]


def test_a_machine_is_judged_by_its_newest_answer_and_not_by_one_of_long_ago(stage: Stage) -> None:
    web = stage.add("web", security("openssl"))

    def look() -> tuple[str, int, bool]:
        (row,) = stage.run("machines", "--json").json["machines"]
        return row["complianceState"], row["criticalAndSecurityPatchCount"], row["error"] is not None

    stage.run("assess")
    assert look() == ("NonCompliant", 1, False)
    web.cut(1e9)
    stage.run("assess")
    assert look() == ("NonCompliant", 1, True)
    assert "NonCompliant" in stage.run("machines").out
    stage.fleet.clock.sleep(8 * 86400)
    assert look() == ("NotAssessed", 1, True)


def test_a_machine_with_broken_packages_is_not_compliant(stage: Stage) -> None:
    web = stage.add("web", FakePackage("vim", fails="disk on fire"), FakePackage("mail"))

    def compliance() -> list[str]:
        shown = (stage.run(*words, "--json").json["machines"] for words in (("show", "last"), ("machines",)))
        return [row["complianceState"] for (row,) in shown]

    assert stage.run("patch", "*", "--no-prefect", "--yes", "-c", "Other").code == 1
    assert compliance() == ["NonCompliant", "NonCompliant"]
    assert stage.run("machines", "--json").json["machines"][0]["criticalAndSecurityPatchCount"] == 0
    said = stage.run("assess")
    assert "NonCompliant" in said.out
    assert "web: the package manager is not healthy: vim 2.0 is half-configured" in said.out
    assert "--repair" in said.out
    assert compliance() == ["NonCompliant", "NonCompliant"]
    web.world["vim"].fails = ""
    assert stage.run("patch", "*", "--no-prefect", "--yes", "--repair").code == 0
    assert compliance() == ["Compliant", "Compliant"]


def test_why_names_broken_packages_and_what_to_do(stage: Stage) -> None:
    stage.add("web", FakePackage("vim", fails="disk on fire"))
    stage.run("patch", "*", "--no-prefect", "--yes", "-c", "Other")
    said = stage.run("why", "web").out
    assert "vim 2.0 is half-configured" in said
    assert "--repair" in said
    assert stage.run("why", "web", "--json").json["packageProblems"] == ["vim 2.0 is half-configured"]


def test_an_assessment_on_screen(stage: Stage) -> None:
    stage.add("web", security("openssl"))
    said = stage.run("assess")
    assert said.code == 0
    assert "NonCompliant" in said.out


def test_repositories_that_can_not_be_read_are_told_once_with_their_remedy(stage: Stage) -> None:
    problem = RepositoryProblem("baseos", "Status code: 403", "Renew the subscription.")
    for name in ("web", "db"):
        stage.add(name, security("openssl")).world.repository_problems = (problem,)
    said = stage.run("assess")
    words = "not read (what it fixes is not known): baseos: Status code: 403"
    assert said.code == 3
    assert "NonCompliant" in said.out
    assert said.out.count(f"web, db: {words}") == 1
    assert said.out.count("Renew the subscription.") == 1
    assert "Renew the subscription." in stage.run("why", "web").out
    assert stage.run("why", "web", "--json").json["repositoryProblems"] == ["baseos: Status code: 403"]
    assert "baseos: Status code: 403" in stage.run("plan", "*").out
    (row,) = [row for row in stage.run("doctor", "--json").json["machines"] if row["machineName"] == "web"]
    assert (words, "Renew the subscription.") in [(each["message"], each["remedy"]) for each in row["findings"]]


def test_an_assessment_warns_of_a_broken_package(stage: Stage) -> None:
    stage.add("web").world.problems = ("vim 2 is half-configured",)
    said = stage.run("assess")
    assert said.code == 3
    assert "NonCompliant" in said.out
    assert "vim 2 is half-configured" in said.out
    assert said.out.count("hint: ") == 1


def test_a_remark_on_repositories_is_not_told_of_an_update(stage: Stage) -> None:
    stage.add("web", security("openssl")).world.remarks = ("an old keyring",)
    stage.run("assess")
    said = stage.run("why", "web", "openssl").out
    assert "openssl on web" in said
    assert "an old keyring" not in said


def test_a_machine_without_pending_updates_is_not_compliant_while_a_repository_is_unread(stage: Stage) -> None:
    world = stage.add("web").world
    world.repository_problems = (RepositoryProblem("security", "Status code: 404", "Correct it."),)
    for words in (("assess",), ("patch", "*", "--no-prefect", "--yes"), ("assess", "--no-refresh")):
        said = stage.run(*words, "--json")
        (machine,) = said.json["machines"]
        assert (said.code, machine["complianceState"]) == (3, "NotAssessed")
        assert "security: Status code: 404" in said.out
        if words[0] == "patch":
            world.repository_problems = ()
    world.repository_problems = (RepositoryProblem("backports", "Status code: 404", "Correct it.", hides_fixes=False),)
    said = stage.run("assess", "--json")
    assert (said.code, said.json["machines"][0]["complianceState"]) == (3, "Compliant")


def test_updates_by_update_and_by_machine(stage: Stage) -> None:
    stage.add("a", security("openssl"), FakePackage("vim"))
    stage.add("b", security("openssl"))
    stage.run("assess")
    by_update = stage.run("updates").out
    assert "a, b" in by_update
    assert "vim" in by_update
    assert "vim" not in stage.run("updates", "--urgent").out
    assert stage.run("updates", "--by", "machine").out.count("openssl") == 2
    of_a, *others = stage.run("updates", "--json").json["updates"]
    assert len(others) == 2
    assert (of_a["machineName"], of_a["patchName"], of_a["classifications"]) == ("a", "openssl", ["Security"])
    assert of_a["sinceDateTime"] is not None
    assert of_a["reason"] is None  # the command looked at no run and at no window
    assert set(of_a) == {field.json_name for field in list_fields(MissingUpdateRow)}


def test_what_was_never_assessed_is_said(stage: Stage) -> None:
    stage.add("web", security("openssl"))
    assert "Never assessed: web" in stage.run("machines").out
    assert "never assessed: web" in stage.run("updates").out


def test_doctor_is_content_with_a_good_machine(stage: Stage) -> None:
    web = stage.add("web", security("openssl"))
    said = stage.run("doctor", "--json")
    assert said.code == 0
    (machine,) = said.json["machines"]
    assert machine["ready"]
    assert {"reach", "login", "clock", "disk"} <= {finding["check"] for finding in machine["findings"]}
    assert web.installs() == []


def test_doctor_has_a_remedy_for_each_red_mark(stage: Stage) -> None:
    stage.add("gone", security("openssl")).cut(1e9)
    stage.add("full", security("openssl")).free_kib = 10
    stage.add("late", security("openssl"), skew_seconds=-4000)
    said = stage.run("doctor", "--json")
    assert said.code == 1
    for machine in said.json["machines"]:
        assert not machine["ready"]
    on_screen = stage.run("doctor")
    assert "0 of 3 machines are ready" in on_screen.out
    assert "[full]" in on_screen.out
    assert "behind" in on_screen.out


def test_lists_that_were_never_read_are_a_remark(stage: Stage) -> None:
    stage.add("new", security("openssl")).world.is_unread = True

    said = stage.run("doctor", "--json")

    assert said.code == 3
    (machine,) = said.json["machines"]
    assert machine["ready"]
    assert [each["check"] for each in machine["findings"] if each["level"] != "good"] == ["package lists"]
    on_screen = stage.run("doctor").out
    assert "1 of 1 machine is ready" in on_screen
    assert "[y/N]" not in on_screen
    (row,) = [line for line in on_screen.splitlines() if line.startswith("new")]
    assert row.split()[1:] == ["ready", *"✓✓✓✓✓✓-!---".replace("-", NO_FIGURE)]
    assert stage.run("doctor", "--refresh").code == 0


@pytest.mark.parametrize(("answer", "code", "is_unread"), [("y\n", 0, False), ("n\n", 3, True), ("", 3, True)])
def test_doctor_offers_to_read_lists_that_were_never_read(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, answer: str, code: int, is_unread: bool
) -> None:
    typed = io.StringIO(answer)
    typed.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr("sys.stdin", typed)
    new, other = stage.add("new", security("openssl")), stage.add("other", security("openssl"))
    new.world.is_unread = True

    said = stage.run("doctor")

    assert said.code == code
    assert "Read them now?" in said.err
    assert new.world.is_unread is is_unread
    asked = [call for call in other.calls if call.name == "fake_assess"]
    assert [call.script.params["refresh"] for call in asked if call.script] == [""], "only the new one is asked again"


def test_doctor_looks_at_fleetpatch_itself(stage: Stage) -> None:
    stage.add("web", security("openssl"))
    said = stage.run("doctor", "--here", "--json")
    assert said.code == 0
    assert [finding["check"] for finding in said.json["fleetpatch"]] == [
        "packages of fleetpatch",
        "libraries",
        "records",
        "runs",
        "audit log",
        "owners of files",
    ]
    assert said.json["machines"] == []


def test_doctor_asks_nobody_while_it_is_ill_itself(stage: Stage) -> None:
    web = stage.add("web", security("openssl"))
    said = stage.run("doctor", "--records", "sqlite:////proc/nowhere/records.db")
    assert said.code == 5
    assert web.calls == []


def test_runs_and_show(stage: Stage) -> None:
    stage.add("web", security("openssl"), FakePackage("vim"))
    assert "no run yet" in stage.run("runs").out
    assert stage.run("show").code == 2
    stage.run("assess")
    stage.run("patch", "*", "--no-prefect", "--yes")
    listed = stage.run("runs", "--json").json["runs"]
    assert sorted(run["kind"] for run in listed) == ["assess", "patch"]
    patched = next(run["maintenanceRunId"] for run in listed if run["kind"] == "patch")
    assert patched in stage.run("show", patched).out
    assert stage.run("show", patched[:-1], "--json").json["run"]["maintenanceRunId"] == patched
    detail = stage.run("show", patched, "--machine", "web").out
    assert "1.0 → 2.0" in detail
    assert "classification Other is not selected" in detail
    assert "install" in stage.run("show", patched, "--journal").out
    assert stage.run("show", patched, "--log").code == 0
    assert [run["kind"] for run in stage.run("runs", "--kind", "patch", "--json").json["runs"]] == ["patch"]


def test_show_says_which_updates_somebody_else_installed(stage: Stage) -> None:
    web = stage.add("web", FakePackage("mine"), FakePackage("theirs"))
    web.on_start("stage", 1, lambda: setattr(web.world["theirs"], "installed", "2.0"))
    stage.run("patch", "*", "--no-prefect", "--yes", "-c", "Other")
    lines = stage.run("show", "last", "--machine", "web").out.splitlines()
    assert [" ".join(line.split()) for line in lines if "→" in line and "before" not in line] == [
        "mine Other 1.0 → 2.0",
        "theirs Other 1.0 → 2.0 it came along with another update, or it was installed by others",
    ]


@pytest.mark.parametrize(
    "words", [("show", "nosuch"), ("show", "last", "--machine", "nosuch"), ("runs", "--kind", "x")]
)
def test_what_is_not_there_is_bad_input(stage: Stage, words: tuple[str, ...]) -> None:
    stage.add("web", security("openssl"))
    stage.run("assess")
    said = stage.run(*words)
    assert said.code == 2
    assert "error: " in said.err


def test_why(stage: Stage) -> None:
    stage.add("web", security("openssl"), FakePackage("vim"))
    stage.run("patch", "*", "--no-prefect", "--yes")
    assert "classification Other is not selected" in stage.run("why", "web", "vim").out
    states = {each["installationState"] for each in stage.run("why", "web", "openssl", "--json").json["explanations"]}
    assert "Installed" in states
    assert stage.run("why", "nobody", "vim").code == 2
    assert "no update 'emacs' is known on web" in " ".join(stage.run("why", "web", "emacs").err.split())


def test_why_tells_the_newest_reason_of_each_update_and_of_a_named_one_all(stage: Stage) -> None:
    stage.add("web", security("openssl"), FakePackage("vim"))
    for _ in range(2):
        stage.run("assess")
        stage.run("patch", "*", "--no-prefect", "--yes")
    stage.run("assess")
    every = stage.run("why", "web").out
    assert "only assessed" not in every
    assert every.count("openssl on web") == every.count("Installed: the package database has 2.0") == 1
    assert every.count("classification Other is not selected") == 1, "why it was left, not that it is available"
    assert "fleetpatch why web UPDATE" in every
    named = stage.run("why", "web", "vim").out
    assert named.count("classification Other is not selected") == 2
    assert named.count("a newer version is available") == 1


def test_report(stage: Stage, tmp_path: Path) -> None:
    stage.add("web", security("openssl"))
    stage.run("patch", "*", "--no-prefect", "--yes")
    said = stage.run("report", "last", "--to", str(tmp_path / "out"), "--format", "html", "--json")
    assert said.code == 0
    page = Path(said.json["files"]["html"])
    assert "web" in page.read_text()
    assert not list(page.parent.glob("*.csv"))


def test_inventory_check_and_list(stage: Stage) -> None:
    stage.add("web")
    assert "1 machine" in stage.run("inventory", "check").out
    assert "192.0.2.1" in stage.run("inventory", "list", "web").out
    assert stage.run("inventory", "schema").json["title"] == "fleetpatch inventory"


def test_inventory_check_tells_every_fault(stage: Stage, tmp_path: Path) -> None:
    file = tmp_path / "other.yaml"
    file.write_text("machines:\n  - {name: a, port: 99999}\n  - {name: b, adress: x}\n")
    said = stage.run("inventory", "check", str(file))
    assert said.code == 2
    assert "port" in said.out
    assert "adress" in said.out
    faults = stage.run("inventory", "check", str(file), "--json")
    assert faults.code == 2
    assert [problem["line"] for problem in faults.json["problems"]] == [2, 3]


def test_version(stage: Stage) -> None:
    said = stage.run("version").out
    assert said.startswith("fleetpatch ")
    assert stage.run("--version").out == said.splitlines()[0] + "\n"
    assert set(stage.run("version", "--json").json) >= {"fleetpatch", "prefect", "python"}


def test_why_says_that_a_machine_could_not_be_assessed_and_why(stage: Stage) -> None:
    web = stage.add("web", security("openssl"))
    web.cut(60)
    stage.run("assess")
    said = stage.run("why", "web")
    assert said.code == 0
    assert "web could not be assessed on " in said.out
    assert "no answer from web" in said.out
    assert "Its pending updates are not known" in said.out
    assert "No update is pending" not in said.out
    assert stage.run("why", "web", "--json").json["assessmentError"] == "no answer from web"
    stage.fleet.clock.advance(120)
    stage.run("assess")
    assert "could not be assessed" not in stage.run("why", "web").out
    web.cut(60)
    stage.run("assess")
    said = stage.run("why", "web", "openssl")
    assert "The data below is older" in said.out
    assert "Pending: a newer version is available" in said.out


def test_live_patches_are_shown_where_the_fleet_is_looked_at(stage: Stage) -> None:
    web = stage.add("web", security("kernel", asks_reboot=True))
    web.world.mitigated_by = "kpatch: all fixes"
    web.world.live_patching = LivePatching("kpatch", "enabled", patches=("kpatch_1",), cves=("CVE-2024-1086",))
    said = stage.run("patch", "*", "--no-prefect", "--yes", "--no-reboot-if-live-patched")
    assert said.code == 0, said.out
    described = "kpatch: enabled; kpatch_1; fixes 1 CVE"
    for row in (
        stage.run("machines", "--json").json["machines"][0],
        stage.run("show", "last", "--json").json["machines"][0],
    ):
        assert (row["livePatches"], row["rebootMitigatedBy"]) == (described, "kpatch: all fixes")
    assert stage.run("show", "last", "--json").json["machines"][0]["rebootStatus"] == "Required"
    shown = " ".join(stage.run("why", "web").out.split())
    assert f"web: live patches: {described}" in shown
    assert "mitigated by kpatch: all fixes" in shown
    assert stage.run("why", "web", "--json").json["livePatches"] == described
    assert "the request lets such a reboot wait" in " ".join(stage.run("show", "last", "--machine", "web").out.split())


def test_services_that_run_replaced_files_are_shown_where_the_fleet_is_looked_at(stage: Stage) -> None:
    stage.add("web", security("openssl", used_by=("nginx.service", "cron.service")))
    said = stage.run("patch", "*", "--no-prefect", "--yes", "--no-restart-services")
    assert said.code == 3
    words = "2 services still run files that updates have replaced: nginx.service, cron.service"
    assert words in " ".join(said.out.split())
    (row,) = stage.run("machines", "--json").json["machines"]
    assert row["servicesToRestart"] == ["nginx.service", "cron.service"]
    waits = (
        "critical or security updates installed, not in effect: replaced files still run in nginx.service, cron.service"
    )
    assert (row["complianceState"], row["inEffect"], row["waitsFor"]) == ("NonCompliant", "no", waits)
    shown = stage.run("machines").out
    assert "fleetpatch why MACHINE" in shown
    assert f"web: {waits}" in " ".join(shown.split())
    assert "nginx.service, cron.service" in stage.run("why", "web").out
    assert stage.run("why", "web", "--json").json["servicesToRestart"] == ["nginx.service", "cron.service"]
    (row,) = stage.run("show", "last", "--json").json["machines"]
    assert row["servicesToRestart"] == ["nginx.service", "cron.service"]
    said = stage.run("patch", "*", "--no-prefect", "--yes")
    assert said.code == 0, said.out
    (row,) = stage.run("machines", "--json").json["machines"]
    assert (row["servicesToRestart"], row["complianceState"], row["inEffect"]) == ([], "Compliant", "yes")
