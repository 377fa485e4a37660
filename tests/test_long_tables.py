"""Logs of answers: long tables in any order and form, missing answers, costs of each sample."""

import datetime
import json
import random

import numpy as np
import pytest

import committee as cm
from committee.cli import main
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
        ({"confidence": float("inf")}, {}, r"line 3 .*q1.*'confidence' is infinite"),
        ({"confidence": float("inf")}, {"missing": "pass"}, r"line 3 .*'confidence' is infinite"),
        ({}, {"columns": {"model": "engine"}}, "no column 'engine'"),
        ({}, {"columns": {"ignore": "model"}}, "'q0' stands twice"),
        ({"model": "org/x"}, {}, r"log\.csv \(org/x\): model name 'org/x'.*Rename it"),
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


def test_missing_answers_are_counted_in_a_note(tmp_path):
    rows = [r for r in log() if (r["sample"], r["model"]) != ("q3", "small")]
    next(r for r in rows if r["sample"] == "q5")["value"] = None
    table, notes = write(tmp_path / "log.jsonl", rows), []
    imported(tmp_path, {"log": table}, missing="pass", note=notes.append)
    line = "small gave no answer to 2 of 60 samples, 'q5', 'q3': a cascade goes on to the next"
    assert [note.startswith(line) for note in notes].count(True) == 1


def test_models_without_a_sample_in_common_are_refused(tmp_path):
    rows = log()
    for row in rows:
        row["sample"] += " " * (row["model"] == "small")
    table = write(tmp_path / "log.csv", rows)
    with pytest.raises(CommitteeError, match=r"small answered none of the samples .*'q0 '.*'q0'"):
        imported(tmp_path, {"log": table}, missing="pass")


def test_a_long_table_without_ids_does_not_say_which_rows_are_one_sample(tmp_path):
    rows = [{k: v for k, v in row.items() if k != "sample"} for row in log()]
    table = write(tmp_path / "log.csv", rows)
    with pytest.raises(CommitteeError, match="no ids say which rows of two models are of one"):
        imported(tmp_path, {"log": table})


def test_a_decision_that_lacks_has_no_meaning_to_ask_for(tmp_path):
    rows = [{"id": f"q{i}", "model": m, "answer": 0, "confidence": 0.5, "label": 0}
            for i in range(9) for m in "ab"]  # fmt: skip
    with pytest.raises(CommitteeError, match=r"b lacks 1 answer: 'q8'\. Leave .* all models$"):
        imported(tmp_path, {"log": write(tmp_path / "log.csv", rows[:-1])}, "decisions")


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_models_may_be_numbers_and_grades_true_or_false(tmp_path, ending):
    rows = log()
    for row in rows:
        row["model"] = ("small", "large").index(row["model"])
        row["value"] = bool(row["value"])
    pool = imported(tmp_path, {"log": write(tmp_path / f"log.{ending}", rows)})
    assert pool.names == ["0", "1"]
    assert pool.outputs["1"].values.tolist() == [float(row["value"]) for row in rows[SAMPLES:]]


def test_the_users_column_of_models_is_taken_and_no_other(tmp_path):
    rows = [row | {"engine": row["model"], "model": "v2"} for row in log()]
    options = {"columns": {"model": "engine", "ignore": "model"}}
    pool = imported(tmp_path, {"log": write(tmp_path / "log.csv", rows)}, **options)
    assert pool.names == ["small", "large"]


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ('{"sample": "q', "line 121: no valid JSON"),
        ('{"sample": NaN}', "line 121: no valid JSON"),
        ("[1, 2]", "line 121 is no object"),
        ('{"sample": "q0", "sample ": "q1"}', "line 121: .* hold one name twice"),
        ('{"sample": "q0", "model": null}', "line 121 names no model"),
        ('{"sample": null, "model": "small"}', "line 121 has no id"),
    ],
)
def test_a_broken_line_of_a_log_is_named(tmp_path, line, word):
    table = write(tmp_path / "log.jsonl", log())
    table.write_text(f"{table.read_text()}\n{line}\n")
    with pytest.raises(CommitteeError, match=word) as found:
        imported(tmp_path, {"log": table}, missing="pass")
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("digits", [17, 30])
def test_ids_that_are_long_numbers_are_kept_apart(tmp_path, digits):
    rows = log()
    for row in rows:
        row["sample"] = 10**digits + int(row["sample"][1:])
    pool = imported(tmp_path, {"log": write(tmp_path / "log.jsonl", rows)})
    assert sorted(map(int, pool.samples.ids)) == [10**digits + i for i in range(SAMPLES)]


def test_cells_of_parquet_that_are_null_or_no_plain_number(tmp_path):
    rows = log()
    rows[1]["model"] = None
    with pytest.raises(CommitteeError, match=r"row 1 \(from 0\) names no model"):
        imported(tmp_path, {"log": write(tmp_path / "log.parquet", rows)})
    rows = [row | {"seconds": datetime.timedelta(seconds=row["dollars"])} for row in log()]
    with pytest.raises(CommitteeError, match="'seconds' holds timedelta64"):
        imported(tmp_path, {"log": write(tmp_path / "log.parquet", rows)})


