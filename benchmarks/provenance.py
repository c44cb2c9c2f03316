"""Where a result comes from: commit, machine and versions, written into every file of results/."""

import json
import os
import platform
import shlex
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import torch

import datarater
from datarater.support import write_atomically

ROOT = Path(__file__).resolve().parents[1]


def commit() -> str:
    """The checked-out commit, marked if the package or these scripts differ from it; for a copy
    without its history, DATARATER_COMMIT says which it is.
    """
    if "DATARATER_COMMIT" in os.environ:
        return os.environ["DATARATER_COMMIT"]

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()

    return git("rev-parse", "HEAD") + (
        " with changes" if git("status", "--porcelain", "--", "datarater", "benchmarks") else ""
    )


COMMIT = commit()  # when the script was started: what is checked out later did not make the result


def command_line() -> str:
    "How this script was called, less what says where it happens."
    here, arguments = ("--data_dir", "--jobs", "--runs"), sys.argv[1:]
    kept = [
        part
        for i, part in enumerate(arguments)
        if not part.startswith(here) and not (i and arguments[i - 1] in here)
    ]
    return shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *kept])


def processor() -> str:
    "The name of the CPU where Linux tells it."
    info = Path("/proc/cpuinfo")
    names = (
        [
            line.partition(":")[2].strip()
            for line in info.read_text().splitlines()
            if line.startswith("model name")
        ]
        if info.exists()
        else []
    )
    return names[0] if names else platform.machine()


def write_result(name: str, device: str, content: dict[str, Any]) -> Path:
    "Write results/NAME.json: `content` under what it was measured with."
    on_gpu = torch.device(device).type == "cuda"
    origin = {
        "commit": COMMIT,
        "date": date.today().isoformat(),
        "datarater": datarater.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": torch.cuda.get_device_name() if on_gpu else processor(),
        "threads": torch.get_num_threads(),
    }
    path = ROOT / "results" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, json.dumps({**origin, **content}, indent=1) + "\n")
    return path
