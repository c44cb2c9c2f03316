"""The house: which room sees which, the straight line of the course, and bounds on size.

Each failure names the file and what to do about it, one line each.
"""

import ast
import importlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest
from tree import (
    COURSE,
    PACKAGE,
    ROOT,
    SEES,
    Import,
    code_of,
    expected_module_of,
    imports_of,
    imports_of_module,
    is_chapter,
    is_face,
    listed_by,
    module_of,
    modules,
    notebook_names,
    num_words,
    prose_of,
    report,
    repository_files,
    room_of,
    source_of,
    text_of,
)

VERSION = Import(PACKAGE, "__version__")  # which every room may ask for
MAX_PAIRS = 60  # (module, another room above the ground that it imports from), in all
MAX_MODULE_LINES, MAX_FUNCTION_LINES, MAX_COLUMNS = 600, 60, 100
MAX_PARAMETERS = 7  # in method/
MAX_COURSE_WORDS = 16_000
MAX_TOP_NAMES = 25
GROUND = ("support", "disk")
MAX_CLOSURE = 5  # modules of ours that `import datarater.method.inner_loop` loads


def rooms_beside(module: str) -> set[str]:
    "The other rooms that a module imports from; the ground carries all of them."
    rooms = {room_of(source_of(found)) for found in imports_of_module(module)}
    return rooms & set(SEES) - {room_of(dotted(module)), *GROUND}


def dotted(path: str) -> str:
    "The dotted name of a module's file."
    return ".".join(PurePosixPath(path).with_suffix("").parts).removesuffix(".__init__")


def own_modules() -> list[str]:
    "The modules without the faces."
    return [name for name in modules() if not is_face(name)]


# Rooms


def test_every_notebook_exports_the_module_of_its_place():
    "A chapter nbs/data/loading.ipynb exports data.loading; the course is a list; others nothing."
    report(
        [f"{name} is missing: the course has nine notebooks" for name in sorted(missing_course())]
        + [
            f"{name} exports {module_of(name) or 'nothing'}, its place says "
            f"{expected_module_of(name) or 'nothing'}: change `#| default_exp`, or move it"
            for name in notebook_names()
            if module_of(name) != expected_module_of(name)
        ]
        + [
            f"{name} is not in the course: put it in a room's folder, tutorials/ or reference/"
            for name in notebook_names()
            if re.match(r"nbs/\d", name) and name not in COURSE
        ]
    )


def missing_course() -> set[str]:
    return set(COURSE) - set(notebook_names())


def test_rooms_import_downwards_only():
    "support -> disk -> data, models -> method -> evaluation -> runs -> curation -> scale -> cli."
    problems = []
    for name in own_modules():
        room = room_of(dotted(name))
        if room not in SEES:
            problems.append(f"{name} is in no room: move it into one of {', '.join(SEES)}")
            continue
        for found in sorted(imports_of_module(name), key=str):
            seen = room_of(source_of(found))
            if found == VERSION:
                continue
            if found.module == PACKAGE:
                problems.append(f"{name} imports from the front door: import from the room's face")
            elif seen and seen != room and seen not in SEES[room]:
                problems.append(
                    f"{name} imports {found.name or found.module} from {seen}, which {room} does "
                    f"not see: move what is shared down (it sees {', '.join(sorted(SEES[room]))})"
                )
    report(problems)


def test_other_rooms_are_entered_by_their_face():
    "`from datarater.data import X`, not `from datarater.data.loading import X`; no private name."
    problems = []
    for name in own_modules():
        for found in sorted(imports_of_module(name), key=str):
            room = room_of(found.module)
            if room and room != room_of(dotted(name)) and found.module.count(".") > 1:
                problems.append(
                    f"{name} imports {found.name} from {found.module}: add it to "
                    f"{PACKAGE}/{room}/__init__.py and import it from {PACKAGE}.{room}"
                )
    sources = {name: code_of(name) for name in notebook_names()}
    sources |= {name: text_of(name) for name in repository_files() if name.endswith(".py")}
    problems += [
        f"{name} imports the private name {found.name}: make it public, or do without"
        for name, source in sources.items()
        for found in sorted(imports_of(source), key=str)
        if re.match(rf"{PACKAGE}\b", found.module) and re.match(r"_[a-z]", found.name or "")
    ]
    report(problems)


