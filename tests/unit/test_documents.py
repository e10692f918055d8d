"""What the documents name exists: files they link to, headings, make targets."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.ci import tree

DOCUMENTS = [path for path in tree.texts() if path.suffix == ".md"]
_FENCE = re.compile(r"^(```|~~~).*?^\1[ ]*$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)")


def _prose(path: Path) -> str:
    return _FENCE.sub("", path.read_text())


def _anchor(heading: str) -> str:
    """The anchor that GitHub makes of a heading."""
    return re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", heading).strip().lower()).replace(" ", "-")


def _anchors(path: Path) -> set[str]:
    return {_anchor(heading) for heading in re.findall(r"^#+\s+(.*)$", _prose(path), re.MULTILINE)}


def _broken(document: Path) -> list[str]:
    broken = []
    for link in _LINK.findall(_prose(document)):
        target, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        there = (document.parent / target).resolve() if target else document
        if not there.exists() or (anchor and there.suffix == ".md" and anchor not in _anchors(there)):
            broken.append(link)
    return broken


@pytest.mark.parametrize("document", DOCUMENTS, ids=tree.name)
def test_links_lead_somewhere(document: Path) -> None:
    assert _broken(document) == []


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A `b` title\n[a](none.md) [b](page.md#a-b-title) [c](#no-heading) [d](https://x.example/)\n")
    assert _broken(page) == ["none.md", "#no-heading"]


def test_proofs_in_the_table_of_azure_exist() -> None:
    proofs = set(re.findall(r"`(tests/[\w/.]+)`", (tree.TOP / "docs/reference/azure.md").read_text()))
    assert len(proofs) > 40
    assert {proof for proof in proofs if not (tree.TOP / proof).exists()} == set()


def test_make_targets_in_documents_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (tree.TOP / "Makefile").read_text(), re.MULTILINE))
    named = {
        target
        for path in DOCUMENTS
        for target in re.findall(r"(?:`|^|\$ )make ([a-z-]+)", path.read_text(), re.MULTILINE)
    }
    assert named - targets == set()


def test_every_make_target_is_explained() -> None:
    makefile = (tree.TOP / "Makefile").read_text()
    phony = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[0].split()
    assert [target for target in phony if not re.search(rf"^{target}:.*##", makefile, re.MULTILINE)] == []


def test_the_list_of_make_targets_fits_on_one_screen() -> None:
    done = subprocess.run(
        ["make", "-C", str(tree.TOP), "--no-print-directory", "help"], capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    assert len(lines) <= 25
    assert [line for line in lines if len(line) > 100] == []


def test_the_index_leads_to_every_page() -> None:
    index = tree.TOP / "docs/index.md"
    named = {(index.parent / link.partition("#")[0]).resolve() for link in _LINK.findall(_prose(index))}
    pages = {path for path in DOCUMENTS if path.is_relative_to(index.parent)} - {index}
    assert [tree.name(path) for path in sorted(pages - named)] == []
