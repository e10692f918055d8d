"""Examples for machine sets, with stand-ins for the programs that they call. The lab runs them with real clusters."""

import os
import subprocess
from pathlib import Path

import pytest

POSTGRESQL = Path(__file__).parents[2] / "deployments" / "examples" / "postgresql" / "postgresql-member.sh"
PSQL = """#!/bin/sh
for last; do :; done
case $last in "SELECT 1") echo 1 ;; *) {answer} ;; esac
"""


def put(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("answer", "code", "role"), [("echo f", 0, "primary\n"), ("echo t", 0, "replica\n"), ("exit 2", 1, "")]
)
def test_a_server_that_gives_no_answer_has_no_role(tmp_path: Path, answer: str, code: int, role: str) -> None:
    put(tmp_path / "psql", PSQL.format(answer=answer))
    put(tmp_path / "id", "#!/bin/sh\necho 0\n")
    put(tmp_path / "runuser", '#!/bin/sh\nshift 3\nexec "$@"\n')
    settings = tmp_path / "settings"
    settings.write_text("MEMBERS=192.0.2.1 DATA=/nowhere SERVICE=none PROGRAMS=/nowhere\n")
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "POSTGRESQL_MEMBER": str(settings)}
    said = subprocess.run(
        ["/bin/sh", str(POSTGRESQL), "role"], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (said.returncode, said.stdout) == (code, role), said.stderr
