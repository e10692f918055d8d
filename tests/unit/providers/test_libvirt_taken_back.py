"""A domain that somebody defines from an older XML: seen, told with the way back, and nothing more is done to it."""

import shlex
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any
from xml.etree.ElementTree import tostring

import pytest
from defusedxml.ElementTree import fromstring

from inventory.machine import Machine as InventoryMachine
from tasks.domain.errors import DisksTakenBack, ProviderError, ProviderUnavailable
from tasks.domain.protocols.clock import Deadline
from tasks.domain.provided_machines import ProvidedMachine, ProviderAct, ProviderRecord
from tasks.machines.providers.libvirt.state import DomainState, read_any_state, write_state
from tasks.machines.providers.note_watch import NoteWatch
from tasks.machines.providers.registry import GuardedProvider
from tests.support.provider_records import KeptRecords, NoGuard
from tests.unit.providers.libvirt_host import IMAGE, File, LibvirtHost, Machine, build_disk, find_disk

TAKE, REVERT, DELETE = ProviderAct.TAKE_SNAPSHOT, ProviderAct.REVERT, ProviderAct.DELETE_SNAPSHOT
REPLACE, RESTORE, DELETE_DISK = ProviderAct.REPLACE_OS_DISK, ProviderAct.RESTORE_OS_DISK, ProviderAct.DELETE_OS_DISK
DISKS = {"vda": "/d/os.qcow2", "vdb": "/d/data.qcow2"}


@dataclass
class WatchedMachine(Machine):
    """A machine whose notes are in the records of a controller, too."""

    records: KeptRecords = field(default_factory=KeptRecords)
    guard: NoGuard = field(default_factory=NoGuard)

    @property
    def _provider(self) -> Any:
        machine, provider = InventoryMachine("web-1", "10.0.0.1", provider="rack/web"), super()._provider
        watch = NoteWatch(machine, provider, self.records)
        return GuardedProvider(provider, self.host.clock, 900, self.guard, watch)

    def order(self, act: ProviderAct, order_id: str = "s1", **more: Any) -> str:
        note = super().order(act, order_id, **more)
        self.read()  # as every caller does
        return note

    def adopt(self, *, as_it_is: bool = False) -> str:
        done: str = self._provider.adopt(as_it_is=as_it_is, deadline=Deadline.after(self.host.clock, 900))
        return done

    def has_notes(self) -> bool:
        return bool(self._provider.has_notes())

    def dump(self) -> str:
        return tostring(self.domain.config, encoding="unicode")

    def power_cycle(self) -> None:
        self.domain.live = None
        self.host.start(self.name)

    def get_files(self) -> dict[str, str]:
        xml = self.domain.config if self.domain.live is None else self.domain.live
        return {target: find_disk(xml, target).find("source").get("file") for target in DISKS}

    def put_back(self) -> None:
        """Do what the way back says."""
        with pytest.raises(DisksTakenBack) as raised:
            self.read()
        commands = [shlex.split(line) for line in raised.value.hint.splitlines() if line.startswith("printf %s")]
        assert len(commands) == 2
        self.domain.live = None
        for command in commands:
            words = ("virsh", "-q", "update-device", "--domain", self.name)
            self.host.order(*words, text=command[2], deadline=Deadline.after(self.host.clock, 9))
        self.host.start(self.name)


@dataclass
class Intruder(NoGuard):
    """Somebody acts while the machine is asked who it is."""

    act: Callable[[], object]

    def require(self, provided: ProvidedMachine, deadline: Deadline) -> None:
        self.act()


def make_web() -> WatchedMachine:
    host = LibvirtHost()
    host.define("web", *(build_disk(target, path) for target, path in DISKS.items()))
    host.start("web")
    return WatchedMachine(host, "web")


@pytest.fixture
def web() -> WatchedMachine:
    return make_web()


@pytest.fixture
def taken_back(web: WatchedMachine) -> WatchedMachine:
    """It runs with the disks of before its snapshot."""
    old = web.dump()
    web.order(TAKE)
    web.host.define_again("web", old)
    web.power_cycle()
    return web


def read_loss(machine: WatchedMachine) -> DisksTakenBack:
    with pytest.raises(DisksTakenBack) as raised:
        machine.read()
    return raised.value


