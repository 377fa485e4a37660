"""Logs of answers: long tables in any order and form, missing answers, costs of each sample."""

import json
import random

import numpy as np
import pytest

import committee as cm
from committee.errors import CommitteeError
from committee.pool.pool import Pool
from committee.store.import_predictions import import_predictions

SAMPLES = 60


def log(seed=0, samples=SAMPLES):
    """Return the rows of a log: question, model, grade, confidence, dollars."""
    rng = np.random.default_rng(seed)
    rows = []
    for name, price, skill in (("small", 0.001, 0.6), ("large", 0.02, 0.9)):
        for i in range(samples):
            sure = round(float(rng.random()), 3)
            value = int(rng.random() < skill * (0.5 + sure / 2))
            cost = round(price * float(rng.integers(50, 500)), 6)
            rows.append(
                {"sample": f"q{i}", "model": name, "value": value, "confidence": sure,
                 "dollars": cost}
            )  # fmt: skip
    return rows


def write(path, rows):
    keys = list(rows[0])
    if path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(row) for row in rows))
    elif path.suffix == ".csv":
        lines = [",".join("" if row[k] is None else str(row[k]) for k in keys) for row in rows]
        path.write_text("\n".join([",".join(keys), *lines]))
    else:
        pa = pytest.importorskip("pyarrow")
        import pyarrow.parquet

        pyarrow.parquet.write_table(pa.table({k: [row[k] for row in rows] for k in keys}), path)
    return path


def imported(tmp_path, files, kind="outcomes", split="val", **options):
    return import_predictions(files, tmp_path / "store", kind=kind, split=split, **options)


def arrays(pool):
    """Return ids, values, confidences and costs of a pool, samples in order of ids."""
    order = np.argsort(pool.samples.ids)
    costs = pool.sample_costs("dollars")
    return (
        [pool.samples.ids[i] for i in order],
        {n: o.values[order].tolist() for n, o in pool.outputs.items()},
        {n: o.confidence[order].tolist() for n, o in pool.outputs.items()},
        {n: costs[n][order].tolist() for n in pool.names},
    )


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_rows_in_any_order_and_form_are_the_same_pool(tmp_path, ending):
    rows = log()
    files = {
        name: write(tmp_path / f"{name}.csv", [r for r in rows if r["model"] == name])
        for name in ("small", "large")
    }
    # One file a model, without its name.
    for file in files.values():
        file.write_text("\n".join(",".join([*row.split(",")[:1], *row.split(",")[2:]])
                                  for row in file.read_text().split("\n")))  # fmt: skip
    apart = imported(tmp_path / "apart", files)
    random.Random(1).shuffle(rows)
    long = write(tmp_path / f"log.{ending}", rows)
    pool = imported(tmp_path / "long", {"log": long})
    assert sorted(pool.names) == ["large", "small"]
    assert arrays(pool)[1:] == arrays(apart)[1:]
    again = Pool.load(tmp_path / "long" / "store")
    assert arrays(again) == arrays(pool)
    front = cm.search(again)
    each = {name: np.array(own) for name, own in arrays(again)[3].items()}
    assert front[-1].evaluation.average_cost <= sum(own.mean() for own in each.values())
    alone = cm.evaluate(cm.Cascade.of(["large"], combine="last"), again)
    assert alone.average_cost == pytest.approx(each["large"].mean())
    assert alone.worst_case_cost == each["large"].max()


def test_a_long_table_of_decisions(tmp_path):
    rows = [
        {"id": f"q{i}", "model": name, "answer": ("yes", "no")[(i + k) % 2], "confidence": 0.5,
         "label": "yes"}
        for i in range(40) for k, name in enumerate(("a", "b"))
    ]  # fmt: skip
    random.Random(0).shuffle(rows)
    table = write(tmp_path / "log.csv", rows)
    pool = imported(tmp_path, {"log": table}, "decisions", classes=("yes", "no"))
    order = np.argsort([int(name[1:]) for name in pool.samples.ids])
    assert pool.outputs["a"].values[order].tolist() == [0, 1] * 20
    assert pool.outputs["b"].values[order].tolist() == [1, 0] * 20
    assert (pool.samples.labels == 0).all()


