"""A machine with stand-ins for yum, repoquery and rpm, which answer with the texts of tests/data/yum/<machine>."""

import os
from collections.abc import Sequence
from pathlib import Path
from shutil import which

import pytest

from inventory.machine import PrivilegeMethod
from tasks.domain.model import PackageState, Update
from tasks.domain.protocols.clock import Deadline, SystemClock
from tasks.domain.protocols.package_manager import SimulationResult
from tasks.domain.protocols.transport import SHARED_SCRIPTS
from tasks.machines.managers.registry import MANAGER_TYPES
from tasks.machines.transport.local_channel import LocalShellChannel
from tasks.machines.transport.posix_shell import PosixShell, PrivilegeEscalator
from tasks.machines.transport.script_library import load_script

DATA = Path(__file__).parents[1] / "data/yum"
CLOCK = SystemClock()

# an answer is KIND.txt, KIND.err for standard error, and KIND.code for the exit code
YUM = r"""#!/bin/sh
echo "yum $*" >>"{place}/calls"
case "$*" in
  *makecache*) kind=makecache ;; *repolist*) kind=repolist ;;
  *"updateinfo list available"*) kind=updateinfo_list ;; *"updateinfo info updates"*) kind=updateinfo_info ;;
  *"updateinfo info available"*) kind=updateinfo_others ;;
  *disableexcludes=all*"list updates"*) kind=list_all ;; *"list updates"*) kind=list_updates ;;
  *"list available"*) kind=list_available ;; *--assumeno*) kind=transaction ;;
esac
[ ! -e "{place}/$kind.sh" ] || . "{place}/$kind.sh"
cat "{place}/$kind.txt" 2>/dev/null
cat "{place}/$kind.err" >&2 2>/dev/null
exit "$(cat "{place}/$kind.code" 2>/dev/null || echo 0)"
"""
REPOQUERY = r"""#!/bin/sh
printf '%s\n' "repoquery $*" >>"{place}/calls"
case "$*" in
  *'%{{provides}}'*) cat "{place}/provides.txt" 2>/dev/null; exit ;;
  *relativepath*) form=files ;; *) form=rows ;;
esac
awk -F '|' -v form=$form -v words="$*" '
  {{ full = $1 "-" ($2 == "0" ? "" : $2 ":") $3 "-" $4 "." $5 }}
  index(" " words " ", " " $1 "." $5 " ") || index(" " words " ", " " full " ") {{
    print form == "files" ? $6 "|" $7 "|Packages/" $1 "-" $3 "-" $4 "." $5 ".rpm" : $0
  }}' "{place}/repoquery.txt"
cat "{place}/repoquery.err" >&2 2>/dev/null
exit "$(cat "{place}/repoquery.code" 2>/dev/null || echo 0)"
"""
RPM = r"""#!/bin/sh
case "$*" in
  *_arch*_dbpath*) echo "x86_64:{place}/rpmdb" ;;
  *' -a'*) cat "{place}/installed.txt" ;;
  *INSTALLTIME*' %{{NAME}} '*)
    awk -F '\t' '$1 != "gpg-pubkey" {{ print $6, $1, $5, $1 "-" $3 "-" $4 "." $5 }}' "{place}/installed.txt" ;;
  *-qa*) cut -f 1 "{place}/installed.txt" ;;
  *whatprovides*|*provides*) ;;
  -q*) cat "{place}/installed.txt" ;;
esac
"""


