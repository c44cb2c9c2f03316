"""The rules of the repository.

Each failure names the file and what to do about it, one line each.
"""

import ast
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from configparser import ConfigParser
from functools import cache
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import readme
from IPython.core.inputtransformer2 import TransformerManager
from tree import NUMBERED, ROOT, notebook_names, report, repository_files

PACKAGE = "datarater"
# modules that no notebook exports; nbdev keeps the version in the first
BY_HAND = {"__init__.py", "__main__.py"}
TOP_LEVEL = set(
    """nbs datarater tests settings.ini setup.py pyproject.toml _quarto.yml README.md LICENSE CHANGELOG.md CONTRIBUTING.md CITATION.cff
    .ci .github .gitignore .gitattributes .pre-commit-config.yaml benchmarks results""".split()
)
SUFFIXES = {
    "",
    ".cff",
    ".html",
    ".ini",
    ".ipynb",
    ".json",
    ".md",
    ".png",
    ".py",
    ".qmd",
    ".scss",
    ".svg",
    ".toml",
    ".txt",
    ".yaml",
    ".yml",
}
MAX_FILE_BYTES, MAX_IMAGE_BYTES, MAX_OUTPUT_BYTES = 400_000, 200_000, 300_000
MACHINE_PATH = re.compile(r"(?<![\w.~}:/-])/(?:tmp|work|home|root|Users|private|mnt|opt)/[\w.-]*")


class Import(NamedTuple):
    """One name that a piece of code imports: `from module import name`, or `import module` with
    name None.
    """

    module: str
    name: str | None


def nodes_outside_functions(tree: ast.AST) -> Iterator[ast.AST]:
    "The nodes of a syntax tree that run when the module is imported: functions are left out."
    yield tree
    for child in ast.iter_child_nodes(tree):
        if not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield from nodes_outside_functions(child)


def imports_of(source: str, inside_functions: bool = True) -> set[Import]:
    """Everything that Python source imports, anywhere in it or outside functions only; relative
    imports are read as being of this package.
    """
    found, tree = set(), ast.parse(source)
    for node in ast.walk(tree) if inside_functions else nodes_outside_functions(tree):
        if isinstance(node, ast.Import):
            found |= {Import(alias.name, None) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = ".".join(
                [PACKAGE] * (node.level > 0) + [node.module] * (node.module is not None)
            )
            found |= {Import(module, alias.name) for alias in node.names}
    return found


@cache
def cells_of(name: str) -> list[dict]:
    "The cells of a notebook, sources joined."
    cells = json.loads((ROOT / name).read_text(encoding="utf-8"))["cells"]
    return [{**cell, "source": "".join(cell["source"])} for cell in cells]


def code_of(name: str) -> str:
    "All code of a notebook as plain Python: magics and shell lines are turned into calls."
    transform = TransformerManager().transform_cell
    return "\n".join(
        transform(cell["source"]) for cell in cells_of(name) if cell["cell_type"] == "code"
    )


def text_outputs_of(cell: dict) -> str:
    "What a code cell shows, as text; pictures left aside."
    texts = []
    for output in cell.get("outputs", []):
        shown = {
            "text": output.get("text", ""),
            **{
                kind: text
                for kind, text in output.get("data", {}).items()
                if not kind.startswith("image/")
            },
        }
        texts += [
            text
            if isinstance(text, str)
            else "".join(text)
            if isinstance(text, list)
            else json.dumps(text)
            for text in shown.values()
        ]
    return "\n".join(texts)


def numbered_notebooks() -> list[str]:
    "The notebooks that export a module, in the order in which they may import from each other."
    return [
        name
        for name in notebook_names()
        if name.count("/") == 1 and PurePosixPath(name).stem[0].isdigit()
    ]


def module_of(notebook: str) -> str:
    """The module that a numbered notebook exports: nbs/03_inner_loop.ipynb gives
    datarater.method.inner_loop.
    """
    return f"{PACKAGE}.{PurePosixPath(notebook).stem.partition('_')[2]}"


def modules() -> list[Path]:
    "The modules of the package, the index that nbdev writes left aside."
    return sorted(path for path in (ROOT / PACKAGE).rglob("*.py") if path.name != "_modidx.py")


def copy_of_tree(destination: Path) -> Path:
    "A copy of the repository's files, so that no check alters the tree itself."
    for name in repository_files():
        (destination / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, destination / name, follow_symlinks=False)
    return destination


def run_nbdev(function: str, module: str, folder: Path) -> None:
    "Run one of nbdev's commands in `folder`; its complaints are failures."
    environment = {key: value for key, value in os.environ.items() if key != "IN_TEST"}
    command = [
        sys.executable,
        "-W",
        "ignore::DeprecationWarning",
        "-c",
        f"from {module} import {function}; {function}()",
    ]
    run = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )
    if run.returncode or "Failed" in run.stderr:
        report([f"`{function}` fails in a copy of the repository:\n{run.stdout}{run.stderr}"])


