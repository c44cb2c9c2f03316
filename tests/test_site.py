"""The published site, as far as it can be tried without Quarto: every page is processed by nbdev, every link and image leads somewhere, every page has its place."""
import json
import os
import re
import subprocess
import sys
from pathlib import PurePosixPath

import pytest
import yaml
from tree import ROOT, notebook_names, report

NBS = ROOT / "nbs"
PAGES = [name.removeprefix("nbs/") for name in notebook_names()]
LINK = re.compile(r"""\]\(([^)\s]+)[^)]*\)|\b(?:src|href)=["']([^"']+)["']""")
CODE = re.compile(r"(?ms)^ *```.*?^ *```|`[^`\n]*`")
SHAPE = {"words": 2600, "cells": 130, "exported lines of a cell": 100}  # at most; the longest cells are classes, which nbdev keeps in one piece


@pytest.fixture(scope="session")
def processed(tmp_path_factory) -> dict[str, dict]:
    "All pages as nbdev hands them to Quarto, by name."
    folder = tmp_path_factory.mktemp("site")
    code = (
        "import sys; from pathlib import Path; from execnb.nbio import read_nb, write_nb; from nbdev.processors import FilterDefaults\n"
        "for name in sys.argv[2:]:\n"
        "    out = Path(sys.argv[1], name); out.parent.mkdir(parents=True, exist_ok=True)\n"
        "    nb = read_nb(Path('nbs', name)); FilterDefaults()(nb); write_nb(nb, out)\n"
    )
    run = subprocess.run([sys.executable, "-W", "ignore", "-c", code, str(folder), *PAGES], cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert run.returncode == 0, run.stderr[-3000:]
    return {name: json.loads((folder / name).read_text(encoding="utf-8")) for name in PAGES}


def text_of(lines: str | list[str]) -> str:
    "Text of a notebook file, whichever of the two ways it is kept."
    return "".join(lines)


def shown_by(page: dict) -> list[str]:
    "Markdown that the cells of a page show."
    return [text_of(output["data"]["text/markdown"]) for cell in page["cells"] for output in cell.get("outputs", []) if "text/markdown" in output.get("data", {})]


def markdown_of(page: dict) -> str:
    "The prose of a page, and Markdown that its cells show; code left out."
    return CODE.sub("", "\n\n".join([text_of(cell["source"]) for cell in page["cells"] if cell["cell_type"] in ("markdown", "raw")] + shown_by(page)))


def anchors_of(page: dict) -> set[str]:
    "The ids that Pandoc gives to headings."
    headings = re.findall(r"(?m)^#{1,4} +(.+?)\s*(?:\{.*\})?$", markdown_of(page))
    return {re.sub(r"^[^a-z]+", "", re.sub(r"\s+", "-", re.sub(r"[^\w\s.-]", "", re.sub(r"\]\([^)]*\)", "", heading).lower()).strip())) for heading in headings}


def test_every_page_is_processed(processed):
    "Each has a title and a summary, and shows the signatures of the public functions and classes that it defines, with what is said of each parameter."
    problems = []
    for name, page in processed.items():
        front = text_of(page["cells"][0]["source"])
        if not re.search(r"(?m)^title: \S", front) or not re.search(r"(?m)^description: \S", front):
            problems.append(f"nbs/{name}: begin with a cell `# Title` and `> one-line summary`")
        exported = "\n".join(cell["source"] for cell in sources_of(name) if re.match(r"#\|\s*exports?\s", cell["source"]))
        documented = set(re.findall(r"(?m)^### (\w+)$", "\n".join(shown_by(page))))
        problems += [f"nbs/{name}: the page does not show the signature of {each}" for each in re.findall(r"(?m)^(?:def|class) ([A-Za-z]\w*)", exported) if each not in documented]
    report(problems)


def sources_of(name: str) -> list[dict]:
    cells = json.loads((NBS / name).read_text(encoding="utf-8"))["cells"]
    return [{**cell, "source": "".join(cell["source"])} for cell in cells]


def test_links_and_images_lead_somewhere(processed):
    "Relative ones to a page (and a heading of it) or a file of the site; what lies outside of nbs/ is linked on GitHub."
    problems, anchors = [], {name: anchors_of(page) for name, page in processed.items()}
    for name, page in processed.items():
        for match in LINK.finditer(markdown_of(page)):
            target, _, anchor = (match[1] or match[2]).partition("#")
            if re.match(r"[a-z][a-z0-9+.-]*:|/", target):
                continue
            path = os.path.normpath(PurePosixPath(name).parent / target) if target else name
            if path.startswith(".."):
                problems.append(f"nbs/{name} links to {target}, which is not on the site: link to it on GitHub")
            elif not (NBS / path).is_file():
                problems.append(f"nbs/{name} links to {target}, which is not there")
            elif anchor and path in anchors and anchor not in anchors[path]:
                problems.append(f"nbs/{name} links to {target or name}#{anchor}, and there is no such heading: {', '.join(sorted(anchors[path]))}")
    report(problems)


def test_every_page_has_its_place():
    "The sidebar and llms.txt name each page once, and nothing that is not there."
    def pages_in(contents: list) -> list[str]:
        return [page for entry in contents for page in (pages_in(entry["contents"]) if isinstance(entry, dict) else [entry])]

    website = yaml.safe_load((ROOT / "_quarto.yml").read_text(encoding="utf-8"))["website"]
    listed = {"_quarto.yml": pages_in(website["sidebar"]["contents"])}
    listed["nbs/llms.txt"] = [path.replace(".html", ".ipynb") for path in re.findall(r"\]\(https://\S+?/datarater/(\S+?\.html)\)", (NBS / "llms.txt").read_text(encoding="utf-8"))]
    report([f"{where}: {name} is {'missing' if names.count(name) == 0 else 'listed twice'}" for where, names in listed.items() for name in PAGES if names.count(name) != 1]
           + [f"{where}: {name} is no page" for where, names in listed.items() for name in sorted(set(names) - set(PAGES))])


def test_settings_of_the_site():
    "Files that _quarto.yml names are there; light and dark; nothing is loaded from elsewhere for maths."
    settings = yaml.safe_load((ROOT / "_quarto.yml").read_text(encoding="utf-8"))
    html, website = settings["format"]["html"], settings["website"]
    named = [*settings["project"]["resources"], html["include-after-body"], website["image"], website["favicon"], *(part for theme in html["theme"].values() for part in theme if "." in part)]
    assert {"light", "dark"} == set(html["theme"]) and html["html-math-method"] == "mathml" and website["navbar"]["search"]
    report([f"_quarto.yml names {name}, which is not in nbs/" for name in named if not (NBS / name).is_file()])


def test_every_page_ends_with_its_limits():
    "What was shown, what was not, and where to go on."
    problems = []
    for name in PAGES:
        if name == "index.ipynb" or name.startswith("reference/"):
            continue
        end = "\n".join(cell["source"] for cell in sources_of(name)[-4:] if cell["cell_type"] == "markdown")
        problems += [f"nbs/{name}: its last section does not say {what}" for what, pattern in {"what was shown": r"## What we showed", "what was not": r"(?i)not shown|does not show|not:", "what comes next": r"(?m)^\**Next"}.items() if not re.search(pattern, end)]
    report(problems)


def test_shape_of_the_notebooks():
    "None is a container for code: cells, words and the longest exported cell stay within bounds."
    problems = []
    for name in PAGES:
        cells = sources_of(name)
        exported = [len(cell["source"].splitlines()) for cell in cells if re.match(r"#\|\s*exports?\s", cell["source"])]
        found = {"words": sum(len(cell["source"].split()) for cell in cells if cell["cell_type"] == "markdown"), "cells": len(cells), "exported lines of a cell": max(exported, default=0)}
        problems += [f"nbs/{name} has {found[what]} {what}, at most {most}: divide it" for what, most in SHAPE.items() if found[what] > most]
    report(problems)
