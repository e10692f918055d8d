"""The contract of all providers that hold virtual machines."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tasks.domain.errors import ProviderError, ProviderUnavailable
from tasks.domain.provided_machines import DiskRole, PowerState, ProvidedMachine, ProviderAct
from tests.contract.providers.subjects import IMAGE, Subject, build_fake, build_libvirt, run
from tests.lab.vm.hypervisor import Hypervisor
from tests.lab.vm.machines import VmLab

OS, DATA = DiskRole.OS, DiskRole.DATA


@pytest.fixture(scope="session")
def uri() -> Iterator[str]:
    """The address of a libvirtd that runs for these tests alone."""
    if reason := VmLab().reason_it_cannot_run():
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with TemporaryDirectory(prefix="fp-libvirt-") as place:  # a short path: it has a socket
        hypervisor = Hypervisor(Path(place))
        hypervisor.start()
        yield hypervisor.uri
        hypervisor.stop()


@pytest.fixture(params=["fake", "libvirt"])
def subject(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Subject]:
    if request.param == "fake":
        yield build_fake(tmp_path)
        return
    uri = request.getfixturevalue("uri")
    built = build_libvirt(tmp_path, uri)
    name = built.read().id
    yield built
    if built.read().power is not PowerState.STOPPED:
        run("virsh", "-c", uri, "destroy", name)
    run("virsh", "-c", uri, "undefine", name)


def test_a_machine_is_read(subject: Subject) -> None:
    machine = subject.read()
    assert [disk.role for disk in machine.disks] == [OS, DATA]
    assert machine.os_disks[0].source
    assert (machine.snapshots, machine.kept_disks, machine.overlay) == ((), (), None)


def test_power(subject: Subject) -> None:
    subject.order(ProviderAct.START)
    subject.order(ProviderAct.START)
    assert subject.read().power is PowerState.RUNNING
    subject.order(ProviderAct.POWER_OFF)
    subject.order(ProviderAct.POWER_OFF)
    assert subject.read().power is PowerState.STOPPED
    subject.order(ProviderAct.STOP)


def test_a_snapshot_is_put_back_more_than_once_and_data_stays(subject: Subject) -> None:
    write_both(subject, "before")
    subject.order(ProviderAct.START)
    subject.order(ProviderAct.TAKE_SNAPSHOT, "s1")
    subject.order(ProviderAct.TAKE_SNAPSHOT, "s1")
    (snapshot,) = subject.read().snapshots
    assert (snapshot.id, len(snapshot.disks)) == ("s1", 2)
    assert snapshot.taken_at is not None
    assert snapshot.used_bytes is not None
    for text in ("first", "second"):
        write_both(subject, text)
        subject.order(ProviderAct.START)
        subject.order(ProviderAct.REVERT, "s1")
        machine = subject.read()
        assert read_both(subject, machine) == ("before", text)
        assert machine.power is PowerState.RUNNING
        assert machine.find_snapshot("s1") is not None
    subject.order(ProviderAct.REVERT, "s1", with_data_disks=True)
    assert read_both(subject) == ("before", "before")


@pytest.mark.parametrize("is_running", [(True, True), (False, False), (True, False)], ids=["on", "off", "on, then off"])
def test_a_deleted_snapshot_leaves_what_was_written_since(
    subject: Subject, tmp_path: Path, is_running: tuple[bool, bool]
) -> None:
    """Whether the machine runs while the first one is deleted, and then the second one."""
    at_first, at_last = is_running
    paths = [disk.source for disk in subject.read().disks]
    subject.order(ProviderAct.START)
    subject.order(ProviderAct.TAKE_SNAPSHOT, "s1")
    subject.order(ProviderAct.TAKE_SNAPSHOT, "s2")
    write_both(subject, "after")
    if at_first:
        subject.order(ProviderAct.START)
    subject.order(ProviderAct.DELETE_SNAPSHOT, "s1")
    assert [snapshot.id for snapshot in subject.read().snapshots] == ["s2"]
    if at_first and not at_last:
        subject.order(ProviderAct.POWER_OFF)
    for _ in range(2):
        subject.order(ProviderAct.DELETE_SNAPSHOT, "s2")
        subject.order(ProviderAct.DELETE_SNAPSHOT, "s1")
    machine = subject.read()
    assert machine.snapshots == ()
    assert [disk.source for disk in machine.disks] == paths, "the disks are in their own files again"
    assert not list(tmp_path.glob("*layer-*"))
    assert read_both(subject, machine) == ("after", "after")
    assert machine.power is (PowerState.RUNNING if at_last else PowerState.STOPPED)


def test_a_new_os_disk_and_the_kept_one_back(subject: Subject) -> None:
    write_both(subject, "mine")
    image = subject.make_image("2", "image 2")
    old = subject.read().os_disks[0]
    for _ in range(2):
        subject.order(ProviderAct.REPLACE_OS_DISK, "u1", image=image)
    machine = subject.read()
    assert read_both(subject, machine) == ("image 2", "mine")
    assert [(disk.image, disk.image_digest) for disk in machine.os_disks] == [("2", image.digest)]
    assert [(kept.id, kept.source) for kept in machine.kept_disks] == [("u1", old.source)]
    for _ in range(2):
        subject.order(ProviderAct.RESTORE_OS_DISK, "u1")
    machine = subject.read()
    assert read_both(subject, machine) == ("mine", "mine")
    assert machine.os_disks[0].source == old.source
    assert machine.kept_disks == ()


def test_a_kept_disk_is_deleted(subject: Subject) -> None:
    write_both(subject, "mine")
    image = subject.make_image("2", "image 2")
    subject.order(ProviderAct.REPLACE_OS_DISK, "u1", image=image)
    for _ in range(2):
        subject.order(ProviderAct.DELETE_OS_DISK, "u1")
    assert subject.read().kept_disks == ()
    assert read_both(subject) == ("image 2", "mine")
    with pytest.raises(ProviderError) as raised:
        subject.order(ProviderAct.RESTORE_OS_DISK, "u1")
    assert not isinstance(raised.value, ProviderUnavailable)
    assert raised.value.hint


def test_snapshots_and_kept_disks_need_each_other(subject: Subject) -> None:
    """A snapshot of the old disk is still good after an upgrade, and after the kept disk was put back and deleted."""
    write_both(subject, "mine")
    subject.order(ProviderAct.TAKE_SNAPSHOT, "s1")
    write_both(subject, "later")
    image, old = subject.make_image("2", "image 2"), subject.read().os_disks[0]
    subject.order(ProviderAct.REPLACE_OS_DISK, "u1", image=image)
    machine = subject.read()
    assert [(disk.image, disk.image_digest) for disk in machine.os_disks] == [("2", image.digest)]
    assert [(kept.id, kept.source) for kept in machine.kept_disks] == [("u1", old.source)]
    subject.order(ProviderAct.TAKE_SNAPSHOT, "s2")
    for _ in range(2):
        subject.order(ProviderAct.RESTORE_OS_DISK, "u1")
    machine = subject.read()
    assert read_both(subject, machine) == ("later", "later")
    assert machine.os_disks[0].source == old.source
    assert machine.kept_disks == ()
    subject.order(ProviderAct.REVERT, "s2")
    assert read_both(subject) == ("image 2", "later")
    subject.order(ProviderAct.DELETE_OS_DISK, "u1")
    subject.order(ProviderAct.REVERT, "s1", with_data_disks=True)
    assert read_both(subject) == ("mine", "mine")
    subject.order(ProviderAct.DELETE_SNAPSHOT, "s2")
    subject.order(ProviderAct.DELETE_SNAPSHOT, "s1")
    assert read_both(subject) == ("mine", "mine")


def test_what_is_not_there_is_said_with_a_remedy(subject: Subject) -> None:
    for act in (ProviderAct.REVERT, ProviderAct.RESTORE_OS_DISK):
        with pytest.raises(ProviderError) as raised:
            subject.order(act, "nothing")
        assert not isinstance(raised.value, ProviderUnavailable)
        assert raised.value.hint
    other = subject.open_other()
    with pytest.raises(ProviderError) as raised:
        other.read_machine(deadline=subject.deadline)
    assert not isinstance(raised.value, ProviderUnavailable)
    assert raised.value.hint


def test_a_provider_that_is_away_may_answer_later(subject: Subject) -> None:
    subject.set_away(True)
    with pytest.raises(ProviderUnavailable):
        subject.read()
    with pytest.raises(ProviderUnavailable):
        subject.order(ProviderAct.TAKE_SNAPSHOT, "s1")
    subject.set_away(False)
    assert subject.read().snapshots == ()


@pytest.mark.parametrize("subject", ["libvirt"], indirect=True)
@pytest.mark.parametrize("fault", ["writable", "other", "absent"])
def test_a_disk_is_made_only_from_an_image_that_is_right(subject: Subject, fault: str) -> None:
    image = subject.make_image("2", "image 2")
    if fault == "writable":
        Path(image.reference).chmod(0o644)
    else:
        path = "/nowhere/2.qcow2" if fault == "absent" else image.reference
        image = type(image)(IMAGE, "2", path, "0" * 64)
    before = subject.read()
    with pytest.raises(ProviderError) as raised:
        subject.order(ProviderAct.REPLACE_OS_DISK, "u1", image=image)
    assert raised.value.hint
    assert replace(subject.read(), notes=before.notes) == before, (
        "an order that was refused leaves a number in the notes"
    )


def put_back_later(subject: Subject, act: ProviderAct) -> None:
    """Bring the machine to where an act can be ordered: u1 was ordered, or s1 was taken."""
    write_both(subject, "mine")
    if act in (ProviderAct.REVERT, ProviderAct.DELETE_SNAPSHOT):
        subject.order(ProviderAct.TAKE_SNAPSHOT, "s1")
        write_both(subject, "later")
    if act in (ProviderAct.RESTORE_OS_DISK, ProviderAct.DELETE_OS_DISK):
        subject.order(ProviderAct.REPLACE_OS_DISK, "s1", image=subject.make_image("2", "image 2"))
    if act not in IS_OFF:
        subject.order(ProviderAct.START)


# The machine has no system that shuts down, so a running one gets no new disk.
IS_OFF = (ProviderAct.REVERT, ProviderAct.RESTORE_OS_DISK, ProviderAct.REPLACE_OS_DISK)
AFTER = {
    ProviderAct.TAKE_SNAPSHOT: ("mine", "mine"),
    ProviderAct.REVERT: ("mine", "later"),
    ProviderAct.DELETE_SNAPSHOT: ("later", "later"),
    ProviderAct.REPLACE_OS_DISK: ("image 3", "mine"),
    ProviderAct.RESTORE_OS_DISK: ("mine", "mine"),
    ProviderAct.DELETE_OS_DISK: ("image 2", "mine"),
}


@pytest.mark.parametrize("act", AFTER, ids=str)
def test_an_order_that_breaks_anywhere_is_completed_by_the_same_order(subject: Subject, act: ProviderAct) -> None:
    """Its line breaks behind its first change, then, ordered again, behind its second one, and so on."""
    put_back_later(subject, act)
    image = subject.make_image("3", "image 3") if act is ProviderAct.REPLACE_OS_DISK else None
    number = 0
    while True:
        has_broken = subject.break_at(act, number)
        try:
            subject.order(act, "s1", image=image)
        except ProviderUnavailable:
            assert has_broken()
        machine = subject.read()
        assert len(machine.os_disks) == 1
        assert machine.os_disks[0].source
        assert read_both(subject, machine)[1] == AFTER[act][1]
        if not has_broken():
            break
        number += subject.stride
        assert number < 40
    assert number > 0
    subject.break_at(act, -1)
    subject.order(act, "s1", image=image)
    machine = subject.read()
    assert read_both(subject, machine) == AFTER[act]
    assert machine.power is (PowerState.STOPPED if act in IS_OFF else PowerState.RUNNING)
    taken = act in (ProviderAct.TAKE_SNAPSHOT, ProviderAct.REVERT)
    assert [snapshot.id for snapshot in machine.snapshots] == (["s1"] if taken else [])
    assert [kept.id for kept in machine.kept_disks] == (["s1"] if act is ProviderAct.REPLACE_OS_DISK else [])


def write_both(subject: Subject, text: str) -> None:
    machine = subject.read()
    if machine.power is not PowerState.STOPPED:
        subject.order(ProviderAct.POWER_OFF)
    for disk in machine.disks:
        subject.write_source(disk.source, text)


def read_both(subject: Subject, machine: ProvidedMachine | None = None) -> tuple[str, str]:
    machine = machine or subject.read()
    (os_disk,) = machine.os_disks
    (data_disk,) = (disk for disk in machine.disks if disk.role is DATA)
    return subject.read_source(os_disk.source), subject.read_source(data_disk.source)
