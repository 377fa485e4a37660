"""What is imported when: nothing heavy by the core, and nothing from above by any file."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import committee

ROOT = Path(committee.__file__).parent

HEAVY = (
    "torch",
    "torchvision",
    "timm",
    "transformers",
    "onnxruntime",
    "openvino",
    "ray",
    "matplotlib",
    "PIL",
    "typer",
    "rich",
    "scipy",
    "jinja2",
    "pyarrow",
    "av",
)

# From the ground up: a part may import itself and what stands before it. ``__init__`` is the face
# of the core, what scripts get by ``import committee``.
ORDER = (
    "_native",
    "compiled",
    "extras",
    "errors",
    "text",
    "reading",
    "predictions",
    "names",
    "frames",
    "plausibility",
    "confidence",
    "calibration",
    "combine",
    "cost",
    "files",
    "paths",
    "chunks",
    "cascade",
    "flow",
    "samples",
    "identity",
    "utility",
    "task",
    "pool",
    "evaluate",
    "search",
    "__init__",
    "profile",
    "models",
    "data",
    "store",
    "tables",
    "roles",
    "outside",
    "calibrate",
    "predict",
    "testing",
    "embedded",
    "measure",
    "export",
    "run",
    "dense",
    "report",
    "study",
    "cli",
    "__main__",
)

# Against the order, inside a function or for type checkers only: (part, what it imports).
LAZY = {
    ("pool", "data"),  # Pool.from_arrays reads labels that are no indices
    ("pool", "store"),  # Pool.load opens a store
    ("pool", "dense"),  # ... and one of segmentation
    ("cascade", "export"),  # Cascade.as_module builds a torch module
    ("__init__", "run"),  # committee.Runner needs models
}


def loaded(code: str) -> tuple[set[str], float]:
    """Heavy packages that a fresh interpreter has after running some code, and its seconds.

    The seconds are of the processor, not of the clock: machines that run tests are shared.
    """
    check = (
        f"import sys, time; print(time.process_time(), *(n for n in {HEAVY} if n in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{check}"], capture_output=True, text=True, check=True
    )
    seconds, *heavy = done.stdout.split()
    return set(heavy), float(seconds)


def test_import_loads_nothing_heavy_and_is_quick():
    heavy, seconds = loaded("import committee")
    assert heavy == set()
    assert seconds < 1


def test_heavy_and_slow_imports_are_noticed():
    # The twin of the test above: scipy is a dependency, so that it can always be loaded.
    heavy, seconds = loaded("import committee, scipy, time\nwhile time.process_time() < 1.1: pass")
    assert heavy == {"scipy"}
    assert seconds > 1


@dataclass(frozen=True)
class Import:
    """One part of the library imports another."""

    part: str
    imported: str
    lazy: bool
    where: str


class Imports(ast.NodeVisitor):
    """Collects the imports of one file; those in functions or for type checkers are lazy."""

    def __init__(self, part: str, where: str, parts: set[str]) -> None:
        self.part, self.where, self.parts = part, where, parts
        self.lazy = False
        self.found: list[Import] = []

    def _add(self, name: str) -> None:
        root, _, rest = name.partition(".")
        if root != "committee":
            return
        imported = rest.split(".")[0]
        # ``from committee import Pool`` imports the face; ``from committee import errors`` a part.
        imported = imported if imported in self.parts else "__init__"
        self.found.append(Import(self.part, imported, self.lazy, self.where))

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._add(alias.name)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        assert node.level == 0, f"{self.where}: imports are written in full, from committee on"
        for alias in node.names:
            self._add(f"{node.module}.{alias.name}")

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._visit_lazily(node)

    def visit_If(self, node: ast.If) -> None:
        if ast.unparse(node.test).endswith("TYPE_CHECKING"):
            self._visit_lazily(node)
        else:
            self.generic_visit(node)

    def _visit_lazily(self, node: ast.AST) -> None:
        before, self.lazy = self.lazy, True
        self.generic_visit(node)
        self.lazy = before


def part_of(path: Path, root: Path) -> str:
    return path.relative_to(root).parts[0].removesuffix(".py")


def imports(root: Path) -> Iterator[Import]:
    files = sorted(root.rglob("*.py"))
    # The compiled part has only a stub here.
    parts = {part_of(path, root) for path in files} | {p.stem for p in root.glob("*.pyi")}
    for path in files:
        visitor = Imports(part_of(path, root), str(path.relative_to(root)), parts)
        visitor.visit(ast.parse(path.read_text()))
        yield from visitor.found


def breaches(root: Path) -> list[str]:
    """Imports against the order, and files that have no place in it."""
    strangers = sorted({part_of(path, root) for path in root.rglob("*.py")} - set(ORDER))
    upward = [
        f"{each.where} imports {each.imported}, which stands after it"
        for each in imports(root)
        if {each.part, each.imported} <= set(ORDER) and not allowed(each)
    ]
    return [f"{part} stands nowhere in ORDER" for part in strangers] + upward


def allowed(each: Import) -> bool:
    if each.lazy and (each.part, each.imported) in LAZY:
        return True
    return ORDER.index(each.imported) <= ORDER.index(each.part)


def test_imports_keep_to_the_order():
    assert breaches(ROOT) == []


def test_every_exception_is_needed():
    used = {(each.part, each.imported) for each in imports(ROOT) if each.lazy}
    assert used >= LAZY


@pytest.mark.parametrize(
    ("file", "code", "told"),
    [
        ("cost.py", "from committee.pool import Pool", "cost.py imports pool"),
        ("cost.py", "import committee.pool.pool", "cost.py imports pool"),
        ("cost.py", "from committee import pool", "cost.py imports pool"),
        ("cost.py", "from committee import Pool", "cost.py imports __init__"),
        (
            "selection/front.py",
            "from committee.models import spec",
            "selection/front.py imports models",
        ),
        ("cost.py", "def f():\n    import committee.pool.pool", "cost.py imports pool"),
        ("cost.py", "if TYPE_CHECKING:\n    import committee.pool.pool", "cost.py imports pool"),
        ("pool.py", "from committee.store import load_pool", "pool.py imports store"),
        ("novel.py", "", "novel stands nowhere in ORDER"),
    ],
)
def test_breaches_are_noticed(tmp_path, file, code, told):
    for name in ("__init__.py", "pool.py", "store.py", "spec/model.py", file):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(code if name == file else "")
    assert [line.removesuffix(", which stands after it") for line in breaches(tmp_path)] == [told]


@pytest.mark.parametrize(
    ("file", "code"),
    [
        ("pool.py", "from committee.cost import Cost"),
        ("pool.py", "def load():\n    from committee.store import load_pool"),
        ("pool.py", "import numpy.pool"),
        ("selection/front.py", "from committee.selection.numpy_sweep import surfaces"),
    ],
)
def test_what_keeps_to_the_order_is_no_breach(tmp_path, file, code):
    for name in ("__init__.py", "cost.py", "pool.py", "store.py", file):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(code if name == file else "")
    assert breaches(tmp_path) == []
