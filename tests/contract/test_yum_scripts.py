"""What an assessment and a simulation ask yum 3, and what is made of its answers, over stand-ins for its tools."""

from collections.abc import Callable
from pathlib import Path
from shutil import rmtree

import pytest

from tasks.domain.errors import ListsUnread, ManagerBusy, ManagerError, RepositoryError
from tasks.domain.model import PackageState, Update
from tasks.domain.protocols.package_manager import SimulationResult
from tasks.domain.states import Classification, YesNoUnknown
from tasks.machines.managers.registry import find_manager
from tasks.machines.managers.rpm import manager
from tests.contract.yum_machine import DATA, YumMachine
from tests.support.builders import make_facts, make_update
from tests.unit.managers.recordings import describe, wanted

RECORDINGS = ("centos-7", "rhel-7", "amazon-2", "oracle-7")
Start = Callable[..., YumMachine]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    return lambda recording, shell="dash": YumMachine(tmp_path, recording, monkeypatch, shell)


def updates_of(state: PackageState) -> dict[str, Update]:
    return {update.id: update for update in state.updates}


@pytest.mark.parametrize(("recording", "shell"), [*((name, "dash") for name in RECORDINGS), ("rhel-7", "bash")])
def test_recorded_answers(start: Start, recording: str, shell: str) -> None:
    state = start(recording, shell).assess(refresh=True)
    told = {name: describe(getattr(state, name)) for name in ("updates", "held", "warnings", "problems")}
    assert told == wanted(recording, family="yum")
    assert (state.manager, state.lock_holder, state.at_work) == ("yum", "", "")


def test_a_reboot_is_not_needed_before_anything_is_installed(start: Start) -> None:
    assert start("rhel-7").assess().reboot.answer is YesNoUnknown.NO


def test_a_query_changes_nothing_and_waits_for_no_lock_in_yum(start: Start) -> None:
    machine = start("rhel-7")
    machine.assess()
    calls = machine.get_calls()
    assert all(" -C " in call and "--setopt=exit_on_lock=1" in call for call in calls)
    assert [call for call in calls if call.endswith(" update")] == machine.get_calls("--assumeno")
    assert len(machine.get_calls("yum ")) == 7, "the seventh: an advisory about a version that is no update for yum"


def test_what_repoquery_does_not_tell_is_still_pending(start: Start) -> None:
    machine = start("amazon-2")
    machine.write("repoquery.txt", "")
    machine.write("repoquery.code", "1")
    updates = updates_of(machine.assess())
    assert set(updates) == {"curl", "docker", "kernel", "systemd"}
    assert (updates["curl"].size_bytes, updates["curl"].classification) == (None, Classification.SECURITY)


def test_without_repoquery_new_packages_belong_to_what_needs_their_names(start: Start) -> None:
    machine = start("oracle-7")
    for name in ("installed", "list_updates", "transaction"):
        machine.write(f"{name}.txt", (DATA / f"rhel-7/{name}.txt").read_text())
    rows = "python-jwcrypto.noarch 0.4.2-1.el7 ol7_latest\nopenssl.x86_64 1:1.0.2k-26.el7_9 ol7_latest\n"
    machine.write("list_available.txt", f"Available Packages\n{rows}")
    updates = updates_of(machine.assess())
    assert {updates[name].group for name in ("python-jwcrypto", "openssl")} == {"redhat-support-lib-python"}


@pytest.mark.parametrize(("vendor", "told"), [("Else", "Amazon Linux -> Else"), ("Zw?lf", ""), ("None", "")])
def test_another_vendor_is_told_if_it_is_known(start: Start, vendor: str, told: str) -> None:
    machine = start("amazon-2")
    text = (machine.place / "repoquery.txt").read_text().replace("curl|Amazon Linux", f"curl|{vendor}")
    machine.write("repoquery.txt", text)
    assert updates_of(machine.assess())["curl"].vendor_change == told