def test_faces_list_what_is_there():
    "Each name of a package's `__init__.py` can be imported, and is listed once."
    for face in faces():
        package = importlib.import_module(face)
        missing = [name for name in package.__all__ if not hasattr(package, name)]
        twice = {name for name in package.__all__ if package.__all__.count(name) > 1}
        # once its module is imported, such a name is the module
        hidden = {name for name in package.__all__ if (path_of(face) / f"{name}.py").is_file()}
        report(
            [f"{face} lists {name}, which is not there: take it out" for name in missing]
            + [f"{face} lists {name} twice: take one out" for name in sorted(twice)]
            + [f"{face} lists {name}, the name of a module: rename one" for name in sorted(hidden)]
        )


def faces() -> list[str]:
    "The package, then its rooms, by their dotted names."
    return sorted(dotted(name) for name in modules() if is_face(name))


def path_of(face: str) -> Path:
    "The folder of a package."
    return ROOT / face.replace(".", "/")


def seen_by_tools(face: str) -> dict[str, str]:
    "What a face imports below `if TYPE_CHECKING`, as `a as a`: each name with its module."
    body = ast.parse((path_of(face) / "__init__.py").read_text(encoding="utf-8")).body
    [branch] = [node for node in body if isinstance(node, ast.If)]
    assert ast.unparse(branch.test) == "TYPE_CHECKING"
    return {
        alias.name: node.module or ""
        for node in branch.body
        for alias in node.names
        if alias.asname == alias.name
    }


def test_editors_see_what_the_faces_offer():
    "The names below `if TYPE_CHECKING` are those that `lazy_names` offers, each from its module."
    problems = []
    for face in faces():
        offered = {name: home.removeprefix(f"{face}.") for name, home in listed_by(face).items()}
        if face == PACKAGE:
            offered |= {room_of(name): "" for name in faces() if name != PACKAGE}
        problems += [
            f"{face} lists {name}, of {home or face}, either below `if TYPE_CHECKING` or in "
            "`lazy_names`: write it in both, above as `name as name`"
            for name, home in sorted(offered.items() ^ seen_by_tools(face).items())
        ]
    report(problems)


PROGRAM = """
import datarater
reveal_type(datarater.curation.rate_dataset)
datarater.compare_downstream
datarater.curation.no_such_name
"""
# The package is read in full, what it imports is not: that takes minutes.
MYPY = """
[mypy]
strict = true
follow_imports = skip
[mypy-datarater.*]
follow_imports = silent
"""


