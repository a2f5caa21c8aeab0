"""What the documents refer to exists: files, headings, tests, and the list of allowed imports."""

import ast
import re
from pathlib import Path

import pytest
from code_blocks import PAGES, ROOT, without_code

NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.py"))
DOCUMENTS = (*PAGES, ROOT / "CHANGELOG.md", ROOT / "benchmarks" / "README.md", *NOTEBOOKS)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def prose(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":  # a notebook, whose text is in comments
        return "\n".join(line for line in text.splitlines() if line.startswith("#"))
    return without_code(text)


def anchors(path: Path) -> list[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(path), re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_and_anchors_exist(path: Path) -> None:
    for link in LINK.findall(prose(path)):
        if link.startswith(("http://", "https://")):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.is_relative_to(ROOT), link
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("path", [*PAGES, ROOT / "CHANGELOG.md"], ids=lambda path: path.stem)
def test_a_page_has_distinct_headings_and_lines_of_at_most_120_characters(path: Path) -> None:
    found = anchors(path)
    assert len(set(found)) == len(found)
    lines = prose(path).splitlines()
    long = [line for line in lines if len(line) > 120 and not line.startswith("|")]
    assert long == []


def test_the_readme_is_short_and_leads_to_every_page() -> None:
    readme = ROOT / "README.md"
    assert len(readme.read_text(encoding="utf-8").splitlines()) <= 250
    linked = {(readme.parent / link).resolve() for link in LINK.findall(prose(readme)) if "#" not in link}
    assert linked >= {*PAGES, ROOT / "CHANGELOG.md", ROOT / "benchmarks" / "README.md"} - {readme}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_paths_in_code_spans_exist(path: Path) -> None:
    for name in re.findall(
        r"`((?:tests|benchmarks|bo_suite|docs|notebooks|examples)/[\w./-]+)`", prose(path)
    ):
        assert (ROOT / name).exists(), name


def test_the_architecture_page_lists_the_allowed_imports() -> None:
    tree = ast.parse((ROOT / "tests" / "test_architecture.py").read_text(encoding="utf-8"))
    assigned = {node.targets[0].id: node.value for node in tree.body if isinstance(node, ast.Assign)}
    allowed = ast.literal_eval(assigned["ALLOWED"])
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rooms, imports = (
        page.partition(heading)[2].partition("\n## ")[0] for heading in ("## Rooms", "may import |")
    )
    rows = re.findall(r"^\| `(\w+)` \|(.*)\|$", imports, re.MULTILINE)
    assert {room: names.strip() for room, names in rows} == allowed
    assert re.findall(r"^\| `(\w+)` \|", rooms, re.MULTILINE) == list(allowed)