@pytest.mark.parametrize(
    ("content", "word"),
    [("", "is empty"), (None, "is a folder"), ("sample,model,value,confidence", "holds no row")],
)
def test_what_holds_no_row_is_said_so(tmp_path, content, word):
    for ending in ("csv", "jsonl") if not content else ("csv",):
        path = tmp_path / f"log.{ending}"
        path.mkdir() if content is None else path.write_text(content)
        with pytest.raises(CommitteeError, match=word):
            imported(tmp_path, {"log": path})


def test_a_table_of_costs_is_matched_with_the_models_of_a_log(tmp_path, capsys):
    table = write(tmp_path / "log.csv", log())
    (tmp_path / "ms.csv").write_text("model,ms\nsmall,1\nlarge,20\n")
    words = ["import", str(table), "--kind", "outcomes", "--split", "val", "--out"]
    assert main([*words, str(tmp_path / "s"), "--costs", str(tmp_path / "ms.csv")]) == 0
    pool = Pool.load(tmp_path / "s")
    assert pool.costs.values("ms") == {"small": 1, "large": 20}
    assert pool.sample_costs("dollars")["small"].shape == (SAMPLES,)
    (tmp_path / "usd.csv").write_text("model,dollars\nsmall,1\nlarge,20\n")
    assert main([*words, str(tmp_path / "t"), "--costs", str(tmp_path / "usd.csv")]) == 2
    assert "column 'dollars' has the mean" in capsys.readouterr().err
    assert not (tmp_path / "t").exists()


def test_one_number_does_not_hide_behind_costs_by_sample(tmp_path, capsys):
    notes = []
    imported(tmp_path, {"log": write(tmp_path / "val.csv", log())})
    other = [{**r, "sample": f"t{r['sample']}", "dollars": r["dollars"] * 2} for r in log(1)]
    imported(tmp_path, {"log": write(tmp_path / "t.csv", other)}, split="test", note=notes.append)
    assert not any("now costs" in note for note in notes)  # each split keeps its own
    store, table = tmp_path / "store", tmp_path / "new.csv"
    table.write_text("model,dollars\nsmall,1\n")
    before = [each.evaluation for each in cm.search(Pool.load(store))]
    assert main(["costs", str(store), str(table)]) == 2
    assert "each sample of 'test', 'val' has a cost of its own" in capsys.readouterr().err
    assert [each.evaluation for each in cm.search(Pool.load(store))] == before


@pytest.mark.parametrize("change", ["more samples", "another kind", "other bounds"])
def test_an_import_that_does_not_fit_leaves_the_store_as_it_was(tmp_path, change):
    imported(tmp_path, {"log": write(tmp_path / "log.csv", log())})
    store = tmp_path / "store"
    before = {path: path.read_bytes() for path in store.rglob("*") if path.is_file()}
    rows, options = log(samples=SAMPLES + (change == "more samples")), {}
    if change != "more samples":
        rows = [row | {"model": "new"} for row in rows if row["model"] == "small"]
    if change == "another kind":
        rows = [{"class" if k == "value" else k: v for k, v in row.items()} for row in rows]
        options["kind"] = "decisions"
    if change == "other bounds":
        options["bounds"] = (0, 5)
    with pytest.raises(CommitteeError):
        imported(tmp_path, {"log": write(tmp_path / "new.csv", rows)}, **options)
    assert before == {path: path.read_bytes() for path in store.rglob("*") if path.is_file()}


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
    new = imported(tmp_path, {"log": write(tmp_path / "new.csv", bare)}, split="new")
    with pytest.raises(CommitteeError, match=r"'dollars' for small.*by sample.*its own split"):
        new.costs.values("dollars")
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
    assert Pool.load(tmp_path / "store").costs.units == []
    imported(tmp_path, {"log": tmp_path / "log.csv"})
    assert path.read_bytes() == data


def files_of(store):
    return {path: path.read_bytes() for path in store.rglob("*") if path.is_file()}


@pytest.mark.parametrize("change", ["share", "values", "split", "model"])
def test_a_refused_import_changes_nothing(tmp_path, change):
    rows = [{**r, "cost": r["dollars"]} for r in log()]
    rows = [{k: v for k, v in r.items() if k != "dollars"} for r in rows]
    table = write(tmp_path / "log.csv", rows)
    imported(tmp_path, {"log": table}, unit="tokens")
    before = files_of(tmp_path / "store")
    options = {"unit": "dollars", "split": "val"}
    if change == "share":
        options["fraction"] = "0.5"
    elif change == "values":
        write(table, [{**r, "value": 1 - r["value"]} for r in rows])
    elif change == "split":
        options["split"] = "test"
    else:
        options["bounds"] = (0, 1)
    with pytest.raises(CommitteeError):
        imported(tmp_path, {"log": table}, **options)
    assert files_of(tmp_path / "store") == before
    assert not (tmp_path / "store" / "test").exists()
    assert cm.search(Pool.load(tmp_path / "store")).settings.unit == "tokens"


