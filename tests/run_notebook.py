"""Execute one notebook in this process, as `nbdev_test` does: python tests/run_notebook.py nbs/00_config.ipynb

The last line of the output is JSON: whether it passed, how many code cells ran, and which cells show something that the saved notebook does not.
"""
import json
import sys
from pathlib import Path

import nbdev.test
from execnb.shell import CaptureShell
from nbdev.config import get_config


class RecordingShell(CaptureShell):
    "nbdev's shell, which also counts the cells it executes and notes those whose saved outputs are missing."
    num_executed = 0
    without_outputs: list[int] = []

    def cell(self, cell, **kwargs):
        had_outputs = bool(cell.get("outputs"))
        super().cell(cell, **kwargs)
        RecordingShell.num_executed += 1
        shows = any(output.get("name") != "stderr" for output in cell.get("outputs", []))
        if shows and not had_outputs:
            RecordingShell.without_outputs.append(cell.idx_)


def main(path: str) -> None:
    "Execute the notebook at `path` and report."
    nbdev.test.CaptureShell = RecordingShell
    settings = get_config()
    passed, _ = nbdev.test.test_nb(Path(path).resolve(), skip_flags=settings.tst_flags.split(), basepath=settings.config_path)
    report = {"passed": passed, "num_executed": RecordingShell.num_executed, "without_outputs": RecordingShell.without_outputs}
    print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
