"""Every export runs the one rule; on outputs of all kinds each decides as the library."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from committee import Cascade, Runner
from committee.arrays import Array
from committee.calibration.fitting import fit
from committee.errors import ExportError
from committee.export.bundle import write_bundle
from committee.export.graph import write_graph
from committee.export.torch_module import as_module
from committee.models.inputs import prepared
from committee.models.load import specs_of
from committee.rule.calibration import Calibration
from committee.rule.flow import Decisions
from committee.rule.namespace import NUMPY, Namespace
from committee.rule.outputs import Kind, Outputs
from committee.rule.scores import BUILT_IN, CONFIDENCES
from export_world import (
    decisions_of,
    flips,
    from_tables,
    program_of,
)

pytest.importorskip("onnx", reason="exporting needs onnx")

ROWS, CLASSES = 150, 7
NAMES = ("b.1", "a", "c+d")
random = np.random.default_rng(0)
LOGITS = {name: random.normal(size=(ROWS, CLASSES)) * 2 for name in NAMES}
PROBABILITIES = {name: random.dirichlet(np.full(CLASSES, 0.2), ROWS) for name in NAMES}
PROBABILITIES["a"][PROBABILITIES["a"] < 1e-6] = 0

SOFTER, SURER = Calibration.of_temperature(1.7), Calibration.of_temperature(0.6)
PLATT = Calibration("platt", (0.5, 1.5, 0.8), (-3.0, -1.5))
ONE_PIECE = Calibration("platt", (1.2,))
# Right more often where the three agree, and not in every class.
LABELS = np.where(random.random(ROWS) < 0.7, sum(LOGITS.values()).argmax(1), 3)


def by_class(method: str, kinds: str) -> dict[str, Calibration]:
    return {
        name: fit(Outputs(kind, table), LABELS, method)
        for name, (kind, table) in tables_of(kinds).items()
    }


def tables_of(kinds: str) -> dict[str, tuple[Kind, Array]]:
    return {
        name: ("logits", LOGITS[name]) if kind == "l" else ("probabilities", PROBABILITIES[name])
        for name, kind in zip(NAMES, kinds, strict=True)
    }


# Combination and kinds of outputs, calibrations.
WAYS_TO_COMBINE: tuple[tuple[str, str], ...] = (
    ("mean_logits", "lll"), ("mean_probabilities", "ppp"), ("mean_probabilities", "lpl"),
    ("last", "lll"), ("last", "ppp"), ("vote", "lll"), ("vote", "lpl"),
)  # fmt: skip
PLAIN: dict[str, Calibration] = {}
RULES = [
    *((score, *way, PLAIN) for score, way in itertools.product(BUILT_IN, WAYS_TO_COMBINE)),
    *(("ranked_agreement", *way, PLAIN) for way in WAYS_TO_COMBINE),
    ("max_prob", "mean_logits", "lll", {"b.1": SOFTER, "c+d": SURER}),
    ("max_prob", "mean_logits", "lll", {"b.1": PLATT, "a": ONE_PIECE}),
    ("prob_gap", "mean_probabilities", "lpl", {"b.1": SURER, "a": SOFTER, "c+d": PLATT}),
    ("neg_entropy", "mean_probabilities", "ppp", {"b.1": PLATT, "a": PLATT}),
    ("logit_gap", "last", "ppp", {"b.1": PLATT, "a": SURER, "c+d": ONE_PIECE}),
    ("logit_gap", "last", "lll", {"b.1": PLATT, "c+d": SOFTER}),
    ("max_prob", "vote", "lpl", {"b.1": PLATT, "c+d": SOFTER}),
    ("max_prob", "last", "lll", by_class("per-class", "lll")),
    ("max_prob", "last", "ppp", by_class("per-class", "ppp")),
    ("max_prob", "mean_logits", "lll", by_class("experts", "lll")),
    ("prob_gap", "mean_logits", "ppp", by_class("experts", "ppp")),
    ("max_prob", "mean_probabilities", "lpl", by_class("experts", "lpl")),
    ("logit_gap", "last", "lll", by_class("experts", "lll")),
]


def by_python(cascade: Cascade, images: Array, folder: Path) -> Decisions:
    write_bundle(cascade, folder / "bundle")
    own = program_of(folder / "bundle").Cascade(folder / "bundle")
    return decisions_of(own(Image.fromarray(image)) for image in images)


def by_graph(form: Any, precision: Any) -> Any:
    def decided(cascade: Cascade, images: Array, folder: Path) -> Decisions:
        path = write_graph(
            cascade, folder / f"{form}-{precision}.onnx", form=form, precision=precision
        )
        return Runner(path, threads=1).decide(images, 64)

    return decided


def by_module(cascade: Cascade, images: Array, folder: Path) -> Decisions:
    torch = pytest.importorskip("torch", reason="the module is for torch")

    class Table(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self, name: str) -> None:
            super().__init__()
            import onnx

            (table,) = (
                onnx.numpy_helper.to_array(tensor)
                for tensor in onnx.load(folder / f"{name}.onnx").graph.initializer
                if tensor.name == "table"
            )
            self.table = torch.from_numpy(table.copy())

        def forward(self, inputs: Any) -> Any:
            places = torch.tensor([255.0 * 256, 255.0])
            return self.table[(inputs * places).sum((1, 2, 3)).round().long()]

    (recipe,) = {spec.preprocessing for spec in specs_of(cascade).values()}
    module = as_module(cascade, {name: Table(name) for name in cascade.names})
    answer = module(torch.from_numpy(prepared(images, recipe)))
    return Decisions(answer.predicted.numpy(), answer.confidence.numpy(), answer.stage.numpy())


WAYS = {
    "python": by_python,
    "graph": by_graph("any", "float64"),
    "graph for one": by_graph("one", "float64"),
    "graph in float32": by_graph("any", "float32"),
    "module": by_module,
}
GRAPHS = [way for way in WAYS if way.startswith("graph")]


def halving(
    tables: Mapping[str, tuple[Kind, Array]],
    folder: Path,
    rule: tuple[str, str, Mapping[str, Calibration]],
) -> tuple[Cascade, Array]:
    """A cascade in which half of those that reach a stage would leave there."""
    bounds = []
    for count in (1, 2):
        alone, images = from_tables(Cascade.ensemble(NAMES[:count], *rule), tables, folder)
        scores = np.sort(Runner(alone).decide(images).score)
        above = scores[scores > scores[ROWS // 2]][0]  # experts give many the same score
        bounds.append(float(scores[ROWS // 2] + above) / 2)
    return from_tables(Cascade.of(NAMES, bounds, *rule), tables, folder)


Promised = tuple[Cascade, Array, Decisions, Path]


@pytest.fixture(scope="module")
def promised_by_rule(tmp_path_factory: pytest.TempPathFactory) -> list[Promised]:
    """For each rule a cascade, images, the runner's decisions, and the folder of the models."""
    promised = []
    for confidence, combine, kinds, calibrations in RULES:
        folder = tmp_path_factory.mktemp("rule")
        cascade, images = halving(tables_of(kinds), folder, (confidence, combine, calibrations))
        promised.append((cascade, images, Runner(cascade).decide(images), folder))
    return promised


