"""machine_identity.sh in real shells: who a machine is, as its hypervisor also knows it."""

import subprocess
from pathlib import Path

import pytest

from tasks.domain.protocols.transport import Script, ScriptResult
from tasks.machines.transport.output_decoder import ScriptOutputDecoder, generate_nonce
from tasks.machines.transport.posix_shell import build_script_stdin
from tasks.machines.transport.script_library import compose_script
from tests.support.shells import SHELLS

UUID = "4C4C4544-0044-4410-8054-B9C04F595631"
CARDS = {"eth0": "52:54:00:00:00:0a", "macvtap0": "52:54:00:00:00:0b", "eth1": "52:54:00:00:00:0c"}


def run(shell: list[str], place: Path, *, container: str = "", tree: bool = False) -> ScriptResult:
    """Return the answer of a machine whose /sys and /run are below a folder."""
    dmi, cards = place / "sys/class/dmi/id", place / "sys/class/net"
    if not tree:
        dmi.mkdir(parents=True)
        (dmi / "product_uuid").write_text(f"{UUID}\n")
        (dmi / "board_asset_tag").write_text("i-0123456789abcdef0\n")
    for name, mac in CARDS.items():
        (cards / name).mkdir(parents=True)
        (cards / name / "address").write_text(f"{mac}\n")
        if name.startswith("eth"):
            (cards / name / "device").mkdir()
    (cards / "eth1/bonding_slave").mkdir()
    (cards / "eth1/bonding_slave/perm_hwaddr").write_text("52:54:00:00:00:0d\n")
    if container:
        (place / "run/systemd").mkdir(parents=True)
        (place / "run/systemd/container").write_text(f"{container}\n")
    if tree:
        (place / "sys/firmware/devicetree/base").mkdir(parents=True)
        (place / "sys/firmware/devicetree/base/vm,uuid").write_bytes(UUID.encode() + b"\0")
    script = compose_script(Script("machine_identity", package="tasks.machines.providers"))
    for folder in ("/sys/", "/run/", "/.dockerenv"):
        script = script.replace(f" {folder}", f" {place}{folder}")
    nonce = generate_nonce()
    done = subprocess.run(
        [*shell, "-s"], input=build_script_stdin(script, {}, nonce), capture_output=True, check=False, timeout=120
    )
    decoder = ScriptOutputDecoder(nonce)
    decoder.feed_stdout(done.stdout)
    return ScriptResult(decoder.build_output().records, done.returncode, done.stderr.decode())


def tell(answer: ScriptResult) -> tuple[object, object, list[str]]:
    assert answer.exit_code == 0, answer
    (machine,) = answer.find_records("machine")
    return machine["uuid"], machine["asset_tag"], sorted(str(card["mac"]) for card in answer.find_records("card"))


@pytest.mark.parametrize("shell", SHELLS.values(), ids=SHELLS)
def test_a_machine_tells_its_uuid_and_its_own_cards(shell: list[str], tmp_path: Path) -> None:
    cards = ["52:54:00:00:00:0a", "52:54:00:00:00:0c", "52:54:00:00:00:0d"]  # not the card of its guest
    assert tell(run(shell, tmp_path / "a")) == (UUID, "i-0123456789abcdef0", cards)
    assert tell(run(shell, tmp_path / "b", tree=True)) == (UUID, "", cards)  # a machine without SMBIOS
    # the UUID of a container is that of its host
    assert tell(run(shell, tmp_path / "c", container="lxc")) == ("", "", sorted({*CARDS.values(), *cards}))
