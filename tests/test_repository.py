"""The rules of the repository: what is generated is in step, files are of the right kind and size.

Each failure names the file and what to do about it, one line each.
"""

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
from pathlib import Path, PurePosixPath

import readme
from tree import (
    COURSE,
    PACKAGE,
    ROOT,
    cells_of,
    code_of,
    imports_of,
    imports_of_module,
    module_of,
    modules,
    notebook_names,
    report,
    repository_files,
    text_of,
)

from datarater.runs import DataRaterConfig
from datarater.support import DataRaterError

# modules that no notebook exports: the front door, where nbdev keeps the version, and the faces
BY_HAND = {"__init__.py", "__main__.py"}
TOP_LEVEL = set(
    """
    nbs datarater tests benchmarks results .ci .github .gitignore .gitattributes
    .pre-commit-config.yaml settings.ini setup.py pyproject.toml _quarto.yml README.md LICENSE
    CHANGELOG.md CONTRIBUTING.md CITATION.cff
    """.split()
)
SUFFIXES = {"", *".cff .html .ini .ipynb .json .md .png .py .qmd .scss .svg .toml .txt".split()}
SUFFIXES |= {".typed", ".yaml", ".yml"}
MAX_FILE_BYTES, MAX_IMAGE_BYTES, MAX_OUTPUT_BYTES = 400_000, 200_000, 300_000
MACHINE_PATH = re.compile(r"(?<![\w.~}:/-])/(?:tmp|work|home|root|Users|private|mnt|opt)/[\w.-]*")


def text_outputs_of(cell: dict) -> str:
    "What a code cell shows, as text; pictures left aside."
    texts = []
    for output in cell.get("outputs", []):
        data = output.get("data", {})
        texts.append(output.get("text", ""))
        texts += [text for kind, text in data.items() if not kind.startswith("image/")]
    return "\n".join(plain(text) for text in texts)


def plain(text: str | list | dict) -> str:
    "Text of a notebook file, in whichever way it is kept."
    if isinstance(text, dict):
        return json.dumps(text)
    return "".join(text)


def exporting_notebooks() -> list[str]:
    "The notebooks that export a module."
    return [name for name in notebook_names() if module_of(name)]


def copy_of_tree(destination: Path) -> Path:
    "A copy of the repository's files, so that no check alters the tree itself."
    for name in repository_files():
        (destination / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, destination / name, follow_symlinks=False)
    return destination


def run_nbdev(function: str, module: str, folder: Path) -> None:
    "Run one of nbdev's commands in `folder`; its complaints are failures."
    environment = {key: value for key, value in os.environ.items() if key != "IN_TEST"}
    code = f"from {module} import {function}; {function}()"
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code]
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

    def contents(folder: Path) -> dict[str, bytes]:
        return {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in folder.rglob(pattern)
            if not {"__pycache__", ".ipynb_checkpoints"} & set(path.parts)
        }

    ours, theirs = contents(made), contents(kept)
    return sorted(name for name in ours | theirs if ours.get(name) != theirs.get(name))


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
    text = text_of("README.md")
    problems = [
        f"README.md has no fenced block after <!-- command: {which} -->: add it to nbs/index.ipynb"
        for which in ("run", "test")
        if not re.search(rf"<!-- command: {which} -->\s*\n```\w*\n[^`]*\S[^`]*\n```", text)
    ]
    prose = re.sub(r"(?ms)^```.*?^```", "", text)
    for match in readme.LINK.finditer(prose):
        target = match[2].partition("#")[0]
        folder = target.rstrip("/") + "/"
        if not any(name == target or name.startswith(folder) for name in repository_files()):
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
        outputs = [
            (index, output)
            for index, cell in enumerate(cells_of(name))
            for output in cell.get("outputs", [])
        ]
        size = sum(len(json.dumps(output)) for _, output in outputs)
        if size > MAX_OUTPUT_BYTES:
            problems.append(
                f"{name} keeps {size:,} bytes of output, at most {MAX_OUTPUT_BYTES:,}: show "
                "less, smaller figures"
            )
        if size == 0 and name in COURSE:
            problems.append(f"{name} keeps no output: {again}")
        for index, output in outputs:
            if output["output_type"] == "error":
                problems.append(
                    f"{name} cell {index} keeps an error, {output['ename']}: correct it, "
                    f"or show it with test_fail, then {again}"
                )
            if output.get("name") == "stderr":
                problems.append(
                    f"{name} cell {index} keeps what went to stderr (a warning, a progress bar): "
                    f"remove its cause, then {again}"
                )
    report(problems)


