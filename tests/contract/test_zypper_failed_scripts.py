"""What a job of zypper tells of failed scripts and plugins, in the words of zypper 1.14.42 and of newer libzypp."""

from pathlib import Path

import pytest

from tasks.machines.transport.script_library import load_script
from tests.contract.test_rpm_job_script import run, says
from tests.contract.test_zypper_scripts import run as execute
from tests.contract.test_zypper_scripts import run_job

DONE = "(1/1) Installing: a-2-1.noarch [........done]\n"
OLD_WORDS = """Executing %posttrans script 'a-2-1.noarch.rpm' [..
Output of a-2-1.noarch.rpm %posttrans script:
    dracut: Failed to write /boot/initrd; it is full

Warning: a-2-1.noarch.rpm %posttrans script failed (returned 1)
..done]
"""
NEW_WORDS = """%posttrans(a-2-1.noarch) script output:
    dracut: Failed to write /boot/initrd; it is full
    warning: %posttrans(a-2-1.noarch) scriptlet failed, exit status 1
"""
POST = """Additional rpm output:
dracut: Failed to write /boot/initrd; it is full
warning: %post(a-2-1.noarch) scriptlet failed, exit status 1
"""
HARMLESS = """(1/2) Installing: c-2-1.noarch [........done]
Additional rpm output:
Error: no such group, it is made now

Failed to connect to bus
"""
PRE = """(2/2) Installing: b-2-1.noarch [...error]
Installation of b-2-1.noarch failed:
Error: Subprocess failed. Error: RPM failed: no room
error: %prein(b-2-1.noarch) scriptlet failed, exit status 1
error: b-2-1.noarch: install failed

Abort, retry, ignore? [a/r/i] (a): a
"""
SKIPPED = """(1/2) Installing: a-2-1.noarch [...done]
(2/2) Installing: b-2-1.noarch [...error]
Warning: %posttrans scripts skipped while aborting:
    a-2-1.noarch.rpm
"""
LOCKED = """(1/1) Installing: a-2-1.noarch [.error]
Installation of a-2-1.noarch failed:
Error: Subprocess failed. Error: RPM failed: error: can't create transaction lock on /var/lib/rpm/.rpm.lock (Resource temporarily unavailable)

Abort, retry, ignore? [a/r/i] (a): a
"""  # noqa: E501 (zypper's line)
PLUGINS = """2026-11-26 <1> h(1) [zypp::plugin++] PluginScript.cc(send):272 PluginScript[9] /p/commit/a.py ->send PluginFrame[COMMITEND](0){127}
2026-11-26 <2> h(1) [PLUGIN] PluginScript.cc(~PluginDumpStderr):75 ! etckeeper: git failed; disk full
2026-11-26 <2> h(1) [zypp::plugin] PluginExecutor.cc(doSend):140 Bad plugin response from PluginScript[9] /p/commit/a.py: PluginFrame[](0){0}
2026-11-26 <1> h(1) [zypp::plugin++] PluginScript.cc(send):272 PluginScript[8] /p/commit/b.py ->send PluginFrame[COMMITEND](0){127}
2026-11-26 <2> h(1) [zypp::plugin] PluginExecutor.cc(doSend):140 Bad plugin response from PluginScript[8] /p/commit/b.py: PluginFrame[ERROR](0){26}
2026-11-26 <2> h(1) [zypp::plugin] PluginExecutor.cc(doLoad):118 Failed to load plugin /p/commit/c.py{- 0755 0/0 size 41}
"""  # noqa: E501 (zypper's lines)
HISTORY = """2026-11-26 06:52:38|command|root@h|'zypper' 'install' 'a-2-1.noarch'|
# 2026-11-26 06:52:38 a-2-1.noarch.rpm install failed
# rpm output:
# preun: service does not stop
# error: %preun(a-1-1.noarch) scriptlet failed, exit status 1
# error: a-1-1.noarch: erase failed
#
2026-11-26 06:52:39|install|b|2-1|noarch|root@h|r1|0|
"""
RPM = """rpm() {
  case "$*" in
    *TRANSPROG*b-2-1*) return 1 ;;
    *TRANSPROG*) printf /bin/sh ;;
    *POSTTRANS*) echo 'echo "ran with $1"; exit 3' ;;
  esac
}
"""


