"""Measure the structure of the source: sizes, branches, names, imports and repeated decisions.

python benchmarks/structure.py [src] [--list]

Prints one row a measure; ``--list`` adds the places that the last rows count. Everything is read
from the syntax tree; nothing is imported or run.

- A function's length is that of its body, its docstring left out.
- A branch is an ``if``, a loop, a handler, a conditional expression, one more operand of ``and`` or
  ``or``, the clause of a comprehension or a ``match``; functions inside a function count for
  themselves.
- A public definition is a function or class at the top of a module without a leading underscore.
- A lazy import stands inside a function.
- A place asks for the task if it names a task, or if a condition there holds a word of one task
  (views, clips, cells, tiles, counts). ``segment/`` and ``spec/task.py`` are exempt.
- A file states the rule if it names all four built-in confidence functions.
"""

from __future__ import annotations

import argparse
import ast
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles

BRANCHES = (
    *(ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.Match),
    ast.comprehension,
)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
DEFINITIONS = (*FUNCTIONS, ast.ClassDef)
CONFIDENCES = ("max_prob", "logit_gap", "prob_gap", "neg_entropy")
TASKS = {"IMAGE_CLASSIFICATION", "VIDEO_CLASSIFICATION", "SEMANTIC_SEGMENTATION"}
WORDS = TASKS | {
    *("task", "views", "clips", "cells", "tiles", "tiling", "counts", "dense", "segments"),
    *("segmenting", "is_segmentation", "_segmentation"),
}
PROGRAMS = (".py", ".mjs", ".js", ".cpp", ".hpp")


@dataclass(frozen=True)
class Function:
    """A function: where it is, its lines without the docstring, and its branches."""

    name: str
    lines: int
    branches: int


@dataclass
class Structure:
    """What the source tree holds."""

    lines: dict[str, int] = field(default_factory=dict)
    functions: list[Function] = field(default_factory=list)
    public: list[str] = field(default_factory=list)
    imports: dict[str, set[str]] = field(default_factory=dict)
    lazy: list[tuple[str, str]] = field(default_factory=list)
    task_questions: list[str] = field(default_factory=list)
    rule_statements: list[str] = field(default_factory=list)

    @property
    def branches(self) -> list[int]:
        """Return the number of branches of every function, in rising order."""
        return sorted(each.branches for each in self.functions)

    @property
    def longest(self) -> Function:
        """Return the function with the most lines."""
        return max(self.functions, key=lambda each: each.lines)

    @property
    def largest(self) -> tuple[str, int]:
        """Return the module with the most lines, and their number."""
        return max(self.lines.items(), key=lambda each: each[1])

    @property
    def own_lazy(self) -> list[tuple[str, str]]:
        """Return the lazy imports of the package's own modules."""
        return [(module, name) for module, name in self.lazy if name.split(".")[0] == "committee"]


def measure(root: Path) -> Structure:
    """Read every module below a source folder."""
    paths = {module_name(path, root): path for path in sorted(root.rglob("*.py"))}
    known = {*paths, *(module_name(path, root) for path in root.rglob("*.pyi"))}
    structure = Structure()
    for module, path in paths.items():
        source = path.read_text(encoding="utf-8")
        tree = ast.parse(source)
        structure.lines[module] = len(source.splitlines())
        structure.functions += functions_of(tree, module)
        structure.public += [
            f"{module}.{node.name}"
            for node in tree.body
            if isinstance(node, DEFINITIONS) and not node.name.startswith("_")
        ]
        names = [name for node in ast.walk(tree) for name in imported(node)]
        owners = {owner(name, known) for name in names}
        structure.imports[module] = owners - {module, ""}
        structure.lazy += [(module, name) for name in lazy_imports(tree)]
        if "/segment/" not in path.as_posix() and not path.match("spec/task.py"):
            lines = {line_of(node) for node in ast.walk(tree) if asks_for_the_task(node)}
            structure.task_questions += [f"{module}:{line}" for line in sorted(lines)]
    structure.rule_statements = [
        path.relative_to(root).as_posix()
        for path in sorted(root.rglob("*"))
        if path.suffix in PROGRAMS and states_the_rule(path)
    ]
    return structure


