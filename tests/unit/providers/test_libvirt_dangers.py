"""What other hands do to a domain never costs data: clones, detached disks, a start in between, a second order."""

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest
from defusedxml.ElementTree import fromstring

from tasks.domain.errors import ProviderError, ProviderUnavailable
from tasks.domain.provided_machines import Consistency, DiskRole, PowerState, ProviderAct
from tasks.machines.providers.libvirt.domain import needs_other_files, parse_chain
from tests.unit.providers.libvirt_host import IMAGE, File, LibvirtHost, Machine, build_disk, find_disk

TAKE, REVERT, DELETE = ProviderAct.TAKE_SNAPSHOT, ProviderAct.REVERT, ProviderAct.DELETE_SNAPSHOT
REPLACE, RESTORE, DELETE_DISK = ProviderAct.REPLACE_OS_DISK, ProviderAct.RESTORE_OS_DISK, ProviderAct.DELETE_OS_DISK


@pytest.fixture
def host() -> LibvirtHost:
    host = LibvirtHost()
    host.define("web", build_disk("vda", "/d/os.qcow2"), build_disk("vdb", "/d/data.qcow2"))
    return host


@pytest.fixture
def web(host: LibvirtHost) -> Machine:
    return host.open("web")


def clone(host: LibvirtHost, *disks: str) -> Machine:
    host.define("clone", *disks)
    metadata = host.domains["clone"].config.find("metadata")
    metadata.extend(host.domains["web"].config.find("metadata"))
    return host.open("clone")


def source_of(machine: Machine, target: str) -> str:
    return next(disk.source for disk in machine.read().disks if disk.id == target)


def test_a_clone_with_the_state_of_its_original_is_refused(host: LibvirtHost, web: Machine) -> None:
    web.order(TAKE)
    copy = clone(host, build_disk("vda", "/d/clone.qcow2"))
    before = set(host.files)
    for call in (copy.read, lambda: copy.order(DELETE), lambda: copy.order(TAKE, "s2")):
        with pytest.raises(ProviderError, match="those of another domain: id-web") as raised:
            call()
        assert "--remove" in raised.value.hint
    assert set(host.files) == before


def test_a_file_that_another_domain_has_is_not_removed(host: LibvirtHost, web: Machine) -> None:
    web.order(REPLACE, "u1", image=IMAGE)
    new = source_of(web, "vda")
    host.define("other", build_disk("vda", "/d/other.qcow2"))
    host.files["/d/other.qcow2"].below = new
    assert "a machine has" in web.order(RESTORE, "u1")
    assert new in host.files
    host.domains.pop("other")
    web.order(TAKE)
    web.order(DELETE)
    assert host.removed.count(new) == 1


def test_nothing_is_removed_while_a_disk_of_another_domain_cannot_be_read(host: LibvirtHost, web: Machine) -> None:
    web.order(REPLACE, "u1", image=IMAGE)
    host.define("other", build_disk("vda", "/d/other.qcow2"))
    host.files["/d/other.qcow2"].is_readable = False
    assert "nothing was cleared away" in web.order(RESTORE, "u1")
    assert host.removed == []


def test_nothing_is_removed_while_another_domain_has_a_volume(host: LibvirtHost, web: Machine) -> None:
    web.order(REPLACE, "u1", image=IMAGE)
    host.define("other", "<disk type='volume'><source pool='p' volume='x'/><target dev='vda'/></disk>")
    assert "the volume x of a domain" in web.order(RESTORE, "u1")
    assert host.removed == []


@pytest.mark.parametrize("above", ["", "/d/look.qcow2"], ids=["itself", "below another"])
@pytest.mark.parametrize("when", ["now", "at its next start"])
def test_a_kept_disk_that_its_machine_reads_is_not_removed(
    host: LibvirtHost, web: Machine, when: str, above: str
) -> None:
    host.start("web")
    web.order(REPLACE, "u1", image=IMAGE)
    if above:
        host.files[above] = File("/pool/../d/os.qcow2")
    xml = web.domain.live if when == "now" else web.domain.config
    xml.find("devices").append(fromstring(build_disk("vdc", above or "/d/os.qcow2", is_readonly=True)))
    assert "a machine has /d/os.qcow2: it stays" in web.order(DELETE_DISK, "u1")
    assert host.removed == []
    xml.find("devices").remove(find_disk(xml, "vdc"))
    web.order(DELETE_DISK, "u1")
    assert host.removed == ["/d/os.qcow2"]


