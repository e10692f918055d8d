"""The shapes of sentences that tire a reader, counted in documents."""

import re
from collections import Counter

_IRREGULAR = (
    "begun bound broken brought built chosen cut done drawn driven forbidden found given gone held hidden kept known "
    "left lost made meant met paid put read run said seen sent set shown spent split taken thought told understood "
    "written"
)
_ADVERBS = "not never also only then still already always ever first just therefore"
SHAPES = {
    "headless what/who": re.compile(
        r"\bwhat(?:ever)?\b|\bwhoever\b|(?:^|[.:;,(|]|\b(?:and|or|says?|see|is|by|to|of|for|with|that|knows?|tells?|shows?|not"
        r"|whether|on|in|from|than))\s*\bwho\b",
        re.IGNORECASE | re.MULTILINE,
    ),
    "that of/the same/those that": re.compile(
        r"\b(?:that|those) of\b|\bthe same\b|\bthose (?:that|who|which)\b", re.IGNORECASE
    ),
    "semicolon": re.compile(";"),
    "passive": re.compile(
        rf"\b(?:is|are|was|were|be|been|being)\s+(?:(?:{'|'.join(_ADVERBS.split())})\s+)?"
        rf"(?:\w{{2,}}ed|{'|'.join(_IRREGULAR.split())})\b",
        re.IGNORECASE,
    ),
}
"""A *what* or *who* without a noun before it, and so on. An estimate: words are compared, and no grammar is known."""


def extract_prose(markdown: str) -> str:
    """Return the sentences of a document: without code, comments, questions and the addresses of links."""
    text = re.sub(r"(?ms)^\s*(```|~~~).*?^\s*\1\s*$", "", markdown)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    lines, is_code, in_list, was_blank = [], False, False, True
    for line in text.splitlines():
        if line.strip() and not line.startswith((" ", "\t")):
            in_list = bool(re.match(r"[-*+] |\d+\. |!!! |\?\?\? ", line))
        is_code = line.startswith(("    ", "\t")) and not in_list and (was_blank or is_code)
        was_blank = not line.strip()
        lines.append("" if is_code else line)
    text = re.sub(r"`[^`\n]*`", "code", "\n".join(lines))
    text = re.sub(r"\]\([^)\s]*\)", "]", text)
    return re.sub(r"(?m)(?:^|(?<=[.!?|:] ))[^.!?|:\n]*\?", "", text)


def count_shapes(markdown: str) -> Counter[str]:
    """Return how often each shape stands in a document, and the number of its words."""
    text = extract_prose(markdown)
    counts = Counter({shape: len(pattern.findall(text)) for shape, pattern in SHAPES.items()})
    counts["words"] = len(re.findall(r"[^\W\d_][\w'-]*", text))
    return counts


def find_rates(counts: Counter[str]) -> dict[str, float]:
    """Return how often each shape stands in 1,000 words."""
    return {shape: round(1000 * counts[shape] / max(1, counts["words"]), 1) for shape in SHAPES}
