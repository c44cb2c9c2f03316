"""The published site, as far as it can be tried without Quarto: every page is processed by nbdev,
every link and image leads somewhere, every page has its place.
"""

import ast
import importlib
import json
import os
import re
import statistics
import subprocess
import sys
from pathlib import PurePosixPath

import pytest
import yaml
from api_pages import comments_of, parameters_of, parameters_to_show, table_of
from tree import ROOT, cells_of, exported_cells, notebook_names, num_words, prose_of, report

NBS = ROOT / "nbs"
PAGES = [name.removeprefix("nbs/") for name in notebook_names()]
LINK = re.compile(r"""\]\(([^)\s]+)[^)]*\)|\b(?:src|href)=["']([^"']+)["']""")
CODE = re.compile(r"(?ms)^ *```.*?^ *```|`[^`\n]*`")
# at most, in each notebook
SHAPE = {
    "words": 2300,
    "cells": 130,
    "lines of its longest exported cell": 70,
    "lines of the median exported cell": 20,
    "public definitions in a cell": 1,
}
# As nbdev's commands see it: the console scripts' folder is on the path, the current one is not.
PROCESS = """
import sys
from pathlib import Path
sys.path.remove("")
from execnb.nbio import read_nb, write_nb
from nbdev.processors import FilterDefaults
for name in sys.argv[2:]:
    out = Path(sys.argv[1], name)
    out.parent.mkdir(parents=True, exist_ok=True)
    page = read_nb(Path("nbs", name))
    FilterDefaults()(page)
    write_nb(page, out)
"""


@pytest.fixture(scope="session")
def processed(tmp_path_factory) -> dict[str, dict]:
    "All pages as nbdev hands them to Quarto, by name."
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-W", "ignore", "-c", PROCESS, str(folder), *PAGES]
    run = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return {name: json.loads((folder / name).read_text(encoding="utf-8")) for name in PAGES}


def joined(lines: str | list[str]) -> str:
    "Text of a notebook file, whichever of the two ways it is kept."
    return "".join(lines)


def shown_by(page: dict) -> list[str]:
    "Markdown that the cells of a page show."
    return [
        joined(output["data"]["text/markdown"])
        for cell in page["cells"]
        for output in cell.get("outputs", [])
        if "text/markdown" in output.get("data", {})
    ]


def markdown_of(page: dict) -> str:
    "The prose of a page, and Markdown that its cells show; code left out."
    prose = [
        joined(cell["source"]) for cell in page["cells"] if cell["cell_type"] in ("markdown", "raw")
    ]
    return CODE.sub("", "\n\n".join(prose + shown_by(page)))


def anchor_of(heading: str) -> str:
    "The id that Pandoc gives to a heading."
    text = re.sub(r"\]\([^)]*\)", "", heading).lower()
    words = re.sub(r"[^\w\s.-]", "", text).split()
    return re.sub(r"^[^a-z]+", "", "-".join(words))


def anchors_of(page: dict) -> set[str]:
    "The ids of a page's headings."
    headings = re.findall(r"(?m)^#{1,4} +(.+?)\s*(?:\{.*\})?$", markdown_of(page))
    return {anchor_of(heading) for heading in headings}


def public_definitions(name: str) -> list[ast.stmt]:
    "The public functions and classes that a notebook exports."
    exported = re.sub(r"(?m)^#\|.*", "", "\n".join(exported_cells(f"nbs/{name}")))
    kinds = (ast.FunctionDef, ast.ClassDef)
    body = ast.parse(exported).body
    return [node for node in body if isinstance(node, kinds) and node.name[0] != "_"]