def test_it_is_seen_and_nothing_more_is_ordered(taken_back: WatchedMachine) -> None:
    assert taken_back.get_files() == DISKS
    loss = read_loss(taken_back)
    assert "vda has an older file than /d/web.vda.layer-1.qcow2" in loss.message
    assert "vdb has an older file than /d/web.vdb.layer-1.qcow2" in loss.message
    assert "forgotten s1" in loss.message
    before = taken_back.dump(), set(taken_back.host.files)
    for act in set(ProviderAct) - {ProviderAct.STOP, ProviderAct.POWER_OFF}:
        with pytest.raises(DisksTakenBack):
            taken_back.order(act, "s2", image=IMAGE)
    assert (taken_back.dump(), set(taken_back.host.files)) == before
    (record,) = taken_back.records.rows.values()
    assert record.loss.startswith(loss.message)
    with pytest.raises(DisksTakenBack):
        taken_back.order(ProviderAct.POWER_OFF)
    assert taken_back.domain.live is None, "it may be stopped"


def test_the_way_back_is_told_and_ends_it(taken_back: WatchedMachine) -> None:
    hint = read_loss(taken_back).hint
    assert "The newest data of vda: /d/web.vda.layer-1.qcow2, 4096 bytes, last written 2026-03-10 01:00:00" in hint
    assert "virsh shutdown web" in hint
    assert "update-device web /dev/stdin --config" in hint
    assert hint.index("virsh start web") < hint.index("fleetpatch snapshots adopt web-1\n")
    assert "CAUTION" not in hint
    with pytest.raises(DisksTakenBack):
        taken_back.adopt()
    taken_back.put_back()
    assert "has forgotten s1" in read_loss(taken_back).message, "its disks are right, and its notes are not"
    assert taken_back.adopt() == "its provider knows s1 again"
    assert [snapshot.id for snapshot in taken_back.read().snapshots] == ["s1"]
    (record,) = taken_back.records.rows.values()
    assert record.loss == ""
    taken_back.order(DELETE)
    assert taken_back.get_files() == DISKS


def test_a_file_that_was_written_to_below_the_newest_one_is_told(taken_back: WatchedMachine) -> None:
    taken_back.host.files["/d/os.qcow2"].mark = "1 1 1 2"
    hint = read_loss(taken_back).hint
    assert "CAUTION: /d/os.qcow2 was written to since" in hint
    del taken_back.host.files["/d/web.vda.layer-1.qcow2"]
    hint = read_loss(taken_back).hint
    assert "layer-1.qcow2, which had the newest data of vda, is not there any more" in hint
    assert "update-device" not in hint


def test_a_file_without_a_mark_below_the_newest_one_is_told(web: WatchedMachine) -> None:
    old = web.dump()
    web.order(TAKE)
    web.order(TAKE, "s2")
    web.order(DELETE)
    web.host.define_again("web", old)
    web.power_cycle()
    hint = read_loss(web).hint
    assert "CAUTION: whether /d/data.qcow2, /d/os.qcow2 was written to since is not known." in hint
    assert "First copy all of these files." in hint


def test_the_way_back_leads_to_the_disk_that_replaced_the_layer(web: WatchedMachine) -> None:
    old = web.dump()
    web.order(TAKE)
    web.order(REPLACE, "u1", image=IMAGE)
    web.host.define_again("web", old)
    web.power_cycle()
    assert "vda has an older file than /d/web.vda.u1.qcow2" in read_loss(web).message
    web.put_back()
    assert web.get_files() == {"vda": "/d/web.vda.u1.qcow2", "vdb": "/d/web.vdb.layer-1.qcow2"}


def test_no_command_is_told_if_an_owner_has_put_a_file_above_our_layer(web: WatchedMachine) -> None:
    old = web.dump()
    web.order(TAKE)
    web.host.files["/d/backup.qcow2"] = File("/d/web.vda.layer-1.qcow2")
    for xml in (web.domain.config, web.domain.live):
        find_disk(xml, "vda").find("source").set("file", "/d/backup.qcow2")
    web.read()
    with_overlay = web.dump()
    web.host.define_again("web", old)
    web.power_cycle()
    loss = read_loss(web)
    assert "vda has an older file than /d/backup.qcow2" in loss.message
    assert "The newest data of vda: /d/backup.qcow2" in loss.hint
    assert "update-device" not in loss.hint
    web.host.define_again("web", with_overlay)
    find_disk(web.domain.config, "vda").find("source").set("file", "/d/web.vda.layer-1.qcow2")  # it was merged
    web.power_cycle()
    web.read()