@pytest.mark.parametrize(("words", "code"), [(OLD_WORDS, 107), (OLD_WORDS, 0), (NEW_WORDS, 107), (NEW_WORDS, 0)])
def test_a_failed_script_after_the_transaction_is_told_with_its_package_and_words(
    tmp_path: Path, words: str, code: int
) -> None:
    says(tmp_path, "install", DONE + words, end=f"exit {code}")
    ended = run(tmp_path, "zypper")[-2]
    assert (ended["exit_code"], ended["cause"]) == (code, "maintainer-script")
    (part,) = str(ended["error"]).partition(": ")[2].split("; ")
    assert "%posttrans(a-2-1.noarch) scriptlet failed, exit status 1: dracut: Failed to write /boot/initrd" in part


def test_a_script_that_succeeds_is_no_failure(tmp_path: Path) -> None:
    says(tmp_path, "install", DONE + OLD_WORDS.replace("Warning: ", "No warning: "))
    assert run(tmp_path, "zypper")[-2]["error"] == ""


def test_each_part_of_an_error_names_its_package(tmp_path: Path) -> None:
    told = run_job(tmp_path, HARMLESS + DONE + POST + PRE, "complaint 8")
    first, second = told.strip().partition(": ")[2].split("; ")
    words = "dracut: Failed to write /boot/initrd, it is full"
    assert first == f"warning: %post(a-2-1.noarch) scriptlet failed, exit status 1: {words}"
    assert second.startswith(
        "Installation of b-2-1.noarch failed: no room, error: %prein(b-2-1.noarch) scriptlet failed"
    )


def test_scripts_that_zypper_skipped_are_run_and_a_failure_is_told(tmp_path: Path) -> None:
    (tmp_path / "rpm-call").write_text(SKIPPED)
    (tmp_path / "rpm-old").write_text("a-1-1.noarch\n")
    told = run_job(tmp_path, "", f"{RPM}run_skipped_scripts")
    assert told == "ran with 2\nwarning: %posttrans(a-2-1.noarch) scriptlet failed, exit status 3\n"


def test_plugins_that_failed_are_told_with_their_words(tmp_path: Path) -> None:
    (tmp_path / "zypper.log").write_text(PLUGINS)
    told = run_job(tmp_path, "", f"zypper_log={tmp_path}/zypper.log noted_before=0; tell_failed_plugins")
    assert told.splitlines() == [
        "Error: a plugin ended with an error: /p/commit/a.py: etckeeper: git failed, disk full",
        "Error: a plugin ended with an error: /p/commit/b.py: it answered PluginFrame[ERROR](0){26}",
        "Error: a plugin ended with an error: /p/commit/c.py: it gave no answer",
    ]


def test_a_failed_plugin_is_an_error_although_zypper_ends_with_0(tmp_path: Path) -> None:
    says(tmp_path, "install", f"{DONE}Error: a plugin ended with an error: /p/a.py: no room\n")
    assert "a plugin ended with an error: /p/a.py" in str(run(tmp_path, "zypper")[-2]["error"])


@pytest.mark.parametrize(("log", "told"), [(LOCKED, "lock"), (DONE + LOCKED, "failed")])
def test_rpms_lock_is_a_lock_as_long_as_nothing_has_changed(tmp_path: Path, log: str, told: str) -> None:
    assert run_job(tmp_path, log, "complaint 8").startswith(f"{told}: ")


def test_rpms_lock_between_two_packages_is_waited_for(tmp_path: Path) -> None:
    once = 'if [ ! -e "$STAND_IN/tried" ]; then : >"$STAND_IN/tried"; exit 8; fi; '
    once += 'echo "(1/1) Installing: a-2-1.noarch [done]"'
    says(tmp_path, "install", DONE.replace("a-2", "b-2") + LOCKED, end=once)
    ended = run(tmp_path, "zypper")[-2]
    assert (ended["exit_code"], ended["error"]) == (0, "")


