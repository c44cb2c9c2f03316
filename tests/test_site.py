"""The published site, as far as it can be tried without Quarto: every page is processed by nbdev,
every link and image leads somewhere, every page has its place.
"""

import ast
import json
import os
import re
import statistics
import subprocess
import sys
from pathlib import PurePosixPath

import pytest
import yaml
from tree import ROOT, notebook_names, report

import datarater
from api_pages import parameters_to_show

NBS = ROOT / "nbs"
PAGES = [name.removeprefix("nbs/") for name in notebook_names()]
LINK = re.compile(r"""\]\(([^)\s]+)[^)]*\)|\b(?:src|href)=["']([^"']+)["']""")
CODE = re.compile(r"(?ms)^ *```.*?^ *```|`[^`\n]*`")
# at most; a class can't be divided over cells
SHAPE = {
    "words": 2300,
    "cells": 130,
    "lines of its longest exported cell": 70,
    "lines of the median exported cell": 20,
    "public definitions in a cell": 1,
}


@pytest.fixture(scope="session")
def processed(tmp_path_factory) -> dict[str, dict]:
    "All pages as nbdev hands them to Quarto, by name."
    folder = tmp_path_factory.mktemp("site")
    code = (
        "import sys; from pathlib import Path; from execnb.nbio import read_nb, write_nb; "
        "from nbdev.processors import FilterDefaults\n"
        "for name in sys.argv[2:]:\n"
        "    out = Path(sys.argv[1], name); out.parent.mkdir(parents=True, exist_ok=True)\n"
        "    nb = read_nb(Path('nbs', name)); FilterDefaults()(nb); write_nb(nb, out)\n"
    )
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(folder), *PAGES],
        cwd=ROOT,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return {name: json.loads((folder / name).read_text(encoding="utf-8")) for name in PAGES}


def text_of(lines: str | list[str]) -> str:
    "Text of a notebook file, whichever of the two ways it is kept."
    return "".join(lines)


def shown_by(page: dict) -> list[str]:
    "Markdown that the cells of a page show."
    return [
        text_of(output["data"]["text/markdown"])
        for cell in page["cells"]
        for output in cell.get("outputs", [])
        if "text/markdown" in output.get("data", {})
    ]


def markdown_of(page: dict) -> str:
    "The prose of a page, and Markdown that its cells show; code left out."
    return CODE.sub(
        "",
        "\n\n".join(
            [
                text_of(cell["source"])
                for cell in page["cells"]
                if cell["cell_type"] in ("markdown", "raw")
            ]
            + shown_by(page)
        ),
    )


def anchors_of(page: dict) -> set[str]:
    "The ids that Pandoc gives to headings."
    headings = re.findall(r"(?m)^#{1,4} +(.+?)\s*(?:\{.*\})?$", markdown_of(page))
    return {
        re.sub(
            r"^[^a-z]+",
            "",
            re.sub(
                r"\s+",
                "-",
                re.sub(r"[^\w\s.-]", "", re.sub(r"\]\([^)]*\)", "", heading).lower()).strip(),
            ),
        )
        for heading in headings
    }


def test_every_page_is_processed(processed):
    """Each has a title and a summary, and shows the signature of each public function and class
    that it defines, with a table of its parameters.
    """
    problems = []
    for name, page in processed.items():
        front = text_of(page["cells"][0]["source"])
        if not re.search(r"(?m)^title: \S", front) or not re.search(r"(?m)^description: \S", front):
            problems.append(f"nbs/{name}: begin with a cell `# Title` and `> one-line summary`")
        exported = "\n".join(
            cell["source"]
            for cell in sources_of(name)
            if re.match(r"#\|\s*exports?\s", cell["source"])
        )
        entries = {
            match[1]: text
            for text in shown_by(page)
            if (match := re.search(r"(?m)^### (\w+)$", text))
        }
        for node in ast.parse(re.sub(r"(?m)^#\|.*", "", exported)).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
                missing = (
                    "signature"
                    if node.name not in entries
                    else "parameters"
                    if isinstance(node, ast.FunctionDef)
                    and node.args.args
                    and f"| `{node.args.args[0].arg}` |" not in entries[node.name]
                    else None
                )
                problems += [f"nbs/{name}: the page does not show the {missing} of {node.name}"] * (
                    missing is not None
                )
    report(problems)


def sources_of(name: str) -> list[dict]:
    cells = json.loads((NBS / name).read_text(encoding="utf-8"))["cells"]
    return [{**cell, "source": "".join(cell["source"])} for cell in cells]


