"""What a page of the site shows of a function or class: nbdev's renderer, named in settings.ini.

A parameter is described once, by the comment beside it (or on the lines above it) in the source.
An editor shows it there; a page shows a table, between the signature and the list of methods.
nbdev imports this file from the repository's root, which an editable installation puts on the path.
"""

import ast
import dataclasses
import inspect
import io
import textwrap
import tokenize
from functools import cache
from importlib import import_module
from typing import Any, NamedTuple

PACKAGE = "datarater"


class Parameter(NamedTuple):
    "A parameter of a function, or a field of a class, as its source shows it."

    name: str
    annotation: str  # as written; empty if there is none
    default: str  # as written; empty if there is none
    said: str  # the comment beside or above it, or the string below it


def comments_of(source: str) -> dict[int, str]:
    "What comments say about each line of code: the one beside it, else the block just above it."
    beside = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    said, above = {}, []
    for number, line in enumerate(source.splitlines(), start=1):
        if line.lstrip().startswith("#") and number in beside:
            above.append(beside[number])
        else:
            said[number] = beside.get(number) or " ".join(above)
            above = []
    return said


def written(node: ast.expr | None) -> str:
    "An annotation or default as source."
    return "" if node is None else ast.unparse(node)


def arguments_of(function: ast.FunctionDef) -> list[tuple[str, ast.arg, ast.expr | None]]:
    "Each argument of a function: its name with its stars, its node, its default."
    given = function.args
    ordered = given.posonlyargs + given.args
    defaults = [None] * (len(ordered) - len(given.defaults)) + given.defaults
    found = [(arg.arg, arg, default) for arg, default in zip(ordered, defaults, strict=True)]
    if given.vararg:
        found.append(("*" + given.vararg.arg, given.vararg, None))
    for arg, default in zip(given.kwonlyargs, given.kw_defaults, strict=True):
        found.append((arg.arg, arg, default))
    if given.kwarg:
        found.append(("**" + given.kwarg.arg, given.kwarg, None))
    return found


def parameters_of(
    function: ast.FunctionDef,
    comments: dict[int, str],  # by line
) -> list[Parameter]:  # without `self`; the last is called "returns", where something is returned
    "The parameters of a function, in order."
    head = function.returns or function
    end = head.end_lineno if function.returns else head.lineno
    found = []
    for name, arg, default in arguments_of(function):
        last = (default or arg).end_lineno
        said = "" if last == end else comments.get(last) or comments.get(arg.lineno, "")
        if name not in ("self", "cls"):
            found.append(Parameter(name, written(arg.annotation), written(default), said))
    if written(function.returns) not in ("", "None"):
        said = comments.get(end) or comments.get(head.lineno, "")
        found.append(Parameter("returns", written(function.returns), "", said))
    return found


def fields_of(
    described: ast.ClassDef,
    comments: dict[int, str],  # by line
) -> list[Parameter]:
    "The annotated, public fields of a class, in order."
    found = []
    for node, after in zip(described.body, [*described.body[1:], None], strict=True):
        if not isinstance(node, ast.AnnAssign) or node.target.id.startswith("_"):
            continue
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            said = inspect.cleandoc(after.value.value)
        else:
            said = comments.get(node.end_lineno) or comments.get(node.lineno, "")
        name, annotation = node.target.id, written(node.annotation)
        found.append(Parameter(name, annotation, written(node.value), said))
    return found


@cache  # inspect reads the whole module to find a class
def parsed(symbol: Any) -> tuple[ast.stmt, dict[int, str]]:
    "The definition of a function or class, and the comments in it."
    source = textwrap.dedent(inspect.getsource(symbol))
    return ast.parse(source).body[0], comments_of(source)


def default_of(field: dataclasses.Field) -> str:
    "The default of a data class's field, as it would be written in a call."
    if field.default is not dataclasses.MISSING:
        return repr(field.default)
    if field.default_factory is not dataclasses.MISSING:
        return f"{field.default_factory.__name__}()"
    return ""


def all_fields_of(described: type) -> list[Parameter]:
    "The fields of a data class or named tuple, with those it inherits."
    found = {}
    for base in reversed(described.__mro__):
        if base is described or dataclasses.is_dataclass(base):
            found |= {parameter.name: parameter for parameter in fields_of(*parsed(base))}
    if not dataclasses.is_dataclass(described):
        return list(found.values())
    defaults = {field.name: default_of(field) for field in dataclasses.fields(described)}
    return [
        parameter._replace(default=defaults.get(name, parameter.default))
        for name, parameter in found.items()
    ]


