"""Shared by all tests: where MNIST is, and what a run says about itself at its end."""

import os
from collections import Counter
from pathlib import Path

import pytest
from tree import documented_errors, notebook_names

MNIST_LEFT_OUT = "needs MNIST and DATARATER_DATA is not set"


def pytest_addoption(parser) -> None:
    parser.addoption(
        "--num_kills",
        type=int,
        default=20,
        help="how often the crash test kills a trainer (default: 20)",
    )


@pytest.fixture
def num_kills(request) -> int:
    return request.config.getoption("num_kills")


@pytest.fixture(scope="session")
def mnist_dir() -> Path:
    """The folder DATARATER_DATA, which holds MNIST/raw; a test that asks for it is left out when
    the variable is not set.
    """
    folder = os.environ.get("DATARATER_DATA")
    if not folder:
        pytest.skip(MNIST_LEFT_OUT)
    if not list(Path(folder, "MNIST", "raw").glob("train-images-idx3-ubyte*")):
        pytest.fail(
            f"DATARATER_DATA={folder} has no MNIST/raw/train-images-idx3-ubyte or .gz: unset "
            "it, or name a folder that has",
            pytrace=False,
        )
    return Path(folder).resolve()


def executed_notebooks(terminalreporter) -> list:
    "The reports of the notebooks that were run."
    return [
        report
        for outcome in ("passed", "failed")
        for report in terminalreporter.stats.get(outcome, [])
        if "test_notebook_runs[" in report.nodeid and report.when == "call"
    ]


def errors_never_seen(terminalreporter) -> tuple[int, list[str]]:
    """How many functions and classes document an error, and those that have raised none in any
    notebook, once all notebooks have run.
    """
    reports, documented = executed_notebooks(terminalreporter), list(documented_errors())
    if len(reports) < len(notebook_names()):
        return 0, []
    raised = {
        name
        for report in reports
        for key, names in report.user_properties
        if key == "raised"
        for name in names
    }
    return len(documented), [name for name in documented if name not in raised]


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session) -> None:
    "A documented error that nothing provokes is a failure."
    terminalreporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if (
        not hasattr(session.config, "workerinput")
        and terminalreporter
        and errors_never_seen(terminalreporter)[1]
    ):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter) -> None:
    """One line on the notebooks that were executed and the errors they provoked; one on what was
    left out for want of MNIST.
    """
    reports = terminalreporter.stats
    terminalreporter.write_line(
        f"notebooks executed: {len(executed_notebooks(terminalreporter))} of "
        f"{len(notebook_names())}"
    )
    num_documented, never_seen = errors_never_seen(terminalreporter)
    if num_documented:
        terminalreporter.write_line(
            "functions that document an error and have raised one: "
            f"{num_documented - len(never_seen)} of "
            f"{num_documented}{'; FAILED, never seen: ' * bool(never_seen)}{', '.join(never_seen)}"
        )
    reasons = Counter(
        str(report.longrepr[2]).removeprefix("Skipped: ")
        for report in reports.get("skipped", [])
        if MNIST_LEFT_OUT not in str(report.longrepr)
    )
    for reason, num in reasons.items():
        terminalreporter.write_line(f"left out: {num} tests, {reason}")
    if not os.environ.get("DATARATER_DATA"):
        left_out = sum(
            MNIST_LEFT_OUT in str(report.longrepr) for report in reports.get("skipped", [])
        )
        terminalreporter.write_line(
            f"left out because DATARATER_DATA is not set: {left_out} tests and all notebook cells "
            "that need MNIST (set it to a folder that holds MNIST/raw)"
        )
