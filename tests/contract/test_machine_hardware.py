"""What a machine is: read from its facts, and unknown where an older script or another system does not say it."""

from tasks.domain.states import MachineKind
from tests.contract.test_scripts import FACTS, facts_of


def test_what_a_machine_is_comes_from_its_record_and_is_unknown_without():
    said = {
        "kind": "hardware",
        "vendor": "QEMU",
        "product": "x",
        "hypervisor": None,
        "engines": "docker rm",
        "arc": True,
    }
    facts = facts_of([*FACTS, said])
    assert (facts.kind, facts.container_engines, facts.is_arc) == (MachineKind.VIRTUAL, ("docker",), True)
    facts = facts_of(FACTS)
    assert (facts.kind, facts.container_engines, facts.is_arc) == (MachineKind.UNKNOWN, None, None)
