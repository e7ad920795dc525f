"""The site has three pages of the repository's root, and no links to what it does not show."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

_ROOT = Path(__file__).parent
_PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
_LINK = re.compile(r"\[([^\]]+)\]\(([^)\s]+)\)")


def on_files(files: Files, config: Any) -> Files:
    """README, CONTRIBUTING and CHANGELOG, with their links turned to where the site has what they name."""
    for source, page in _PAGES.items():
        text = (_ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=_LINK.sub(_from_root, text)))
    return files


def on_page_markdown(markdown: str, **page: Any) -> str:
    """Links out of docs/ become plain text: the site has no such file."""
    return _LINK.sub(lambda link: link[1] if link[2].startswith("../") else link[0], markdown)


def _from_root(link: re.Match[str]) -> str:
    text, target = link[1], link[2]
    if target.startswith("docs/"):
        return f"[{text}]({target.removeprefix('docs/')})"
    if target in _PAGES:
        return f"[{text}]({_PAGES[target]})"
    return link[0] if "://" in target or target.startswith("#") else text
