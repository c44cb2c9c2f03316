"""Execute one notebook in this process, as `nbdev_test` does.

    python tests/run_notebook.py nbs/01_datasets.ipynb

The last line of the output is JSON: whether it passed, how many code cells ran, which cells show
something that the saved notebook does not, and which functions and classes were on the stack when a
`DataRaterError` was made.
"""

import json
import sys
from pathlib import Path

import nbdev.test
from execnb.shell import CaptureShell
from nbdev.config import get_config
from tree import module_of

from datarater.support import DataRaterError


class RecordingShell(CaptureShell):
    """nbdev's shell, which also counts the cells it executes and notes those whose saved outputs
    are missing.
    """

    num_executed = 0
    without_outputs: list[int] = []
    module = ""  # that the notebook exports: `data.loading`
    raised: set[str] = set()

    def cell(self, cell, **kwargs):
        had_outputs = bool(cell.get("outputs"))
        super().cell(cell, **kwargs)
        # where a notebook defines it
        self.user_ns.get("DataRaterError", DataRaterError).__init__ = note_stack
        RecordingShell.num_executed += 1
        shows = any(output.get("name") != "stderr" for output in cell.get("outputs", []))
        if shows and not had_outputs:
            RecordingShell.without_outputs.append(cell.idx_)


def note_stack(self, *arguments):
    "`DataRaterError.__init__`, which also notes who is at work."
    Exception.__init__(self, *arguments)
    frame = sys._getframe(1)
    while frame is not None:
        module = frame.f_globals.get("__name__", "").removeprefix("datarater.")
        if module == "__main__":
            module = RecordingShell.module
        name = frame.f_code.co_name
        owner = frame.f_locals.get("cls")  # of a class method
        if "self" in frame.f_locals:
            owner = type(frame.f_locals["self"])
        if isinstance(owner, type):
            owner = owner.__name__
            RecordingShell.raised |= {f"{module}.{owner}", f"{module}.{owner}.{name}"}
        else:
            RecordingShell.raised.add(f"{module}.{name}")
        frame = frame.f_back


def main(path: str) -> None:
    "Execute the notebook at `path` and report."
    nbdev.test.CaptureShell = RecordingShell
    RecordingShell.module = module_of(path)
    DataRaterError.__init__ = note_stack
    settings = get_config()
    passed, _ = nbdev.test.test_nb(
        Path(path).resolve(), skip_flags=settings.tst_flags.split(), basepath=settings.config_path
    )
    report = {
        "passed": passed,
        "num_executed": RecordingShell.num_executed,
        "without_outputs": RecordingShell.without_outputs,
        "raised": sorted(RecordingShell.raised),
    }
    print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
