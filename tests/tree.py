"""What the tests look at: the repository's root, its files, its notebooks."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NUMBERED = re.compile(r"\d\d[a-z]?_\w+")  # 03_inner_loop, 03a_something


def repository_files() -> list[str]:
    "Every file that git tracks or would add, relative to the root, with `/` between folders."
    command = [
        "git",
        "-c",
        "safe.directory=*",
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    names = {name for name in listed.split("\0") if name}
    return sorted(name for name in names if (ROOT / name).is_symlink() or (ROOT / name).is_file())


def notebook_names() -> list[str]:
    "Every notebook below nbs/, relative to the root, in order."
    return [
        name for name in repository_files() if name.startswith("nbs/") and name.endswith(".ipynb")
    ]


def documented_errors() -> Iterator[str]:
    """The package's public functions, classes and methods whose docstrings say that they raise
    `DataRaterError`, as module.name or module.Class.name.
    """

    def documented(node: ast.AST, prefix: str) -> Iterator[str]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.FunctionDef, ast.ClassDef)) and not child.name.startswith(
                "_"
            ):
                if re.search(
                    r"[Rr]aises? (unless|`DataRaterError`)", ast.get_docstring(child) or ""
                ):
                    yield prefix + child.name
                if isinstance(child, ast.ClassDef):
                    yield from documented(child, f"{prefix}{child.name}.")

    for path in sorted((ROOT / "datarater").glob("*.py")):
        yield from documented(ast.parse(path.read_text(encoding="utf-8")), f"{path.stem}.")


def report(problems: list[str]) -> None:
    "Fail with one line per problem, without a traceback."
    if problems:
        pytest.fail("\n".join(problems), pytrace=False)