def load_parts(folder: Path, *names: str) -> str:
    """Return scripts that read a folder's file in place of zypper's own."""
    scripts = (load_script(name, "tasks.machines.managers.rpm.zypper") for name in ("limited", "tool_history", *names))
    return "\n".join(scripts).replace("/var/log/zypp", str(folder))


def test_zyppers_history_tells_which_old_version_could_not_be_removed(tmp_path: Path) -> None:
    (tmp_path / "history").write_text(HISTORY)
    told = execute(tmp_path, load_parts(tmp_path, "unfinished_packages"), "command() { return 1; }; fp_left_over")
    assert told == "a-1-1.noarch\t%preun(a-1-1.noarch) scriptlet failed, exit status 1: preun: service does not stop\n"


INSTALLED = "2026-11-26 10:47:31|install|{0}|2.0-1|noarch|root@h|made|9317|\n"
WAS_BAD = (
    """2026-11-26 10:47:31|command|root@h|'zypper' '-n' 'install' 'a-post' 'a-trans' 'a-good'|
# 2026-11-26 10:47:31 a-post-2.0-1.noarch.rpm installed ok
# Additional rpm output:
# dracut: no space left
# warning: %post(a-post-2.0-1.noarch) scriptlet failed, exit status 3
#
"""
    + INSTALLED.format("a-post")
    + INSTALLED.format("a-trans")
    + """# 2026-11-26 10:47:31 a-good-2.0-1.noarch.rpm installed ok
# Additional rpm output:
# hello
#
"""
    + INSTALLED.format("a-good")
    + """# 2026-11-26 10:47:32 Output of a-trans-2.0-1.noarch.rpm %posttrans script:
#     grub: broken
# 2026-11-26 10:47:32 a-trans-2.0-1.noarch.rpm %posttrans script failed (returned 4)
"""
)
"""The history of zypper 1.14.42."""
NEW_HISTORY = """# 2026-11-26 10:47:32 %posttrans(a-trans-2.0-1.noarch) script output:
# grub: broken
# warning: %posttrans(a-trans-2.0-1.noarch) scriptlet failed, exit status 4
#
"""
"""As libzypp writes it since 17.31 (RpmPostTransCollector.cc)."""
POST_FAILED = "a-post-2.0-1.noarch\t%post(a-post-2.0-1.noarch) scriptlet failed, exit status 3: dracut: no space left"
TRANS_FAILED = "a-trans-2.0-1.noarch\t%posttrans(a-trans-2.0-1.noarch) scriptlet failed, exit status 4: grub: broken"


@pytest.mark.parametrize(
    ("history", "told"),
    [
        (WAS_BAD, [POST_FAILED, TRANS_FAILED]),
        (WAS_BAD + "2026-11-27 01:00:00|command|root@h|'zypper'|\n" + INSTALLED.format("a-post"), [TRANS_FAILED]),
        (INSTALLED.format("a-trans") + NEW_HISTORY, [TRANS_FAILED]),
        (INSTALLED.format("a-trans") + NEW_HISTORY + INSTALLED.format("a-trans"), []),
    ],
)
def test_zyppers_history_tells_whose_last_script_failed(tmp_path: Path, history: str, told: list[str]) -> None:
    (tmp_path / "history").write_text(history)
    script = load_parts(tmp_path, "failed_scripts")
    assert sorted(execute(tmp_path, script, "fp_zypper_failed_scripts").splitlines()) == told


