"""Text classifiers of transformers, run by torch on the processor."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from committee.arrays import Array
from committee.errors import ModelError
from committee.models.engines.torch_module import module_fingerprint
from committee.spec.model import ModelSpec

if TYPE_CHECKING:
    import torch

# Texts of one forward pass; all are padded to the longest of them.
_AT_ONCE = 32
# Tokenizers that know no limit say a number beyond this.
_NO_LIMIT = 10**6


class TextModel:
    """A text classifier with its tokenizer; longer texts are cut at what the model can see."""

    keeps_input = True
    macs: int | None = None
    macs_unknown = (
        "they depend on the length of a text; give costs in the pool file, or measure them with "
        "committee profile POOL.toml --data DATA --store STORE"
    )

    def __init__(
        self, spec: ModelSpec, module: torch.nn.Module, tokenizer: Any, threads: int = 0
    ) -> None:
        import torch

        if threads:
            torch.set_num_threads(threads)
        self._torch, self._module, self._tokenizer = torch, module.eval(), tokenizer
        self._columns = list(spec.columns)
        self.most = _most_tokens(spec, module, tokenizer)
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        self.parameters = sum(each.numel() for each in module.parameters())
        words = hashlib.sha256(str(sorted(tokenizer.get_vocab().items())).encode()).hexdigest()
        self.fingerprint = module_fingerprint(module, f"{words} {self.most} {spec.columns}")
        self.engine = f"torch {torch.__version__}"

    @property
    def states(self) -> str:
        """What people should know of its inputs."""
        return f"sees the first {self.most:,} tokens of a text; longer ones are cut"

    def __call__(self, batch: Sequence[str]) -> Array:
        """Return the logits (N, C) of N texts."""
        for text in batch:
            if not isinstance(text, str):
                raise ModelError(f"takes texts, not {type(text).__name__}")
        parts = [batch[start : start + _AT_ONCE] for start in range(0, len(batch), _AT_ONCE)]
        logits = np.concatenate([self._logits(list(part)) for part in parts])
        return logits[:, self._columns] if self._columns else logits

    def _logits(self, texts: list[str]) -> Array:
        tokens = self._tokenizer(
            texts, truncation=True, max_length=self.most, padding=True, return_tensors="pt"
        )
        with self._torch.inference_mode():
            made: Array = self._module(**tokens).logits.float().numpy()
        return made


def _most_tokens(spec: ModelSpec, module: Any, tokenizer: Any) -> int:
    """Return how many tokens of a text a model can see, by its tokenizer or its positions."""
    own = getattr(module.config, "max_position_embeddings", None) or _NO_LIMIT
    # RoBERTa and its kin begin to count positions after the number of their padding.
    if "roberta" in type(module).__name__.lower():
        own -= module.config.pad_token_id + 1
    most = min(int(tokenizer.model_max_length), int(own))
    if most >= _NO_LIMIT:
        raise ModelError(
            f"model {spec.name!r}: neither its tokenizer nor its configuration says how long a "
            "text may be. Write model_max_length into tokenizer_config.json"
        )
    return most
