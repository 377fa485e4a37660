"""``committee label``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from committee.certificates.certificate import reference_of
from committee.certificates.disagreements import disagreements
from committee.cli import options as opt
from committee.cli.certify import reference
from committee.cli.output import print_json, say_next, say_wrapped
from committee.cli.stores import certifiable_split
from committee.errors import DataError, MisalignedError
from committee.files import write_text
from committee.run.open import open_cascade
from committee.text import counted, csv_text


def label(
    cascade: opt.CascadePath,
    store: opt.Store,
    against: Annotated[
        str,
        typer.Option(
            metavar="A[,B,...]|CASCADE", help="The reference: a model, ensemble or cascade file."
        ),
    ],
    split: Annotated[
        str | None,
        typer.Option(
            help="The split without labels. Default: val; if that chose, the only other split."
        ),
    ] = None,
    out: Annotated[
        str, typer.Option(metavar="TO_LABEL.csv", help="The list to fill in.")
    ] = "to_label.csv",
    as_json: opt.AsJson = False,
) -> None:
    """List the samples whose labels decide whether a cascade keeps a promise.

    Those are the samples on which cascade and reference disagree; all others count the same for
    both. Fill in the column label from the top, and stop whenever you like: a sample without a
    label counts as lost, which never makes a promise false. Leave it empty too if nobody can tell;
    a sample for which neither answer is right gets its own class.

    Example: committee label c.json predictions --against large --split new
    """
    given = open_cascade(cascade).cascade
    pool = certifiable_split("label", cascade, given, store, split)
    if pool.samples.labels is not None:
        raise MisalignedError(
            f"label: split {pool.samples.split!r} has labels. Certify with them: "
            f"committee certify {cascade} {store} --split {pool.samples.split} --match {against}"
        )
    if Path(out).exists():
        raise DataError(f"{out}: is there already; name another file, as it may hold labels")
    other = reference_of(pool, reference(against, pool), None, "max_prob")
    found = disagreements(given, other, pool)
    header = ("id", "cascade", "reference", "label")
    write_text(Path(out), csv_text([header, *found.rows(pool.samples.classes)]))
    if as_json:
        print_json({"samples": len(pool), "disagreements": len(found), "written": out})
        return
    say_wrapped(
        f"{given} and {other} disagree on {len(found):,} of {counted(len(pool), 'sample')} of "
        f"{pool.samples.split}. Written: {out}"
    )
    say_next(
        f"Next: fill in the column label; then committee certify {cascade} {store} --split "
        f"{pool.samples.split} --match {against} --within W --labels {out}"
    )
