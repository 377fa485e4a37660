"""Functions that open splits of a store and name the next command."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from committee.certificates.certificate import chosen_by
from committee.cli.options import check_on, refuse, refuse_for_segmentation
from committee.cli.output import joined, say_notes
from committee.errors import CascadeError, MisalignedError, StoreError
from committee.models.pool_file import read_pool_file
from committee.pool.metrics import TOP_1, Metric
from committee.pool.pool import Pool, store_readers
from committee.pool.sharded import Runs
from committee.rule.cascade import Cascade
from committee.rule.outputs import WITH_CONFIDENCE
from committee.rule.scores import AGREEMENTS
from committee.run.open import CascadeLike, LoadedCascade, open_cascade, what_is
from committee.scale.search import over_shards
from committee.segment.store import load_images
from committee.selection.rules import AUTO
from committee.selection.sequences import refuse_tiles
from committee.spec.model import ModelSpec
from committee.spec.task import TASKS
from committee.store.entry import read_index
from committee.store.shards import in_ranges, is_sharded, open_shards
from committee.store.split import known_split, note_on_chooser, other_splits
from committee.text import listed

# What an option is for that needs all samples at once.
_WHOLE = "one store, without --on ray"


def is_root(path: Path) -> bool:
    """Return True if a folder is a store, not one split of it."""
    return any((path / index).is_file() for index in store_readers())


def root_of(store: str) -> Path:
    """Return the folder of a store that is named ``STORE`` or ``STORE/SPLIT``."""
    path = Path(store)
    return path if is_sharded(path) else _folder(store, None, "any").parent


def _folder(store: str, split: str | None, default: str) -> Path:
    path = Path(store)
    if is_root(path):
        return path / (split or default)
    if split not in (None, path.name):
        raise StoreError(f"--split {split}: {store} names a split already; give one of the two")
    return path


def open_split(
    store: str,
    split: str | None,
    default: str,
    calibrated: bool = False,
    grids: Sequence[str] | None = None,
) -> Pool:
    """Return the split of ``STORE/SPLIT``, or the named or the default split of ``STORE``."""
    folder = _folder(store, split, default)
    if grids:
        return load_images(folder, grids=grids, calibrated=calibrated)
    return Pool.load(folder, calibrated=calibrated)


@contextmanager
def counted_on(on: str | None, address: str | None, as_json: bool) -> Iterator[Runs[Any] | None]:
    """Join the engine that counts samples, and give what maps over shards there; None without."""
    check_on(on, address=address is not None)
    if on is None:
        yield None
        return
    with joined(address, as_json) as cluster:
        yield over_shards(cluster)


def open_counted(
    store: str, split: str | None, default: str, run: Runs[Any] | None, **is_given: bool
) -> Pool:
    """Return a split as :func:`open_split`, or a folder of stores, or what ``run`` counts.

    Args:
        store: See :func:`open_split`, or a folder of stores.
        split: See there.
        default: See there.
        run: Maps over shards elsewhere; None counts here.
        is_given: Options that need all samples at once and are refused otherwise, if they are true.
    """
    path = Path(store)
    if is_sharded(path):
        refuse(_WHOLE, **is_given)
        return open_shards(path.absolute() if run else path, split or default, run or map)
    pool = open_split(store, split, default)
    if run is None:
        return pool
    refuse(_WHOLE, **is_given)
    if not pool.keeps_outputs:
        refuse_for_segmentation(on=True)
    return in_ranges(pool, _folder(store, split, default).absolute(), run)


def open_test(
    store: str, split: str | None, test: str | None, calibrated: bool = False
) -> Pool | None:
    """Return the split ``test`` (or ``STORE/SPLIT``); by default test, unless that one chooses."""
    if test:
        named = is_root(Path(test)) or is_root(Path(test).parent)
        folder = test if named else str(root_of(store) / test)
        return open_split(folder, None, "test", calibrated)
    chosen = _folder(store, split, "val")
    other = chosen.parent / "test"
    if not other.is_dir() or other.name == chosen.name:
        return None
    return Pool.load(other, calibrated=calibrated)


def skipped(*pools: Pool | None) -> dict[str, int]:
    """Return the number of skipped broken samples by split, for JSON."""
    known = [pool.samples for pool in pools if pool is not None]
    return {samples.split: len(samples.broken) for samples in known}


def confidence_for(pool: Pool, confidence: str | None) -> str:
    """Return the confidence function to use."""
    kind = pool.combined_kind
    agreements = (*AGREEMENTS, AUTO) if kind == "decisions" else ()
    if confidence is not None and kind in WITH_CONFIDENCE and confidence not in (*agreements, AUTO):
        remedy = (
            f"leave it out, or take {' or '.join(agreements)}" if agreements else "leave it out"
        )
        raise CascadeError(
            f"--confidence {confidence}: {kind} bring their own confidence; {remedy}"
        )
    return confidence or "max_prob"


def with_models(cascade: CascadeLike, pool: str | None) -> LoadedCascade:
    """Return a cascade with its models from the pool file, or from its own file without one."""
    loaded = open_cascade(cascade)
    if pool is None:
        return loaded
    if loaded.graph is not None:
        raise CascadeError(f"--pool {pool}: {loaded.path} has its models inside; leave --pool out")
    return LoadedCascade(read_pool_file(pool).described(loaded.cascade, f"--pool {pool}"))


def check_models(command: str, path: str, chosen: Cascade, store: str, pool: Pool) -> None:
    """Raise MisalignedError if fingerprints show that the store has other models of these names."""
    for name in chosen.names:
        known, stored = chosen.models.get(name), pool.specs.get(name)
        if not (isinstance(known, ModelSpec) and isinstance(stored, ModelSpec)):
            continue
        then, now = known.fingerprint, stored.fingerprint
        if then and now and then != now and known.run_key == stored.run_key:
            raise MisalignedError(
                f"{command}: model {name!r} is another in {store} than in {path}: fingerprint "
                f"{now}, not {then}. Name a store of the cascade's models, or search again"
            )


def certifiable_split(
    command: str,
    path: str,
    given: Cascade,
    store: str,
    split: str | None,
    run: Runs[Any] | None = None,
    **is_given: bool,
) -> Pool:
    """Return a split of the models of a cascade, or refuse what certificates lack.

    ``run`` and the options after it are those of :func:`~committee.cli.stores.open_counted`.
    """
    pool = open_counted(store, split or _unseen_split(given, store), "val", run, **is_given)
    if not pool.keeps_outputs:
        raise CascadeError(f"{command}: not for semantic segmentation, which counts no samples")
    refuse_tiles(command, pool)
    if what_is(path) == "cascade file":
        check_models(command, path, given, store, pool)
    own = pool.samples
    seen = chosen_by(given, pool) or note_on_chooser(root_of(store), given.origin, own)
    if seen:
        others = [each.samples.split for each in other_splits(root_of(store), own.split)]
        remedy = (
            f"Name another split of samples like the new ones with --split: {listed(others)}"
            if others
            else "Predict or import another split and name it with --split"
        )
        raise MisalignedError(
            f"{command}: split {own.split!r}: {seen}. {remedy}; or let a promise choose: "
            "committee search --promise"
        )
    return pool


def _unseen_split(given: Cascade, store: str) -> str | None:
    """Return the only other split of a store whose val chose a cascade; else None."""
    if given.origin.split != "val" or not is_root(Path(store)):
        return None
    others = other_splits(Path(store), "val")
    return others[0].samples.split if len(others) == 1 else None


def unit_for(pool: Pool, unit: str | None, quiet: bool) -> str:
    """Return the unit of costs to use; a note says it if it was not named and there are others."""
    chosen = pool.costs.unit(unit)
    others = ", ".join(each for each in pool.costs.units if each != chosen)
    if unit is None and others and not quiet:
        say_notes([f"costs are in {chosen}; --unit names another: {others}"])
    return chosen


def next_words(cascade: Cascade, out: str, store: str, metric: Metric) -> list[str]:
    """Return the words of the command that comes after a cascade was written."""
    if cascade.is_loadable:
        return ["run", out, "--data", "PATH", "--out", "results.csv"]
    by = [] if metric.option in ("", TOP_1.option) else ["--metric", metric.option]
    return ["evaluate", out, store, *by]


def next_step(store: str, split: str) -> str:
    """Return the line that names the next command after a split was written to a store."""
    root = Path(store)
    if split == "cal":
        return f"Next: committee calibrate {store}"
    steps = [_missing_costs(root, split), _missing_split(root), _missing_labels(root)]
    steps += [f"committee search {store}{_unit_to_name(root)}", _few_labels(root, split)]
    return "Next: " + "; then: ".join(filter(None, steps))


def _missing_split(root: Path) -> str:
    uses = {"val": "for the split that chooses", "test": "for the split that evaluates"}
    lacking = next((name for name in uses if not (root / name).is_dir()), "")
    if not lacking:
        return ""
    # A share leaves samples for the other split; all of the data does not.
    shared = all(each.samples.rule for each in other_splits(root, lacking))
    samples = "" if shared else " on other samples"
    return f"the same{samples} with --split {lacking}, {uses[lacking]}"


def _models_of(root: Path, folder: Path) -> list[Mapping[str, Any]]:
    """Return what the index says of the models that a split has."""
    if not (root / "store.json").is_file():
        return []
    models = read_index(root / "store.json")["models"]
    return [each for name, each in models.items() if (folder / f"{name}.json").is_file()]


def _unit_to_name(root: Path) -> str:
    """Return the option that search needs to choose a unit; empty if there is a default."""
    units = [[cost["unit"] for cost in each["costs"]] for each in _models_of(root, root / "val")]
    shared = [unit for unit in units[0] if all(unit in own for own in units)] if units else []
    return f" --unit {shared[0]}" if len(shared) > 1 and "macs" not in shared else ""


def _missing_costs(root: Path, split: str) -> str:
    """Return the step that adds the costs that search needs; empty if models share a unit."""
    folder = root / ("val" if (root / "val").is_dir() else split)
    own = _models_of(root, folder)
    units = [{cost["unit"] for cost in each["costs"]} for each in own]
    if not units or set.intersection(*units):
        return ""
    if any("source" not in each for each in own):
        return (
            f"committee costs {root} TABLE.csv, or the same with --cost NAME=NUMBER for each "
            "model, because search needs costs"
        )
    tasks = [TASKS.get(each.get("task", "")) for each in own]
    data = " --data DATA" if any(task is not None and task.records for task in tasks) else ""
    return (
        f"committee profile POOL.toml{data} --store {root}, or the same with costs.macs = NUMBER "
        "for each model in the pool file, because search needs costs"
    )


def _missing_labels(root: Path) -> str:
    """Return the step that labels the validation split; empty if it has labels or is missing."""
    known = known_split(root / "val", ()) if (root / "store.json").is_file() else None
    if known is None or known.samples.labels is not None:
        return ""
    models = read_index(root / "store.json")["models"]
    if any(each["kind"] == "outcomes" for each in models.values()):
        return ""
    return (
        f"committee relabel {root} --split val --labels FILE (or none, and search with "
        "--agree-with MODEL)"
    )


def _few_labels(root: Path, split: str) -> str:
    """Return the step that labels a third split for a certificate; empty if it needs none."""
    if split in ("val", "test") or not (root / "store.json").is_file():
        return ""
    known = known_split(root / split, ())
    if known is None or known.samples.labels is not None or not (root / "val").is_dir():
        return ""
    return (
        f"committee label CASCADE {root} --split {split} --against MODEL, which lists the few "
        f"samples of {split} whose labels certify a cascade"
    )