def difference(made: Path, kept: Path, pattern: str) -> list[str]:
    "The files below two folders that are in one only, or not equal, relative to them."
    names = {
        path.relative_to(folder).as_posix()
        for folder in (made, kept)
        for path in folder.rglob(pattern)
        if not {"__pycache__", ".ipynb_checkpoints"} & set(path.parts)
    }
    return sorted(
        name
        for name in names
        if not (
            (made / name).is_file()
            and (kept / name).is_file()
            and (made / name).read_bytes() == (kept / name).read_bytes()
        )
    )


# Notebooks, modules, index and README are in step


def test_modules_are_what_the_notebooks_export(tmp_path):
    """nbdev_export, begun without the exported modules and the index _modidx.py, writes exactly the
    package that is here.
    """
    copy = copy_of_tree(tmp_path)
    for path in (copy / PACKAGE).rglob("*.py"):
        if path.name not in BY_HAND:
            path.unlink()
    run_nbdev("nbdev_export", "nbdev.doclinks", copy)
    problems = []
    for name in difference(copy / PACKAGE, ROOT / PACKAGE, "*.py"):
        if not (copy / PACKAGE / name).is_file():
            problems.append(
                f"{PACKAGE}/{name} comes from no notebook: remove it, or write its notebook"
            )
        else:
            problems.append(
                f"{PACKAGE}/{name} is not what the notebooks export: run `nbdev_export`"
            )
    report(problems)


def test_readme_is_what_its_notebook_says():
    "README.md is made from nbs/index.ipynb."
    kept = ROOT / "README.md"
    if not kept.is_file() or kept.read_text(encoding="utf-8") != readme.make_readme():
        report(["README.md is not what nbs/index.ipynb gives: run `python tests/readme.py`"])


def test_readme_commands_and_links():
    """README.md has the two commands that a newcomer and .ci/run take from it, and its relative
    links lead somewhere.
    """
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    problems = [
        f"README.md has no fenced block after <!-- command: {which} -->: add it to nbs/index.ipynb"
        for which in ("run", "test")
        if not re.search(rf"<!-- command: {which} -->\s*\n```\w*\n[^`]*\S[^`]*\n```", text)
    ]
    prose = re.sub(r"(?ms)^```.*?^```", "", text)
    for match in readme.LINK.finditer(prose):
        target = match[2].partition("#")[0]
        if target not in repository_files() and not any(
            name.startswith(target.rstrip("/") + "/") for name in repository_files()
        ):
            problems.append(
                f"README.md links to {target}, which is not in the repository: correct "
                "nbs/index.ipynb"
            )
    report(problems)


def test_quarto_settings_are_linked():
    "nbdev reads nbs/_quarto.yml only; the file itself is at the top."
    link = ROOT / "nbs" / "_quarto.yml"
    if not link.is_symlink() or os.readlink(link) != "../_quarto.yml" or not link.is_file():
        report(
            ["nbs/_quarto.yml is not a relative link: run `ln -sf ../_quarto.yml nbs/_quarto.yml`"]
        )


# Notebooks


def test_notebooks_are_clean(tmp_path):
    "nbdev_clean has nothing to do: no execution counts, no metadata of the machine."
    copy = copy_of_tree(tmp_path)
    run_nbdev("nbdev_clean", "nbdev.clean", copy)
    report(
        [
            f"nbs/{name} is not clean: run `nbdev_clean`"
            for name in difference(copy / "nbs", ROOT / "nbs", "*.ipynb")
        ]
    )


def test_saved_outputs():
    """Outputs are kept, small, and free of errors and of what went to stderr (warnings, progress
    bars).
    """
    problems = []
    for name in notebook_names():
        again = f"run `jupyter nbconvert --to notebook --execute --inplace {name} && nbdev_clean`"
        code = [
            (index, cell)
            for index, cell in enumerate(cells_of(name))
            if cell["cell_type"] == "code"
        ]
        size = sum(len(json.dumps(cell["outputs"])) for _, cell in code if cell["outputs"])
        if size > MAX_OUTPUT_BYTES:
            problems.append(
                f"{name} keeps {size:,} bytes of output, at most {MAX_OUTPUT_BYTES:,}: show "
                "less, smaller figures"
            )
        if size == 0 and name in numbered_notebooks():
            problems.append(f"{name} keeps no output: {again}")
        for index, cell in code:
            for output in cell["outputs"]:
                if output["output_type"] == "error":
                    problems.append(
                        f"{name} cell {index} keeps an error, {output['ename']}: correct it, "
                        f"or show it with test_fail, then {again}"
                    )
                if output.get("name") == "stderr":
                    problems.append(
                        f"{name} cell {index} keeps what went to stderr (a warning, a "
                        f"progress bar): remove its cause, then {again}"
                    )
    report(problems)


