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
    "ray",
    "matplotlib",
    "PIL",
    "typer",
    "rich",
    "scipy",
    "sklearn",
    "jinja2",
    "pyarrow",
    "av",
    "starlette",
    "uvicorn",
    "prometheus_client",
    "grpc",
    "opentelemetry",
)

# The rooms from the ground up: a file may import its own room and those before it. ``__init__`` is
# the face of the core, what scripts get by ``import committee``.
ROOMS = (
    {"arrays", "version", "errors", "text", "files", "paths", "names", "reading", "style"},
    {"_native", "compiled"},
    {"rule", "spec", "pool"},
    {"selection", "calibration"},
    {"certificates"},
    {"models", "data", "profile"},
    {"store"},
    {"predict", "predict_batches", "testing", "embedded"},
    {"export", "run"},
    {"report"},
    {"serve"},
    {"study"},
    {"scale"},
    {"segment"},
    {"__init__"},
    {"cli"},
    {"__main__"},
)


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
    """One file imports another; inside functions and for type checkers too."""

    file: str
    imported: str

    @property
    def rooms(self) -> tuple[str, str]:
        """The rooms of both files."""
        return self.file.split(".")[0], self.imported.split(".")[0]


def module_of(path: Path, root: Path) -> str:
    parts = list(path.relative_to(root).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def imports(root: Path) -> set[Import]:
    """Collect every import of one file of the library by another."""
    paths = [*root.rglob("*.py"), *root.glob("*.pyi")]
    modules = {module_of(path, root): path for path in paths}
    found = set()
    for module, path in modules.items():
        for name in imported_names(path, root):
            target = next((each for each in parents(name) if each in modules), "__init__")
            if target != module:
                found.add(Import(module, target))
    return found


def parents(name: str) -> Iterator[str]:
    """Yield a dotted name and all that it lies in: ``a.b.c``, ``a.b``, ``a``."""
    while name:
        yield name
        name = name.rpartition(".")[0]


def imported_names(path: Path, root: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are written in full, from committee on"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            if name.split(".")[0] == "committee":
                yield name.partition(".")[2]


def circles(found: set[Import]) -> list[list[str]]:
    """Return the files of each circle of imports."""
    graph: dict[str, set[str]] = {}
    for each in found:
        graph.setdefault(each.file, set()).add(each.imported)
    left = dict(graph)
    while True:
        # Files that import nothing that is left are in no circle.
        done = {file for file, imported in left.items() if not imported & left.keys()}
        if not done:
            return [sorted(left)] if left else []
        left = {file: imported for file, imported in left.items() if file not in done}


def breaches(root: Path, found: set[Import]) -> list[str]:
    """Return the imports of a room by one below it, and files that are in no room."""
    place = {room: floor for floor, rooms in enumerate(ROOMS) for room in rooms}
    rooms = {module_of(path, root).split(".")[0] for path in root.rglob("*.py")}
    strangers = [f"{room} is in no room" for room in sorted(rooms - place.keys())]
    upward = [
        f"{each.file} imports {each.imported}"
        for each in sorted(found, key=lambda each: (each.file, each.imported))
        if {*each.rooms} <= place.keys() and place[each.rooms[0]] < place[each.rooms[1]]
    ]
    return strangers + upward


def test_imports_go_down_and_never_in_a_circle():
    found = imports(ROOT)
    assert circles(found) == []
    assert breaches(ROOT, found) == []


FILES = ("__init__.py", "pool/pool.py", "spec/cost.py", "spec/task.py", "models/load.py")


def library(root: Path, file: str, code: str) -> Path:
    for name in {*FILES, file}:
        path = root / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(code if name == file else "")
    return root


@pytest.mark.parametrize(
    ("file", "code", "told"),
    [
        (
            "spec/cost.py",
            "from committee.models.load import load_model",
            "spec.cost imports models.load",
        ),
        ("spec/cost.py", "import committee.models.load", "spec.cost imports models.load"),
        ("spec/cost.py", "from committee import Pool", "spec.cost imports __init__"),
        (
            "pool/pool.py",
            "def load():\n    from committee.models import load",
            "pool.pool imports models.load",
        ),
        (
            "pool/pool.py",
            "if TYPE_CHECKING:\n    from committee.models.load import load_model",
            "pool.pool imports models.load",
        ),
        ("novel.py", "", "novel is in no room"),
    ],
)
def test_breaches_are_noticed(tmp_path, file, code, told):
    root = library(tmp_path, file, code)
    assert breaches(root, imports(root)) == [told]


@pytest.mark.parametrize("code", ["{}", "def f():\n    {}", "if TYPE_CHECKING:\n    {}"])
def test_circles_are_noticed(tmp_path, code):
    library(tmp_path, "spec/cost.py", "from committee.spec.task import Task")
    assert circles(imports(tmp_path)) == []
    back = code.format("from committee.spec.cost import Cost")
    (tmp_path / "spec" / "task.py").write_text(back)
    assert circles(imports(tmp_path)) == [["spec.cost", "spec.task"]]
    assert breaches(tmp_path, imports(tmp_path)) == []
