"""A machine of the lab with fleetpatch in /opt/fleetpatch, as `make setup` and pip would put it there.

The lab has no package index. So the Python of these tests, its packages and this checkout are mounted into the machine.
"""

import ctypes
import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.ci.tree import TOP
from tests.lab.fleet import LabHost

CODE: Final = "/opt/code"
"""The checkout in the machine."""
_VERSION: Final = f"python{sys.version_info.major}.{sys.version_info.minor}"
_OPEN_TREE, _MOVE_MOUNT = 428, 429  # system calls, on every architecture
_CLONE_RECURSIVE, _EMPTY_PATH, _HERE, _NEW_MOUNTS = 0x8001, 4, -100, 0x20000
_PROGRAM = """#!/opt/fleetpatch/bin/python
import sys
from fleetpatch.cli.command import main
sys.exit(main())
"""


def install_fleetpatch(host: LabHost) -> None:
    """Put it there."""
    stdlib, packages = Path(sysconfig.get_path("stdlib")).resolve(), Path(sysconfig.get_path("purelib")).resolve()
    _mount(host, stdlib, f"/opt/python/lib/{_VERSION}")
    _mount(host, packages, "/opt/packages")
    _mount(host, TOP, CODE)
    _put(host, "/opt/python/bin/python3", Path(sys.executable).resolve().read_bytes(), 0o755)
    for library in _list_libraries(Path(sys.executable).resolve(), *(stdlib / "lib-dynload").glob("*.so")):
        _put(host, f"/opt/python/libraries/{library.name}", library.read_bytes(), 0o755)
    _put(host, "/etc/ld.so.conf.d/zz-python.conf", b"/opt/python/libraries\n", 0o644)  # after the machine's own
    _put(host, "/opt/fleetpatch/pyvenv.cfg", b"home = /opt/python/bin\n", 0o644)
    _put(host, f"/opt/fleetpatch/lib/{_VERSION}/site-packages/all.pth", f"{CODE}\n/opt/packages\n".encode(), 0o644)
    _put(host, "/opt/fleetpatch/bin/fleetpatch", _PROGRAM.encode(), 0o755)
    host.sh("ldconfig && ln -s /opt/python/bin/python3 /opt/fleetpatch/bin/python", root=True)


def _put(host: LabHost, path: str, content: bytes, mode: int) -> None:
    file = host.root / path.removeprefix("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    file.chmod(mode)


def _list_libraries(*programs: Path) -> Iterator[Path]:
    """Yield the shared libraries that programs need, but for those of the C library, which the machine has."""
    listed = subprocess.run(["ldd", *map(str, programs)], capture_output=True, text=True, check=False).stdout
    for path in sorted(set(re.findall(r"=> (/\S+)", listed))):
        if not re.match(r"(libc|libm|libdl|libpthread|librt|libutil|ld-linux.*)\.", Path(path).name):
            yield Path(path)


def _mount(host: LabHost, source: Path, target: str) -> None:
    """Show a folder of this machine in the host as well (open_tree(2), move_mount(2))."""
    (host.root / target.removeprefix("/")).mkdir(parents=True, exist_ok=True)
    child = os.fork()
    if child == 0:
        try:
            _enter_and_mount(host.first_pid, str(source), target)
        except BaseException:  # noqa: BLE001 - a fork of the tests must not go on as they do
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, f"{source} can't be mounted at {target}"


def _enter_and_mount(pid: int, source: str, target: str) -> None:
    library = ctypes.CDLL(None)
    tree = library.syscall(_OPEN_TREE, _HERE, source.encode(), _CLONE_RECURSIVE)
    namespace, root = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY), os.open(f"/proc/{pid}/root", os.O_RDONLY)
    assert tree >= 0
    assert library.setns(namespace, _NEW_MOUNTS) == 0
    os.fchdir(root)
    os.chroot(".")
    assert library.syscall(_MOVE_MOUNT, tree, b"", _HERE, target.encode(), _EMPTY_PATH) == 0