def test_notebooks_have_the_same_frame():
    "Title and summary first, and nothing else; the cell that exports, hidden, last."
    problems = []
    for name in sorted({*COURSE, *exporting_notebooks()} & set(notebook_names())):
        first, last = cells_of(name)[0], cells_of(name)[-1]
        if not re.fullmatch(r"# \S[^\n]*\n\n> \S[^\n]*\n?", first["source"]):
            problems.append(
                f"{name}: make cell 0 Markdown with `# Title`, an empty line, `> one-line "
                "summary`, and nothing else"
            )
        is_last = re.match(r"#\|\s*hide\n(.|\n)*nbdev_export\(\)", last["source"])
        if module_of(name) and not is_last:
            problems.append(
                f"{name}: end with the code cell `#| hide`, `import nbdev; nbdev.nbdev_export()`"
            )
    report(problems)


# Notebooks


def test_cells_have_ids_of_their_own():
    "JupyterLab and nbdev tell the cells of a notebook by their ids."
    problems = []
    for name in notebook_names():
        ids = [cell["id"] for cell in cells_of(name)]
        again = sorted({one for one in ids if ids.count(one) > 1})
        problems += [f"{name}: several cells have the id {one}: give each its own" for one in again]
    report(problems)


# Results

# of time, memory and processes: nothing is learnt, so no seed decides anything
WITHOUT_SEED = {"attack_step", "performance_cpu", "performance_gpu", "ranks", "rating", "soak"}
# no rater is trained, or a run is only a means
WITHOUT_CONFIGURATION = {"attack_step", "kinds_light", "ranks", "rating", "reference", "soak"}

# has a configuration of its own, which is no run's
WITHOUT_RUN = {"text_memory"}


def entries_of(content: object) -> Iterator[tuple[str, object]]:
    "Every key of a JSON document, at any depth, and what it holds."
    if isinstance(content, dict):
        for key, value in content.items():
            yield key, value
            yield from entries_of(value)
    elif isinstance(content, list):
        for value in content:
            yield from entries_of(value)


def commits_of(content: dict) -> list[str]:
    "The commits that a result names: its own, that of a part, or one for each part."
    found = [value for key, value in entries_of(content) if key.startswith("commit")]
    return [one for value in found for one in (value.values() if type(value) is dict else [value])]


