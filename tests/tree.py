"""What the tests look at: the repository's root, its files, its notebooks, what they import."""

import ast
import json
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pytest
from IPython.core.inputtransformer2 import TransformerManager

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "datarater"
# The straight line: what a reader of all nine meets, in order, and the module that each exports.
COURSE = {
    "nbs/00_method.ipynb": "",
    "nbs/01_datasets.ipynb": "data.datasets",
    "nbs/02_models.ipynb": "models.networks",
    "nbs/03_inner_loop.ipynb": "method.inner_loop",
    "nbs/04_meta_training.ipynb": "method.meta_training",
    "nbs/05_adversarial.ipynb": "evaluation.robustness",
    "nbs/06_curation.ipynb": "curation.ratings",
    "nbs/07_downstream.ipynb": "curation.downstream",
    "nbs/08_cli.ipynb": "cli",
}
# Each room of the package, and those that it may import from.
_ROOMS = ("support", "disk", "data", "models", "method", "evaluation", "runs", "curation", "scale")
SEES = {
    "support": set(),
    "disk": {"support"},
    "data": {"support", "disk"},
    "models": {"support", "disk"},
    "method": {"support", "disk", "models"},
    **{room: set(_ROOMS[:at]) for at, room in enumerate(_ROOMS) if at > 4},
    "cli": {*_ROOMS},
    "__main__": {"cli"},
}


# Files


@cache
def repository_files() -> list[str]:
    "Every file that git tracks or would add, relative to the root, with `/` between folders."
    command = "git -c safe.directory=* ls-files -z --cached --others --exclude-standard".split()
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    names = {name for name in listed.split("\0") if name}
    return sorted(name for name in names if (ROOT / name).is_symlink() or (ROOT / name).is_file())


def text_of(name: str) -> str:
    "A file of the repository."
    return (ROOT / name).read_text(encoding="utf-8")


def notebook_names() -> list[str]:
    "Every notebook below nbs/, relative to the root, in order."
    names = repository_files()
    return [name for name in names if name.startswith("nbs/") and name.endswith(".ipynb")]


def is_chapter(name: str) -> bool:
    "Whether a notebook lies in a room's folder."
    return name.count("/") == 2 and name.split("/")[1] in SEES


def modules() -> list[str]:
    "The modules of the package, faces included; the index that nbdev writes is left aside."
    paths = sorted((ROOT / PACKAGE).rglob("*.py"))
    return [path.relative_to(ROOT).as_posix() for path in paths if path.name != "_modidx.py"]


def is_face(module: str) -> bool:
    "Whether a module is written by hand to list the names of a package."
    return module.endswith("__init__.py")


# Notebooks


@cache
def cells_of(name: str) -> list[dict]:
    "The cells of a notebook, sources joined."
    cells = json.loads(text_of(name))["cells"]
    return [{**cell, "source": "".join(cell["source"])} for cell in cells]


def code_cells(name: str) -> list[str]:
    "The code cells of a notebook."
    return [cell["source"] for cell in cells_of(name) if cell["cell_type"] == "code"]


def exported_cells(name: str) -> list[str]:
    "The cells of a notebook that go into its module."
    return [source for source in code_cells(name) if re.match(r"#\|\s*exports?\s", source)]


def prose_of(name: str) -> list[str]:
    "The Markdown cells of a notebook."
    return [cell["source"] for cell in cells_of(name) if cell["cell_type"] == "markdown"]


def code_of(name: str) -> str:
    "All code of a notebook as plain Python: magics and shell lines are turned into calls."
    transform = TransformerManager().transform_cell
    return "\n".join(transform(source) for source in code_cells(name))


def num_words(name: str) -> int:
    "The words of a notebook's Markdown cells."
    return sum(len(source.split()) for source in prose_of(name))


def module_of(name: str) -> str:
    "The module that a notebook says it exports, without the package's name; empty if none."
    found = re.search(r"(?m)^#\|\s*default_exp (\S+)$", "\n".join(code_cells(name)))
    return found[1] if found else ""


def expected_module_of(name: str) -> str:
    "The module that a notebook should export: the course's, or a chapter's room and file name."
    if name in ("nbs/reference/support.ipynb", "nbs/reference/disk.ipynb"):
        return PurePosixPath(name).stem
    path = PurePosixPath(name)
    return f"{path.parent.name}.{path.stem}" if is_chapter(name) else COURSE.get(name, "")


# Imports and docstrings


class Import(NamedTuple):
    "One imported name: `from module import name`, or `import module` with name None."

    module: str
    name: str | None


def nodes_outside_functions(tree: ast.AST) -> Iterator[ast.AST]:
    "The nodes of a syntax tree that run when the module is imported: functions are left out."
    yield tree
    for child in ast.iter_child_nodes(tree):
        if not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield from nodes_outside_functions(child)


def imports_of(
    source: str,
    package: str = PACKAGE,  # that relative imports start from
    inside_functions: bool = True,
) -> set[Import]:
    "Everything that Python source imports, anywhere in it or outside functions only."
    found, tree = set(), ast.parse(source)
    for node in ast.walk(tree) if inside_functions else nodes_outside_functions(tree):
        if isinstance(node, ast.Import):
            found |= {Import(alias.name, None) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            module = ".".join((above if node.level else []) + [node.module] * bool(node.module))
            found |= {Import(module, alias.name) for alias in node.names}
    return found


def imports_of_module(name: str, inside_functions: bool = True) -> set[Import]:
    "What a module of the package imports."
    package = ".".join(PurePosixPath(name).parent.parts)
    return imports_of(text_of(name), package, inside_functions)


@cache
def listed_by(face: str) -> dict[str, str]:
    "The names that a face (`datarater`, `datarater.data`) offers, each with its module."
    tree = ast.parse(text_of(face.replace(".", "/") + "/__init__.py"))
    modules = [node for node in ast.walk(tree) if isinstance(node, ast.keyword)]
    names_of = {module.arg: ast.literal_eval(module.value).split() for module in modules}
    return {name: f"{face}.{module}" for module, names in names_of.items() for name in names}


def source_of(found: Import) -> str:
    "The module of the package that an imported name comes from, faces looked through."
    face, name = found
    while name and (ROOT / face.replace(".", "/") / "__init__.py").is_file():
        if name not in listed_by(face):
            return f"{face}.{name}"
        face = listed_by(face)[name]
    return face


def room_of(module: str) -> str:
    "The room of a module: `data` of `datarater.data.loading`; empty outside of the package."
    package, _, rest = module.partition(".")
    return rest.partition(".")[0] if package == PACKAGE else ""


def documented_errors() -> Iterator[str]:
    """The package's public functions, classes and methods whose docstrings say that they raise
    `DataRaterError`, as data.loading.name or data.loading.Class.name.
    """

    def documented(node: ast.AST, prefix: str) -> Iterator[str]:
        for child in ast.iter_child_nodes(node):
            if not isinstance(child, (ast.FunctionDef, ast.ClassDef)) or child.name[0] == "_":
                continue
            text = ast.get_docstring(child) or ""
            if re.search(r"[Rr]aises? (unless|`DataRaterError`)", text):
                yield prefix + child.name
            if isinstance(child, ast.ClassDef):
                yield from documented(child, f"{prefix}{child.name}.")

    for name in modules():
        module = ".".join(PurePosixPath(name).with_suffix("").parts[1:])
        yield from documented(ast.parse(text_of(name)), f"{module}.")


def report(problems: list[str]) -> None:
    "Fail with one line per problem, without a traceback."
    if problems:
        pytest.fail("\n".join(problems), pytrace=False)