def test_no_file_is_overwritten(host: LibvirtHost, web: Machine) -> None:
    host.files["/d/web.vda.u1.qcow2"] = File()
    with pytest.raises(ProviderError, match=r"/d/web\.vda\.u1\.qcow2 is there already"):
        web.order(REPLACE, "u1", image=IMAGE)
    host.files["/d/web.vda.layer-1.qcow2"] = File("/d/not-ours")
    web.order(TAKE)
    web.order(REVERT)
    assert host.files["/d/web.vda.layer-1.qcow2"].below == "/d/not-ours"
    assert source_of(web, "vdb") != source_of(web, "vda") != "/d/os.qcow2"


def test_what_a_detached_disk_has_written_stays(host: LibvirtHost, web: Machine) -> None:
    host.start("web")
    web.order(TAKE)
    layer = source_of(web, "vdb")
    web.detach("vdb")
    with pytest.raises(ProviderError, match="vdb of the snapshot s1 is no disk of it any more"):
        web.order(DELETE)
    assert "whether it was merged is not known: it stays" in web.order(REVERT)
    assert {layer, "/d/data.qcow2"} <= set(host.files)
    assert layer not in host.removed


def test_a_layer_that_a_revert_has_replaced_goes(host: LibvirtHost, web: Machine) -> None:
    web.order(TAKE)
    layer = source_of(web, "vda")
    web.order(REVERT)
    assert layer in host.removed
    assert source_of(web, "vda") in host.files


def test_merged_layers_go(host: LibvirtHost, web: Machine) -> None:
    web.order(TAKE)
    layers = {source_of(web, target) for target in ("vda", "vdb")}
    web.order(DELETE)
    assert set(host.removed) == layers
    assert [disk.source for disk in web.read().disks] == ["/d/os.qcow2", "/d/data.qcow2"]


def test_a_snapshot_whose_deletion_broke_off_is_no_way_back(host: LibvirtHost, web: Machine) -> None:
    web.order(TAKE)

    def fill(words: Sequence[str]) -> None:
        if "commit" in words:
            raise ProviderError("No space left on device", hint="")

    host.before = fill
    with pytest.raises(ProviderError, match="No space left"):
        web.order(DELETE)
    host.before = lambda _words: None
    (snapshot,) = web.read().snapshots
    assert snapshot.fault == "its deletion has begun: order it again"
    web.order(DELETE)
    assert web.read().snapshots == ()


def test_a_disk_that_was_put_back_stays_in_place_when_its_layer_is_merged(host: LibvirtHost, web: Machine) -> None:
    web.order(TAKE)
    layer = source_of(web, "vda")
    web.order(REPLACE, "u1", image=IMAGE)
    web.order(RESTORE, "u1")
    assert source_of(web, "vda") == layer
    web.order(DELETE)
    assert (source_of(web, "vda"), web.read().kept_disks) == ("/d/os.qcow2", ())
    assert layer in host.removed
    assert "put back before" in web.order(RESTORE, "u1"), "the merged layer would be a ruined disk"
    assert source_of(web, "vda") == "/d/os.qcow2"


def test_a_start_while_a_disk_is_changed_fails_the_order(host: LibvirtHost, web: Machine) -> None:
    host.start("web")
    web.order(TAKE)
    layer = source_of(web, "vda")

    def start_first(words: Sequence[str]) -> None:
        if "update-device" in words and web.domain.live is None:
            host.start("web")

    host.before = start_first
    with pytest.raises(ProviderError, match="was started while vda was changed"):
        web.order(REVERT)
    assert find_disk(web.domain.config, "vda").find("source").get("file") == layer
    assert layer in host.files


def test_the_disk_is_told_that_the_machine_runs_with(host: LibvirtHost, web: Machine) -> None:
    host.start("web")
    find_disk(web.domain.config, "vda").find("source").set("file", "/d/next.qcow2")
    assert source_of(web, "vda") == "/d/os.qcow2"


