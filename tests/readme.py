"""Make README.md from nbs/index.ipynb: `python tests/readme.py` from anywhere.

nbdev's directives (`#| hide`, `#| include: false`, `#| echo: false`, `#| output: false`) are obeyed
and taken out; nbconvert turns the notebook into Markdown; links that start from nbs/ are made to
start from the root.
"""

import posixpath
import re
import sys

import nbformat
from nbconvert import MarkdownExporter
from traitlets.config import Config
from tree import ROOT

NOTICE = (
    "<!-- Made from nbs/index.ipynb by `python tests/readme.py`: change the notebook, not this "
    "file. -->"
)
DIRECTIVE = re.compile(r"^\s*#\s*\|\s*(.+?)\s*$")
# [text](target), [text](target "title"), src="target", href="target"; not a scheme (https:), not an
# anchor, not an absolute path
LINK = re.compile(r"""(\]\(|\b(?:src|href)=["'])(?![a-z][a-z0-9+.-]*:|[#/])([^)"'\s]+)""")


def apply_directives(cell: nbformat.NotebookNode) -> nbformat.NotebookNode | None:
    "The code cell as a reader sees it, without its directives; None where nothing of it is shown."
    matches = [DIRECTIVE.match(line) for line in cell.source.splitlines()]
    directives = {re.sub(r"[\s:]+", " ", match[1]).lower() for match in matches if match}
    if directives & {"hide", "include false"}:
        return None
    lines = [
        line for line, match in zip(cell.source.splitlines(), matches, strict=True) if not match
    ]
    cell.source = "\n".join(lines).strip("\n")
    if "output false" in directives:
        cell.outputs = []
    if "echo false" in directives:
        # the mark that nbconvert's templates look for
        cell.metadata["transient"] = {"remove_source": True}
        return cell if cell.outputs else None
    return cell if cell.source or cell.outputs else None


def links_from_root(markdown: str) -> str:
    """The Markdown with its relative links, which start from nbs/, made to start from the root;
    code blocks stay as they are.
    """
    lines, fenced = [], False
    for line in markdown.splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced:
            line = LINK.sub(
                lambda match: match[1] + posixpath.normpath(posixpath.join("nbs", match[2])), line
            )
        lines.append(line.rstrip())
    return "\n".join(lines)


def make_readme() -> str:
    "The text of README.md."
    notebook = nbformat.read(ROOT / "nbs" / "index.ipynb", as_version=4)
    cells = [
        apply_directives(cell) if cell.cell_type == "code" else cell for cell in notebook.cells
    ]
    notebook.cells = [cell for cell in cells if cell is not None and cell.cell_type != "raw"]
    # nbdev_clean drops it; it names the language of code blocks
    notebook.metadata["language_info"] = {"name": "python"}
    config = Config()
    config.NbConvertBase.display_data_priority = ["image/png", "text/markdown", "text/plain"]
    markdown, resources = MarkdownExporter(config=config).from_notebook_node(notebook)
    if resources["outputs"]:
        raise SystemExit(
            "nbs/index.ipynb shows a figure as an output: save it to nbs/images/ and refer "
            "to it as ![…](images/name.png)"
        )
    return NOTICE + "\n\n" + re.sub(r"\n{3,}", "\n\n", links_from_root(markdown)).strip() + "\n"


def main() -> None:
    "Write README.md where it differs."
    path, text = ROOT / "README.md", make_readme()
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")
        print("README.md written", file=sys.stderr)


if __name__ == "__main__":
    main()
