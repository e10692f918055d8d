"""apt_job.sh after a power cut: a package whose file has its name of before is installed anew, from what is offered."""

from pathlib import Path

import pytest

from tests.contract.test_apt_job_script import run

DPKG_QUERY = """#!/bin/sh
case "$*" in
  *Status*) echo 'unpacked kernel:amd64' ;;
  *Conffiles*) ;;
  *Version*) echo 'kernel:amd64=1' ;;
  -L*) printf '%s\\n' /. "$STAND_IN/boot of a disk" "$STAND_IN/boot of a disk/vmlinuz" ;;
esac
"""
APT_GET = """#!/bin/sh
file="$STAND_IN/boot of a disk/vmlinuz"
case "$* " in
  *--print-uris*) exit ;;
  *'kernel:amd64=1 '*) version=1 ;;
  *'kernel:amd64 '*) version=2 ;;
  *) exit ;;
esac
grep -qx "$version" "$STAND_IN/offered" || exit 0 # it says that, and is content
case "$*" in
  *' -s '* | '-s '*) echo "Inst kernel [1] ($version somewhere)" ;;
  *--download-only*) ;;
  *) echo "$version" >>"$STAND_IN/installed"; mv "$file.dpkg-new" "$file" ;;
esac
"""
TOOLS = {"dpkg-query": DPKG_QUERY, "apt-mark": "#!/bin/sh\n"}


@pytest.mark.parametrize(
    ("offered", "installed", "code"),
    [("1\n2\n", "1\n", 0), ("2\n", "2\n", 0), ("", "", 100)],
    ids=["its own", "newer", "none"],
)
def test_a_displaced_package_gets_its_version_or_the_newest(
    tmp_path: Path, offered: str, installed: str, code: int
) -> None:
    boot = tmp_path / "boot of a disk"
    boot.mkdir()
    (boot / "vmlinuz.dpkg-new").touch()
    (tmp_path / "offered").write_text(offered)
    (tmp_path / "installed").touch()
    events = run(tmp_path, APT_GET, 60, tools=TOOLS, work="repair", tx_0_packages=[])
    (ended,) = [event for event in events if event["kind"] == "transaction_ended"]
    assert (tmp_path / "installed").read_text() == installed
    assert ended["exit_code"] == code
    assert ("kernel:amd64" in str(ended["error"])) is (code != 0), ended
