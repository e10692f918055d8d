"""Hooks of MkDocs for `make docs`: the API reference, pages from the top of the checkout, links that leave docs/."""

import ast
import os
import re
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parents[2]
ROOMS = ("fleetpatch", "flows", "tasks", "deployments", "inventory")
TOP_PAGES = ("CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")
API = "reference/api"
# Entry points and data: no program imports them.
_NOT_API = {"cli", "migrations", "scripts", "__main__"}
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)(?:\s+\"([^\"]*)\")?\)")
_FENCE = re.compile(r"(^(?:```|~~~).*?^(?:```|~~~)[ ]*$)", re.MULTILINE | re.DOTALL)


# ---------------------------------------------------------------- the API reference


def _is_public(path: Path) -> bool:
    """Tell whether a module defines a public class or function, and is no entry point."""
    parts = path.relative_to(TOP).with_suffix("").parts
    if any(part in _NOT_API or (part.startswith("_") and part != "__init__") for part in parts):
        return False
    body = ast.parse(path.read_text()).body
    return any(isinstance(each, ast.ClassDef | ast.FunctionDef) and not each.name.startswith("_") for each in body)


def api_pages() -> dict[str, str]:
    """Return the pages of the API reference: one for each folder with public modules."""
    folders: dict[str, list[str]] = {}
    for room in ROOMS:
        for path in sorted((TOP / room).rglob("*.py")):
            if _is_public(path):
                folder = ".".join(path.relative_to(TOP).parent.parts)
                module = folder if path.stem == "__init__" else f"{folder}.{path.stem}"
                folders.setdefault(folder, []).append(module)
    return {
        f"{API}/{folder}.md": f"# {folder}\n\n" + "\n".join(f"::: {module}\n" for module in modules)
        for folder, modules in folders.items()
    }


def on_config(config: Any) -> Any:
    """Append the API reference to the section Reference of the navigation."""
    pages = [{Path(name).stem if name.count(".") == 1 else name[len(API) + 1 : -3]: name} for name in api_pages()]
    reference = next(section["Reference"] for section in config.nav if "Reference" in section)
    reference.append({"Python API": pages})
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are not in docs/."""
    from mkdocs.structure.files import File

    for name, text in api_pages().items():
        files.append(File.generated(config, name, content=text))
    for name in TOP_PAGES:
        files.append(File.generated(config, name, content=(TOP / name).read_text()))
    return files


# ---------------------------------------------------------------- links


def _site_path(path: str) -> str | None:
    """Return the page or file of the site that a file of the checkout becomes, if it becomes one."""
    if path == "README.md":
        return "index.md"
    if path in TOP_PAGES:
        return path
    return path.removeprefix("docs/") if path.startswith("docs/") else None


def rewrite_links(markdown: str, page: str, repository: str = "") -> str:
    """Rewrite the links of a page that lead to files outside docs/.

    A link to a file that is not on the site leads to the repository. Where none is named, the file's path is a tip.
    """
    source = page if page in TOP_PAGES else f"docs/{page}"

    def rewrite(match: re.Match[str]) -> str:
        image, text, target, tip = match.groups()
        target, hash_mark, anchor = target.partition("#")
        if not target or re.match(r"[a-z]+:", target):
            return match[0]
        path = os.path.normpath(os.path.join(os.path.dirname(source), target))  # noqa: PTH118, PTH120 - a name, not a file
        if not (TOP / path).exists():
            return match[0]  # MkDocs complains
        on_site = _site_path(path)
        if on_site:
            here = os.path.relpath(on_site, os.path.dirname(page) or ".")  # noqa: PTH120
            return f"{image}[{text}]({here}{hash_mark}{anchor}" + (f' "{tip}")' if tip else ")")
        shown = path + (f": {tip}" if tip else "")
        if repository:
            return f'[{text}]({repository}/blob/HEAD/{path} "{shown}")'
        return f'<abbr title="{shown}">{text}</abbr>'

    pieces = _FENCE.split(markdown)
    return "".join(piece if number % 2 else _LINK.sub(rewrite, piece) for number, piece in enumerate(pieces))


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Rewrite the links of a page before MkDocs checks them."""
    return rewrite_links(markdown, page.file.src_uri, (config.repo_url or "").rstrip("/"))
