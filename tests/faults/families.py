"""What the cases on real machines do by hand to a package manager: what an administrator of each family types."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tests.lab.fleet import Flavour

LOCKED: Final = (
    "perl -MFcntl -e 'open F, q(>), q({path}) or die; "
    "$$lock = pack(q(s s x4 q q i x4), F_WRLCK, 0, 0, 0, 0); fcntl F, F_SETLK, $$lock or die; sleep {{seconds}}'"
)
_RPM_LOCK: Final = "/var/lib/rpm/.rpm.lock"
_KILLED: Final = (  # two versions of lab-slow are left in rpm's database
    "echo 600 > /etc/lab-slow-seconds; systemd-run -q --unit=interrupted {command}; "
    "for _ in $(seq 600); do ! pgrep -fx 'sleep 600' || break; sleep 0.1; done; "
    "systemctl kill -s KILL interrupted; echo 3 > /etc/lab-slow-seconds"
)


@dataclass(frozen=True, slots=True)
class Family:
    """What is typed, and where things are, on machines of one family.

    Attributes:
        refresh: reads the repositories again.
        install: installs lab-slow.
        install_patiently: the same, and waits for the locks of others.
        turned_away: exit codes of ``install`` when the machine goes down; None: it need not come to an end.
        worker: name of the process that changes packages then.
        lock: the lock that it holds (fcntl).
        brief_lock: holds a lock of the package manager for {seconds}.
        long_lock: holds another one of its locks, where it has several.
        interrupt: leaves packages as an installation does that was interrupted.
        cache: where downloaded packages are, in the shell's words.
        limit: a file (below the root), and the line that lets 20 kB a second through.
        large: a package whose update takes minutes then.
        downloader: name of the process that downloads.
        after_slow: updates that come after lab-slow.
        read_only: what is said of a machine whose /var is read-only: dnf does not even read then.
    """

    refresh: str
    install: str
    install_patiently: str
    turned_away: tuple[str, ...] | None
    worker: str
    lock: str
    brief_lock: str
    long_lock: str
    interrupt: str
    cache: str
    limit: tuple[str, str]
    large: str
    downloader: str
    after_slow: tuple[str, str]
    read_only: str = "/var is mounted read-only, and was writable before"


FAMILIES: Final[Mapping[Flavour, Family]] = {
    "apt": Family(
        refresh="apt-get -qq update",
        install="apt-get -y install lab-slow",
        install_patiently="apt-get -y -o DPkg::Lock::Timeout=300 install lab-slow",
        turned_away=("100",),
        worker="apt-get",
        lock="/var/lib/dpkg/lock-frontend",
        brief_lock=LOCKED.format(path="/var/lib/dpkg/lock-frontend"),
        long_lock=LOCKED.format(path="/var/lib/dpkg/lock-frontend"),
        interrupt="cd /tmp && apt-get -qq update && apt-get -qq download lab-plain && dpkg --unpack lab-plain_2*.deb",
        cache="/var/cache/apt/archives/partial",
        limit=("etc/apt/apt.conf.d/99limit", 'Acquire::http::Dl-Limit "20";'),
        large="perl-base",  # with its group: 9 MB
        downloader="apt-get",
        after_slow=("mawk", "tar"),
    ),
    "dnf": Family(
        refresh="dnf -q makecache",
        install="dnf -y upgrade lab-slow",
        install_patiently="dnf -y upgrade lab-slow",  # it always waits
        turned_away=None,
        worker="dnf",
        lock=_RPM_LOCK,
        brief_lock=LOCKED.format(path=_RPM_LOCK),
        long_lock="sh -c 'echo $$$$ > /var/lib/dnf/rpmdb_lock.pid; exec sleep {seconds}'",  # systemd takes $$ for $
        interrupt=_KILLED.format(command="dnf -y upgrade lab-plain lab-slow"),
        cache="$(dnf -q makecache; echo /var/cache/dnf/lab-*[0-9a-f])/packages",
        limit=("etc/dnf/dnf.conf", "throttle=20k"),
        large="lab-big",
        downloader="dnf",
        after_slow=("lab-reboot", "lab-reboot-sec"),
        read_only="Read-only file system: '/var/log/dnf.log'",
    ),
    "zypper": Family(
        refresh="zypper -q refresh",
        install="zypper -n update lab-slow",
        install_patiently="ZYPP_LOCK_TIMEOUT=300 zypper -n update lab-slow",
        turned_away=None,
        worker="rpm",
        lock=_RPM_LOCK,
        brief_lock=LOCKED.format(path=_RPM_LOCK),
        long_lock="sh -c 'sleep {seconds} | zypper shell'",
        interrupt=_KILLED.format(command="zypper -n update lab-plain lab-slow"),
        cache="/var/cache/zypp/packages",
        limit=("etc/zypp/zypp.conf", "download.max_download_speed = 20000"),
        large="lab-big",
        downloader="zypper",
        after_slow=("lab-reboot", "lab-reboot-sec"),
    ),
}