def test_disks_that_are_attached_only_now(host: LibvirtHost, web: Machine) -> None:
    host.start("web")
    host.files["/d/hot.qcow2"] = File()
    web.domain.live.find("devices").append(find_disk(host_with(build_disk("vdc", "/d/hot.qcow2")), "vdc"))
    assert [(disk.id, disk.role) for disk in web.read().disks][2:] == [("vdc", DiskRole.UNKNOWN)]
    for act in (TAKE, REPLACE):
        with pytest.raises(ProviderError, match="vdc is attached only now"):
            web.order(act, image=IMAGE)


def host_with(disk: str) -> object:
    host = LibvirtHost()
    host.define("one", disk)
    return host.domains["one"].config


def test_a_second_order_waits_until_the_first_one_has_ended(host: LibvirtHost, web: Machine) -> None:
    web.order(TAKE)
    host.start("web")
    refused: list[ProviderAct] = []

    def order_another(words: Sequence[str]) -> None:
        if "update-device" in words and not refused:
            for act in (DELETE, REPLACE, ProviderAct.START):
                with pytest.raises(ProviderUnavailable, match="another order is at work: revert s1"):
                    web.order(act, "s1", image=IMAGE)
                refused.append(act)

    host.before = order_another
    web.order(REVERT)
    assert len(refused) == 3
    assert web.read().power is PowerState.RUNNING
    host.before = lambda _words: None
    web.order(ProviderAct.POWER_OFF)
    web.order(DELETE)


def test_a_state_that_somebody_else_has_written_is_not_overwritten(host: LibvirtHost, web: Machine) -> None:
    written = []

    def write_first(words: Sequence[str]) -> None:
        if "snapshot-create-as" in words:
            state = web.domain.config.find("metadata")[0]
            state.text = state.text.replace("take-snapshot s1", "take-snapshot s2")
            written.append(state.text)

    host.before = write_first
    with pytest.raises(ProviderUnavailable, match="another order is at work"):
        web.order(TAKE)
    assert web.domain.config.find("metadata")[0].text == written[0]


def test_an_order_that_died_counts_as_dead_after_its_time(host: LibvirtHost, web: Machine) -> None:
    web.order(TAKE)
    state = web.domain.config.find("metadata")[0]
    until = int(host.clock.now().timestamp()) + 100
    state.text = state.text.replace('"order": ""', '"order": "delete-snapshot s0"')
    state.text = state.text.replace('"order_until": 0', f'"order_until": {until}')
    with pytest.raises(ProviderUnavailable):
        web.order(DELETE)
    host.clock.sleep(101)
    web.order(DELETE)
    assert web.read().snapshots == ()


@pytest.mark.parametrize("act", [REVERT, RESTORE, REPLACE], ids=str)
def test_power_is_cut_only_for_a_way_back(host: LibvirtHost, web: Machine, act: ProviderAct) -> None:
    web.order(TAKE)
    web.order(REPLACE, "u1", image=IMAGE)
    before = source_of(web, "vda")
    host.start("web")
    web.domain.obeys_shutdown = False
    begun = host.clock.now()
    if act is REPLACE:
        with pytest.raises(ProviderError, match="did not shut down"):
            web.order(act, "u2", image=IMAGE)
        assert source_of(web, "vda") == before
    else:
        assert "its power was cut" in web.order(act, {REVERT: "s1", RESTORE: "u1"}[act])
        assert source_of(web, "vda") != before
    assert web.read().power is PowerState.RUNNING
    assert 90 < (host.clock.now() - begun).total_seconds() < 900


def test_what_cannot_be_read_is_not_gone(host: LibvirtHost, web: Machine) -> None:
    web.order(TAKE)
    web.order(REPLACE, "u1", image=IMAGE)
    web.order(REPLACE, "u2", image=IMAGE)
    host.files["/d/os.qcow2"].is_readable = False
    machine = web.read()
    assert [kept.id for kept in machine.kept_disks] == ["u1", "u2"]
    assert [(snapshot.id, snapshot.consistency) for snapshot in machine.snapshots] == [("s1", Consistency.UNKNOWN)]
    assert "can't be read" in web.order(RESTORE, "u2")
    assert host.removed == []


