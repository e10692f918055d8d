"""The cases of Linux hosts that are not played on Windows machines, and why not."""

from collections.abc import Mapping
from typing import Final

_UPDATE_AGENT: Final = "the Windows Update Agent does that itself. tests/lab/windows/test_patching.py has its failures"
_CONTROLLER: Final = "it strikes the controller or its records, which do not know the system of the machine"
NOT_ON_WINDOWS: Final[Mapping[str, str]] = {
    "administrator begins too late / reboot": "after shutdown.exe Windows ends all processes itself, and refuses none",
    "administrator's transaction / assess": "a search waits for no other updater",
    "administrator's transaction / install": "see 'package lock held for a while / install'",
    "administrator's transaction / validate": "reading the installed updates waits for no other updater",
    "administrator's transaction never ends / reboot": "the stand-in's other updater has nothing to lose",
    "administrator's transaction, early reboot / reboot": "needs Debian's /run/reboot-required",
    "controller out of file descriptors / installing": _CONTROLLER,
    "database killed / installing": _CONTROLLER,
    "database killed / precheck": _CONTROLLER,
    "database killed / reboot": _CONTROLLER,
    "database killed / validate": _CONTROLLER,
    "disk full for the job, then for packages / install": "needs a file system of its own below C:",
    "download of another run / precheck": "the stand-in's downloads have no speed. The lock's test has the takeover",
    "inhibitor lock held / reboot": "Windows has no inhibitors",
    "job begins late / install": "tests/contract/windows/test_late_jobs.py has it, with the real scripts",
    "job begins late, without systemd-run / install": "there is one way to begin a job",
    "job's shell killed / installing": "a job is one process: see 'whole job killed / installing'",
    "machine's clock set back / installing": "see 'machine's clock jumps back / install'",
    "name can't be resolved / installing": _CONTROLLER,
    "name can't be resolved / reboot": _CONTROLLER,
    "old kernel after boot / validate": _UPDATE_AGENT,
    "openssh-server, libc6 update themselves / installing": "see 'WinRM restarted / installing'",
    "order in transit / install, reboot": "tests/contract/windows/test_late_jobs.py has it, with the real scripts",
    "package manager interrupted / precheck, install": _UPDATE_AGENT,
    "records' disk full / installing": _CONTROLLER,
    "root read-only after boot / reboot": "Windows does not start from a volume that is read-only",
    "services gone after boot / validate": "the stand-in's listeners do not change. The tests of facts have them",
    "slow mirror / install": _UPDATE_AGENT,
    "slow mirror / stage": _UPDATE_AGENT,
    "sshd killed / installing": "see 'WinRM restarted / installing'",
    "sshd restarted / installing": "see 'WinRM restarted / installing'",
    "update fails, configuration file edited / installing": _UPDATE_AGENT,
    "window ends / reboot": "tests/lab/windows and the engine's tests have it: no script is asked",
    "window ends in a postinst / installing": "see 'window ends in an update / installing'",
}