def test_a_machine_that_still_runs_with_the_newest_files_is_seen_before_it_starts(web: WatchedMachine) -> None:
    old = web.dump()
    web.order(TAKE)
    web.host.define_again("web", old)
    assert web.get_files() != DISKS
    assert "vda has an older file" in read_loss(web).message


def test_a_person_may_say_that_it_is_right_as_it_is(taken_back: WatchedMachine) -> None:
    done = taken_back.adopt(as_it_is=True)
    assert "/d/web.vda.layer-1.qcow2, /d/web.vdb.layer-1.qcow2 may be left on its host" in done
    assert taken_back.read().snapshots == ()
    assert taken_back.get_files() == DISKS
    taken_back.order(TAKE, "s2")
    taken_back.order(DELETE, "s2")
    assert taken_back.adopt() == ""


def test_another_controller_sees_it_too_and_takes_what_a_person_said_there(web: WatchedMachine) -> None:
    second = WatchedMachine(web.host, "web")
    old = web.dump()
    web.order(TAKE)
    second.read()
    web.host.define_again("web", old)
    web.power_cycle()
    read_loss(second)
    web.adopt(as_it_is=True)
    assert second.read().snapshots == ()


def test_a_kept_disk_that_was_forgotten_is_seen(web: WatchedMachine) -> None:
    old = web.dump()
    web.order(REPLACE, "u1", image=IMAGE)
    web.host.define_again("web", old)
    web.power_cycle()
    loss = read_loss(web)
    assert "vda is not in /d/web.vda.u1.qcow2 any more" in loss.message
    assert "forgotten u1" in loss.message
    assert "update-device" not in loss.hint


@pytest.mark.parametrize("act", [TAKE, REVERT, DELETE, REPLACE, RESTORE, DELETE_DISK], ids=str)
@pytest.mark.parametrize("runs", [True, False], ids=["runs", "off"])
def test_an_order_of_ours_is_no_loss_wherever_it_broke(act: ProviderAct, *, runs: bool) -> None:
    """Somebody looks, and the process dies a command later. A later process looks, and gives the order again."""
    breaks_at, has_ended = 1, False
    while not has_ended:
        web, given = make_web(), 0
        if not runs:
            web.domain.live = None
        if act in {REVERT, DELETE}:
            web.order(TAKE)
        if act in {RESTORE, DELETE_DISK}:
            web.order(REPLACE, image=IMAGE)

        def count(_words: Sequence[str], web: WatchedMachine = web, breaks_at: int = breaks_at) -> None:
            nonlocal given
            given += 1
            if given > breaks_at:
                raise ProviderUnavailable("the line broke")
            if given == breaks_at:
                web.host.before = lambda _words: None
                web.read()
                web.host.before = count

        other = WatchedMachine(web.host, "web")
        other.read()
        web.host.before = count
        with suppress(ProviderUnavailable):
            super(WatchedMachine, web).order(act, image=IMAGE)
            has_ended = True
        web.host.before = lambda _words: None
        other.read()
        web.read()
        web.order(act, image=IMAGE)
        breaks_at += 4 if act is DELETE else 10
    assert breaks_at > 20


def test_the_older_definition_is_seen_if_nothing_is_left_but_the_new_disk(web: WatchedMachine) -> None:
    old = web.dump()
    web.order(REPLACE, "u1", image=IMAGE)
    web.order(DELETE_DISK, "u1")
    web.host.define_again("web", old)
    assert web.has_notes()
    assert "vda is not in /d/web.vda.u1.qcow2 any more" in read_loss(web).message


def test_a_definition_of_before_a_revert_is_seen(web: WatchedMachine) -> None:
    web.order(TAKE)
    old = web.dump()
    web.order(REVERT, with_data_disks=True)
    web.host.define_again("web", old)
    web.power_cycle()
    assert "vda is not in /d/web.vda.layer-2.qcow2 any more" in read_loss(web).message


