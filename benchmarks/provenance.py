"""Where a result comes from: command, commit, machine and versions, in every file of results/."""

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

import torch

import datarater
from datarater.disk import write_atomically

ROOT = Path(__file__).resolve().parents[1]
STARTED = time.monotonic()


def parser_of(
    description: str,
    shared: bool = True,  # whether to add the options that most scripts share
) -> argparse.ArgumentParser:
    "The parser of a script's command line."
    as_written = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=description, formatter_class=as_written)
    if shared:
        parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
        parser.add_argument("--data_dir", default=None)
        parser.add_argument("--jobs", type=int, default=2, help="at a time, a thread each")
    return parser


def git(*arguments: str) -> str:
    "What a git command says about this checkout."
    command = ["git", *arguments]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return run.stdout.strip()


def commit() -> str:
    """The checked-out commit, marked if the package or these scripts differ from it.

    In a copy without its history, DATARATER_COMMIT says which it is.
    """
    if "DATARATER_COMMIT" in os.environ:
        return os.environ["DATARATER_COMMIT"]
    is_changed = git("status", "--porcelain", "--", "datarater", "benchmarks")
    return git("rev-parse", "HEAD") + (" with changes" if is_changed else "")


COMMIT = commit()  # when the script was started: what is checked out later did not make the result


def command_line() -> str:
    "How this script was called, less what says where it happens."
    here = ("--data_dir", "--jobs", "--ratings_dir", "--runs")
    arguments = sys.argv[1:]
    kept = [
        part
        for i, part in enumerate(arguments)
        if not part.startswith(here) and not (i and arguments[i - 1] in here)
    ]
    return shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *kept])


def processor() -> str:
    "The name of the CPU where Linux tells it."
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def memory_of(
    kind: str,  # RssAnon: belongs to no file; VmData: allocated; VmRSS: resident; VmHWM: its peak
    pid: int | str = "self",
) -> int:
    "Bytes of a process's memory as Linux counts them; 0 when the process is gone."
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(kind)), 0)


def write_result(name: str, content: dict[str, Any], device: str = "cpu") -> None:
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
        "minutes": round((time.monotonic() - STARTED) / 60, 1),
    }
    path = ROOT / "results" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, json.dumps({**origin, **content}, indent=1) + "\n")
    print(f"written: {path.name}", flush=True)
