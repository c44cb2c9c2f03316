"""Shared by all tests: where MNIST is, and what a run says about itself at its end."""
import os
from pathlib import Path

import pytest
from tree import notebook_names

MNIST_LEFT_OUT = "needs MNIST and DATARATER_DATA is not set"


def pytest_addoption(parser) -> None:
    parser.addoption("--num_kills", type=int, default=20, help="how often the crash test kills a trainer (default: 20)")


@pytest.fixture
def num_kills(request) -> int:
    return request.config.getoption("num_kills")


@pytest.fixture(scope="session")
def mnist_dir() -> Path:
    "The folder DATARATER_DATA, which holds MNIST/raw; a test that asks for it is left out when the variable is not set."
    folder = os.environ.get("DATARATER_DATA")
    if not folder:
        pytest.skip(MNIST_LEFT_OUT)
    if not list(Path(folder, "MNIST", "raw").glob("train-images-idx3-ubyte*")):
        pytest.fail(f"DATARATER_DATA={folder} has no MNIST/raw/train-images-idx3-ubyte or .gz: unset it, or name a folder that has", pytrace=False)
    return Path(folder).resolve()


def pytest_terminal_summary(terminalreporter) -> None:
    "One line on the notebooks that were executed; one on what was left out for want of MNIST."
    reports = terminalreporter.stats
    executed = [report for outcome in ("passed", "failed") for report in reports.get(outcome, [])
                if "test_notebook_runs[" in report.nodeid and report.when == "call"]
    terminalreporter.write_line(f"notebooks executed: {len(executed)} of {len(notebook_names())}")
    if not os.environ.get("DATARATER_DATA"):
        left_out = sum(MNIST_LEFT_OUT in str(report.longrepr) for report in reports.get("skipped", []))
        terminalreporter.write_line(f"left out because DATARATER_DATA is not set: {left_out} tests and all notebook cells "
                                    "that need MNIST (set it to a folder that holds MNIST/raw)")