def test_notes_that_have_begun_anew_are_no_newer_ones(web: WatchedMachine) -> None:
    second, old = WatchedMachine(web.host, "web"), web.dump()
    web.order(TAKE)
    web.host.define_again("web", old)
    web.power_cycle()
    for number in range(3):
        second.order(TAKE, f"t{number}")
    assert "forgotten s1" in read_loss(web).message
    web.adopt(as_it_is=True)
    assert len(web.read().snapshots) == len(second.read().snapshots) == 3


def test_a_slow_look_beside_an_order_is_no_loss(web: WatchedMachine) -> None:
    web.order(TAKE)
    has_run = False

    def run_beside(words: Sequence[str]) -> None:
        nonlocal has_run
        if words[0] == "qemu-img" and not has_run:  # it has read the definition
            has_run = True
            web.order(TAKE, "s2")

    web.host.before = run_beside
    assert {snapshot.id for snapshot in web.read().snapshots} == {"s1", "s2"}


def make_fork() -> tuple[WatchedMachine, WatchedMachine]:
    """Return a machine as the controller knows it that has taken the last snapshot, and as one that goes on without."""
    web = make_web()
    second = WatchedMachine(web.host, "web")
    web.order(TAKE)
    second.read()
    old = web.dump()
    web.order(TAKE, "s2")
    web.host.define_again("web", old)
    web.power_cycle()
    return web, second


@pytest.mark.parametrize("is_seen", [True, False], ids=["seen before", "not seen before"])
@pytest.mark.parametrize("orders", [1, 2], ids=["equal number", "higher number"])
def test_a_fork_that_another_controller_goes_on_with_is_no_newer_definition(orders: int, *, is_seen: bool) -> None:
    web, second = make_fork()
    if is_seen:
        read_loss(web)
    for number in range(orders):
        second.order(TAKE, f"t{number}")
    loss = read_loss(web)
    assert "vda is not in /d/web.vda.layer-2.qcow2 any more" in loss.message
    assert "forgotten s2" in loss.message
    with pytest.raises(DisksTakenBack):
        web.order(DELETE)
    assert "/d/web.vda.layer-1.qcow2" in web.host.files, "the newest data are above it"
    web.host.define_again("web", web.dump())
    assert read_loss(web).message == loss.message


def test_a_loss_that_was_seen_does_not_end_with_the_file(web: WatchedMachine) -> None:
    web, second = make_fork()
    read_loss(web)
    for number in range(2):
        second.order(TAKE, f"t{number}")
    for target in DISKS:
        del web.host.files[f"/d/web.{target}.layer-2.qcow2"]
    assert "vda is not in /d/web.vda.layer-2.qcow2 any more" in read_loss(web).message
    web.adopt(as_it_is=True)
    assert {snapshot.id for snapshot in web.read().snapshots} == {"s1", "t0", "t1"}
    assert {record.loss for record in web.records.rows.values()} == {""}
    assert len(second.read().snapshots) == 3


def test_a_fork_ends_where_it_began_if_the_newest_files_are_put_back() -> None:
    web, second = make_fork()
    second.order(TAKE, "t1")
    read_loss(web)
    for target in DISKS:
        for xml in (web.domain.config, web.domain.live):
            find_disk(xml, target).find("source").set("file", f"/d/web.{target}.layer-2.qcow2")
    assert web.adopt() == "its provider knows s2 again"
    assert {snapshot.id for snapshot in web.read().snapshots} == {"s1", "s2"}
    assert {snapshot.id for snapshot in second.read().snapshots} == {"s1", "s2"}, "a person has decided"
    web.order(TAKE, "s3")
    assert web.get_files()["vda"] == "/d/web.vda.layer-4.qcow2"


@pytest.mark.parametrize("act", [REVERT, DELETE, REPLACE], ids=str)
def test_what_another_controller_has_done_since_is_no_loss(web: WatchedMachine, act: ProviderAct) -> None:
    second = WatchedMachine(web.host, "web")
    web.order(TAKE)
    web.order(REPLACE, "u1", image=IMAGE)
    web.order(RESTORE, "u1")
    second.order(act, image=IMAGE, with_data_disks=True)
    web.read()
    second.order(DELETE if act is not DELETE else TAKE)
    second.order(DELETE_DISK)
    web.read()