def test_every_page_is_processed(processed):
    """Each has a title and a summary, and shows the signature of each public function and class
    that it defines, with a table of its parameters.
    """
    problems = []
    for name, page in processed.items():
        front = joined(page["cells"][0]["source"])
        if not re.search(r"(?m)^title: \S", front) or not re.search(r"(?m)^description: \S", front):
            problems.append(f"nbs/{name}: begin with a cell `# Title` and `> one-line summary`")
        entries = {}
        for text in shown_by(page):
            if heading := re.search(r"(?m)^### (\w+)$", text):
                entries[heading[1]] = text
        for node in public_definitions(name):
            missing = ""
            if node.name not in entries:
                missing = "signature"
            elif isinstance(node, ast.FunctionDef) and node.args.args:
                row = f"| `{node.args.args[0].arg}` |"
                missing = "parameters" * (row not in entries[node.name])
            if missing:
                problems.append(f"nbs/{name}: the page does not show the {missing} of {node.name}")
    report(problems)


def test_links_and_images_lead_somewhere(processed):
    """Relative ones to a page (and a heading of it) or a file of the site; what lies outside of
    nbs/ is linked on GitHub.
    """
    problems = []
    anchors = {name: anchors_of(page) for name, page in processed.items()}
    for name, page in processed.items():
        for match in LINK.finditer(markdown_of(page)):
            target, _, anchor = (match[1] or match[2]).partition("#")
            if re.match(r"[a-z][a-z0-9+.-]*:|/", target):
                continue
            path = os.path.normpath(PurePosixPath(name).parent / target) if target else name
            if path.startswith(".."):
                problems.append(
                    f"nbs/{name} links to {target}, which is not on the site: link to it on GitHub"
                )
            elif not (NBS / path).is_file():
                problems.append(f"nbs/{name} links to {target}, which is not there")
            elif anchor and path in anchors and anchor not in anchors[path]:
                problems.append(
                    f"nbs/{name} links to {target or name}#{anchor}, and there is no such "
                    f"heading: {', '.join(sorted(anchors[path]))}"
                )
    report(problems)


EXAMPLE = """
def scale(
    x: Tensor,  # (B, C)
    # ends of the range,
    # in the dataset's units
    low: float = 0.0, high: float = 1.0,
    *parts: int | None,
    # (B, C), in the range
) -> Tensor:
    return x
"""


def test_parameters_are_described_beside_or_above():
    "What the renderer reads from the source of a function, and its table."
    found = parameters_of(ast.parse(EXAMPLE).body[0], comments_of(EXAMPLE))
    assert [(parameter.name, parameter.default, parameter.said) for parameter in found] == [
        ("x", "", "(B, C)"),
        ("low", "0.0", "ends of the range, in the dataset's units"),
        ("high", "1.0", "ends of the range, in the dataset's units"),
        ("*parts", "", ""),
        ("returns", "", "(B, C), in the range"),
    ]
    assert table_of(found[-2:]) == (
        "|  | type | what it is |\n|---|---|---|\n"
        "| `*parts` | <code>int &#124; None</code> |  |\n"
        "| **returns** | `Tensor` | (B, C), in the range |"
    )


def test_every_page_has_its_place():
    "The sidebar and llms.txt name each page once, and nothing that is not there."

    def pages_in(contents: list) -> list[str]:
        pages = []
        for entry in contents:
            pages += pages_in(entry["contents"]) if isinstance(entry, dict) else [entry]
        return pages

    website = yaml.safe_load((ROOT / "_quarto.yml").read_text(encoding="utf-8"))["website"]
    index = (NBS / "llms.txt").read_text(encoding="utf-8")
    # nbdev drops the number: 03_inner_loop.ipynb is published as inner_loop.html
    published = {re.sub(r"^\d+_|\.ipynb$", "", name): name for name in PAGES}
    in_index = re.findall(r"\]\(https://\S+?/datarater/(\S+?)\.html\)", index)
    listed = {
        "_quarto.yml": pages_in(website["sidebar"]["contents"]),
        "nbs/llms.txt": [published.get(name, name) for name in in_index],
    }
    problems = []
    for where, names in listed.items():
        problems += [
            f"{where}: {name} is {'listed twice' if name in names else 'missing'}"
            for name in PAGES
            if names.count(name) != 1
        ]
        problems += [f"{where}: {name} is no page" for name in names if name not in PAGES]
    report(problems)


