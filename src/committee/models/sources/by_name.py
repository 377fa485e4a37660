"""Base of the sources whose models are torch modules that a library builds by name."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from committee.errors import ModelError
from committee.models.base import RANDOM, Model, Source
from committee.models.engines.exported import model_of
from committee.models.engines.weights import fill, read_weights
from committee.spec.model import ENGINES, ModelSpec
from committee.text import first_line

if TYPE_CHECKING:
    import torch


class ByName(Source):
    """Load a module by name, with published weights, those of a file, or random ones.

    A source adds its ``form``, what is ``published`` of a model, and the methods that raise here.
    """

    weights = frozenset({"file", RANDOM})
    engines = ENGINES

    def load(self, spec: ModelSpec, threads: int, allow_code: Collection[str]) -> Model:
        """See :class:`committee.models.base.Source`."""
        module, any_size = self.module(spec), self.takes_any_size(spec)
        return model_of(spec, module, Path(spec.text).name, threads, any_size=any_size)

    def module(self, spec: ModelSpec) -> torch.nn.Module:
        """Return the module of a spec with its weights.

        Random weights on torch's meta device cost neither time nor memory; that is enough to count.
        """
        if spec.weights == RANDOM:
            with _drawn(spec.seed):
                module = self.built(spec, {})
        elif spec.weights:
            state = read_weights(f"model {spec.name!r}", Path(spec.weights))
            module = self.filled(spec, state, spec.weights)
        else:
            module = self.pretrained(spec)
        return self.finished(spec, module)

    def built(self, spec: ModelSpec, state: Mapping[str, torch.Tensor]) -> torch.nn.Module:
        """Return the module without weights, with as many classes as some weights have."""
        raise NotImplementedError

    def pretrained(self, spec: ModelSpec) -> torch.nn.Module:
        """Return the module with its published weights."""
        raise NotImplementedError

    def fitted(
        self, spec: ModelSpec, module: torch.nn.Module, state: Mapping[str, torch.Tensor]
    ) -> Mapping[str, torch.Tensor]:
        """Return weights as the module takes them."""
        return state

    def finished(self, spec: ModelSpec, module: torch.nn.Module) -> torch.nn.Module:
        """Return a module with its weights as one that gives logits at the spec's size."""
        return module

    def takes_any_size(self, spec: ModelSpec) -> bool:
        """Return True if the module takes inputs of other sizes with its weights unchanged."""
        return True

    def filled(
        self, spec: ModelSpec, state: Mapping[str, torch.Tensor], file: str
    ) -> torch.nn.Module:
        """Return the module with the weights of a file."""
        module = self.built(spec, state)
        return fill(f"model {spec.name!r}", file, module, self.fitted(spec, module, state))


@contextmanager
def _drawn(seed: int) -> Iterator[None]:
    """Let what torch draws inside come from a seed; its generator is left as it was."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def unloaded(where: str, what: str, error: Exception, cache: str) -> ModelError:
    """Return the error of weights that a library could not load from its cache or its hub.

    ``cache`` is the environment variable of the folder in which the library keeps what it loaded.
    """
    return ModelError(
        f"{where}: {what} cannot be loaded ({first_line(error)}). Give the weights as a file, "
        'weights = "FILE.safetensors" in the pool file, or load them once where there is a network '
        f"and bring the folder that {cache} names"
    )
