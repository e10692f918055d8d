"""The script that makes a seed, in a real shell, with a stand-in for the maker of the disk."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tasks.domain.protocols.transport import Script
from tasks.machines.transport.output_decoder import generate_nonce
from tasks.machines.transport.posix_shell import build_script_stdin
from tasks.machines.transport.script_library import compose_script

_MAKER = """#!/bin/sh
for word; do case $word in */seed) echo "${word%/seed}" >SEEN.part && mv SEEN.part SEEN ;; esac; done
sleep 0.5
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_no_secret_stays_when_it_is_stopped(tmp_path: Path, number: signal.Signals) -> None:
    programs, seen = tmp_path / "bin", tmp_path / "seen"
    programs.mkdir()
    (programs / "genisoimage").write_text(_MAKER.replace("SEEN", str(seen)))
    (programs / "genisoimage").chmod(0o755)
    parameters = {"file": str(tmp_path / "seed.iso"), "instance": "web-1", "user_data": "secret", "network_config": ""}
    script = Script("nocloud_seed", parameters, package="tasks.machines.providers")
    text = build_script_stdin(compose_script(script), parameters, generate_nonce())
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
    with subprocess.Popen(
        ["/bin/sh", "-s"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, start_new_session=True
    ) as shell:
        assert shell.stdin is not None
        assert shell.stdout is not None
        shell.stdin.write(text)
        shell.stdin.close()
        for _ in range(100):
            if seen.exists():
                break
            time.sleep(0.05)
        os.killpg(shell.pid, number)
        shell.stdout.read()  # until the last process has ended
    assert not Path(seen.read_text().strip()).exists()