def test_links_and_images_lead_somewhere(processed):
    """Relative ones to a page (and a heading of it) or a file of the site; what lies outside of
    nbs/ is linked on GitHub.
    """
    problems, anchors = [], {name: anchors_of(page) for name, page in processed.items()}
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


def test_every_page_has_its_place():
    "The sidebar and llms.txt name each page once, and nothing that is not there."

    def pages_in(contents: list) -> list[str]:
        return [
            page
            for entry in contents
            for page in (pages_in(entry["contents"]) if isinstance(entry, dict) else [entry])
        ]

    website = yaml.safe_load((ROOT / "_quarto.yml").read_text(encoding="utf-8"))["website"]
    listed = {"_quarto.yml": pages_in(website["sidebar"]["contents"])}
    listed["nbs/llms.txt"] = [
        path.replace(".html", ".ipynb")
        for path in re.findall(
            r"\]\(https://\S+?/datarater/(\S+?\.html)\)",
            (NBS / "llms.txt").read_text(encoding="utf-8"),
        )
    ]
    report(
        [
            f"{where}: {name} is {'missing' if names.count(name) == 0 else 'listed twice'}"
            for where, names in listed.items()
            for name in PAGES
            if names.count(name) != 1
        ]
        + [
            f"{where}: {name} is no page"
            for where, names in listed.items()
            for name in sorted(set(names) - set(PAGES))
        ]
    )


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
    assert (
        {"light", "dark"} == set(html["theme"])
        and html["html-math-method"] == "mathml"
        and website["navbar"]["search"]
    )
    report(
        [
            f"_quarto.yml names {name}, which is not in nbs/"
            for name in named
            if not (NBS / name).is_file()
        ]
    )


def test_every_page_ends_with_its_limits():
    "What was shown, what was not, and where to go on: in the course, to the next notebook."
    problems, course = [], [name for name in PAGES if name[0].isdigit()]
    following = dict(zip(course, [*course[1:], "index.ipynb"]))
    for name in PAGES:
        if name == "index.ipynb" or name.startswith("reference/"):
            continue
        end = "\n".join(
            cell["source"] for cell in sources_of(name)[-4:] if cell["cell_type"] == "markdown"
        )
        problems += [
            f"nbs/{name}: its last section does not say {what}"
            for what, pattern in {
                "what was shown": r"## What we showed",
                "what was not": r"(?i)not shown|does not show|not:",
                "what comes next": r"(?m)^\**Next",
            }.items()
            if not re.search(pattern, end)
        ]
        if name in following and not re.search(
            rf"(?m)^\**Next.*\({re.escape(following[name])}\)", end
        ):
            problems.append(
                f"nbs/{name}: the line that begins with Next does not link to {following[name]}"
            )
    report(problems)


def test_public_names_explain_their_parameters():
    "What `import datarater` offers: beside each parameter stands what it is."
    problems = []
    for name in datarater.__all__:
        unsaid = [
            parameter.name
            for parameter in parameters_to_show(getattr(datarater, name))
            if not parameter.said and parameter.name != "returns"
        ]
        problems += [
            f"datarater.{name} does not say what {parameter} is: write a comment beside it"
            for parameter in unsaid
        ]
    report(problems)


def test_shape_of_the_notebooks():
    """None is a container for code: cells, words and exported cells stay within bounds, and a cell
    defines one public thing, so that the page shows its parameters just above it.
    """
    problems = []
    for name in PAGES:
        cells = sources_of(name)
        exported = [
            cell["source"] for cell in cells if re.match(r"#\|\s*exports?\s", cell["source"])
        ]
        lengths = [
            len(source.strip().splitlines()) - 1
            for source in exported
            if "\nimport " not in source and "\nfrom " not in source
        ] or [0]
        definitions = max(
            (len(re.findall(r"(?m)^(?:def|class) [A-Za-z]", source)) for source in exported),
            default=0,
        )
        words = sum(
            len(cell["source"].split()) for cell in cells if cell["cell_type"] == "markdown"
        )
        found = dict(
            zip(
                SHAPE,
                (words, len(cells), max(lengths), statistics.median(lengths), definitions),
                strict=True,
            )
        )
        problems += [
            f"nbs/{name}: {what}: {found[what]}, at most {most}: divide it"
            for what, most in SHAPE.items()
            if found[what] > most
        ]
    report(problems)
