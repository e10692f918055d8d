"""What a job of dnf, yum or dnf 5 tells of failed scripts, triggers and plugins: each is a part that names its package.

The words of dnf 4.14 are from a lab machine. Those of dnf 5 are from rpm-software-management/dnf5 issues 462 and 2507
and lkrg-org/lkrg issue 457, those of yum 3 from its source (yum/rpmtrans.py) and those of dnf 2 from
nmilosev/termux-fedora issue 24, with other names.
"""

from pathlib import Path

import pytest

from tests.contract.test_rpm_job_script import TOOLS, run, says
from tests.contract.test_yum_job_script import UPGRADE as YUM_UPGRADE
from tests.contract.test_yum_job_script import YUM

DNF = """Running transaction check
Transaction check succeeded.
Running transaction test
Transaction test succeeded.
Running transaction
  Preparing        :                                                        1/1
  Upgrading        : trig-target-2.0-1.noarch                              1/18
  Running scriptlet: trig-target-2.0-1.noarch                              1/18
triggered
warning: %triggerin(trig-owner-1.0-1.noarch) scriptlet failed, exit status 1

Error in <unknown> scriptlet in rpm package trig-target
  Upgrading        : fail-post-2.0-1.noarch                                8/18
  Running scriptlet: fail-post-2.0-1.noarch                                8/18
no space left; giving up
warning: %post(fail-post-2.0-1.noarch) scriptlet failed, exit status 1

Error in POSTIN scriptlet in rpm package fail-post
  Cleanup          : fail-lua-1.0-1.noarch                                17/18
  Running scriptlet: kernel-core-2.0-1.noarch                             17/18
dracut failed
warning: %posttrans(kernel-core-2.0-1.noarch) scriptlet failed, exit status 1

Error in POSTTRANS scriptlet in rpm package kernel-core
  Running scriptlet: fail-lua-2.0-1.noarch                                17/18
error: lua script failed: [string "%posttrans(fail-lua-2.0-1.noarch)"]:1: lua no

Error in POSTTRANS scriptlet in rpm package fail-lua
  Running scriptlet: fail-lua-1.0-1.noarch                                17/18
ft
warning: %transfiletriggerin(ftrig-owner-1.0-1.noarch) scriptlet failed, exit status 1

Error in <unknown> scriptlet in rpm package fail-lua
  Verifying        : fail-lua-2.0-1.noarch                                 1/18
  Verifying        : trig-target-1.0-1.noarch                             18/18

Upgraded:
  fail-lua-2.0-1.noarch    fail-post-2.0-1.noarch   kernel-core-2.0-1.noarch

Complete!
"""
DNF_PARTS = [
    "warning: %triggerin(trig-owner-1.0-1.noarch) scriptlet failed, exit status 1, "
    "set off by trig-target-2.0-1.noarch, after it said: triggered",
    "warning: %post(fail-post-2.0-1.noarch) scriptlet failed, exit status 1, after it said: no space left, giving up",
    "warning: %posttrans(kernel-core-2.0-1.noarch) scriptlet failed, exit status 1, after it said: dracut failed",
    'error: lua script failed: [string "%posttrans(fail-lua-2.0-1.noarch)"]:1: lua no',
    "warning: %transfiletriggerin(ftrig-owner-1.0-1.noarch) scriptlet failed, exit status 1, after it said: ft",
]
TWICE = """  Cleanup          : nss-pem-1.0.3-5.f    75/118
  Running scriptlet: nss-util-3.33.0-1    76/118
warning: %postun(nss-util-3.33.0-1.0.fc27.armv7hl) scriptlet failed, exit status 127
Non-fatal POSTUN scriptlet failure in rpm package nss-util
Non-fatal POSTUN scriptlet failure in rpm package nss-util
"""
DNF5 = """[3/5] Upgrading kernel-core-0:7.0.0-1.x86_64   100% |  11.3 MiB/s | 185.0 KiB |  00m00s
[4/5] Upgrading trig-target-0:2-1.x86_64   100% |  11.3 MiB/s | 185.0 KiB |  00m00s
>>> Running %triggerin scriptlet: trig-target-0:2-1.x86_64
>>> Non-critical error in %triggerin scriptlet: trig-target-0:2-1.x86_64
>>> [RPM] %triggerin(trig-owner-0:1-1.x86_64) scriptlet failed, exit status 1
>>> Running %posttrans scriptlet: kernel-core-0:7.0.0-1.x86_64
>>> Non-critical error in %posttrans scriptlet: kernel-core-0:7.0.0-1.x86_64
>>> Scriptlet output:
>>> Failed to check if '/boot/17a4' exists and is a directory: Operation not permitted
>>>
>>> [RPM] %posttrans(kernel-core-7.0.0-1.x86_64) scriptlet failed, exit status 1
>>> Running %post scriptlet: fine-0:1-1.x86_64
>>> Finished %post scriptlet: fine-0:1-1.x86_64
>>> Scriptlet output:
>>> it is done
>>> Error in post-transaction scriptlet: other-0:6.2.10-300.fc38.x86_64 return code 0
Transaction failed: Rpm transaction failed.
"""
DNF5_PARTS = [
    "%triggerin(trig-owner-0:1-1.x86_64) scriptlet failed, exit status 1, set off by trig-target-0:2-1.x86_64",
    "%posttrans(kernel-core-7.0.0-1.x86_64) scriptlet failed, exit status 1, after it said: Failed to check if "
    "'/boot/17a4' exists and is a directory: Operation not permitted",
    "Error in post-transaction scriptlet: other-0:6.2.10-300.fc38.x86_64 return code 0",
]
YUM_WORDS = """  Updating   : kernel-3.10.0-1160.el7.x86_64                               1/2
grubby fatal error: unable to find a suitable template
warning: %posttrans(kernel-3.10.0-1160.el7.x86_64) scriptlet failed, exit status 1
Non-fatal POSTTRANS scriptlet failure in rpm package kernel-3.10.0-1160.el7.x86_64
  Cleanup    : bash-4.2.46-31.el7.x86_64                                   2/2
Non-fatal POSTUN scriptlet failure in rpm package bash-4.2.46-31.el7.x86_64
  Verifying  : bash-4.2.46-31.el7.x86_64                                   2/2

Updated:
  kernel.x86_64 0:3.10.0-1160.el7

Complete!
"""
YUM_PARTS = [
    "warning: %posttrans(kernel-3.10.0-1160.el7.x86_64) scriptlet failed, exit status 1, after it said: grubby fatal "
    "error: unable to find a suitable template",
    "Non-fatal POSTUN scriptlet failure in rpm package bash-4.2.46-31.el7.x86_64",
]
VERIFYING = "Running transaction\n  Verifying        : a-2-1.noarch     1/2 \n  Verifying        : a-1-1.noarch     2/2"
PLUGIN = f"""{VERIFYING}Traceback (most recent call last):
  File "/usr/lib/python3/dist-packages/dnf/plugin.py", line 104, in _caller
    getattr(plugin, method)()
  File "/usr/lib/python3/dist-packages/dnf-plugins/zz.py", line 6, in transaction
    raise ValueError("the agent did not answer")
ValueError: the agent did not answer

Upgraded:
  a-2-1.noarch

Complete!
"""
RPM_PLUGIN = "error: Plugin fapolicyd: hook tsm_post failed"


