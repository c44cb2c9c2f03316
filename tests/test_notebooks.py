"""Every notebook runs from top to bottom, in a process of its own, nbdev's directives obeyed."""

import json
import multiprocessing
import os
from pathlib import Path

import pytest
import run_notebook
from nbdev.doclinks import nbglob
from tree import ROOT, code_cells, notebook_names, report

# a notebook is meant to take at most 60 s on two cores; the rest is for slow machines
TIMEOUT_SECONDS = 300
NOTEBOOKS = notebook_names()


def has_code(name: str) -> bool:
    "Whether a notebook has a code cell besides the one that exports."
    return any("nbdev_export(" not in source for source in code_cells(name))


def files_beside_notebooks() -> set[str]:
    "The files below nbs/ and in a folder for runs at the root, caches left aside."
    found = [
        path
        for folder in ("nbs", "experiments")
        for path in (ROOT / folder).rglob("*")
        if path.is_file()
    ]
    return {
        path.relative_to(ROOT).as_posix()
        for path in found
        if not {"__pycache__", ".ipynb_checkpoints"} & set(path.parts)
        and path.name != ".last_checked"
    }


def test_no_notebook_is_missed():
    "The notebooks below are all those that exist, and the same that nbdev exports and documents."
    on_disk = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "nbs").rglob("*.ipynb")
        if ".ipynb_checkpoints" not in path.parts
    }
    for_nbdev = {
        path.resolve().relative_to(ROOT).as_posix() for path in nbglob(ROOT / "nbs", as_path=True)
    }
    problems = [] if NOTEBOOKS else ["nbs/ holds no notebook"]
    problems += [
        f"{name}: git ignores it: see `git check-ignore -v {name}`"
        for name in sorted(on_disk - set(NOTEBOOKS))
    ]
    problems += [
        f"{name}: nbdev skips what starts with _ or a dot: rename it"
        for name in sorted(set(NOTEBOOKS) - for_nbdev)
    ]
    report(problems)


# Each notebook has a process of its own, forked from one that has imported what takes seconds.
FORKS = multiprocessing.get_context("forkserver" if os.name == "posix" else "spawn")
if os.name == "posix":
    of_notebooks = [
        "torchvision",
        "torch._dynamo",
        "sklearn.datasets",
        "sklearn.metrics",
        "seaborn",
    ]
    FORKS.set_forkserver_preload([*of_notebooks, "nbdev.test", "pytest"])


def run_here(name: str, output: str) -> None:
    "In a new process: run a notebook, and write what is printed, errors too, to a file."
    file = os.open(output, os.O_WRONLY | os.O_CREAT)
    for stream in (1, 2):
        os.dup2(file, stream)
    os.chdir(ROOT)
    os.environ.pop("IN_TEST", None)
    multiprocessing.set_start_method(None, force=True)  # what notebooks start is up to them
    run_notebook.main(name)


def executed(name: str, output: Path) -> int | None:
    "Run a notebook; the exit code of its process, None if it took too long."
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # two notebooks run at a time
    process = FORKS.Process(target=run_here, args=(name, str(output)))
    process.start()
    process.join(TIMEOUT_SECONDS)
    if process.exitcode is None:
        process.kill()
        process.join()
        return None
    return process.exitcode


@pytest.mark.parametrize(
    "name", NOTEBOOKS, ids=lambda name: name.removeprefix("nbs/").removesuffix(".ipynb")
)
def test_notebook_runs(name, record_property, tmp_path):
    "It passes, executes a cell if it has code, shows what it prints, and leaves no file behind."
    again = f"nbdev_test --path {name} --n_workers 0"
    before = files_beside_notebooks()
    output = tmp_path / "output"
    code = executed(name, output)
    if code is None:
        return report(
            [
                f"{name} took longer than {TIMEOUT_SECONDS} s: shorten it under IN_TEST or mark "
                f"cells `#| slow`; try `{again}`"
            ]
        )
    printed = output.read_text(errors="replace")
    if code:
        return report([f"{name}: its process ended with {code}; try `{again}`\n{printed}"])
    result = json.loads(printed.splitlines()[-1])
    record_property("raised", result["raised"])
    if not result["passed"]:
        return report([f"{name} failed; try `{again}`\n{printed}"])
    problems = []
    if result["num_executed"] == 0 and has_code(name):
        problems.append(
            f"{name}: no cell was executed: remove `skip_exec`, or the flags on every cell"
        )
    if result["without_outputs"]:
        problems.append(
            f"{name}: cells {result['without_outputs']} (counted from 0) show something, but their "
            "outputs are not saved: run `jupyter nbconvert --to notebook --execute --inplace "
            f"{name} && nbdev_clean`"
        )
    if left_behind := sorted(files_beside_notebooks() - before):
        problems.append(
            f"{', '.join(left_behind)} appeared while {name} ran: write into a temporary folder"
        )
    report(problems)