def test_numbered_notebooks_have_the_same_frame():
    "Title and summary first; the module named as the file; the cell that exports, hidden, last."
    problems = [] if numbered_notebooks() else ["nbs/ holds no numbered notebook"]
    for name in numbered_notebooks():
        cells, stem = cells_of(name), PurePosixPath(name).stem
        module = stem.partition("_")[2]
        if not NUMBERED.fullmatch(stem):
            problems.append(f"{name}: name it NN_name.ipynb or NNa_name.ipynb")
        if (
            not cells
            or cells[0]["cell_type"] != "markdown"
            or not re.fullmatch(r"# \S[^\n]*\n\n> \S[^\n]*\n?", cells[0]["source"])
        ):
            problems.append(
                f"{name}: make cell 0 Markdown with `# Title`, an empty line, `> one-line "
                "summary`, and nothing else"
            )
        if not any(
            re.search(rf"(?m)^#\|\s*default_exp {module}$", cell["source"])
            for cell in cells
            if cell["cell_type"] == "code"
        ):
            problems.append(
                f"{name}: add the cell `#| default_exp {module}`, the file's own name "
                "without its number"
            )
        last = cells[-1] if cells else {"cell_type": "", "source": ""}
        if (
            last["cell_type"] != "code"
            or not re.match(r"#\|\s*hide\n", last["source"])
            or "nbdev_export()" not in last["source"]
        ):
            problems.append(
                f"{name}: end with the code cell `#| hide`, `import nbdev; nbdev.nbdev_export()`"
            )
    report(problems)


# Imports


def test_no_star_imports():
    "Every imported name is written out, in modules, notebooks and tests."
    sources = {name: code_of(name) for name in notebook_names()}
    sources |= {
        name: (ROOT / name).read_text(encoding="utf-8")
        for name in repository_files()
        if name.endswith(".py")
    }
    report(
        [
            f"{name} has `from {found.module} import *`: name what it takes"
            for name, source in sources.items()
            for found in sorted(imports_of(source), key=str)
            if found.name == "*"
        ]
    )


