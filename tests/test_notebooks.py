"""Every notebook runs from top to bottom, in a process of its own, nbdev's directives obeyed."""

import contextlib
import json
import os
import subprocess
import sys

import pytest
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


def executed(name: str) -> subprocess.CompletedProcess | None:
    "The notebook, run by run_notebook.py; None if it took too long."
    environment = {key: value for key, value in os.environ.items() if key != "IN_TEST"}
    environment.setdefault("OMP_NUM_THREADS", "1")  # two notebooks run at a time
    with contextlib.suppress(subprocess.TimeoutExpired):
        return subprocess.run(
            [sys.executable, str(ROOT / "tests" / "run_notebook.py"), name],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
        )
    return None


@pytest.mark.parametrize(
    "name", NOTEBOOKS, ids=lambda name: name.removeprefix("nbs/").removesuffix(".ipynb")
)
def test_notebook_runs(name, record_property):
    "It passes, executes a cell if it has code, shows what it prints, and leaves no file behind."
    again = f"nbdev_test --path {name} --n_workers 0"
    before = files_beside_notebooks()
    run = executed(name)
    if run is None:
        return report(
            [
                f"{name} took longer than {TIMEOUT_SECONDS} s: shorten it under IN_TEST or mark "
                f"cells `#| slow`; try `{again}`"
            ]
        )
    lines = run.stdout.splitlines()
    if run.returncode or not lines:
        outputs = run.stdout + run.stderr
        return report(
            [f"{name}: its process ended with {run.returncode}; try `{again}`\n{outputs}"]
        )
    result = json.loads(lines[-1])
    record_property("raised", result["raised"])
    if not result["passed"]:
        return report([f"{name} failed; try `{again}`\n{run.stderr}"])
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
