"""``sklearn:FILE.skops``: a fitted estimator of scikit-learn, kept with skops.

A skops file is read without running code. Types in it that a crafted file could misuse, trees and
those of other packages, are made only if the user names them, or the file. A pickle runs code, and
is read only if the user names the file.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from copy import copy
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from committee.arrays import Array
from committee.errors import ModelError, PoolFileError, UntrustedCodeError, needing
from committee.models.base import Model, Source, check_file, file_fingerprint
from committee.models.columns import OutputNames
from committee.paths import expanded
from committee.rule.outputs import Kind
from committee.spec.model import ModelSpec
from committee.spec.record import Record
from committee.text import first_line, listed

_ENDING = ".skops"
# How deeply estimators may be nested in each other.
_DEPTH = 12
# Types of scikit-learn that index memory by what a file says.
_TREES = (
    "sklearn.tree._tree.Tree",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
)
# Types that hold data, and that skops does not list as harmless all the same. The second is a list
# of columns in a column transformer of older versions of scikit-learn.
_HARMLESS = ("numpy.dtype", "sklearn.compose._column_transformer._RemainderColsList")
# What an estimator answers with, by kind of outputs.
_METHODS = {"probabilities": "predict_proba", "logits": "decision_function"}


class SklearnSource(Source):
    """A file with an estimator; its classes are brought into the order of the pool's."""

    form = "sklearn:FILE.skops"
    named_when_loaded = True
    kind: ClassVar[Kind] = "probabilities"

    def located(self, text: str, folder: Path) -> str:
        """See :class:`committee.models.base.Source`."""
        if not text:
            raise ValueError
        return str(expanded(text, folder))

    def record(self, text: str, columns: Any, dtype: Any) -> Record:
        """Return the columns of the pool file, or those that the estimator was fitted on."""
        if columns is None:
            names = _readable(text, "feature_names_in_")
            columns = None if names is None else [str(name) for name in names]
        if isinstance(columns, Mapping):
            raise PoolFileError("an estimator has one input; write a column or a list of columns")
        return Record.of(columns, dtype)

    def labels(self, text: str) -> Sequence[str]:
        """Return the names of the estimator's classes; none if they only count."""
        return _named(_readable(text, "classes_")).labels

    def classes(self, text: str) -> Sequence[str]:
        """Return the numbers of classes that count: a pool may have the same in another order."""
        return _named(_readable(text, "classes_")).published

    def peek(self, spec: ModelSpec, allow_code: Collection[str]) -> str:
        """See :class:`committee.models.base.Source`."""
        check_file(f"model {spec.name!r}", Path(spec.text))
        return file_fingerprint(Path(spec.text))

    def load(self, spec: ModelSpec, threads: int, allow_code: Collection[str]) -> Model:
        """See :class:`committee.models.base.Source`."""
        where, path = f"model {spec.name!r}", Path(spec.text)
        check_file(where, path)
        return _Estimator(spec, _loaded(where, path, allow_code), file_fingerprint(path), threads)


def _named(classes: Any) -> OutputNames:
    """Return the names of an estimator's classes; those that only count may be none."""
    if classes is None:
        return OutputNames()
    names = tuple(str(each) for each in classes)
    counts = np.array_equal(classes, np.arange(len(classes)))
    return OutputNames(published=names) if counts else OutputNames(names)


def _loaded(where: str, path: Path, allow_code: Collection[str]) -> Any:
    with needing(f"{where}: {path}", "scikit-learn and skops", "sklearn"):
        import sklearn  # noqa: F401  # skops imports it when it is too late for a good line
        import skops.io
    if path.suffix != _ENDING:
        return _unpickled(where, path, allow_code)
    try:
        unknown = skops.io.get_untrusted_types(file=path)
    except Exception as error:
        raise ModelError(f"{where}: {path} is no skops file ({first_line(error)})") from None
    lacking = [name for name in unknown if not _is_allowed(name, allow_code)]
    if lacking and not _is_named(path, allow_code):
        options = " ".join(f"--allow-code {name}" for name in lacking)
        raise UntrustedCodeError(
            f"{where}: {path} holds {listed(lacking)}, which a crafted file can misuse. If you "
            f"trust the file, name what it holds: {options}, or all of it: --allow-code {path}"
        )
    try:
        return skops.io.load(path, trusted=unknown)
    except Exception as error:
        raise ModelError(f"{where}: {path} cannot be loaded ({first_line(error)})") from error


def _is_allowed(name: str, allow_code: Collection[str]) -> bool:
    return any(name == each or name.startswith(f"{each}.") for each in (*_HARMLESS, *allow_code))


def _is_named(path: Path, allow_code: Collection[str]) -> bool:
    """Return True if a file is trusted as it is, whatever it holds."""
    return str(path.resolve()) in {str(Path(name).resolve()) for name in allow_code}


def _unpickled(where: str, path: Path, allow_code: Collection[str]) -> Any:
    if not _is_named(path, allow_code):
        raise UntrustedCodeError(
            f"{where}: {path} is no {_ENDING} file, and code in pickles runs. Save the estimator "
            f"with skops.io.dump, or if you trust it name it: --allow-code {path}"
        )
    import joblib

    try:
        return joblib.load(path)
    except Exception as error:
        raise ModelError(f"{where}: {path} cannot be loaded ({first_line(error)})") from error


def _readable(text: str, attribute: str) -> Any:
    """Return a fact of an estimator that can be read without trust; None if it cannot be."""
    path = Path(text)
    if path.suffix != _ENDING or not path.is_file():
        return None  # whoever loads the file says what is wrong with it
    return _facts(str(path), path.stat().st_mtime_ns).get(attribute)