SINGLE = """Verifying [..done]
Preparing [..done]
(1/5) Installing: b-lua-2.0-1.noarch [..done]
(1/5) Executing postin script for: b-lua-2.0-1.noarch [.
error: lua script failed: [string "%post(b-lua-2.0-1.noarch)"]:1: lua broke
attention]
(2/5) Installing: a-trig-2.0-1.noarch [..done]
(2/5) Executing triggerin script for: a-trig-2.0-1.noarch [.
trig
warning: %triggerin(a-trig-2.0-1.noarch) scriptlet failed, exit status 5
attention]
(3/5) Installing: a-trans-2.0-1.noarch [..done]
(4/5) Installing: a-post-2.0-1.noarch [..done]
(4/5) Executing postin script for: a-post-2.0-1.noarch [.
dracut: no space left
warning: %post(a-post-2.0-1.noarch) scriptlet failed, exit status 3
attention]
(5/5) Installing: a-good-2.0-1.noarch [..done]
(5/5) Executing postin script for: a-good-2.0-1.noarch [.
hello
.done]
(5/5) Executing triggerin script for: a-trig-2.0-1.noarch [.
trig
warning: %triggerin(a-trig-2.0-1.noarch) scriptlet failed, exit status 5
attention]
(5/5) Executing posttrans script for: a-trans-2.0-1.noarch [.
grub: broken
warning: %posttrans(a-trans-2.0-1.noarch) scriptlet failed, exit status 4
attention]
"""
"""zypper 1.14.89 with libzypp 17.36 (Debian 13) and ZYPP_SINGLE_RPMTRANS=1; it ended with 107."""
SINGLE_REFUSED = """Verifying [..done]
Preparing [..done]
(1/2) Installing: a-unin-2.0-1.noarch [..done]
(1/2) Executing prein script for: a-pre-2.0-1.noarch [.
no user
error: %prein(a-pre-2.0-1.noarch) scriptlet failed, exit status 6
error]
error: a-pre-2.0-1.noarch: install failed
(1/2) Executing preun script for: a-unin-1.0-1.noarch [.
stop fails
error: %preun(a-unin-1.0-1.noarch) scriptlet failed, exit status 7
error]
error: a-unin-1.0-1.noarch: erase failed
error: a-pre-1.0-1.noarch: erase skipped

The following package failed to install:
  a-pre
"""
"""The same; it ended with 8."""
SINGLE_HISTORY = """2026-11-26 11:06:39|command|root@vm|'zypper' 'install'|
2026-11-26 11:06:39|install|b-lua|2.0-1|noarch||made|9317|
# 2026-11-26 11:06:39 b-lua installed ok
# 2026-11-26 11:06:39 Failed to execute postin script for b-lua-2.0-1.noarch
2026-11-26 11:06:39|install|a-trig|2.0-1|noarch||made|9317|
# 2026-11-26 11:06:39 a-trig installed ok
# 2026-11-26 11:06:39 Failed to execute triggerin script for a-trig-2.0-1.noarch
# rpm output:
# trig
#
2026-11-26 11:06:39|install|a-trans|2.0-1|noarch||made|9317|
# 2026-11-26 11:06:39 a-trans installed ok
2026-11-26 11:06:39|install|a-post|2.0-1|noarch||made|9317|
# 2026-11-26 11:06:39 a-post installed ok
# 2026-11-26 11:06:39 Failed to execute postin script for a-post-2.0-1.noarch
# rpm output:
# dracut: no space left
#
2026-11-26 11:06:39|install|a-good|2.0-1|noarch||made|9317|
# 2026-11-26 11:06:39 a-good installed ok
# 2026-11-26 11:06:39 Failed to execute triggerin script for a-trig-2.0-1.noarch
# rpm output:
# trig
#
# 2026-11-26 11:06:39 Failed to execute posttrans script for a-trans-2.0-1.noarch
# rpm output:
# grub: broken
#
2026-11-26 11:06:40|command|root@vm|'zypper' 'install'|
2026-11-26 11:06:40|install|a-unin|2.0-1|noarch||made|9317|
# 2026-11-26 11:06:40 a-unin installed ok
# 2026-11-26 11:06:40 Failed to execute prein script for a-pre-2.0-1.noarch
# rpm output:
# no user
#
# 2026-11-26 11:06:40 Failed to execute preun script for a-unin-1.0-1.noarch
# rpm output:
# stop fails
#
"""
"""What both wrote to its history."""


def test_scripts_that_fail_in_one_transaction_are_told_with_their_packages(tmp_path: Path) -> None:
    kind, _, text = run_job(tmp_path, SINGLE, "complaint 107").strip().partition(": ")
    assert kind == "maintainer-script"
    assert text.split("; ") == [
        'error: lua script failed: [string "%post(b-lua-2.0-1.noarch)"]:1: lua broke',
        "warning: %triggerin(a-trig-2.0-1.noarch) scriptlet failed, exit status 5: trig",
        "warning: %post(a-post-2.0-1.noarch) scriptlet failed, exit status 3: dracut: no space left",
        "warning: %posttrans(a-trans-2.0-1.noarch) scriptlet failed, exit status 4: grub: broken",
    ]
    assert "a-good" not in text


