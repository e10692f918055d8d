"""Where this machine's own apt gets Debian from, as one-line sources for bookworm and its security and update suites.

Run by lab.sh with the machine's own python3; it needs nothing but the standard library.
"""

import re
import sys
from dataclasses import dataclass
from pathlib import Path

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_RELEASES = "bookworm|bullseye|trixie|forky|sid|(?:old){0,2}stable|testing|unstable"


@dataclass(frozen=True)
class Source:
    suite: str
    uri: str
    trusted: bool
    signer: str


def read_sources(apt: Path) -> list[Source]:
    """Every enabled binary source with a `main` component under an `/etc/apt`, in either of apt's two formats."""
    found: list[Source] = []
    for path in sorted((apt / "sources.list.d").glob("*.sources")):
        text = re.sub(r"^#.*\n", "", path.read_text(), flags=re.MULTILINE)
        for stanza in re.split(r"\n\s*\n", text):
            pairs = re.findall(r"^([\w-]+):(.*(?:\n[ \t]+.*)*)", stanza, re.MULTILINE)
            field = {key.lower(): " ".join(value.split()) for key, value in pairs}
            if field.get("enabled", "yes").lower() in ("no", "false") or "deb" not in field.get("types", "").split():
                continue
            if "main" not in field.get("components", "").split():
                continue
            trusted = field.get("trusted", "").lower() == "yes"
            for suite in field.get("suites", "").split():
                found += [
                    Source(suite, uri, trusted, field.get("signed-by", "")) for uri in field.get("uris", "").split()
                ]
    for path in [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*.list"))]:
        for line in path.read_text().splitlines() if path.exists() else []:
            hit = re.match(r"\s*deb\s+(?:\[([^]]*)\]\s*)?(\S+)\s+(\S+)\s+(.*)", line)
            if hit and "main" in hit[4].split("#")[0].split():
                option = dict(item.split("=", 1) for item in (hit[1] or "").split() if "=" in item)
                trusted = option.get("trusted", "").lower() == "yes"
                found.append(Source(hit[3], hit[2], trusted, option.get("signed-by", "")))
    return found


def bookworm(sources: list[Source]) -> list[str]:
    """The lines for bookworm, -security and -updates; none when no source is Debian's."""
    best: dict[str, tuple[tuple[bool, bool], Source]] = {}
    for source in sources:
        hit = re.fullmatch(rf"({_RELEASES})(-security|/updates|-updates|)", source.suite)
        if not hit or source.uri.startswith("cdrom:"):
            continue
        kind = "-security" if hit[2] == "/updates" else hit[2]
        # Others publish under Debian's suite names too: rather Debian's own key, then bookworm itself, then the first.
        rank = (bool(source.signer) and "debian-archive" not in source.signer, hit[1] != "bookworm")
        if kind not in best or rank < best[kind][0]:
            best[kind] = (rank, source)
    if "" not in best:
        return []
    main = best[""][1]
    security = Source("", re.sub(r"debian/?$", "debian-security", main.uri), main.trusted, main.signer)
    chosen = {
        "": main,
        "-security": best["-security"][1] if "-security" in best else security,
        "-updates": best["-updates"][1] if "-updates" in best else main,
    }
    signed = f"[signed-by={KEYRING}] " if KEYRING.exists() else ""
    return [
        f"deb {'[trusted=yes] ' if source.trusted else signed}{source.uri} bookworm{kind} main"
        for kind, source in chosen.items()
    ]


if __name__ == "__main__":
    sys.stdout.writelines(f"{line}\n" for line in bookworm(read_sources(Path("/etc/apt"))))