def git(*arguments: str) -> subprocess.CompletedProcess:
    "What a git command says about this checkout."
    command = ["git", "-c", "safe.directory=*", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_results_name_a_commit_of_this_history():
    """Each file in results/ was made by a clean commit that HEAD comes from. A shallow clone, as of
    GitHub's checkout, can't know the history, and looks at the form alone.
    """
    is_shallow = git("rev-parse", "--is-shallow-repository").stdout.strip() == "true"
    problems = []
    for path in sorted((ROOT / "results").glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        again = "measure it again from a clean checkout"
        if "commit" not in content:
            problems.append(f"results/{path.name} names no commit: {again}")
        for commit in sorted(set(commits_of(content))):
            if not re.fullmatch("[0-9a-f]{40}", commit):
                problems.append(f"results/{path.name}: {commit!r} is no commit: {again}")
            elif not is_shallow and git("merge-base", "--is-ancestor", commit, "HEAD").returncode:
                problems.append(f"results/{path.name}: {commit} is not in this history: {again}")
    report(problems)


def test_results_say_how_to_repeat_them():
    "Each file in results/ has its device, seeds, configuration, and a command that is here."
    problems = []
    for path in sorted((ROOT / "results").glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        keys = {key for key, _ in entries_of(content)}
        missing = [name for name in ("device", "date", "torch") if not content.get(name)]
        if path.stem not in WITHOUT_SEED and not any("seed" in key for key in keys):
            missing.append("seeds")
        if path.stem not in WITHOUT_CONFIGURATION and "configuration" not in keys:
            missing.append("configuration")
        script = re.match(r"python (benchmarks/\w+\.py)", content.get("command", ""))
        if script is None or not (ROOT / script[1]).is_file():
            missing.append("a command whose script is in benchmarks/")
        problems += [
            f"results/{path.name} lacks {what}: write it by its script" for what in missing
        ]
    report(problems)


def test_configurations_of_results_still_load():
    "Each configuration in results/ is one that a run of today accepts."
    problems = []
    for path in sorted((ROOT / "results").glob("*.json")):
        for key, value in entries_of(json.loads(path.read_text(encoding="utf-8"))):
            if key == "configuration" and path.stem not in WITHOUT_RUN:
                try:
                    DataRaterConfig(**value)
                except (DataRaterError, TypeError) as error:  # a value, or a name, that is gone
                    problems.append(f"results/{path.name}: {error}: measure it again")
    report(problems)


# Imports


def test_no_star_imports():
    "Every imported name is written out, in modules, notebooks and tests."
    sources = {name: code_of(name) for name in notebook_names()}
    sources |= {name: text_of(name) for name in repository_files() if name.endswith(".py")}
    report(
        [
            f"{name} has `from {found.module} import *`: name what it takes"
            for name, source in sources.items()
            for found in sorted(imports_of(source), key=str)
            if found.name == "*"
        ]
    )


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
    of_developers = {"dev_requirements", "benchmarks_requirements"}
    extras = [names for setting, names in by_setting.items() if setting not in of_developers]
    optional = set().union(*extras) - required
    imported, problems = set(), []
    for name in modules():
        at_import = imports_of_module(name, inside_functions=False)
        for found in imports_of_module(name):
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


def test_what_is_packaged(tmp_path):
    "The build has every module, the template of the report, and the mark for type checkers."
    copy = copy_of_tree(tmp_path / "copy")
    command = [sys.executable, "setup.py", "-q", "build_py", "--build-lib", str(tmp_path / "built")]
    run = subprocess.run(command, cwd=copy, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]
    files = [name for name in repository_files() if name.startswith(f"{PACKAGE}/")]
    assert {f"{PACKAGE}/py.typed", f"{PACKAGE}/curation/report.html"} <= set(files)
    report(
        [
            f"{name} is not packaged: add it to package_data in setup.py"
            for name in files
            if not (tmp_path / "built" / name).is_file()
        ]
    )


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
        path = ROOT / name
        suffix = path.suffix.lower()
        size = path.lstat().st_size
        limit = MAX_IMAGE_BYTES if suffix in {".png", ".svg"} else MAX_FILE_BYTES
        is_binary = not suffix and not path.is_symlink() and b"\0" in path.read_bytes()[:8192]
        if suffix not in SUFFIXES or is_binary:
            problems.append(
                f"{name} is data or a kind of file that the repository does not keep: remove it"
            )
        elif size > limit:
            problems.append(
                f"{name} has {size:,} bytes, at most {limit:,}: make it smaller or remove it"
            )
    report(problems)


def test_no_control_characters():
    "No character that a lost backslash leaves behind: a vertical tab where \\varepsilon was meant."
    problems = []
    for name in repository_files():
        suffix = PurePosixPath(name).suffix
        if suffix not in {".py", ".md", ".yml", ".ini", ".toml", ".ipynb"}:
            continue
        text = text_of(name)
        if suffix == ".ipynb":
            text = "\n".join(cell["source"] for cell in cells_of(name))
        problems += [
            f"{name} holds the control character {character!r}: write the backslash in full"
            for character in sorted(set(re.findall(r"[\x00-\x08\x0b-\x1f]", text)))
        ]
    report(problems)


def test_no_path_of_a_machine():
    "No absolute path of somebody's machine, in a file, a cell or what a cell shows."
    problems = []
    for name in repository_files():
        if PurePosixPath(name).suffix in {".png", ".svg"} or (ROOT / name).is_symlink():
            continue
        text = text_of(name)
        if name.endswith(".ipynb"):
            cells = cells_of(name)
            text = "\n".join(cell["source"] + "\n" + text_outputs_of(cell) for cell in cells)
        problems += [
            f"{name} has the path {path} of a machine: use a relative path, or a temporary "
            "folder whose name is not shown"
            for path in sorted(set(MACHINE_PATH.findall(text)))
        ]
    report(problems)


def test_ci_runs_the_readme_test_command():
    "The script of continuous integration is executable, and takes its command from README.md."
    if not os.access(ROOT / ".ci" / "run", os.X_OK):
        report([".ci/run is not executable: run `chmod +x .ci/run`"])
    if "<!-- command: test -->" not in text_of(".ci/run"):
        report([".ci/run does not read the test command from README.md: keep its extraction"])