def test_missing_answers_have_the_meaning_that_is_asked_for(tmp_path):
    rows = [r for r in log() if (r["sample"], r["model"]) not in {("q3", "small"), ("q7", "small")}]
    # A call that failed, and cost something.
    failed = next(r for r in rows if (r["sample"], r["model"]) == ("q5", "small"))
    failed |= {"value": None, "confidence": None, "dollars": 0.123}
    known = [r for r in rows if r["model"] == "small" and r is not failed]
    table = write(tmp_path / "log.csv", rows)
    with pytest.raises(CommitteeError, match=r"q5.*--missing"):
        imported(tmp_path, {"log": table})
    write(table, [r for r in rows if r is not failed])
    with pytest.raises(CommitteeError, match=r"small lacks 3 answers: .*q3.*--missing wrong"):
        imported(tmp_path, {"log": table})
    write(table, rows)
    for missing, sure in (("pass", -np.inf), ("wrong", max(r["confidence"] for r in known))):
        pool = imported(tmp_path / missing, {"log": table}, missing=missing)
        row = {name: i for i, name in enumerate(pool.samples.ids)}
        own, costs = pool.outputs["small"], pool.sample_costs("dollars")["small"]
        for name in ("q3", "q5", "q7"):
            assert own.values[row[name]] == 0
            assert own.confidence[row[name]] == sure
        assert costs[row["q5"]] == 0.123
        mean = np.mean([r["dollars"] for r in rows if r["model"] == "small"])
        assert costs[row["q3"]] == pytest.approx(mean)
        cm.search(pool)


@pytest.mark.parametrize(
    ("change", "options", "word"),
    [
        ({"dollars": None}, {}, "'dollars' is"),
        ({"dollars": -1}, {}, "'dollars' is -1.0; a cost is a number from 0"),
        ({"dollars": None}, {"missing": "pass"}, "'dollars' is"),
        ({"value": 2}, {}, "'q1' has the value 2; values are 0 or 1"),
        ({"value": 2}, {"bounds": (0, 1)}, "from 0 to 1"),
        ({"value": "good"}, {}, "'good', no number"),
        ({"confidence": "high"}, {"missing": "pass"}, "'high', no number"),
        ({"model": ""}, {}, "line 3 names no model"),
        ({"sample": "q0"}, {}, "'q0' stands twice, in line 2 and line 3"),
        ({"sample": ""}, {}, "line 3 has no id"),
        ({}, {"missing": "guess"}, "meaning"),
        ({}, {"missing": "pass", "kind": "decisions"}, "is for outcomes"),
        ({}, {"columns": {"value": "grade"}}, "grade"),
        ({}, {"costs": {"medium": 1.0}}, "medium"),
    ],
)  # fmt: skip
def test_bad_tables_get_one_line(tmp_path, change, options, word):
    rows = log()
    rows[1] |= change
    table = write(tmp_path / "log.csv", rows)
    with pytest.raises(CommitteeError, match=word) as found:
        imported(tmp_path, {"log": table}, **options)
    assert "\n" not in str(found.value)
    assert not (tmp_path / "store").exists()


def test_two_splits_have_costs_of_their_own(tmp_path):
    imported(tmp_path, {"log": write(tmp_path / "val.csv", log())})
    other = [{**r, "sample": f"t{r['sample']}", "dollars": r["dollars"] * 2} for r in log(1)]
    imported(tmp_path, {"log": write(tmp_path / "test.csv", other)}, split="test")
    val, test = (Pool.load(tmp_path / "store" / split) for split in ("val", "test"))
    assert test.costs.values("dollars")["large"] > 1.5 * val.costs.values("dollars")["large"]
    front = cm.search(val, test=test)
    for each in front:
        assert each.test == cm.evaluate(each.cascade, test)
    # Nothing tells what the samples of a split without the column cost.
    bare = [{k: v for k, v in r.items() if k != "dollars"} | {"sample": f"n{i}"}
            for i, r in enumerate(log(2)) if r["model"] == "small"]  # fmt: skip
    with pytest.raises(CommitteeError, match="costs by sample in dollars elsewhere"):
        imported(tmp_path, {"log": write(tmp_path / "new.csv", bare)}, split="new")
    imported(tmp_path, {"log": tmp_path / "new.csv"}, split="new", costs={"small": 1},
             unit="dollars")  # fmt: skip
    assert Pool.load(tmp_path / "store" / "new").costs.values("dollars") == {"small": 1}
    assert arrays(Pool.load(tmp_path / "store" / "val"))[3] == arrays(val)[3]


def test_an_altered_file_of_costs_is_noticed(tmp_path):
    imported(tmp_path, {"log": write(tmp_path / "log.csv", log())})
    path = tmp_path / "store" / "val" / "costs" / "small.json"
    data = path.read_bytes()
    path.write_bytes(data.replace(b"3f", b"4f", 1))
    with pytest.raises(CommitteeError, match="altered"):
        Pool.load(tmp_path / "store")
    path.unlink()
    with pytest.raises(CommitteeError, match="costs by sample"):
        Pool.load(tmp_path / "store")
    imported(tmp_path, {"log": tmp_path / "log.csv"})
    assert path.read_bytes() == data
