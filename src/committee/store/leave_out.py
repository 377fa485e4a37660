"""Take samples out of a split after models failed on them, without losing what was computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from committee.data.base import BrokenSamplesError
from committee.pool.samples import Broken
from committee.store.entry import finished_models, read_manifest
from committee.store.folder import Store
from committee.store.sample_costs import keep_costs
from committee.store.split import Split
from committee.store.writer import Writer


def leave_out(
    store: Store, split: Split, failed: Mapping[int, str], writers: Mapping[str, Writer]
) -> Split:
    """Take samples out of a split, and their rows out of all outputs; return what is left.

    They are recorded as broken, but without their content, so that a later run tries them again.

    Args:
        store: The store.
        split: Its samples.
        failed: Why a model failed, by number of the sample.
        writers: Writers of models that lack nothing but outputs on these samples, by name.

    Raises:
        BrokenSamplesError: If no sample is left.
    """
    samples, folder = split.samples, store.root / split.samples.split
    broken = [Broken(samples.ids[row], reason, "") for row, reason in sorted(failed.items())]
    kept = np.array([row for row in range(len(samples)) if row not in failed], np.int64)
    if not len(kept):
        raise BrokenSamplesError([(each.id, each.reason) for each in broken], len(samples))
    fewer = replace(samples.taken(kept), broken=(*samples.broken, *broken))
    for name in sorted(finished_models(folder)):
        entry = read_manifest(folder / f"{name}.json").entry
        if name not in writers and entry.samples == samples.ids_fingerprint:
            Writer(folder, name, entry, samples).keep(kept, fewer)
    for writer in writers.values():
        writer.keep(kept, fewer)
    keep_costs(folder, samples, fewer, kept)
    left = replace(split, samples=fewer)
    store.add_samples(left, fewer=True)
    return left