def test_nothing_is_imported_from_a_later_notebook():
    "A numbered notebook and its module import only from those before it."
    order = {module_of(name): position for position, name in enumerate(numbered_notebooks())}
    problems = []
    for name in numbered_notebooks():
        path = ROOT / (module_of(name).replace(".", "/") + ".py")
        sources = {name: code_of(name)} | (
            {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")}
            if path.is_file()
            else {}
        )
        for place, source in sources.items():
            for found in imports_of(source):
                used = {found.module, f"{found.module}.{found.name}"} & set(order)
                problems += [
                    f"{place} imports from {module}, which comes later: move what is shared "
                    "to an earlier notebook"
                    for module in sorted(used)
                    if order[module] > order[module_of(name)]
                ]
    report(problems)


def requirements() -> dict[str, set[str]]:
    """The dependencies in settings.ini by setting (`requirements`, and one for each extra), names
    only, as the package index normalises them.
    """
    parser = ConfigParser(delimiters=["="])
    parser.read(ROOT / "settings.ini", encoding="utf-8")
    return {
        setting: {normalised(re.match(r"[\w.-]+", entry)[0]) for entry in entries.split()}
        for setting, entries in parser["DEFAULT"].items()
        if setting == "requirements" or setting.endswith("_requirements")
    }


def normalised(name: str) -> str:
    "A distribution's name with case, dots and underscores made equal."
    return re.sub(r"[-_.]+", "-", name).lower()


def test_modules_import_what_settings_ini_requires():
    """The package imports the standard library and the runtime dependencies, and inside functions
    those of its extras: all of them and nothing else, no nbdev, no fastcore.
    """
    distributions = importlib.metadata.packages_distributions()
    by_setting = requirements()
    required = by_setting.pop("requirements")
    optional = (
        set().union(
            *(
                names
                for setting, names in by_setting.items()
                if setting not in ("dev_requirements", "benchmarks_requirements")
            )
        )
        - required
    )
    imported, problems = set(), []
    for path in modules():
        source, name = path.read_text(encoding="utf-8"), path.relative_to(ROOT)
        at_import = imports_of(source, inside_functions=False)
        for found in imports_of(source):
            top = found.module.partition(".")[0]
            if top == PACKAGE or top in sys.stdlib_module_names:
                continue
            owners = {normalised(owner) for owner in distributions.get(top, [top])}
            imported |= owners
            if not owners & (required | optional):
                problems.append(
                    f"{name} imports {top}, which is not among `requirements` in settings.ini: "
                    "add it there, or do without (nbdev and fastcore are for development)"
                )
            elif not owners & required and found in at_import:
                problems.append(
                    f"{name} imports {top} when it is itself imported, but settings.ini "
                    f"requires {top} for an extra only: import it inside the function that "
                    "needs it"
                )
    problems += [
        f"settings.ini requires {name}, which no module imports: take it out of the requirements"
        for name in sorted((required | optional) - imported)
    ]
    report(sorted(set(problems)))


# Files


def test_benchmarks_can_be_imported(monkeypatch):
    "No script has been left behind by a change of the package, or of another script."
    monkeypatch.setattr(sys, "path", [str(ROOT / "benchmarks"), *sys.path])
    for path in sorted((ROOT / "benchmarks").glob("*.py")):
        spec = importlib.util.spec_from_file_location(path.stem, path)
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


def test_top_level_holds_nothing_else():
    "The top level is the design's list, and every entry that is there is on it."
    found = {name.partition("/")[0] for name in repository_files()}
    report(
        [
            f"{name} does not belong at the top level: move it, or ignore it in .gitignore"
            for name in sorted(found - TOP_LEVEL)
        ]
        + [
            f"{name} is missing at the top level"
            for name in sorted(TOP_LEVEL - found - {"benchmarks", "results"})
        ]
    )


def test_no_data_and_no_large_file():
    "Only kinds of file that a person reads or a figure; 400 kB at most, a figure 200 kB."
    problems = []
    for name in repository_files():
        path, suffix = ROOT / name, PurePosixPath(name).suffix.lower()
        size, limit = (
            path.lstat().st_size,
            MAX_IMAGE_BYTES if suffix in {".png", ".svg"} else MAX_FILE_BYTES,
        )
        if suffix not in SUFFIXES or (
            suffix == "" and not path.is_symlink() and b"\0" in path.read_bytes()[:8192]
        ):
            problems.append(
                f"{name} is data or a kind of file that the repository does not keep: remove it"
            )
        elif size > limit:
            problems.append(
                f"{name} has {size:,} bytes, at most {limit:,}: make it smaller or remove it"
            )
    report(problems)


def test_no_control_characters():
    "No character that a lost backslash leaves behind (a vertical tab where \\varepsilon was meant) in a file or a cell."
    report(
        [
            f"{name} holds the control character {character!r}: write the backslash sequence "
            "in full"
            for name in repository_files()
            if PurePosixPath(name).suffix in {".py", ".md", ".yml", ".ini", ".toml", ".ipynb"}
            and not (ROOT / name).is_symlink()
            for character in sorted(
                set(
                    re.findall(
                        r"[\x00-\x08\x0b-\x1f]",
                        "\n".join(cell["source"] for cell in cells_of(name))
                        if name.endswith(".ipynb")
                        else (ROOT / name).read_text(encoding="utf-8"),
                    )
                )
            )
        ]
    )


def test_no_path_of_a_machine():
    "No absolute path of somebody's machine, in a file, a cell or what a cell shows."
    problems = []
    for name in repository_files():
        if PurePosixPath(name).suffix in {".png", ".svg"} or (ROOT / name).is_symlink():
            continue
        if name.endswith(".ipynb"):
            text = "\n".join(
                cell["source"] + "\n" + text_outputs_of(cell) for cell in cells_of(name)
            )
        else:
            text = (ROOT / name).read_text(encoding="utf-8")
        problems += [
            f"{name} has the path {path} of a machine: use a relative path, or a temporary "
            "folder whose name is not shown"
            for path in sorted(set(MACHINE_PATH.findall(text)))
        ]
    report(problems)


def test_ci_runs_the_readme_test_command():
    "The script of continuous integration is executable, and takes its command from README.md."
    script = ROOT / ".ci" / "run"
    if not os.access(script, os.X_OK) or "<!-- command: test -->" not in script.read_text(
        encoding="utf-8"
    ):
        report(
            [
                ".ci/run is not executable or does not read README.md: run `chmod +x "
                ".ci/run`, and keep its extraction"
            ]
        )