@lru_cache(64)
def _facts(path: str, _: int) -> dict[str, Any]:
    try:
        # Crafted trees do harm when they are asked, which they are not here.
        estimator = _loaded("estimator", Path(path), _TREES)
    except (ModelError, UntrustedCodeError):
        return {}
    return {n: getattr(estimator, n, None) for n in ("classes_", "feature_names_in_")}


def _features(where: str, spec: ModelSpec, estimator: Any) -> tuple[list[str] | None, list[str]]:
    """Return the columns that an estimator was fitted on, if it knows, and those that it gets."""
    known = getattr(estimator, "feature_names_in_", None)
    if known is None:
        return None, []
    names, (field,) = [str(name) for name in known], spec.record.fields
    lacking = [name for name in names if field.row and name not in field.columns]
    if lacking:
        raise ModelError(
            f"{where}: was fitted on {listed(names)}, and its input has no {listed(lacking)}. "
            "Leave input out to take its own columns"
        )
    return names, list(field.columns) if field.row else names


def _encoders(estimator: Any, depth: int = 0) -> Iterator[Any]:
    """Yield the encoders of categories in a fitted estimator, such as OneHotEncoder."""
    if hasattr(estimator, "categories_"):
        yield estimator
    parts = estimator if isinstance(estimator, list | tuple) else ()
    if hasattr(estimator, "get_params"):
        # Fitted parts, which end in _, not the settings that they were made from.
        own = vars(estimator)
        parts = [own[name] for name in own if name.endswith("_") or name == "steps"]
    for part in parts if depth < _DEPTH else ():
        yield from _encoders(part, depth + 1)


def _of_numbers(estimator: Any, columns: Sequence[str]) -> set[str]:
    """Return the columns whose categories were numbers when an estimator was fitted."""
    found = set()
    for encoder in _encoders(estimator):
        count = len(encoder.categories_)
        usual = columns if len(columns) == count else [""] * count
        names = getattr(encoder, "feature_names_in_", usual)
        pairs = zip(names, encoder.categories_, strict=False)
        found |= {str(name) for name, each in pairs if np.asarray(each).dtype.kind in "iuf"}
    return found


class _Estimator:
    """A fitted estimator; columns of its outputs are in the order of the pool's classes.

    ``threads`` are those of the whole process, and 0 leaves them as they are.
    """

    keeps_input = True
    macs: int | None = None
    parameters: int | None = None
    macs_unknown = (
        "an estimator states none; give costs in the pool file, or measure them with "
        "committee profile POOL.toml --data DATA --store STORE"
    )

    def __init__(self, spec: ModelSpec, estimator: Any, fingerprint: str, threads: int) -> None:
        import sklearn
        from threadpoolctl import threadpool_limits

        if threads:
            threadpool_limits(threads)
        self._where, self._kind = f"model {spec.name!r}", spec.kind
        self._columns = list(spec.columns)
        self.engine = f"scikit-learn {sklearn.__version__}"
        self.fingerprint = fingerprint
        method = _METHODS.get(spec.kind, "")
        if not hasattr(estimator, method):
            has = [kind for kind, name in _METHODS.items() if hasattr(estimator, name)]
            remedy = f'Write kind = "{has[0]}" in its [[model]]' if has else "Calibrate it first"
            raise ModelError(
                f"{self._where}: {type(estimator).__name__} gives no {spec.kind}. {remedy}"
            )
        self._answer = getattr(estimator, method)
        self._names, self._given = _features(self._where, spec, estimator)
        self._of_numbers = _of_numbers(estimator, spec.record.columns)
        self.names = _named(getattr(estimator, "classes_", None))

    def reordered(self, columns: Sequence[int]) -> _Estimator:
        """Return the same estimator with its outputs in another order."""
        made = copy(self)
        made._columns = list(columns)
        return made

    def __call__(self, batch: Any) -> Array:
        """See :class:`committee.models.base.Model`."""
        self._refuse_text(batch)
        values = np.asarray(self._answer(self._framed(batch)))
        if values.ndim == 1:  # of two classes: how far on the side of the second
            values = np.stack([np.zeros_like(values), values], axis=1)
        return values[:, self._columns] if self._columns else values

    def _refuse_text(self, batch: Any) -> None:
        """Refuse text where categories are numbers: an encoder may take it for an unknown one."""
        if not self._of_numbers or not isinstance(batch, list):
            return
        row = (
            batch[0] if isinstance(batch[0], Mapping) else dict.fromkeys(self._of_numbers, batch[0])
        )
        wrong = sorted(name for name in self._of_numbers if isinstance(row.get(name), str))
        if wrong:
            types = ", ".join(f'{name} = "int64"' for name in wrong)
            raise ModelError(
                f"{self._where}: was fitted on numbers as categories of {listed(wrong)}, which "
                f"come as text here. Write dtype = {{ {types} }} in its [[model]], or float64"
            )

    def _framed(self, batch: Any) -> Any:
        """Return a batch as the estimator was fitted: a frame with names, rows, or a list."""
        if self._names is not None:
            with needing(f"{self._where}: an estimator fitted on a data frame", "pandas", "pandas"):
                import pandas
            return pandas.DataFrame(batch, columns=self._given)[self._names]
        if isinstance(batch, list) and isinstance(batch[0], Mapping):
            return np.array([list(row.values()) for row in batch], object)
        return batch