def parameters_to_show(symbol: Any) -> list[Parameter]:
    "Parameters of a function, or what a class is called with: its fields, or its `__init__`."
    if not inspect.isclass(symbol):
        return parameters_of(*parsed(symbol))
    if dataclasses.is_dataclass(symbol) or hasattr(symbol, "_fields"):
        return all_fields_of(symbol)
    init = symbol.__init__
    if inspect.isfunction(init) and not init.__module__.startswith("torch."):
        return parameters_of(*parsed(init))
    return []


# Markdown


def cell_of(text: str) -> str:
    "Text in a cell of a Markdown table, which a bar would end."
    return " ".join(text.split()).replace("|", "&#124;")


def code_of(text: str) -> str:
    "Code in a cell of a Markdown table."
    if "|" in text:
        return f"<code>{cell_of(text).replace('<', '&lt;')}</code>"
    return f"`{cell_of(text)}`" if text else ""


def table_of(parameters: list[Parameter]) -> str:
    "A table of parameters, without the columns that have nothing in them."
    if not parameters:
        return ""
    rows = []
    for name, annotation, default, said in parameters:
        shown = "**returns**" if name == "returns" else code_of(name)
        rows.append((shown, code_of(annotation), code_of(default), cell_of(said)))
    columns = zip(("", "type", "default", "what it is"), *rows, strict=True)
    kept = [column for column in columns if any(column[1:])]
    lines = [f"| {' | '.join(row)} |" for row in zip(*kept, strict=True)]
    return "\n".join([lines[0], "|---" * len(kept) + "|", *lines[1:]])


def signature_of(name: str, parameters: list[Parameter], keyword: str) -> str:
    "A definition's head, on one line where it is short; types are left to the table."
    taken = [parameter for parameter in parameters if parameter.name != "returns"]
    parts = [f"{each.name}={each.default}" if each.default else each.name for each in taken]
    text = f"{keyword} {name}({', '.join(parts)})"
    if len(text) > 90:
        text = f"{keyword} {name}(\n" + "".join(f"    {part},\n" for part in parts) + ")"
    return f"```python\n{text}\n```"


def methods_of(described: ast.ClassDef) -> str:
    "The public methods of a class, a line each, with the first paragraphs of their docstrings."
    lines = []
    for node in described.body:
        if not isinstance(node, ast.FunctionDef) or node.name.startswith("_"):
            continue
        names = [each.name for each in parameters_of(node, {}) if each.name != "returns"]
        decorators = {written(decorator) for decorator in node.decorator_list}
        is_property = bool(decorators & {"property", "cached_property"})
        call = node.name if is_property else f"{node.name}({', '.join(names)})"
        about = (ast.get_docstring(node) or "").partition("\n\n")[0]
        lines.append(f"- `{call}`: {' '.join(about.split())}")
    return "\n".join(lines)


# The renderer


def exported(symbol: Any) -> Any:
    """The symbol as its module has it, or the symbol itself where none does.

    While a page is made, its cells are run, and what they define has no source file. The symbol of
    the exported module has one. Docstrings tell apart symbols of one name in several modules.
    """
    if symbol.__module__ != "__main__":
        return symbol
    name = symbol.__qualname__
    for module, names in import_module(f"{PACKAGE}._modidx").d["syms"].items():
        if f"{module}.{name}" in names:
            found = getattr(import_module(module), name, None)
            if found is not None and found.__doc__ == symbol.__doc__:
                return found
    return symbol


class ApiEntry:
    "A heading with a link to the source, a signature, the docstring, parameters, and methods."

    def __init__(self, symbol: Any, name: str | None = None, title_level: int = 3):
        self.symbol = exported(symbol)
        self.name = name or symbol.__qualname__
        self.title_level = title_level

    def link(self) -> str:
        "A link to the lines on GitHub where the symbol is defined; empty where nbdev knows none."
        qualified = f"{self.symbol.__module__}.{self.symbol.__qualname__}"
        entry = import_module("nbdev.doclinks").NbdevLookup()[qualified]
        if not entry:
            return ""
        line = inspect.getsourcelines(self.symbol)[1]
        style = '{target="_blank" style="float:right; font-size:smaller"}'
        return f"[source]({entry[2]}#L{line}){style}\n\n"

    def _repr_markdown_(self) -> str:
        node, _ = parsed(self.symbol)
        is_class = inspect.isclass(self.symbol)
        parameters = parameters_to_show(self.symbol)
        parts = [
            f"---\n\n{self.link()}{'#' * self.title_level} {self.name}",
            signature_of(self.name, parameters, "class" if is_class else "def"),
            inspect.cleandoc(ast.get_docstring(node) or ""),
            table_of(parameters),
            methods_of(node) if is_class else "",
        ]
        return "\n\n".join(part for part in parts if part)