def test_costs_of_one_split_in_a_second_unit_leave_the_other_as_it_was(tmp_path):
    imported(tmp_path, {"log": write(tmp_path / "val.csv", log())})
    other = [{**r, "sample": f"t{r['sample']}", "tokens": 5 + i} for i, r in enumerate(log(1))]
    imported(tmp_path, {"log": write(tmp_path / "test.csv", other)}, split="test")
    val, test = (Pool.load(tmp_path / "store" / split) for split in ("val", "test"))
    assert (val.costs.units, test.costs.units) == (["dollars"], ["dollars", "tokens"])
    assert cm.search(val, test=test).settings.unit == "dollars"


def test_a_cost_of_outcomes_has_no_default_unit(tmp_path):
    rows = [{"cost" if k == "dollars" else k: v for k, v in r.items()} for r in log()]
    table = write(tmp_path / "log.csv", rows)
    with pytest.raises(CommitteeError, match=r"'cost' is a cost without a unit.*--unit"):
        imported(tmp_path, {"log": table})
    with pytest.raises(CommitteeError, match=r"--cost small=1 has no unit.*--unit"):
        imported(tmp_path, {"log": table}, columns={"ignore": "cost"}, costs={"small": 1})
    assert not (tmp_path / "store").exists()
    assert imported(tmp_path, {"log": table}, unit="dollars").costs.units == ["dollars"]


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("word", ["N/A", "null", "None", "nan", ""])
def test_missing_values_as_programs_write_them(tmp_path, ending, word):
    rows = log()
    plain = write(tmp_path / "plain.csv", [dict(r) for r in rows])
    plain.write_text(plain.read_text().replace("\nq7,small,", "\nq7,small,GONE", 1))
    text = plain.read_text().split("\n")
    at = next(i for i, line in enumerate(text) if "GONE" in line)
    text[at] = ",".join(["q7", "small", "", *text[at].split(",")[3:]])
    plain.write_text("\n".join(text))
    wanted = arrays(imported(tmp_path / "plain", {"log": plain}, missing="pass"))
    for row in rows:
        row["value"] = bool(row["value"]) if ending != "parquet" else str(bool(row["value"]))
        if (row["sample"], row["model"]) == ("q7", "small"):
            row["value"] = word
    table = write(tmp_path / f"log.{ending}", rows if ending == "csv" else
                  [{**r, "value": str(r["value"])} for r in rows])  # fmt: skip
    assert arrays(imported(tmp_path, {"log": table}, missing="pass")) == wanted
    with pytest.raises(CommitteeError, match="--missing pass"):
        imported(tmp_path / "refused", {"log": table})


def test_amounts_in_dollars_are_numbers(tmp_path):
    plain = imported(tmp_path / "plain", {"log": write(tmp_path / "plain.csv", log())})
    rows = [{**r, "dollars": f"${r['dollars']:.6f}"} for r in log()]
    signed = imported(tmp_path, {"log": write(tmp_path / "log.csv", rows)})
    assert arrays(signed) == arrays(plain)


def test_a_grade_that_is_no_number_is_not_to_be_ignored(tmp_path):
    rows = log()
    rows[3]["value"] = "good"
    with pytest.raises(CommitteeError, match="'good', no number") as found:
        imported(tmp_path, {"log": write(tmp_path / "log.csv", rows)})
    assert "ignore" not in str(found.value)


def test_the_remedy_for_other_columns_can_be_copied(tmp_path):
    extra = {"timestamp": "12:00", "tenant": "t", "my note": "x", "region": "eu", "zone": "a"}
    rows = [{**extra, "timestamp": i, "session_id": f"s{i % 7}",
             **{"qid" if k == "sample" else k: v for k, v in r.items()}}
            for i, r in enumerate(log())]  # fmt: skip
    table = write(tmp_path / "log.csv", rows)
    with pytest.raises(CommitteeError) as found:
        imported(tmp_path, {"log": table})
    assert "--columns id=qid" in str(found.value)
    assert "'ignore=timestamp,tenant,my note,region,zone,session_id,qid'" in str(found.value)
    names = "timestamp,tenant,my note,region,zone,session_id"
    pool = imported(tmp_path, {"log": table}, columns={"id": "qid", "ignore": names})
    assert len(pool) == SAMPLES
    with pytest.raises(CommitteeError, match="no column 'nothing'"):
        imported(tmp_path, {"log": table}, columns={"ignore": "qid,nothing"})


def test_a_column_that_differs_in_one_split_only_leaves_the_other_its_number(tmp_path):
    same = [row | {"dollars": 0.5} if row["model"] == "small" else row for row in log()]
    imported(tmp_path, {"log": write(tmp_path / "val.csv", same)})
    other = [{**row, "sample": f"t{row['sample']}"} for row in log(1)]
    imported(tmp_path, {"log": write(tmp_path / "test.csv", other)}, split="test")
    val, test = (Pool.load(tmp_path / "store" / split) for split in ("val", "test"))
    assert val.sample_costs("dollars")["small"] == 0.5
    own = [row["dollars"] for row in other if row["model"] == "small"]
    assert test.sample_costs("dollars")["small"].tolist() == own
    cm.search(val, test=test)
