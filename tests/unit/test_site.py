"""The site of the documents: links that leave docs/, pages of the API reference, pages that the navigation names."""

import yaml

from tests.ci import site, tree


def test_links_between_pages_stay_and_links_to_the_checkout_become_pages_or_tips() -> None:
    def rewrite(link: str, repository: str = "") -> str:
        return site.rewrite_links(f"see [x]({link}).", "explanation/faults.md", repository)

    assert rewrite("architecture.md#laws") == "see [x](architecture.md#laws)."
    assert rewrite("../../README.md") == "see [x](../index.md)."
    assert rewrite("../../CONTRIBUTING.md") == "see [x](../CONTRIBUTING.md)."
    assert rewrite("https://example.org/a") == "see [x](https://example.org/a)."
    assert rewrite('../../tests/faults/hub.py "time') == 'see [x](../../tests/faults/hub.py "time).'  # no link
    assert rewrite("../../tests/faults/hub.py") == 'see <abbr title="tests/faults/hub.py">x</abbr>.'
    assert "https://example.org/r/blob/HEAD/tests/faults/hub.py" in rewrite(
        "../../tests/faults/hub.py", "https://example.org/r"
    )


def test_links_in_code_are_left_alone() -> None:
    text = "```text\n[x](../../tests/faults/hub.py)\n```\n"
    assert site.rewrite_links(text, "explanation/faults.md") == text


def test_the_api_reference_has_public_modules_and_no_entry_points() -> None:
    pages = site.api_pages()
    assert "::: flows.patch\n" in pages["reference/api/flows.md"]
    assert not [name for name in pages if ".cli" in name or ".migrations" in name]


def test_the_navigation_names_every_page() -> None:
    navigation = yaml.safe_load((tree.TOP / "mkdocs.yml").read_text())["nav"]

    def pages(entry: object) -> list[str]:
        if isinstance(entry, str):
            return [entry]
        values = entry.values() if isinstance(entry, dict) else entry
        return [page for value in values for page in pages(value)]  # type: ignore[attr-defined]

    there = {path.relative_to(tree.TOP / "docs").as_posix() for path in (tree.TOP / "docs").rglob("*.md")}
    assert sorted(pages(navigation)) == sorted(there | set(site.TOP_PAGES))
