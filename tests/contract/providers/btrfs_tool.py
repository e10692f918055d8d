"""Stands in for btrfs, mount, umount, findmnt, stat and mv of a host: see btrfs_host.py.

A script calls them many times, so this loads no module that starts Python slowly (json, pathlib, re).
"""

import marshal
import os
import sys
from collections.abc import Iterator
from typing import Any

QUIET = frozenset({"help", "list", "get-default", "rootid", "get", "usage", "findmnt", "stat", "mount", "umount"})
"""What changes no subvolume, and `asked` does not tell."""


class BtrfsTool:
    """One call of a tool."""

    def __init__(self, place: str, tool: str, words: list[str]) -> None:
        self._tool, self._words, self._place = tool, words, place
        self._top = f"{place}/fs"
        with open(f"{place}/state", "rb") as file:
            self._state: dict[str, Any] = marshal.load(file)
        self._ids = {int(inode): number for inode, number in self._state["ids"].items()}

    def run(self) -> None:
        """Do what the real one does."""
        act = self._do_btrfs() if self._tool == "btrfs" else self._do_other()
        if act not in QUIET:
            with open(f"{self._place}/asked", "a") as out:
                print(act, *self._words, file=out)
            with open(f"{self._place}/state", "wb") as file:
                marshal.dump(self._state, file)
        if self._state["breaks_behind"] == act:
            with open(f"{self._place}/broken", "w"):
                pass
            os.killpg(os.getpgrp(), 9)

    def _find_id(self, path: str) -> int | None:
        return self._ids.get(os.stat(path).st_ino)

    def _walk(self, top: str) -> Iterator[str]:
        for folder, names, _ in os.walk(top):
            yield from (path for name in names if not os.path.islink(path := f"{folder}/{name}"))

    def _find_paths(self) -> dict[int, str]:
        paths = ((self._find_id(path), path) for path in [self._top, *self._walk(self._top)])
        return {number: path for number, path in paths if number is not None}

    def _add(self, path: str) -> None:
        inode = os.stat(path).st_ino
        self._state["last"] += 1
        self._state["ids"][str(inode)] = self._state["last"]
        self._state["stubs"] = [stub for stub in self._state["stubs"] if stub != inode]

    def _find_root(self, path: str) -> int:
        while (number := self._find_id(path)) is None:
            if path == "/":
                sys.exit("ERROR: not a btrfs filesystem")
            path = os.path.dirname(path)
        return number

    def _list(self) -> None:
        is_snapshots = "-s" in self._words
        for number, path in sorted(self._find_paths().items()):
            if number != 5 and (not is_snapshots or number in self._state["snapshots"]):
                above = self._find_root(os.path.dirname(path))
                generation = "gen 9 cgen 8" if is_snapshots else "gen 9"
                time = "otime 2026-11-28 14:00:00 " if is_snapshots else ""
                print(f"ID {number} {generation} top level {above} {time}path {os.path.relpath(path, self._top)}")

    def _take_snapshot(self, source: str, path: str) -> None:
        import shutil

        known = {*self._ids, *self._state["stubs"]}
        inner = [os.path.relpath(folder, source) for folder in self._walk(source) if os.stat(folder).st_ino in known]
        shutil.copytree(source, path, symlinks=True)
        for name in inner:
            stub = f"{path}/{name}"
            if os.path.exists(stub):
                shutil.rmtree(stub)
                os.mkdir(stub)
                self._state["stubs"].append(os.stat(stub).st_ino)
        self._add(path)
        self._state["snapshots"].append(self._state["last"])
        self._state["readonly"] += [self._state["last"]] if "-r" in self._words else []

    def _delete(self, path: str) -> None:
        import shutil

        if any(self._find_id(folder) for folder in self._walk(path)):
            sys.exit("ERROR: Could not destroy subvolume/snapshot: Directory not empty")
        del self._state["ids"][str(os.stat(path).st_ino)]
        shutil.rmtree(path)

    def _do_btrfs(self) -> str:
        act, path = self._words[1], self._words[-1]
        if act == "list":
            self._list()
        elif act == "get-default":
            print(f"ID {self._state['default']} gen 9 top level 5 path x")
        elif act == "set-default":
            self._state["default"] = int(self._words[2])
        elif act == "rootid":
            print(self._find_root(os.path.realpath(path)))
        elif act == "get":
            print("ro=true" if self._ids[os.stat(self._words[3]).st_ino] in self._state["readonly"] else "ro=false")
        elif act == "usage":
            print(self._state["usage"])
        elif act == "create":
            os.mkdir(path)
            self._add(path)
        elif act == "snapshot":
            self._take_snapshot(self._words[-2], path)
        elif act == "delete":
            self._delete(path)
        return act

    def _do_other(self) -> str:
        path = self._words[-1]
        if self._tool == "mount":
            os.rmdir(path)
            os.symlink(self._top, path)
        elif self._tool == "umount":
            os.unlink(path)
            os.mkdir(path)
        elif self._tool == "findmnt":
            for target, mount in self._state["mounts"].items():
                self._show_mount(target, mount)
        elif self._tool == "stat":
            inode = os.stat(path).st_ino
            print(256 if inode in self._ids else 2 if inode in self._state["stubs"] else inode)
        elif self._words == ["--help"]:
            print("      --exchange   exchange source and destination")
            return "help"
        elif "--exchange" in self._words:
            one, other = self._words[-2:]
            os.rename(one, f"{one}.exchanged")
            os.rename(other, one)
            os.rename(f"{one}.exchanged", other)
            return "exchange"
        elif code := os.spawnv(os.P_WAIT, "/bin/mv", ["mv", *self._words]):
            sys.exit(code)
        return self._tool

    def _show_mount(self, target: str, mount: dict[str, Any]) -> None:
        path, options = "/", mount.get("options", "rw")
        if number := mount.get("id"):
            path += os.path.relpath(self._find_paths()[number], self._top)
            options += f",space_cache=v2,subvolid={number},subvol={path}"
        print(target, mount["source"], path, mount["type"], options)