@pytest.mark.parametrize("act", [TAKE, DELETE], ids=str)
def test_what_is_defined_while_the_machine_is_asked_who_it_is(web: WatchedMachine, act: ProviderAct) -> None:
    web.order(TAKE)
    old = web.dump()
    web.order(TAKE, "s2")

    def define() -> None:
        web.host.define_again("web", old)
        web.power_cycle()

    web.guard = Intruder(define)
    with pytest.raises(DisksTakenBack):
        web.order(act, "s1" if act is DELETE else "s3")
    assert web.get_files()["vda"] == "/d/web.vda.layer-1.qcow2"
    assert web.host.removed == []
    with pytest.raises(DisksTakenBack):
        web.read()


def test_the_notes_of_an_order_are_kept_before_its_caller_looks(web: WatchedMachine) -> None:
    web.order(TAKE)
    old = web.dump()
    super(WatchedMachine, web).order(TAKE, "s2")  # and its process dies
    web.host.define_again("web", old)
    web.power_cycle()
    assert "forgotten s2" in read_loss(web).message


@pytest.mark.parametrize("act", [TAKE, REPLACE], ids=str)
def test_a_machine_between_two_definitions_cannot_be_taken_as_it_is(web: WatchedMachine, act: ProviderAct) -> None:
    old = web.dump()
    web.order(act, image=IMAGE)
    newest = web.get_files()
    web.host.define_again("web", old)
    before = web.dump()
    with pytest.raises(DisksTakenBack) as raised:
        web.adopt(as_it_is=True)
    assert web.dump() == before
    assert f'<source file="{newest["vda"]}" />' in raised.value.hint.replace("'", '"')
    assert "update-device web /dev/stdin --config" in raised.value.hint
    assert "adopt web-1 --as-it-is" not in raised.value.hint
    assert "other disks than it runs with" in raised.value.hint
    web.power_cycle()
    web.adopt(as_it_is=True)
    assert web.read().snapshots == ()


def test_a_machine_that_sleeps_cannot_be_taken_as_it_is(taken_back: WatchedMachine) -> None:
    """Its memory has the disks that it would go on with."""
    read_loss(taken_back)
    taken_back.domain.live, taken_back.domain.is_saved = None, True
    with pytest.raises(ProviderError, match="sleeps") as raised:
        taken_back.adopt(as_it_is=True)
    assert "managedsave-remove" in raised.value.hint
    read_loss(taken_back)


def test_it_is_adopted_as_it_is_after_it_was_proven(taken_back: WatchedMachine) -> None:
    config = taken_back.domain.config
    taken_back.guard = Intruder(lambda: find_disk(config, "vdb").find("source").set("file", "/d/web.vdb.layer-1.qcow2"))
    with pytest.raises(DisksTakenBack):
        taken_back.adopt(as_it_is=True)


def test_a_machine_that_was_made_anew_and_sleeps_is_told(taken_back: WatchedMachine) -> None:
    taken_back.domain.live, taken_back.domain.is_saved = None, True
    taken_back.domain.config.find("uuid").text = "id-new"
    hint = read_loss(taken_back).hint
    assert "Its UUID has changed from id-web to id-new: was it made anew?" in hint
    assert "as the records have it since 2026-" in hint
    assert hint.index("managedsave-remove web") < hint.index("update-device")


def test_nothing_that_an_older_definition_would_remove_is_removed(web: WatchedMachine) -> None:
    web.order(REPLACE, "u1", image=IMAGE, user_data="#cloud-config")
    state = read_any_state(web.domain.config.find("metadata")[0].text, "web")
    older = replace(state, number=1, doomed=("/d/os.qcow2",), kept_disks=())
    web.domain.config.find("metadata")[0].text = write_state(older)
    for xml in (web.domain.config, web.domain.live):
        find_disk(xml, "vda").find("source").set("file", "/d/data2.qcow2")
        xml.find("devices").remove(find_disk(xml, "vdz"))
    web.host.files["/d/data2.qcow2"] = File()
    done = web.adopt(as_it_is=True)
    assert "/d/os.qcow2, /d/web.u1.seed.iso, /d/web.vda.u1.qcow2 may be left on its host" in done
    web.order(TAKE)
    web.order(DELETE)
    assert "/d/os.qcow2" in web.host.files