def module_name(path: Path, root: Path) -> str:
    """Return the dotted name of a file: ``committee.rule.flow``."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def functions_of(tree: ast.Module, module: str) -> Iterator[Function]:
    for node in ast.walk(tree):
        if isinstance(node, FUNCTIONS):
            body = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
            lines = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
            yield Function(f"{module}.{node.name}", lines, sum(map(branches_in, body)))


def branches_in(node: ast.AST) -> int:
    if isinstance(node, DEFINITIONS):
        return 0
    own = len(node.values) - 1 if isinstance(node, ast.BoolOp) else isinstance(node, BRANCHES)
    return own + sum(map(branches_in, ast.iter_child_nodes(node)))


def imported(node: ast.AST) -> list[str]:
    """Return the dotted names that an import statement names."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


def owner(name: str, modules: set[str]) -> str:
    """Return the module that a dotted name lies in; an empty string if it is not one of these."""
    while name and name not in modules:
        name = name.rpartition(".")[0]
    return name


def lazy_imports(tree: ast.Module) -> list[str]:
    """Return a name for each import statement inside a function."""
    inside = {
        node
        for function in ast.walk(tree)
        if isinstance(function, FUNCTIONS)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    return [imported(node)[0] for node in inside]


def asks_for_the_task(node: ast.AST) -> bool:
    if isinstance(node, ast.Name | ast.Attribute):
        return name_of(node) in TASKS
    return any(name_of(part) in WORDS for test in conditions(node) for part in ast.walk(test))


def line_of(node: ast.AST) -> int:
    return node.iter.lineno if isinstance(node, ast.comprehension) else getattr(node, "lineno", 0)


def conditions(node: ast.AST) -> list[ast.expr]:
    if isinstance(node, ast.If | ast.IfExp | ast.While):
        return [node.test]
    if isinstance(node, ast.comprehension):
        return node.ifs
    return [node] if isinstance(node, ast.Compare) else []


def name_of(node: ast.AST) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def states_the_rule(path: Path) -> bool:
    source = path.read_text(encoding="utf-8")
    return all(confidence in source for confidence in CONFIDENCES)


def circles(imports: dict[str, set[str]]) -> list[set[str]]:
    """Return the sets of modules that import each other, directly or through others."""
    reached = {module: reachable(module, imports) for module in imports}
    found = []
    for module in imports:
        circle = {other for other in reached[module] if module in reached.get(other, ())}
        if circle and circle not in found:
            found.append(circle)
    return found


def reachable(start: str, imports: dict[str, set[str]]) -> set[str]:
    found: set[str] = set()
    waiting = [start]
    while waiting:
        new = imports.get(waiting.pop(), set()) - found
        found |= new
        waiting += new
    return found


def rows(structure: Structure) -> Iterator[tuple[str, str]]:
    """Yield each measure and its value."""
    lengths = sorted(each.lines for each in structure.functions)
    rooms = Counter(module.split(".")[1] for module, _ in structure.lazy if "." in module)
    most = ", ".join(f"{count} in {room}" for room, count in rooms.most_common(3))
    largest, lines = structure.largest
    yield "lines of Python", f"{sum(structure.lines.values()):,} in {len(structure.lines)} files"
    yield "circles", f"{len(circles(structure.imports))}"
    yield "branches a function", median_and_ninth_decile(structure.branches)
    yield "lines a function", median_and_ninth_decile(lengths)
    yield "longest function", f"{structure.longest.lines} lines, {structure.longest.name}"
    yield "largest module", f"{lines} lines, {largest}"
    yield "public definitions", f"{len(structure.public)}"
    yield (
        "lazy imports",
        f"{len(structure.lazy)} ({most}), of the package itself {len(structure.own_lazy)}",
    )
    files = {place.split(":")[0] for place in structure.task_questions}
    yield "questions for the task", f"{len(structure.task_questions)} in {len(files)} files"
    yield "statements of the rule", f"{len(structure.rule_statements)}"


def median_and_ninth_decile(values: list[int]) -> str:
    return f"median {median(values):g}, p90 {quantiles(values, n=10)[-1]:g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("root", nargs="?", type=Path, default=Path(__file__).parents[1] / "src")
    parser.add_argument("--list", action="store_true", help="name the places that are counted")
    arguments = parser.parse_args()
    structure = measure(arguments.root)
    for name, value in rows(structure):
        print(f"{name:<24}{value}")
    if arguments.list:
        print("\nFiles that state the rule:", *structure.rule_statements, sep="\n  ")
        print("\nPlaces that ask for the task:", *structure.task_questions, sep="\n  ")
        own = [f"{module} imports {name}" for module, name in structure.own_lazy]
        print("\nLazy imports of the package itself:", *own, sep="\n  ")


if __name__ == "__main__":
    main()