def test_names_that_would_be_options_or_patterns_reach_no_command_line(start: Start) -> None:
    machine = start("amazon-2")
    rows = "--installroot=/x.noarch 2-1 amzn2-core\n*.noarch 2-1 amzn2-core\n$(x).noarch 2-1 amzn2-core\na b\n"
    machine.write("list_updates.txt", f"Updated Packages\n{rows}curl.x86_64 7.61.1-12.amzn2.0.2 amzn2-core\n")
    machine.write("transaction.txt", "Error: Nothing to do\n")
    offered = {name for name, update in updates_of(machine.assess()).items() if update.origins}
    assert offered == {"curl"}, "the rest is only named by advisories"
    asked = [call.rpartition(" ")[2] for call in machine.get_calls("repoquery")]
    assert asked[:2] == ["systemd", "curl.x86_64"], "the packages of the distribution, and what is pending"


def test_exclusions_are_held(start: Start) -> None:
    machine = start("amazon-2")
    machine.write("list_all.txt", (machine.place / "list_updates.txt").read_text())
    machine.write("list_updates.txt", "Updated Packages\ncurl.x86_64 7.61.1-12.amzn2.0.2 amzn2-core\n")
    machine.write("transaction.txt", "No packages marked for update\n")
    with (machine.place / "etc/yum.conf").open("a") as file:
        file.write("exclude=kernel* docker systemd\n")
    state = machine.assess()
    assert state.held == ("docker", "kernel", "systemd")
    assert {update.id for update in state.updates if update.held} == {"docker", "kernel", "systemd"}


class TestFixesThatAreNoUpdatesForYum:
    """Lines as published for yum 3: RubiconRed, "Using yum utilities"; future-architect/vuls, issue 286."""

    def test_a_fix_that_no_repository_has_is_blocked(self, start: Start) -> None:
        machine = start("amazon-2")
        self.announce(machine, "ALAS2-2021-1700 important/Sec. curl-7.76.1-7.amzn2.0.2.x86_64")
        text = (machine.place / "updateinfo_info.txt").read_text().replace("ALAS2-2020-1451", "ALAS2-2021-1700")
        machine.write("updateinfo_others.txt", text.replace("CVE-2020-", "CVE-2021-"))
        fix = updates_of(machine.assess())["curl=7.76.1-7.amzn2.0.2"]
        assert (fix.classification, fix.severity) == (Classification.SECURITY, "Important")
        assert fix.blocked == "no enabled repository has this version, which ALAS2-2021-1700 names"
        assert fix.cves
        assert all(cve.startswith("CVE-2021-") for cve in fix.cves)
        (asked,) = machine.get_calls("updateinfo info available")
        assert "ALAS2-2021-1700" in asked.split()

    def test_a_fix_of_what_replaces_a_package_is_a_fix(self, start: Start) -> None:
        machine = start("centos-7")
        machine.write("cache/x86_64/7/google-cloud-sdk/repomd.xml", '<repomd><data type="updateinfo"/></repomd>')
        self.announce(
            machine,
            "GCSA-1 Critical/Sec. google-cloud-cli-519.0.0-1.x86_64",
            "GCSA-2 Important/Sec. google-cloud-sdk-460.0.0-1.x86_64",
            "GCSA-3 Important/Sec. somewhere-else-1:2.0-1.x86_64",
        )
        updates = updates_of(machine.assess())
        assert updates["google-cloud-cli"].classification is Classification.CRITICAL
        lost = updates["google-cloud-sdk=460.0.0-1"]
        assert lost.blocked == "an upgrade replaces google-cloud-sdk by another package: GCSA-2 names this version"
        assert not [update for update in updates.values() if "GCSA-3" in update.advisories]

    def test_an_advisory_is_about_all_architectures_of_a_package(self, start: Start) -> None:
        machine = start("oracle-7")
        rows = (machine.place / "updateinfo_list.txt").read_text().splitlines()
        rows = [
            row.replace("bugfix", "Critical/Sec.")
            for row in rows
            if not row.endswith("libxml2-2.9.1-6.0.3.el7_9.6.i686")
        ]
        machine.write("updateinfo_list.txt", "\n".join(rows) + "\n")
        updates = updates_of(machine.assess())
        fixes = {name: update.classification for name, update in updates.items() if name.startswith("libxml2")}
        assert fixes == dict.fromkeys(("libxml2", "libxml2.i686"), Classification.CRITICAL)

    def test_epochs_count(self, start: Start) -> None:
        machine = start("rhel-7")
        self.announce(machine, "RHSA-2030:1 Important/Sec. tzdata-1:1.0-1.el7.noarch")
        assert updates_of(machine.assess())["tzdata=1:1.0-1.el7"].blocked

    @staticmethod
    def announce(machine: YumMachine, *rows: str) -> None:
        path = machine.place / "updateinfo_list.txt"
        former = path.read_text() if path.exists() else ""
        path.write_text(former + "".join(f"{row}\n" for row in rows))


