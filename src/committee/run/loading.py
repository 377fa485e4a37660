"""The models of a cascade: loaded at once or when first needed; their answers are checked."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from committee.errors import ModelError, NotFiniteError
from committee.models.base import (
    Model,
    WrongClassesError,
    answer_of,
    checked_answer,
    usable_outputs_of,
)
from committee.models.failures import check_width
from committee.models.inputs import ModelInputs
from committee.models.load import check_installed, check_unloaded, load_model, resized
from committee.rule.outputs import Outputs
from committee.spec.model import ModelSpec


class Models:
    """Models by name, for several threads at once.

    Those of ``later`` are loaded when they are first needed. A file that is missing or has changed
    is noticed now all the same, where its source can tell without loading.
    """

    def __init__(
        self,
        specs: Mapping[str, ModelSpec],
        classes: Sequence[str],
        allow_code: Collection[str] = (),
        threads: int = 0,
        later: Collection[str] = (),
    ) -> None:
        self._specs, self._names, self._classes = specs, tuple(classes), len(classes)
        self._allow_code, self._threads = tuple(allow_code), threads
        self._loading = threading.Lock()
        # The shape of each model's outputs for one sample, as of its first batch.
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._loaded: dict[str, tuple[Model, ModelSpec]] = {}
        check_installed(specs.values())
        for name, spec in specs.items():
            if name in later:
                check_unloaded(spec, self._allow_code)
            else:
                self._load(name)

    @property
    def loaded(self) -> tuple[str, ...]:
        """Names of the models that are in memory."""
        return tuple(self._loaded)

    def renew(self) -> None:
        """Replace the lock, which the process that this one was forked from may have held."""
        self._loading = threading.Lock()

    def answer(self, name: str, batch: ModelInputs) -> Any:
        """Run one model on a batch and return its answer unchecked."""
        model, spec = self._loaded.get(name) or self._load(name)
        return answer_of(model, spec, batch)

    def checked(self, name: str, answer: Any, samples: int = 1) -> Outputs:
        """Return the outputs that a model answered to a number of samples."""
        outputs = checked_answer(self._specs[name], answer, samples)
        self._check_classes(name, outputs)
        return outputs

    def usable_outputs(self, name: str, batch: ModelInputs) -> tuple[Outputs, Mapping[int, str]]:
        """Run one model on a batch; return the usable outputs, and why rows failed that did."""
        model, spec = self._loaded.get(name) or self._load(name)
        outputs, wrong = usable_outputs_of(model, spec, batch)
        check_width(spec, outputs, self._shapes.get(name, outputs.values.shape[1:]))
        self._check_classes(name, outputs)
        self._shapes[name] = outputs.values.shape[1:]
        return outputs, wrong

    def warm(self, times: int) -> None:
        """Load all models and run each on a blank input."""
        for name, spec in self._specs.items():
            if spec.does.records:  # of which none is blank
                _ = self._loaded.get(name) or self._load(name)
                continue
            blank = np.zeros((1, *spec.preprocessing.shape), np.float32)
            for _ in range(times):
                try:
                    self.checked(name, self.answer(name, blank))
                except NotFiniteError:
                    # Of a blank image a model need not make sense.
                    continue

    def _load(self, name: str) -> tuple[Model, ModelSpec]:
        with self._loading:
            if name not in self._loaded:
                spec, held = self._specs[name], self._loaded.values()
                self._loaded[name] = resized(spec, held) or load_model(
                    spec, self._allow_code, self._threads, self._names
                )
            return self._loaded[name]

    def _check_classes(self, name: str, outputs: Outputs) -> None:
        """Refuse outputs of other classes than the cascade names, if it names any."""
        decisions = outputs.kind == "decisions"
        if not self._classes or (not decisions and outputs.values.shape[1] == self._classes):
            return
        given = int(outputs.values.max(initial=-1)) + 1 if decisions else outputs.values.shape[1]
        if decisions and given <= self._classes:
            return
        least = "at least " if decisions else ""
        # Rows of another length may be a failure of single samples; another class is none.
        error = WrongClassesError if decisions else ModelError
        raise error(
            f"model {name!r}: gives {least}{given} classes, but the cascade names "
            f"{self._classes}. The cascade file was altered or is of other models; search again"
        )
