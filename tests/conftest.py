"""Shared by all tests: where MNIST is, and what a run says about itself at its end."""

import os
from collections import Counter
from pathlib import Path

import pytest
from tree import documented_errors, notebook_names

MNIST_LEFT_OUT = "needs MNIST and DATARATER_DATA is not set"
# A minute or so each.
LONG_NOTEBOOKS = """
    runs/training 08_cli curation/curator curation/baselines tutorials/mnist 05_adversarial
""".split()


def pytest_addoption(parser) -> None:
    parser.addoption(
        "--num_kills",
        type=int,
        default=20,
        help="how often the crash test kills a trainer (default: 20)",
    )


def pytest_collection_modifyitems(items) -> None:
    """Notebooks last, the long ones first: at the end no worker waits long for the other, and tests
    that share what takes long to make stay together.
    """

    def place(item) -> tuple[bool, bool]:
        name = item.name.partition("[")[2].removesuffix("]")
        return "test_notebook_runs[" in item.nodeid, name not in LONG_NOTEBOOKS

    items.sort(key=place)


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
    stats = terminalreporter.stats
    reports = stats.get("passed", []) + stats.get("failed", [])
    return [
        report
        for report in reports
        if "test_notebook_runs[" in report.nodeid and report.when == "call"
    ]


def errors_never_seen(terminalreporter) -> tuple[int, list[str]]:
    """How many functions and classes document an error, and those that have raised none in any
    notebook, once all notebooks have run.
    """
    reports = executed_notebooks(terminalreporter)
    if len(reports) < len(notebook_names()):
        return 0, []
    raised = set()
    for report in reports:
        raised |= set(dict(report.user_properties).get("raised", []))
    documented = list(documented_errors())
    return len(documented), [name for name in documented if name not in raised]


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session) -> None:
    "A documented error that nothing provokes is a failure."
    if hasattr(session.config, "workerinput"):
        return
    terminalreporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if terminalreporter and errors_never_seen(terminalreporter)[1]:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter) -> None:
    "A line each: notebooks executed, errors they provoked, tests left out and why."
    num_executed = len(executed_notebooks(terminalreporter))
    terminalreporter.write_line(f"notebooks executed: {num_executed} of {len(notebook_names())}")
    num_documented, never_seen = errors_never_seen(terminalreporter)
    if num_documented:
        failed = f"; FAILED, never seen: {', '.join(never_seen)}" if never_seen else ""
        terminalreporter.write_line(
            "functions that document an error and have raised one: "
            f"{num_documented - len(never_seen)} of {num_documented}{failed}"
        )
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = Counter(str(report.longrepr[2]).removeprefix("Skipped: ") for report in skipped)
    num_without_mnist = reasons.pop(MNIST_LEFT_OUT, 0)
    for reason, num in reasons.items():
        terminalreporter.write_line(f"left out: {num} tests, {reason}")
    if not os.environ.get("DATARATER_DATA"):
        terminalreporter.write_line(
            f"left out because DATARATER_DATA is not set: {num_without_mnist} tests and all "
            "notebook cells that need MNIST (set it to a folder that holds MNIST/raw)"
        )