def parts(place: Path, words: str, tool: str = "dnf", code: int = 0) -> list[str]:
    """The parts of the error that a job tells when the tool's installation prints these words."""
    says(place, "install", words, end=f"exit {code}")
    ended = run(place, tool)[-2]
    assert (ended["kind"], ended["exit_code"]) == ("transaction_ended", code)
    return str(ended["error"]).partition(": ")[2].split("; ") if ended["error"] else []


def test_dnf_tells_each_script_that_failed(tmp_path: Path) -> None:
    assert parts(tmp_path, DNF) == DNF_PARTS


def test_a_failure_is_told_once(tmp_path: Path) -> None:
    told = parts(tmp_path, TWICE)
    assert told == ["warning: %postun(nss-util-3.33.0-1.0.fc27.armv7hl) scriptlet failed, exit status 127"]


@pytest.mark.parametrize("code", [0, 1])
def test_dnf5_tells_each_script_that_failed(tmp_path: Path, code: int) -> None:
    assert parts(tmp_path, DNF5, code=code) == DNF5_PARTS


def test_yum_tells_each_script_that_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "download.code").touch()
    monkeypatch.setitem(TOOLS, "yum", YUM)
    says(tmp_path, "simulate", YUM_UPGRADE)
    assert parts(tmp_path, YUM_WORDS, "yum") == YUM_PARTS


def test_a_failure_far_above_the_end_of_the_log_is_told(tmp_path: Path) -> None:
    noise = "".join(f"  Upgrading        : p{number}-1-1.noarch  1/9\n" for number in range(4000))
    assert parts(tmp_path, DNF.replace("  Cleanup ", f"{noise}  Cleanup ")) == DNF_PARTS


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (PLUGIN, ["ValueError: the agent did not answer"]),
        (f"{VERIFYING}snapper: creating snapshot failed\n\nUpgraded:\n", ["snapper: creating snapshot failed"]),
        (f"{VERIFYING}\nInstalled products updated.\n\nUpgraded:\n  a-2-1.noarch\n\nComplete!\n", []),
        ("Running transaction\nwarning: /etc/a created as /etc/a.rpmnew\nan error of a script that ended well\n", []),
        (f"Running transaction\n{RPM_PLUGIN}\n", [RPM_PLUGIN]),
    ],
)  # fmt: skip
def test_an_error_of_a_plugin_is_told_although_dnf_ends_with_0(tmp_path: Path, words: str, told: list[str]) -> None:
    assert parts(tmp_path, words) == told


def test_an_error_of_a_plugin_that_ends_dnf_is_told(tmp_path: Path) -> None:
    assert parts(tmp_path, f"{VERIFYING}Error: the snapshot failed\n \n", code=1) == ["Error: the snapshot failed"]


def test_that_a_transaction_failed_is_told_when_nothing_else_is(tmp_path: Path) -> None:
    assert parts(tmp_path, "Running transaction\nError: Transaction failed\n", code=1) == ["Error: Transaction failed"]
