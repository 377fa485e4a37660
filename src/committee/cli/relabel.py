"""``committee relabel``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from committee.cli import options as opt
from committee.cli.output import print_json, say, say_notes
from committee.store.relabel import relabel as change


def relabel(
    store: opt.StoreFolder,
    split: Annotated[str, typer.Option(help="The split that the labels are for.")],
    labels: Annotated[
        str,
        typer.Option(
            metavar="FILE|DATA",
            help="A csv of id (or path) and label; an npz of labels and ids; an npy in the order "
            "of the samples; or data with labels, as for --data.",
        ),
    ],
    as_json: opt.AsJson = False,
) -> None:
    """Add the labels of a split or correct them, without computing outputs again.

    Labels are matched by id; files that were sorted into other folders, by content. A label is the
    name of a class or its index.

    Example: committee relabel predictions --split val --labels labels.csv
    """
    done = change(store, split, labels)
    if as_json:
        print_json({**asdict(done), "folder": str(done.folder)})
        return
    say_notes(done.notes)
    what = f"{done.added:,} labels added" if done.added else f"{done.changed:,} labels changed"
    say(f"{what} of {done.samples:,} samples in {done.folder}")
    if done.changed:
        say(f"Search again for what the old labels chose: committee search {store}")