@pytest.mark.parametrize("way", WAYS)
def test_every_rule_is_that_of_the_library(way: str, promised_by_rule: list[Promised]) -> None:
    for number, (cascade, images, promised, folder) in enumerate(promised_by_rule):
        # Graphs share what writes a rule: each form has a third of the rules without calibrations.
        if way in GRAPHS and not RULES[number][3] and GRAPHS.index(way) != number % len(GRAPHS):
            continue
        assert min(np.bincount(promised.stage, minlength=3)) >= 10
        # The program takes images one by one: a third of them.
        some = slice(number % 3, None, 3) if way == "python" else slice(None)
        found, expected = WAYS[way](cascade, images[some], folder), promised.rows(some)
        assert flips(found, expected) == 0, RULES[number]
        exact = way != "graph in float32"
        np.testing.assert_allclose(found.score, expected.score, rtol=1e-9 if exact else 1e-4,
                                   atol=1e-12 if exact else 1e-5)  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_a_calibration_lets_no_class_overtake(way: str, tmp_path: Path) -> None:
    """Logits that differ by less than rounding after the logarithm of their softmax is taken."""
    tables: dict[str, tuple[Kind, Array]] = {"b.1": ("logits", LOGITS["b.1"] * 1e-30)}
    cascade = Cascade.ensemble(["b.1"], calibrations={"b.1": PLATT})
    cascade, images = from_tables(cascade, tables, tmp_path)
    promised = Runner(cascade).decide(images)
    np.testing.assert_array_equal(promised.predicted, LOGITS["b.1"].argmax(1))
    found = WAYS[way](cascade, images, tmp_path)
    np.testing.assert_array_equal(found.predicted, promised.predicted)


def above_mean(outputs: Array, kind: Kind = "logits", xp: Namespace = NUMPY) -> Array:
    """Score each sample by how far its largest value is above the mean of its classes."""
    values = xp.floats(outputs)
    return xp.max(values) - xp.sum(values) / values.shape[1]


@pytest.mark.parametrize("way", [each for each in WAYS if each != "python"])
def test_a_confidence_is_one_function_for_arrays_tensors_and_graphs(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CONFIDENCES, "above_mean", above_mean)
    cascade, images = halving(tables_of("lll"), tmp_path, ("above_mean", "mean_logits", {}))
    promised = Runner(cascade).decide(images)
    assert min(np.bincount(promised.stage, minlength=3)) >= 10
    assert flips(WAYS[way](cascade, images, tmp_path), promised) == 0


def test_a_function_of_numpy_alone_is_exported_by_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CONFIDENCES, "first", lambda values, kind: values[:, 0])
    cascade, _ = from_tables(Cascade.of(NAMES[:1], [], "first"), tables_of("lll"), tmp_path)
    with pytest.raises(ExportError, match="third parameter xp"):
        write_graph(cascade, tmp_path / "graph.onnx")
    with pytest.raises(ExportError, match="your own function"):
        write_bundle(cascade, tmp_path / "bundle")
    torch = pytest.importorskip("torch", reason="the module is for torch")
    with pytest.raises(ExportError, match="third parameter xp"):
        as_module(cascade, {NAMES[0]: torch.nn.Identity()})
