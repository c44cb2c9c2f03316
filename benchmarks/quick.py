"""The benchmarks of time and memory, one after another, and their headlines as a table.

    python benchmarks/quick.py [--show]

runs performance.py and text_memory.py, which write their files in results/, and prints what these
files say; with --show it prints alone. It takes some forty minutes on two cores. Most of the other
scripts train models for hours; files in results/ that are newer than November 2026 say how many
minutes they took. For a GPU there is performance.py --device cuda.
"""

import json
import subprocess
import sys
from typing import Any

from performance import MAIN
from provenance import ROOT, parser_of

SCRIPTS = ("performance.py", "text_memory.py")


def read(name: str) -> dict[str, Any]:
    "A file in results/."
    return json.loads((ROOT / "results" / f"{name}.json").read_text())


def memory_over_reverse(rows: dict[str, int]) -> str:
    "Peak memory in micro-batches, over that of reverse."
    return f"{rows['micro-batches'] / rows['reverse']:.2f}"


def median(ratio: dict[str, float]) -> str:
    "A median with its quartiles."
    return "{median:.2f} ({lower_quartile:.2f} to {upper_quartile:.2f})".format(**ratio)


def headlines() -> list[tuple[str, str]]:
    "What was measured, and the number."
    performance = read("performance_cpu")
    rows = performance["meta_step"]["rows"]
    (of_main,) = [row for row in rows if MAIN.items() <= row.items()]
    slowest = min(rows, key=lambda row: row["peers_over_ours"]["careful loop"]["median"])
    of_slowest = "{inner_model}, P = {num_models}, T = {num_steps}".format(**slowest)
    peaks = {row["way"]: row["peak_bytes"] for row in performance["memory"] if row["T"] == 8}
    of_text = next(row for row in read("text_memory")["rows"] if row["T"] == 8)
    return [
        ("meta-gradient / plain training, ToyCNN, P = 8", median(of_main["over_plain"]["ours"])),
        ("best peer / ours, the same", median(of_main["best_peer_over_ours"])),
        (
            f"careful loop / ours, where we gain least ({of_slowest})",
            median(slowest["peers_over_ours"]["careful loop"]),
        ),
        ("whole run / bare meta-gradients", median(performance["run"]["whole_over_bare"])),
        ("memory of micro-batches / reverse, ResNet18, T = 8", memory_over_reverse(peaks)),
        ("the same, transformer, T = 8", memory_over_reverse(of_text["peak_bytes"])),
        *(
            (
                f"two threads beside a busy program / one alone: {row['way']}, {what}",
                median(row[what.replace(" ", "_")]),
            )
            for row in performance["beside"]
            if row["threads"] == 2 and row["beside_a_busy_program"]
            for what in ("seconds", "processor seconds")
        ),
    ]


def main() -> None:
    parser = parser_of(__doc__, shared=False)
    parser.add_argument("--show", action="store_true", help="run nothing")
    arguments = parser.parse_args()
    for script in () if arguments.show else SCRIPTS:
        subprocess.run([sys.executable, str(ROOT / "benchmarks" / script)], check=True)
    table = headlines()
    width = max(len(what) for what, _ in table)
    for what, number in table:
        print(f"{what:{width}}  {number}")


if __name__ == "__main__":
    main()