def test_a_type_checker_sees_what_the_faces_offer(tmp_path):
    "mypy, as strict as it can be: all public names with their types, and no other."
    pytest.importorskip("mypy", reason="mypy is not installed")
    lines = [f"from {face} import {', '.join(listed_by(face))}" for face in faces()]
    (tmp_path / "program.py").write_text("\n".join(lines) + PROGRAM, encoding="utf-8")
    (tmp_path / "mypy.ini").write_text(MYPY, encoding="utf-8")
    run = subprocess.run(
        [sys.executable, "-m", "mypy", "program.py"],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    said = re.findall(r"(?m)^program.py:\d+: (.*)", run.stdout)
    assert len(said) == 3, run.stdout + run.stderr
    assert re.search(r"datarater\.curation\.ratings\.Ratings", said[0])
    assert 'no attribute "compare_downstream"' in said[1]
    assert 'no attribute "no_such_name"' in said[2]


def test_the_front_door_is_narrow_and_light():
    "At most 25 names; nothing is loaded before it is used; the rest say where they are."
    package = importlib.import_module(PACKAGE)
    assert len(package.__all__) <= MAX_TOP_NAMES, "move names to the rooms' faces"
    code = f"import sys, {PACKAGE}; {PACKAGE}.scale; print(*sys.modules)"
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    ours = {name for name in run.stdout.split() if name.partition(".")[0] == PACKAGE}
    assert ours == {PACKAGE, f"{PACKAGE}.support", f"{PACKAGE}.scale"}
    assert "torch" not in run.stdout.split()
    for face in faces()[1:]:
        for name in set(listed_by(face)) - set(package.__all__):
            with pytest.raises(AttributeError, match=f"{name} is in {face}, not in {PACKAGE}"):
                getattr(package, name)
            with pytest.raises(ImportError, match=f"{name} is in {face}, not in {PACKAGE}"):
                exec(f"from {PACKAGE} import {name}")


def test_few_arrows_between_rooms():
    "The pairs of a module and another room that it imports from stay few."
    pairs = {name: sorted(rooms_beside(name)) for name in own_modules()}
    if (total := sum(map(len, pairs.values()))) > MAX_PAIRS:
        report(
            [f"{total} imports between rooms, at most {MAX_PAIRS}: hand over values instead"]
            + [f"{name} imports from {', '.join(rooms)}" for name, rooms in pairs.items() if rooms]
        )


@pytest.mark.parametrize("room", ["method", "models"])
def test_method_and_models_are_pure(room):
    "Functions and tensors in and out: no files, no environment."
    report(
        [
            f"{name} imports {found.module}: leave files and the environment to runs"
            for name in own_modules()
            if room_of(dotted(name)) == room
            for found in sorted(imports_of_module(name), key=str)
            if found.module.partition(".")[0] in {"os", "pathlib", "yaml"}
        ]
    )


def test_the_inner_loop_stands_alone():
    "What importing it loads of this package, in a new process."
    code = f"import sys, {PACKAGE}.method.inner_loop; print(*sys.modules)"
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = sorted(name for name in run.stdout.split() if name.partition(".")[0] == PACKAGE)
    if len(loaded) > MAX_CLOSURE:
        report(
            [
                f"{PACKAGE}/method/inner_loop.py loads {len(loaded)} modules, at most "
                f"{MAX_CLOSURE} ({', '.join(loaded)}): import less, or inside a function"
            ]
        )


# The straight line


def test_the_course_imports_only_what_it_has_reached():
    "A notebook and its tests take from rooms reached so far or below, from no later notebook."
    problems, reached, later = [], {*GROUND}, [module for module in COURSE.values() if module]
    for name, module in COURSE.items():
        if name in missing_course():
            continue
        if not module:  # 00: its digits, and at its end the library's own meta-gradient
            used = {room_of(source_of(found)) for found in imports_of(code_of(name))} - {""}
            problems += [
                f"{name} imports from {room}: it builds all but its digits in plain PyTorch"
                for room in sorted(used - {"data", "method"})
            ]
            continue
        later.remove(module)
        room = module.partition(".")[0]
        reached |= SEES[room] | {room}
        for found in sorted(imports_of(code_of(name)), key=str):
            source = source_of(found)
            seen = room_of(source)
            if (
                seen
                and found != VERSION
                and (seen not in reached or source.removeprefix(f"{PACKAGE}.") in later)
            ):
                problems.append(
                    f"{name} imports {found.name or found.module} from {source}, which a reader "
                    "has not reached: do without, or show it in a chapter"
                )
    report(problems)


def next_links(name: str) -> list[str]:
    "The pages that the line which begins with Next links to, relative to the root."
    lines = re.findall(r"(?m)^\**Next.*", "\n".join(prose_of(name)[-2:]))
    targets = re.findall(r"\]\(([^)#\s]+\.ipynb)", "\n".join(lines[-1:]))
    return [str(resolved(PurePosixPath(name).parent / target)) for target in targets]


def resolved(path: PurePosixPath) -> PurePosixPath:
    "The path without `..`."
    parts: list[str] = []
    for part in path.parts:
        if part == "..":
            parts.pop()
        else:
            parts.append(part)
    return PurePosixPath(*parts)


def course_pairs() -> Iterator[tuple[str, str]]:
    "Each notebook of the course with the one after it; the last leads to the front page."
    yield from zip(COURSE, [*list(COURSE)[1:], "nbs/index.ipynb"], strict=True)


def test_next_leads_on():
    "The course is a chain; a chapter leads back to it, or on to another chapter."
    problems = [
        f"{name}: the line that begins with Next does not link to {following}"
        for name, following in course_pairs()
        if name not in missing_course() and following not in next_links(name)
    ]
    problems += [
        f"{name}: the line that begins with Next links to no page of the course or chapter"
        for name in notebook_names()
        if is_chapter(name)
        and not any(link in COURSE or is_chapter(link) for link in next_links(name))
    ]
    report(problems)


def test_the_course_is_short():
    "All nine together; each has its own bound in test_site.py."
    words = {name: num_words(name) for name in COURSE if name not in missing_course()}
    if (total := sum(words.values())) > MAX_COURSE_WORDS:
        report(
            [f"the course has {total:,} words, at most {MAX_COURSE_WORDS:,}: move some to chapters"]
            + [f"{name}: {num:,}" for name, num in words.items()]
        )


# Size


def functions_of(name: str) -> Iterator[ast.FunctionDef]:
    "The functions and methods of a module, those inside others too."
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    yield from (node for node in ast.walk(ast.parse(text_of(name))) if isinstance(node, kinds))


def num_parameters(function: ast.FunctionDef) -> int:
    "How many parameters a function has, `self` and `cls` left aside."
    given = function.args
    positional = [arg.arg for arg in given.posonlyargs + given.args]
    starred = [arg for arg in (given.vararg, given.kwarg) if arg]
    named = [name for name in positional if name not in ("self", "cls")]
    return len(named) + len(given.kwonlyargs) + len(starred)


def test_modules_and_functions_are_short():
    "No module over 600 lines, no function over 60."
    problems = []
    for name in own_modules():
        if (lines := len(text_of(name).splitlines())) > MAX_MODULE_LINES:
            problems.append(f"{name} has {lines} lines, at most {MAX_MODULE_LINES}: divide it")
        for function in functions_of(name):
            if (length := function.end_lineno - function.lineno + 1) > MAX_FUNCTION_LINES:
                problems.append(
                    f"{name}: {function.name} has {length} lines, at most {MAX_FUNCTION_LINES}: "
                    "divide it"
                )
    report(problems)


def test_method_has_few_parameters():
    "More than seven are grouped in a named tuple."
    report(
        [
            f"{name}: {function.name} takes {num} parameters, at most {MAX_PARAMETERS}: group them"
            for name in own_modules()
            if room_of(dotted(name)) == "method"
            for function in functions_of(name)
            if (num := num_parameters(function)) > MAX_PARAMETERS
        ]
    )


# Style


@pytest.mark.parametrize("command", [["check", "--output-format=concise"], ["format", "--check"]])
def test_ruff_has_nothing_to_say(command):
    "Over package, tests, benchmarks and notebooks, as pyproject.toml says."
    ruff = [sys.executable, "-m", "ruff", *command, "--no-cache", "--quiet", "."]
    run = subprocess.run(ruff, cwd=ROOT, capture_output=True, text=True)
    if run.returncode:
        report([f"`ruff {' '.join(command)}` says:\n{run.stdout}{run.stderr}"])


def test_no_line_of_a_module_is_long():
    "`__all__` alone is wrapped by nbdev, wider."
    problems = []
    for name in modules():
        source = text_of(name)
        generated = [
            range(node.lineno, node.end_lineno + 1)
            for node in ast.parse(source).body
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        ]
        problems += [
            f"{name}:{number} has {len(line)} columns, at most {MAX_COLUMNS}: "
            f"{'shorten the summary' if number == 1 else 'break it'} in its notebook"
            for number, line in enumerate(source.splitlines(), start=1)
            if len(line) > MAX_COLUMNS and not any(number in lines for lines in generated)
        ]
    report(problems)