class YumMachine:
    """A folder with the stand-ins and yum's files, and the transport to it.

    Args:
        place: an empty folder.
        recording: the folder of tests/data/yum with the answers; "oracle-7" has no yum-utils.
        shell: that executes the scripts.
    """

    def __init__(self, place: Path, recording: str, monkeypatch: pytest.MonkeyPatch, shell: str = "dash") -> None:
        self.place = place
        self.recording = DATA / recording
        self._lay_out_files()
        tools = {"yum": YUM, "rpm": RPM}
        if (self.recording / "repoquery.txt").exists():
            tools["repoquery"] = REPOQUERY
        kernel = self._read("kernel") or "3.10.0-1160.102.1.el7.x86_64\n"
        for name, text in tools.items():
            self.put_tool(name, text.format(place=place))
        self.put_tool("uname", f"#!/bin/sh\necho {kernel}")
        self.put_tool("systemctl", "#!/bin/sh\n")
        (place / "bin/sh").symlink_to(which(shell) or shell)
        monkeypatch.setattr(
            PosixShell, "load_own_script", staticmethod(self._load_script)
        )  # of scripts that another one requires
        monkeypatch.setenv("PATH", f"{place}/bin:{os.environ['PATH']}")
        self.transport = PosixShell(
            LocalShellChannel(CLOCK),
            machine="here",
            privilege=PrivilegeEscalator(PrivilegeMethod.NONE),
            clock=CLOCK,
            script_loader=self._load_script,
        )

    def _lay_out_files(self) -> None:
        for folder in ("rpmdb", "etc/yum.repos.d", "etc/yum/pluginconf.d", "lib", "cache/x86_64/7", "bin"):
            (self.place / folder).mkdir(parents=True)
        for path in self.recording.glob("*.txt"):
            (self.place / path.name).write_text(path.read_text())
        (self.place / "etc/yum.conf").write_text(f"[main]\ncachedir={self.place}/cache/$basearch/$releasever\n")
        self.write("transaction.code", "1")
        for line in self._read("repositories").splitlines():
            name, has_advisories = line.split()
            kind = "updateinfo" if has_advisories == "true" else "group"
            self.write(
                f"cache/x86_64/7/{name}/repomd.xml", f'<repomd><data type="primary"/><data type="{kind}"/></repomd>'
            )
        if advisories := self._read("updateinfo_xml"):
            self.write("cache/x86_64/7/any/gen/updateinfo.xml", advisories)
        if locks := self._read("versionlock"):
            self.write("etc/yum/pluginconf.d/versionlock.list", locks)
            settings = f"[main]\nenabled = 1\nlocklist = {self.place}/etc/yum/pluginconf.d/versionlock.list\n"
            self.write("etc/yum/pluginconf.d/versionlock.conf", settings)

    def _read(self, name: str) -> str:
        path = self.recording / f"{name}.txt"
        return path.read_text() if path.exists() else ""

    def _load_script(self, name: str, package: str = SHARED_SCRIPTS) -> str:
        text = load_script(name, package)
        places = {
            "/etc/yum": "etc/yum",
            "/var/lib/yum": "lib",
            "/var/run/yum.pid": "yum.pid",
            "/tmp/yum_save": "yum_save",
        }
        for old, new in places.items():
            text = text.replace(old, f"{self.place}/{new}")
        return text.replace(r"\/tmp\/yum_save", str(self.place / "yum_save").replace("/", r"\/"))

    def put_tool(self, name: str, text: str) -> None:
        """Put a stand-in there."""
        path = self.place / "bin" / name
        path.write_text(text)
        path.chmod(0o755)

    def write(self, name: str, text: str) -> None:
        """Write a file, or an answer of a tool."""
        path = self.place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def get_calls(self, word: str = "") -> list[str]:
        """Return how the tools were called, of these calls those with a word."""
        path = self.place / "calls"
        return [line for line in path.read_text().splitlines() if word in line] if path.exists() else []

    def assess(self, *, refresh: bool = False) -> PackageState:
        """Assess the machine."""
        return MANAGER_TYPES["yum"]().assess(self.transport, refresh=refresh, deadline=Deadline.after(CLOCK, 120))

    def simulate(self, updates: Sequence[Update]) -> SimulationResult:
        """Simulate an installation."""
        return MANAGER_TYPES["yum"]().simulate(self.transport, updates, deadline=Deadline.after(CLOCK, 120))
