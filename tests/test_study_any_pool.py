"""The study of any pool: ties, free models, one sample, every kind of outputs."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from committee import Pool
from committee.pool.intervals import Estimate
from committee.study.analyses import run_study
from committee.study.context import Reference, study_of
from committee.study.write import _figure_of, _index_markdown, study_json
from strategies import pools, random_pool

REFERENCES = (Reference("free", 0.5, 0.0), Reference("dear", 1.0, 9.0))


def halves(pool: Pool) -> tuple[Pool, Pool]:
    """Two splits of one pool, the first of one sample or more."""
    middle = (len(pool) + 1) // 2
    return pool.rows(slice(0, middle), "val"), pool.rows(slice(middle, None), "test")


# Small ones full of ties, and real-valued ones on whose fronts cascades stand.
SOME = st.one_of(
    pools(max_models=4, max_samples=12).filter(lambda pool: len(pool) > 1),
    st.builds(random_pool, st.integers(0, 99), models=st.integers(2, 4), samples=st.just(60)),
)


@given(SOME, st.booleans())
@settings(max_examples=6, deadline=None)
def test_every_analysis_has_figures_or_a_reason(pool, draw):
    val, test = halves(pool)
    study = study_of(val, test, references=REFERENCES)
    findings = run_study(study)
    for finding in findings:
        assert bool(finding.tables) != bool(finding.left_out)
        assert bool(finding.sentences) != bool(finding.left_out)
        for table in finding.tables:
            table.csv()
            for cell in (cell for row in table.rows for cell in row):
                if isinstance(cell, Estimate):
                    assert cell.low <= cell.value <= cell.high
                    assert cell.samples == len(test)
        if draw:
            _figure_of(study, finding)
    assert "nan" not in _index_markdown(study, findings)
    json.dumps(study_json(study, findings), allow_nan=False)