def test_transactions_that_yum_saved_do_not_stay(start: Start) -> None:
    machine = start("centos-7")
    name = "yum_save_tx.2025-04-28.16-07.r4Eouz.yumtx"
    machine.write(name, "")
    machine.write("yum_save_tx.of-a-person.yumtx", "")
    text = (machine.place / "transaction.txt").read_text().replace("/tmp/", f"{machine.place}/")
    machine.write("transaction.txt", text)
    machine.assess()
    assert not (machine.place / name).exists()
    assert (machine.place / "yum_save_tx.of-a-person.yumtx").exists()


class TestRefresh:
    def test_a_repository_that_fails_does_not_keep_the_others_from_being_read(self, start: Start) -> None:
        machine = start("rhel-7")
        machine.write(
            "repolist.txt",
            (machine.place / "repolist.txt").read_text().replace("repolist: ", "epel/x86_64 EPEL 1\nrepolist: "),
        )
        machine.write("cache/x86_64/7/epel/repomd.xml", "<repomd/>")
        failure = (
            (DATA.parent / "repositories/yum-3.4.3.txt")
            .read_text()
            .partition("Loaded plugins: fastestmirror, product-id")
        )
        machine.write("failure.txt", (failure[1] + failure[2]).replace("rhel-7-server-rpms", "epel"))
        machine.write(
            "makecache.sh",
            f'case "$*" in *--disablerepo=epel*) ;; *) cat "{machine.place}/failure.txt" >&2; exit 1 ;; esac\n',
        )
        state = machine.assess(refresh=True)
        assert [problem.repository for problem in state.repository_problems] == ["epel", ""], (
            "the last one: not registered"
        )
        assert len(machine.get_calls("makecache")) == 2
        assert "kernel" in updates_of(state)

    def test_no_repository_that_answers_is_an_error(self, start: Start) -> None:
        machine = start("rhel-7")
        text = "Cannot find a valid baseurl for repo: rhel-7-server-rpms/7Server/x86_64\n"
        refused = "There are no enabled repos.\n"
        script = f'case "$*" in *--disablerepo=*) echo "{refused}" >&2; exit 1 ;; esac; echo "{text}" >&2; exit 1\n'
        machine.write("makecache.sh", script)
        with pytest.raises(RepositoryError, match="rhel-7-server-rpms"):
            machine.assess(refresh=True)
        assert len(machine.get_calls("makecache")) == 2

    @pytest.mark.parametrize("name", ["<repoid>", "a b", "$(touch x)", "a;b", "*"])
    def test_odd_names_of_repositories_end_it(self, start: Start, name: str) -> None:
        machine = start("rhel-7")
        machine.write("makecache.err", f"            yum --disablerepo={name} ...\n")
        machine.write("makecache.code", "1")
        with pytest.raises(RepositoryError):
            machine.assess(refresh=True)
        assert len(machine.get_calls("makecache")) == 1


