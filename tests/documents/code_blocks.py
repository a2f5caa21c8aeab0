"""The pages that users read, and their code blocks."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class CodeBlock:
    """A code block of a page; `line` counts from 1 and is the line of its first code."""

    page: Path
    line: int
    language: str
    code: str

    @property
    def padded(self) -> str:
        """The code on the lines where the page has it, so that an error names the line of the page."""
        return "\n" * (self.line - 1) + self.code

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def code_blocks(*pages: Path) -> list[CodeBlock]:
    """All code blocks of the pages, in order."""
    blocks = []
    for page in pages:
        text = page.read_text(encoding="utf-8")
        for match in _BLOCK.finditer(text):
            blocks.append(CodeBlock(page, text.count("\n", 0, match.start(2)) + 1, match[1], match[2]))
    return blocks


def without_code(text: str) -> str:
    """The text of a page without its code blocks, line for line."""
    return _BLOCK.sub(lambda match: "\n" * match[0].count("\n"), text)
