"""The bounds on the structure of the source, and that what measures them notices a breach."""

from __future__ import annotations

import runpy
from pathlib import Path
from statistics import median

import pytest

ROOT = Path(__file__).parent.parent
STRUCTURE = runpy.run_path(str(ROOT / "benchmarks" / "structure.py"))


@pytest.fixture(scope="module")
def source():
    return STRUCTURE["measure"](ROOT / "src")


def test_half_of_all_functions_have_two_branches_or_fewer(source):
    assert median(source.branches) <= 2


def test_no_function_is_longer_than_sixty_lines(source):
    assert source.longest.lines <= 60, source.longest


def test_no_module_is_longer_than_580_lines(source):
    assert source.largest[1] <= 580, source.largest


# What a user of the program or of one option asks for; each brings heavy packages.
LAZY = {
    ("committee_command", "committee.cli.main"),
    ("committee.cli.serve", "committee.serve.process.run_server"),
    *(
        ("committee.cli.serve", f"committee.scale.serve.{n}")
        for n in ("Replicas", "Service", "serve_on")
    ),
    ("committee.cli.verify", "committee.export.torch_module.as_module"),
    # In a function that travels to other machines.
    ("committee.scale.cluster", "committee.version.__version__"),
}


def test_own_modules_are_imported_at_the_top(source):
    assert set(source.own_lazy) <= LAZY


def test_the_rule_is_stated_once_and_approximated_once(source):
    stated, *approximated = source.rule_statements
    assert stated == "committee/rule/scores.py"
    assert [Path(file).parent.name for file in approximated] in ([], ["selection"])


def test_nothing_imports_in_a_circle(source):
    assert STRUCTURE["circles"](source.imports) == []


EXAMPLE = '''"""A module."""
from committee.b import Later

def long(views, kind):
    """Take two lines and four branches."""
    import committee.b
    if views is None and kind == "logits" or kind: return 1
    return [a for a in kind]

class _Hidden:
    def inner(self): return SEMANTIC_SEGMENTATION.name
'''


def test_a_breach_is_noticed(tmp_path):
    package = tmp_path / "committee"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "a.py").write_text(EXAMPLE)
    (package / "b.py").write_text("from committee import a\nmax_prob = logit_gap = prob_gap = 0\n")
    (package / "c.py").write_text("# max_prob logit_gap prob_gap neg_entropy\n")
    found = STRUCTURE["measure"](tmp_path)
    assert {f.name: (f.lines, f.branches) for f in found.functions} == {
        "committee.a.long": (3, 4),
        "committee.a.inner": (1, 0),
    }
    assert found.largest == ("committee.a", 11)
    assert found.public == ["committee.a.long"]
    assert STRUCTURE["circles"](found.imports) == [{"committee.a", "committee.b"}]
    assert found.lazy == found.own_lazy == [("committee.a", "committee.b")]
    assert found.task_questions == ["committee.a:7", "committee.a:11"]
    assert found.rule_statements == ["committee/c.py"]
