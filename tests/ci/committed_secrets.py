"""Looks for secrets in every file that git has, or would take.

    python -m tests.ci.committed_secrets             # fails when there is one that known_secrets.json doesn't list
    python -m tests.ci.committed_secrets --accept    # writes that list anew: look at what changed in it

The list holds what looks like a secret and is none (keys and hashes made up for tests), as hashes. In tests, what
stands behind "password =" passes: it is made up, by the dozen. Keys and tokens of known kinds pass nowhere.
"""

import functools
import json
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
from detect_secrets.core.secrets_collection import SecretsCollection
from detect_secrets.settings import transient_settings

from tests.ci import tree

KNOWN = Path(__file__).with_name("known_secrets.json")
SKIPPED = (  # hashes, line by line
    "requirements.lock",
    "requirements-build.lock",
    "requirements-dev.lock",
    "tests/support/oidc/package-lock.json",
    "tests/bench/requirements.txt",
    "tests/ci/known_secrets.json",
)
_PLUGINS = (
    "ArtifactoryDetector",
    "AWSKeyDetector",
    "AzureStorageKeyDetector",
    "BasicAuthDetector",
    "DiscordBotTokenDetector",
    "GitHubTokenDetector",
    "GitLabTokenDetector",
    "JwtTokenDetector",
    "NpmDetector",
    "OpenAIDetector",
    "PrivateKeyDetector",
    "PypiTokenDetector",
    "SendGridDetector",
    "SlackDetector",
    "StripeDetector",
    "TwilioKeyDetector",
)
_GUESSES: Mapping[str, tuple[float, re.Pattern[str]]] = {
    "Base64HighEntropyString": (4.5, re.compile(r"[A-Za-z0-9+/\\=_-]{23,}")),
    "HexHighEntropyString": (3.0, re.compile(r"[0-9A-Fa-f]{8,}")),
}
"""Of each detector of random texts: the entropy above which it finds one, and what all such texts match.

A text of n different characters has an entropy of log2(n) at most, whatever their order.
"""
_JOINED = {".yaml", ".yml", ".eyaml"}
"""Files of which the detectors get lines that are put together, and unescaped. In others, `%(name)s` may be a value."""
_FILTERS = (
    "detect_secrets.filters.heuristic.is_sequential_string",
    "detect_secrets.filters.heuristic.is_potential_uuid",
    "detect_secrets.filters.heuristic.is_templated_secret",
)
# a reference is what should stand there
_WORDS = {"name": "KeywordDetector", "keyword_exclude": r"\b(env|file|key|prefect):"}

Known = dict[str, list[str]]
"""File → "kind: hash" of each finding."""


def names() -> list[str]:
    """Return the files of this checkout; without git (in a release), all but what tools have made."""
    words = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(words, cwd=tree.TOP, capture_output=True, text=True, check=False)
    listed = done.stdout.split("\0") if done.returncode == 0 else map(tree.name, tree.files())
    return sorted(name for name in set(listed) - {""} if name not in SKIPPED and (tree.TOP / name).is_file())


@functools.cache
def _find_patterns() -> dict[str, list[re.Pattern[str]]]:
    """Return the patterns of each detector of tokens."""
    detectors: Iterable[Any] = get_mapping_from_secret_type_to_class().values()
    return {detector.__name__: detector.denylist for detector in detectors if detector.__name__ in _PLUGINS}


def _find_plugins(path: Path) -> tuple[str, ...]:
    """Return the detectors that may have something to find in a file: most have nothing, and are slow."""
    text = path.read_text(encoding="utf-8", errors="ignore")
    tokens = [name for name in _PLUGINS if any(pattern.search(text) for pattern in _find_patterns()[name])]
    is_joined = path.suffix in _JOINED or "%(" in text
    guesses = [name for name in _GUESSES if is_joined or _may_be_random(text, name)]
    return (*tokens, *guesses)


def _may_be_random(text: str, detector: str) -> bool:
    limit, pattern = _GUESSES[detector]
    return any(len(set(word)) >= 2**limit for word in set(pattern.findall(text)))


def findings(files: Iterable[str], top: Path = tree.TOP) -> dict[str, dict[str, int]]:
    """Return what looks like a secret: file → "kind: hash" → line."""
    groups: dict[tuple[bool, tuple[str, ...]], list[str]] = defaultdict(list)
    for name in files:
        groups[name.startswith("tests/"), _find_plugins(top / name)].append(name)
    found: dict[str, dict[str, int]] = {}
    for (is_test, chosen), group in groups.items():
        limits = {name: {"limit": _GUESSES[name][0]} if name in _GUESSES else {} for name in chosen}
        plugins = [*({"name": name, **limit} for name, limit in limits.items()), *(() if is_test else (_WORDS,))]
        if not plugins:
            continue
        with transient_settings({"plugins_used": plugins, "filters_used": [{"path": path} for path in _FILTERS]}):
            collection = SecretsCollection(root=str(top))
            for name in group:
                collection.scan_file(name)
            for name, secret in collection:
                found.setdefault(name, {})[f"{secret.type}: {secret.secret_hash}"] = secret.line_number
    return found


def unknown(found: dict[str, dict[str, int]], known: Known) -> list[str]:
    """Return what the list doesn't have."""
    return [
        f"{name}:{line}: looks like a secret ({mark.partition(':')[0]})"
        for name, marks in sorted(found.items())
        for mark, line in marks.items()
        if mark not in known.get(name, [])
    ]


def main(arguments: list[str]) -> int:
    """Look, and print what was found."""
    found = findings(names())
    if arguments == ["--accept"]:
        listed = {name: sorted(marks) for name, marks in sorted(found.items())}
        KNOWN.write_text(json.dumps(listed, indent=1) + "\n")
        return 0
    known: Known = json.loads(KNOWN.read_text())
    lines = unknown(found, known)
    for line in lines:
        print(line)
    if lines:
        print("Take it out, and give it up where it is real. Is it none? python -m tests.ci.committed_secrets --accept")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