def test_a_file_that_could_not_be_removed_is_not_forgotten(
    host: LibvirtHost, web: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    web.order(REPLACE, "u1", image=IMAGE)
    new = source_of(web, "vda")
    with monkeypatch.context() as patch:
        patch.setattr(LibvirtHost, "_rm", lambda *_args: None)
        web.order(RESTORE, "u1")
    assert new in host.files
    web.order(TAKE)
    web.order(DELETE)
    assert new in host.removed


def test_a_seed_disk_gets_a_name_that_no_disk_has(host: LibvirtHost) -> None:
    host.define("one", build_disk("vda", "/d/one.qcow2"), build_disk("vdz", "/d/more.qcow2", is_readonly=True))
    machine = host.open("one")
    tried = []
    host.before = lambda words: tried.append(words[2]) if "attach-device" in words else None
    machine.order(REPLACE, "u1", image=IMAGE, user_data="#cloud-config")
    assert tried == ["attach-device"]
    targets = [disk.find("target").get("dev") for disk in machine.domain.config.iter("disk")]
    assert targets == ["vda", "vdz", "vdy"]


@pytest.mark.parametrize(("act", "path"), [(TAKE, "/d/data.qcow2"), (TAKE, "/pool/os"), (REPLACE, "/pool/os")])
def test_a_disk_that_another_domain_has_gets_nothing_above_it(
    host: LibvirtHost, web: Machine, act: ProviderAct, path: str
) -> None:
    host.links["/pool/os"] = "/d/os.qcow2"
    host.define("spare", build_disk("vda", "/d/spare.qcow2"), build_disk("vdb", path))
    before = [disk.source for disk in web.read().disks]
    with pytest.raises(ProviderError, match="shares a disk with another domain: spare") as raised:
        web.order(act, image=IMAGE)
    assert "Detach it" in raised.value.hint
    assert [disk.source for disk in web.read().disks] == before


def test_a_data_disk_that_another_domain_has_keeps_no_new_os_disk_away(host: LibvirtHost, web: Machine) -> None:
    host.define("spare", build_disk("vda", "/d/spare.qcow2"), build_disk("vdb", "/d/data.qcow2"))
    web.order(REPLACE, image=IMAGE)
    assert host.files[source_of(web, "vda")].below == IMAGE.reference
    assert source_of(web, "vdb") == "/d/data.qcow2"


@pytest.mark.parametrize("act", [TAKE, REPLACE])
def test_another_domain_may_go_in_the_meantime(host: LibvirtHost, web: Machine, act: ProviderAct) -> None:
    """The copy of a rehearsal, for example, of another machine on the same host."""
    host.define("db.rehearsal", build_disk("vda", "/d/copy.qcow2"))
    host.before = lambda words: host.domains.pop("db.rehearsal", None) if "id-db.rehearsal" in words else None
    web.order(act, image=IMAGE)
    assert "db.rehearsal" not in host.domains


@pytest.mark.parametrize("spelling", ["/pool/../d/{}", "/pool/{}"])
def test_a_file_that_another_domain_has_by_another_path_is_not_removed(
    host: LibvirtHost, web: Machine, spelling: str
) -> None:
    """qemu-img names a file below with the path that is written in the file above it."""
    web.order(REPLACE, "u1", image=IMAGE)
    new = source_of(web, "vda")
    name = new.removeprefix("/d/")
    host.links[f"/pool/{name}"] = new
    host.define("other", build_disk("vda", spelling.format(name)))
    assert f"a machine has {new}" in web.order(RESTORE, "u1")
    assert new in host.files


def test_a_drive_that_comes_with_the_next_start_is_in_no_snapshot(host: LibvirtHost, web: Machine) -> None:
    host.start("web")
    drive = "<disk type='file' device='cdrom'><target dev='sdb'/><readonly/></disk>"
    web.domain.config.find("devices").append(fromstring(drive))
    assert "crash-consistent" in web.order(TAKE)


def test_a_machine_without_disks_in_files_is_told_so(host: LibvirtHost) -> None:
    host.define("lun", "<disk type='block' device='disk'><source dev='/dev/sdq'/><target dev='vda'/></disk>")
    assert host.open("lun").read().snapshot_obstacle == "it boots from no disk that is in a file"
    with pytest.raises(ProviderError, match="boots from no disk that is in a file"):
        host.open("lun").order(TAKE)


@pytest.mark.parametrize(("room", "words"), [("1000 4096", "3 MiB are free"), ("", "can't be read")])
def test_a_snapshot_that_would_fill_its_store_is_not_taken(
    host: LibvirtHost, web: Machine, room: str, words: str
) -> None:
    host.room = room
    assert words in web.read().snapshot_obstacle
    with pytest.raises(ProviderError, match=words):
        web.order(TAKE)
    host.room = "9999999 4096"
    assert web.read().snapshot_obstacle == ""
    web.order(TAKE)
    host.room = room
    web.order(REVERT)
    web.order(DELETE)


def test_the_domain_of_another_name_is_never_touched(host: LibvirtHost) -> None:
    host.define("db", build_disk("vda", "/d/db.qcow2"))
    other = host.open("id-db")  # virsh takes a UUID and the number of a running domain, before it looks at names
    for call in (other.read, lambda: other.order(ProviderAct.POWER_OFF), lambda: other.order(TAKE)):
        with pytest.raises(ProviderError, match="answers to 'id-db' with the domain 'db'"):
            call()


def test_a_disk_is_made_from_the_file_that_a_link_led_to(host: LibvirtHost, web: Machine) -> None:
    host.links["/images/newest.qcow2"] = IMAGE.reference
    web.order(REPLACE, "u1", image=replace(IMAGE, reference="/images/newest.qcow2"))
    assert host.files[source_of(web, "vda")].below == IMAGE.reference


def test_an_image_whose_digest_is_not_that_of_all_of_it(host: LibvirtHost, web: Machine) -> None:
    host.files[IMAGE.reference].below = "/images/below.qcow2"
    host.files["/images/below.qcow2"] = File(mode="444")
    with pytest.raises(ProviderError, match="needs other files, which its digest says nothing of"):
        web.order(REPLACE, "u1", image=IMAGE)


def test_an_image_by_a_path_from_nowhere(web: Machine) -> None:
    with pytest.raises(ProviderError, match="no absolute path"):
        web.order(REPLACE, "u1", image=replace(IMAGE, reference="images/2.qcow2"))


def test_an_image_that_is_exchanged_after_its_digest_was_compared(host: LibvirtHost, web: Machine) -> None:
    def exchange(words: Sequence[str]) -> None:
        if "create" in words:
            host.files[IMAGE.reference].mark = "1 2 1 1"

    host.before = exchange
    host.start("web")
    with pytest.raises(ProviderError, match="was changed while it was used"):
        web.order(REPLACE, "u1", image=IMAGE)
    assert source_of(web, "vda") == "/d/os.qcow2"
    assert web.domain.live is not None


def test_libvirt_takes_no_snapshot_of_other_disks_by_itself(host: LibvirtHost) -> None:
    floppy = "<disk type='file' device='floppy'><source file='/d/floppy.img'/><target dev='fda'/></disk>"
    host.define("old", build_disk("vda", "/d/old.qcow2"), floppy)
    specified: list[str] = []
    host.before = lambda words: specified.extend(words) if "snapshot-create-as" in words else None
    host.open("old").order(TAKE)
    assert "fda,snapshot=no" in specified


def test_a_file_on_the_network_takes_no_room_here() -> None:
    below = {"filename": "nbd+unix:///vda?socket=/run/x", "format": "raw", "virtual-size": 9}
    assert parse_chain(json.dumps([below]))[0].actual_size == 0


@pytest.mark.parametrize(
    ("details", "needs"),
    [
        ({"type": "vmdk", "data": {"extents": [{"filename": "/images/flat.vmdk"}]}}, True),
        ({"type": "vmdk", "data": {"extents": [{"filename": "/images/2"}]}}, False),
        ({"type": "qcow2", "data": {"data-file": "2.raw"}}, True),
        ({"type": "qcow2", "data": {"compat": "1.1"}}, False),
    ],
)
def test_the_content_of_an_image_may_be_in_other_files(details: dict[str, object], *, needs: bool) -> None:
    assert needs_other_files(json.dumps([{"filename": "/images/2", "format-specific": details}])) is needs