def test_metadata_of_before_digests_had_an_algorithm_are_read(web: WatchedMachine) -> None:
    web.order(REPLACE, "u1", image=IMAGE)
    text = web.domain.config.find("metadata")[0].text.replace(f'"digest": "{IMAGE.digest}"', '"sha256": "ab"')
    web.domain.config.find("metadata")[0].text = text
    assert "sha256:ab" in {disk.image_digest for disk in web.read().disks}


def test_an_adoption_that_breaks_ends_its_order(taken_back: WatchedMachine) -> None:
    taken_back.put_back()
    written = 0

    def refuse(words: Sequence[str]) -> None:
        nonlocal written
        written += "metadata" in words
        if written == 2:
            written += 1
            raise ProviderUnavailable("the line broke")

    taken_back.host.before = refuse
    with pytest.raises(ProviderUnavailable, match="the line broke"):
        taken_back.adopt()
    assert read_any_state(taken_back.domain.config.find("metadata")[0].text, "web").order == ""


def test_what_an_owner_does_rightly_is_no_loss(web: WatchedMachine) -> None:
    web.order(TAKE)
    for xml in (web.domain.config, web.domain.live):
        find_disk(xml, "vdb").find("source").set("file", "/new/data.qcow2")
    web.host.files["/new/data.qcow2"] = web.host.files["/d/web.vdb.layer-1.qcow2"]
    assert [snapshot.id for snapshot in web.read().snapshots] == ["s1"]
    fresh = web.dump()
    web.host.define_again("web", fresh)
    web.power_cycle()
    web.read()


def test_a_definition_of_a_machine_without_anything_of_ours_is_no_loss(web: WatchedMachine) -> None:
    old = web.dump()
    web.order(TAKE)
    web.order(DELETE)
    web.host.define_again("web", old)
    web.power_cycle()
    web.read()
    web.order(TAKE, "s2")
    assert [snapshot.id for snapshot in web.read().snapshots] == ["s2"]


def test_a_file_below_a_layer_of_a_detached_disk_is_seen_when_it_comes_back(web: WatchedMachine) -> None:
    web.order(TAKE)
    web.detach("vdb")
    web.read()
    for xml in (web.domain.config, web.domain.live):
        xml.find("devices").append(fromstring(build_disk("vdb", "/d/data.qcow2")))
    assert "vdb has an older file than /d/web.vdb.layer-1.qcow2" in read_loss(web).message


def test_notes_that_cannot_be_read_here_stop_every_order_until_a_person_takes_the_machine_as_it_is(
    taken_back: WatchedMachine,
) -> None:
    (key,) = taken_back.records.rows
    unreadable = ProviderRecord(*key, loss="sealed with the key k, which is not here\nGet the key.")
    taken_back.records.rows[key] = unreadable
    assert taken_back.has_notes()
    loss = read_loss(taken_back)
    assert (loss.message, loss.hint) == ("sealed with the key k, which is not here", "Get the key.")
    for act in set(ProviderAct) - {ProviderAct.STOP, ProviderAct.POWER_OFF}:
        with pytest.raises(DisksTakenBack):
            taken_back.order(act, "s2", image=IMAGE)
    with pytest.raises(DisksTakenBack):
        taken_back.adopt()
    find_disk(taken_back.domain.config, "vda").find("source").set("file", "/d/web.vda.layer-1.qcow2")
    with pytest.raises(DisksTakenBack, match="other disks than it runs with"):
        taken_back.adopt(as_it_is=True)
    find_disk(taken_back.domain.config, "vda").find("source").set("file", "/d/os.qcow2")
    assert taken_back.records.rows[key] == unreadable
    assert "its notes begin anew" in taken_back.adopt(as_it_is=True)
    taken_back.order(TAKE, "s2")
    assert [snapshot.id for snapshot in taken_back.read().snapshots] == ["s2"]


@pytest.mark.parametrize("layers", [{"a": "a"}, {"a": "b", "b": "a"}, {"a": "b", "b": "c", "c": "b"}])
def test_layers_that_go_round_can_not_be_read(layers: dict[str, str]) -> None:
    with pytest.raises(ProviderError, match="its layers go round"):
        read_any_state(write_state(DomainState("u", layers=layers)), "web")
    assert read_any_state(write_state(DomainState("u", layers=layers | dict.fromkeys("abc", "d"))), "web").layers