def test_settings_of_the_site():
    """Files that _quarto.yml names are there; light and dark; nothing is loaded from elsewhere for
    maths.
    """
    settings = yaml.safe_load((ROOT / "_quarto.yml").read_text(encoding="utf-8"))
    html, website = settings["format"]["html"], settings["website"]
    named = [
        *settings["project"]["resources"],
        html["include-after-body"],
        website["image"],
        website["favicon"],
        *(part for theme in html["theme"].values() for part in theme if "." in part),
    ]
    assert set(html["theme"]) == {"light", "dark"}
    assert html["html-math-method"] == "mathml"
    assert website["navbar"]["search"]
    report(
        [
            f"_quarto.yml names {name}, which is not in nbs/"
            for name in named
            if not (NBS / name).is_file()
        ]
    )


END = {
    "what was shown": r"## What we showed",
    "what was not": r"(?i)not shown|does not show|not:",
    "what comes next": r"(?m)^\**Next",
}


def test_every_page_ends_with_its_limits():
    "What was shown, what was not, and where to go on (test_layout.py follows the links)."
    problems = []
    for name in PAGES:
        if name == "index.ipynb" or name.startswith("reference/"):
            continue
        end = "\n".join(prose_of(f"nbs/{name}")[-2:])
        problems += [
            f"nbs/{name}: its last section does not say {what}"
            for what, pattern in END.items()
            if not re.search(pattern, end)
        ]
    report(problems)


# What users take from the rooms, beside all that `import datarater` offers.
FROM_THE_ROOMS = {
    "data": "ImageFolderDataRaterDataset NpzDataRaterDataset PoolsDataRaterDataset read_digits",
    "models": "LeanLayers ReferenceDataRater rate",
    "method": "fgsm pgd",
    "evaluation": """
        AttackPlan detection_by_kind detection_by_strength detection_quality evaluate_robustness
        measure_robustness plot_dashboard
    """,
    "runs": "MetaTrainingError Stopped",
    "curation": """
        BestOfBatchSampler ComparisonPlan Kept choose_discard_frac clean_dataset compare_downstream
        describe_comparison keep_ledger plot_comparison read_ratings sampling_weights
        show_best_and_worst sweep_discard write_ratings
    """,
    "scale": "curate_corpus score_corpus",
}


def test_public_names_explain_their_parameters():
    "What users import: beside each parameter stands what it is."
    names = {"datarater": importlib.import_module("datarater").__all__}
    names |= {f"datarater.{room}": offered.split() for room, offered in FROM_THE_ROOMS.items()}
    report(
        [
            f"{face}.{name} does not say what {parameter.name} is: write a comment beside it"
            for face, offered in names.items()
            for name in offered
            for parameter in parameters_to_show(getattr(importlib.import_module(face), name))
            if not parameter.said and parameter.name != "returns"
        ]
    )


def shape_of(name: str) -> dict[str, float]:
    "What SHAPE bounds, as it is in a notebook."
    exported = exported_cells(name)
    code = [source for source in exported if not re.search(r"(?m)^(import|from) ", source)]
    lengths = [len(source.strip().splitlines()) - 1 for source in code] or [0]
    definitions = [len(re.findall(r"(?m)^(?:def|class) [A-Za-z]", source)) for source in exported]
    found = (
        num_words(name),
        len(cells_of(name)),
        max(lengths),
        statistics.median(lengths),
        max(definitions, default=0),
    )
    return dict(zip(SHAPE, found, strict=True))


def test_shape_of_the_notebooks():
    """None is a container for code: cells, words and exported cells stay within bounds, and a cell
    defines one public thing, so that the page shows its parameters just above it.
    """
    report(
        [
            f"nbs/{name}: {what}: {found}, at most {SHAPE[what]}: divide it"
            for name in PAGES
            for what, found in shape_of(f"nbs/{name}").items()
            if found > SHAPE[what]
        ]
    )