LOCKED = """Existing lock /var/run/yum.pid: another copy is running as pid 7.
Another app is currently holding the yum lock; exiting as configured by exit_on_lock
"""


class TestWithoutAnAnswer:
    @pytest.mark.parametrize("kind", ["repolist", "list_updates", "makecache"])
    def test_a_lock_that_stays_is_busy(self, start: Start, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
        monkeypatch.setattr(manager, "LISTS_LOCK_TIMEOUT_SECONDS", "0")
        machine = start("rhel-7")
        machine.write(f"{kind}.err", LOCKED)
        machine.write(f"{kind}.code", "1")
        with pytest.raises(ManagerBusy, match="another"):
            machine.assess(refresh=True)

    def test_a_lock_that_goes_is_waited_for(self, start: Start) -> None:
        machine = start("amazon-2")
        machine.write("locked", LOCKED)
        place = machine.place
        machine.write(
            "list_updates.sh", f'if mv "{place}/locked" "{place}/gone" 2>&-; then cat "{place}/gone" >&2; exit 1; fi\n'
        )
        assert "curl" in updates_of(machine.assess())

    def test_without_repositories_nothing_counts_as_up_to_date(self, start: Start) -> None:
        machine = start("amazon-2")
        machine.write("repolist.txt", "Loaded plugins: priorities\nrepolist: 0\n")
        with pytest.raises(RepositoryError, match="no package repository is enabled"):
            machine.assess()

    def test_lists_that_were_never_read_are_told(self, start: Start) -> None:
        machine = start("amazon-2")
        rmtree(machine.place / "cache")
        with pytest.raises(ListsUnread, match="yum has never read"):
            machine.assess()

    def test_a_list_of_repositories_that_fails_for_one_is_asked_again_without_it(self, start: Start) -> None:
        machine = start("amazon-2")
        machine.write(
            "repolist.sh", 'case "$*" in *skip_if_unavailable*) ;; *) echo "no metalink.xml" >&2; exit 1 ;; esac\n'
        )
        assert "curl" in updates_of(machine.assess())

    @pytest.mark.parametrize("kind", ["list_updates", "updateinfo_list", "repolist"])
    def test_a_yum_that_fails_is_an_error(self, start: Start, kind: str) -> None:
        machine = start("amazon-2")
        machine.write(f"{kind}.err", "Error: rpmdb open failed\n")
        machine.write(f"{kind}.code", "1")
        with pytest.raises(ManagerError, match="rpmdb open failed"):
            machine.assess()


class TestInterruptedTransactions:
    def test_an_old_version_beside_the_new_one_may_be_repaired(self, start: Start) -> None:
        machine = start("amazon-2")
        with (machine.place / "installed.txt").open("a") as file:
            file.write("curl\t0\t7.61.1\t12.amzn2.0.2\tx86_64\t1600000009\tAmazon Linux\n")
        state = machine.assess()
        assert state.repairable
        assert state.problems == (
            "curl 7.61.1-12.amzn2.0.2 is installed beside its older version curl-7.61.1-12.amzn2.0.1.x86_64 "
            "since 2020-09-13 12:26 UTC",
        )

    def test_a_journal_alone_is_a_warning(self, start: Start) -> None:
        machine = start("amazon-2")
        for name in ("2020-07-01.10:00.00", "2020-07-02.11:30.00", "2020-07-03.11:30.00.disabled", "odd"):
            machine.write(f"lib/transaction-all.{name}", "install 0:a-1-1.noarch\n")
        state = machine.assess()
        assert not state.repairable
        assert any(
            "2 of its transactions, the last one of 2020-07-02.11:30.00" in warning for warning in state.warnings
        )


SPEC = "NetworkManager-1:1.12.0-10.el7_6.x86_64"
UPDATE = make_update(
    id="NetworkManager", name="NetworkManager", arch="x86_64", installed="1:1.12.0-6.el7", available="1:1.12.0-10.el7_6"
)
ACCEPTED = """Resolving Dependencies
--> Running transaction check
---> Package NetworkManager.x86_64 1:1.12.0-6.el7 will be updated
---> Package NetworkManager.x86_64 1:1.12.0-10.el7_6 will be an update
"""


class TestSimulation:
    def simulate(self, machine: YumMachine, text: str, code: int = 1) -> SimulationResult:
        machine.write("transaction.txt", text)
        machine.write("transaction.code", str(code))
        return machine.simulate([UPDATE])

    def test_exact_versions_are_simulated_with_what_is_to_be_downloaded(self, start: Start) -> None:
        machine = start("rhel-7")
        result = self.simulate(machine, f"{ACCEPTED}\nExiting on user command\n")
        assert result.changes == {"NetworkManager": "1:1.12.0-10.el7_6"}
        assert (result.refusal, result.removals) == ("", ())
        assert result.download_bytes == 1735212
        (call,) = machine.get_calls("--assumeno")
        assert call.endswith(f"--setopt=skip_broken=0 install {SPEC}")

    def test_what_is_downloaded_already_does_not_count(self, start: Start) -> None:
        machine = start("rhel-7")
        name = "cache/x86_64/7/rhel-7-server-rpms/packages/NetworkManager-1.12.0-10.el7_6.x86_64.rpm"
        machine.write(name, "x" * 1735212)
        assert self.simulate(machine, ACCEPTED).download_bytes == 0

    def test_without_yum_utils_the_download_is_not_known(self, start: Start) -> None:
        assert self.simulate(start("oracle-7"), ACCEPTED).download_bytes is None

    def test_an_old_kernel_that_goes_is_no_removal(self, start: Start) -> None:
        more = "---> Package kernel.x86_64 0:3-2 will be installed\n---> Package kernel.x86_64 0:3-1 will be erased\n"
        assert self.simulate(start("rhel-7"), ACCEPTED + more).removals == ()

    def test_removals_are_told(self, start: Start) -> None:
        more = "---> Package a.noarch 0:1-1 will be erased\n---> Package b.noarch 0:1-1 will be obsoleted\n"
        assert self.simulate(start("rhel-7"), ACCEPTED + more).removals == ("a", "b")

    def test_a_version_that_is_gone_is_refused(self, start: Start) -> None:
        result = self.simulate(start("rhel-7"), f"No package {SPEC} available.\nError: Nothing to do\n")
        assert "do not have NetworkManager 1:1.12.0-10.el7_6" in result.refused["NetworkManager"]

    def test_a_dependency_that_is_missing_is_told(self, start: Start) -> None:
        machine = start("rhel-7")
        machine.write(
            "transaction.err",
            "Error: Package: 1:NetworkManager-1.12.0-10.el7_6.x86_64 (rhel-7-server-rpms)\n"
            "           Requires: libndp >= 1.7\n"
            "           Installed: libndp-1.2-9.el7.x86_64 (@anaconda)\n"
            "               libndp = 1.2-9.el7\n",
        )
        result = self.simulate(machine, f"{ACCEPTED} You could try using --skip-broken to work around the problem\n")
        assert f"Package: {SPEC} (rhel-7-server-rpms); Requires: libndp >= 1.7" in result.refusal
        assert result.named == {"NetworkManager"}

    def test_nothing_to_do_is_no_success(self, start: Start) -> None:
        assert self.simulate(start("rhel-7"), "Nothing to do\n", code=0).refusal


def test_yum_is_used_only_without_dnf() -> None:
    assert find_manager(make_facts(managers=("yum",))).name == "yum"
    assert find_manager(make_facts(managers=("dnf", "yum"))).name == "dnf"
