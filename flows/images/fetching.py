"""Fetches the newest image of a publisher onto the hosts whose provider makes disks of it.

The controller reads the list, checks its signature and chooses the image. Each host downloads it in parts, and compares
its digest. The own list gets the line of the image last: a version that comes by itself is on every host.
"""

import fcntl
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from fnmatch import translate
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urljoin

import httpx

from flows.images.fleet_images import select_members
from flows.images.image_file import IndexForm, InvalidImages, read_form, read_list
from flows.machine_providers.provider_file import load_providers
from flows.machine_visits import visit_machines
from flows.ports.ports import Ports
from inventory.data_class import dataclass
from inventory.errors import FleetpatchError, InvalidInventory
from inventory.files.problems import ProblemCollector, SourceLocation, did_you_mean
from inventory.files.text_files import read_binary_file
from inventory.machine import Inventory, Machine
from inventory.machine_providers import ProviderKind, find_provider_name
from inventory.named_files import IMAGES_FILE
from tasks.domain.errors import ProviderError, RequestError
from tasks.domain.protocols.clock import Deadline
from tasks.domain.states import OperationState, Step
from tasks.machines.providers.host_commands import HostCommands
from tasks.rules.components.versions import VersionRank, rank_version

PART_SECONDS: Final = 20
_WHOLE_SECONDS: Final = 4 * 3600  # for a server that can't continue a download
_CHECK_SECONDS: Final = 1800  # for the digest of a large file
_MAX_IDLE_PARTS: Final = 3
_MAX_BYTES: Final = 4 * 1024 * 1024  # of a list or a page
_LINK: Final = re.compile(r"""href=["']?(?:\./)?([^"'/?#\s>]+)/?["'\s>]""", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class HostResult:
    """What became of an image on one host."""

    host: str
    state: str  # Fetched, Present (it was there before) or Failed
    message: str = ""


@dataclass(frozen=True, slots=True)
class FetchOrder:
    """The image that is to be fetched."""

    index: IndexForm
    path: Path  # images.yaml
    hosts: tuple[str, ...]
    withdrawn: frozenset[VersionRank | None]


@dataclass(frozen=True, slots=True)
class FoundImage:
    """The newest image of a publisher."""

    version: str
    name: str  # below the folder of the index
    digest: str
    url: str  # after redirects
    size: int  # bytes
    mark: str  # its ETag, or ""


def plan_fetch(image: str, inventory: Inventory) -> FetchOrder:
    """Return what is to be fetched for an image of images.yaml, and onto which hosts.

    Raises:
        InvalidFiles: images.yaml or providers.yaml has faults.
        RequestError: the image has no publisher, or no host.
    """
    path, problems = IMAGES_FILE.find(inventory.source), ProblemCollector()
    form, _ = (path is not None and read_form(path, problems)) or (None, None)
    _raise_faults(problems)
    entries = {entry.name: entry for entry in form.images if entry.index and entry.index.url} if form else {}
    if form is None or path is None or (index := entries[image].index if image in entries else None) is None:
        hint = f"{did_you_mean(image, entries)}Give it `index` with `url`."
        raise RequestError(f"images.yaml has no image {image!r} with a publisher", hint=hint)
    providers, hosts = load_providers(inventory), set()
    for group in form.groups:
        members = select_members(group, inventory) if group.image == image else ()
        settings = [providers.get(find_provider_name(machine)) for machine in members]
        hosts |= {one.host for one in settings if one is not None and one.kind is ProviderKind.LIBVIRT}
    if not hosts:
        hint = "Its file comes onto hosts of providers of the kind libvirt. Put it elsewhere by other means."
        raise RequestError(f"no machine of a group of {image} has such a host", hint=hint)
    withdrawn = (rank_version(version.version) for version in entries[image].versions if version.withdrawn)
    return FetchOrder(index, path, tuple(sorted(hosts)), frozenset(withdrawn))


def _raise_faults(problems: ProblemCollector) -> None:
    try:
        problems.raise_if_any()
    except InvalidInventory as error:
        raise InvalidImages(error.problems) from error


@contextmanager
def open_publisher(url: str) -> Iterator[httpx.Client]:
    """Give a client for what is below a URL, with the proxy of the environment. From https it goes to https alone."""

    def check(request: httpx.Request) -> None:
        if url.startswith("https:") and request.url.scheme != "https":
            raise RequestError(f"{url} leads to {request.url}, which is not encrypted", hint="Correct `url`.")

    hooks, headers = {"request": [check]}, {"Accept-Encoding": "identity"}
    with httpx.Client(follow_redirects=True, timeout=30, event_hooks=hooks, headers=headers) as client:
        try:
            yield client
        except httpx.HTTPError as error:
            message = f"the publisher's server does not give it: {error or type(error).__name__}"
            raise RequestError(message, hint="Look at `url`, and at the proxy (HTTPS_PROXY).") from error


def find_newest(order: FetchOrder, client: httpx.Client) -> FoundImage:
    """Return the newest image in the list of its publisher, if the list has a good signature or needs none.

    Raises:
        RequestError: there is none, or the list is not trusted.
        httpx.HTTPError: the server does not give something.
    """
    index, problems = order.index, ProblemCollector()
    url, above = find_list(index.url or "", client)
    keys = (
        read_binary_file(order.path.parent / index.keyring, problems, must_be_regular=True) if index.keyring else None
    )
    signature = _read(client, urljoin(url, index.signature)) if index.signature else None
    tell = partial(problems.add, SourceLocation(order.path))
    listed = read_list(index, url, _read(client, url), signature, keys, tell, above)
    versions = {
        rank: version
        for version in listed
        if (rank := rank_version(version.version)) and not rank.is_prerelease and rank not in order.withdrawn
    }
    _raise_faults(problems)
    if not versions:
        raise RequestError(f"no file in {url} fits `pattern`: {index.pattern}", hint="Compare it with that list.")
    newest = versions[max(versions)]
    name = newest.reference.removeprefix(f"{index.folder.rstrip('/')}/")
    return FoundImage(newest.version, name, newest.digest, *look_at(urljoin(url, name.removeprefix(above)), client))


def find_list(url: str, client: httpx.Client) -> tuple[str, str]:
    """Return the URL of a list in which each ``*`` is the newest version, and the folders from the first of them on."""
    fixed = url.partition("*")[0].rpartition("/")[0] + "/"
    while "*" in url:
        before, _, after = url.partition("*")
        (base, _, start), (rest, slash, more) = before.rpartition("/"), after.partition("/")
        fitting = re.compile(translate(f"{start}*{rest}"))
        names = {unquote(name) for name in _LINK.findall(_read(client, f"{base}/").decode(errors="replace"))}
        versions = {
            rank: name
            for name in names
            if fitting.match(name) and (rank := rank_version(name[len(start) : len(name) - len(rest)]))
        }
        if not versions:
            raise RequestError(f"{base}/ has no version of {start}*{rest}", hint="Correct `url`.")
        url = f"{base}/{versions[max(versions)]}{slash}{more}"
    folders, slash, _ = url.removeprefix(fixed).rpartition("/")
    return url, folders + slash


def look_at(url: str, client: httpx.Client) -> tuple[str, int, str]:
    """Return where a file is after redirects, its size in bytes, and its ETag. See find_newest for errors."""
    with client.stream("GET", url) as response:
        headers = response.raise_for_status().headers
        size, kind, mark = (headers.get(name, "") for name in ("content-length", "content-type", "etag"))
        if not size.isdecimal() or kind.startswith("text/"):
            what = f"{kind or 'unknown'} content of {size or 'unknown'} bytes"
            raise RequestError(f"{url} is no image: the server gives {what}", hint="Correct `url`.")
        return str(response.url), int(size), "" if mark.startswith("W/") else mark


def _read(client: httpx.Client, url: str) -> bytes:
    with client.stream("GET", url) as response:
        content = next(response.raise_for_status().iter_bytes(_MAX_BYTES + 1), b"")
    if len(content) > _MAX_BYTES:
        raise RequestError(f"{url} has more than {_MAX_BYTES} bytes", hint="Correct `url`.")
    return content


def fetch_onto(hosts: list[Machine], order: FetchOrder, found: FoundImage, ports: Ports) -> tuple[HostResult, ...]:
    """Fetch an image onto hosts. If it is on all of them, the own list gets its line. What is done is done once."""

    def fetch(host: Machine) -> HostResult:
        try:
            with closing(ports.connect(host)) as transport, open_publisher(order.index.url or "") as client:
                commands = HostCommands(transport, ports.clock, host.name)
                state, message = _fetch(commands, order.index.folder, found, client, ports), ""
        except FleetpatchError as error:
            state, message = "Failed", f"{error.message}. {error.hint}"
        ended = OperationState.FAILED if message else OperationState.SUCCEEDED
        ports.listener.on_step_finished(host.name, Step.INSTALL, ended.value, message)
        return HostResult(host.name, state, message)

    results = visit_machines(hosts, 4, fetch)
    if not any(result.message for result in results):
        _add_line(order.path.parent / order.index.file, found)
    return results


def _fetch(commands: HostCommands, folder: str, found: FoundImage, client: httpx.Client, ports: Ports) -> str:
    wanted = {"folder": folder.rstrip("/"), "name": found.name, "digest": found.digest, "size": str(found.size)}
    wanted |= {"url": found.url, "mark": found.mark}
    have, idle, resume, seconds = -1, 0, "yes", PART_SECONDS
    while True:
        deadline = Deadline.after(ports.clock, 2 * seconds + _CHECK_SECONDS)
        part = {**wanted, "seconds": str(seconds), "resume": resume}
        records = commands.run_script("image_fetch", part, deadline=deadline).find_records("image_part")
        record = records[0] if records else {"state": "Failed", "why": "the host did not say what it has"}
        state, why, got = record["state"], record.get("why"), record.get("have")
        if state in {"Fetched", "Present"}:
            return str(state)
        if state == "Failed" or not isinstance(got, int):
            raise ProviderError(f"{commands.host}: {why}", hint="Mend that, and order it again.")
        if state != "Part" and look_at(found.url, client) != (found.url, found.size, found.mark):
            raise ProviderError("its publisher has changed the file meanwhile", hint="Order it again.")
        if state == "OtherFile":
            raise ProviderError("the file has another digest than its list says", hint="Order it again, or ask them.")
        if state == "NoResume":
            resume, seconds = "", _WHOLE_SECONDS
            continue
        idle = 0 if got > have and resume else idle + 1
        if idle >= _MAX_IDLE_PARTS:
            raise ProviderError(f"{commands.host}: the file does not arrive: {why}", hint="Order it again: it goes on.")
        have = got
        progress = f"{found.name}: {have * 100 // max(found.size, 1)} % of {found.size // 1024**2} MiB"
        ports.listener.on_progress(commands.host, Step.INSTALL, have / max(found.size, 1), progress)


def _add_line(path: Path, found: FoundImage) -> None:
    algorithm, _, digest = found.digest.partition(":")
    line = f"{algorithm.upper()} ({found.name}) = {digest}\n"
    try:
        path.touch(0o644)
        with path.open("a+") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            stream.seek(0)
            text = stream.read()
            if line not in text:
                stream.write(line if not text or text.endswith("\n") else f"\n{line}")
    except OSError as error:
        hint = f"The image is on its hosts. Add this line: {line.strip()}"
        raise RequestError(f"{path} can't be written: {error.strerror}", hint=hint) from error