def test_what_one_transaction_leaves_out_is_told_with_its_packages(tmp_path: Path) -> None:
    said = run_job(tmp_path, SINGLE_REFUSED, "complaint 8; tool_began && echo began")
    assert "error: %prein(a-pre-2.0-1.noarch) scriptlet failed, exit status 6: no user" in said
    assert "error: %preun(a-unin-1.0-1.noarch) scriptlet failed, exit status 7: stop fails" in said
    assert said.endswith("began\n")


def test_the_history_of_one_transaction_tells_whose_last_script_failed(tmp_path: Path) -> None:
    (tmp_path / "history").write_text(SINGLE_HISTORY)
    script = load_parts(tmp_path, "failed_scripts", "unfinished_packages")
    told = execute(tmp_path, script, "command() { return 1; }; { fp_zypper_failed_scripts; fp_left_over; } | sort")
    assert told.splitlines() == [
        "a-post-2.0-1.noarch\t%post(a-post-2.0-1.noarch) scriptlet failed: dracut: no space left",
        "a-trans-2.0-1.noarch\t%posttrans(a-trans-2.0-1.noarch) scriptlet failed: grub: broken",
        "a-unin-1.0-1.noarch\t%preun(a-unin-1.0-1.noarch) scriptlet failed: stop fails",
        "b-lua-2.0-1.noarch\t%post(b-lua-2.0-1.noarch) scriptlet failed",
    ]


YUM_HISTORY = """Transaction ID : 2
Packages Altered:
    Updated httpd-1:2-1.noarch @lab
    Update          3-1.noarch @lab
    Updated other-2-1.noarch   @lab
    Update        3-1.noarch   @lab
Scriptlet output:
   1 broken
   2 warning: %post(httpd-1:3-1.noarch) scriptlet failed, exit status 1
   3 warning: %post(other-3-1.noarch) scriptlet failed, exit status 1
"""
LATER_YUM_HISTORY = """Transaction ID : 4
Packages Altered:
    Updated httpd-1:2-1.noarch @lab
    Update          3-1.noarch @lab
Transaction ID : 3
Packages Altered:
    Downgrade  httpd-1:2-1.noarch @lab
    Downgraded       3-1.noarch   @lab
"""


def test_a_history_that_can_not_be_read_is_not_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / "yum").write_text("#!/bin/sh\necho 'Error: database is locked' >&2\nexit 1\n")
    (tmp_path / "yum").chmod(0o755)
    own = '[ "$2" != dnf ] && /usr/bin/env which "$2"'
    said = 'fp_send_section() { echo "$1 $3 $4"; }; fp_note_history; echo "$fp_history"'
    told = execute(tmp_path, load_parts(tmp_path, "failed_scripts"), f"command() {{ {own}; }}; {said}")
    assert told.split("\n") == ["history 1 Error: database is locked", "", ""]


def test_yums_history_tells_which_last_script_failed_until_it_succeeds(tmp_path: Path) -> None:
    """yum (output.py, historyInfoCmd) leaves out the name of the version that replaces another one."""
    (tmp_path / "yum").write_text(
        f'#!/bin/sh\ncase $* in *exit_on_lock=True*" list all") echo 2 ;; *" info 2") cat {tmp_path}/info ;; esac\n'
    )
    (tmp_path / "yum").chmod(0o755)
    own = '[ "$2" != dnf ] && /usr/bin/env which "$2" >/dev/null'
    for history, told in (
        (YUM_HISTORY, ["httpd-3-1.noarch", "other-3-1.noarch"]),
        (LATER_YUM_HISTORY + YUM_HISTORY, ["other-3-1.noarch"]),
    ):
        (tmp_path / "info").write_text(history)
        lines = execute(
            tmp_path,
            load_parts(tmp_path, "failed_scripts"),
            f"command() {{ {own}; }}; fp_note_history; fp_dnf_failed_scripts",
        )
        assert sorted(line.partition("\t")[0] for line in lines.splitlines()) == told
