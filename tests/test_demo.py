"""The demo keeps its word, and the embedded pool is what the documents say it is."""

import csv
import json
import re
import shlex
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import committee as cm
from committee.cli import demo as demo_command
from committee.cli import main
from committee.embedded import FOLDER, embedded_images, pool_file

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Everything the demo printed as JSON, where it left its files, and its processor time."""
    out = tmp_path_factory.mktemp("demo")
    printed = out / "printed.json"

    def run(cascade, test, quiet, whole=demo_command._run):
        return whole(cascade, test.rows(slice(1000), "test"), quiet)

    started = time.process_time()
    with printed.open("w") as file, pytest.MonkeyPatch.context() as patch:
        # Fewer images are run than by a user; all are predicted.
        patch.setattr(demo_command, "_run", run)
        patch.setattr(demo_command, "ONLINE", 200)
        stdout, sys.stdout = sys.stdout, file
        try:
            assert main(["demo", "--out", str(out), "--json"]) == 0
        finally:
            sys.stdout = stdout
    return json.loads(printed.read_text()), out, time.process_time() - started


def by_role(printed):
    roles = {row["role"]: row for row in printed["rows"] if row["role"] != "single model"}
    singles = [row for row in printed["rows"] if row["role"] == "single model"]
    return singles, roles


def test_pool_rises_in_cost_and_accuracy(demo):
    singles, _ = by_role(demo[0])
    costs = [row["val"]["worst_case_cost"] for row in singles]
    right = [row["val"]["correct"] + row["test"]["correct"] for row in singles]
    assert len(singles) >= 5
    assert costs == sorted(costs)
    assert right == sorted(right)
    assert 80 <= costs[-1] / costs[0] <= 120
    assert 0.87 <= right[0] / 10_000 <= 0.90
    assert right[-1] / 10_000 >= 0.935


def test_models_fit_in_five_megabytes():
    assert sum(path.stat().st_size for path in FOLDER.glob("*.onnx")) <= 5e6


def test_costs_are_those_of_the_networks():
    torch = pytest.importorskip("torch", reason="torch counts the multiply-adds")
    from committee.profile.macs import torch_macs

    sys.path.insert(0, str(ROOT / "examples" / "fashion_mnist"))
    try:
        from network import SIZES, Network
    finally:
        sys.path.pop(0)
    for spec in pool_file().models:
        network: torch.nn.Module = Network(SIZES[spec.name]).eval()
        assert spec.costs[0].value == torch_macs(network, (1, 1, 28, 28))


def test_val_and_test_are_halves_without_a_common_sample():
    val, test = (set(embedded_images(split).samples.ids) for split in ("val", "test"))
    assert len(val) == len(test) == 5000
    assert not val & test


def test_rows_answer_the_questions_of_the_demo(demo):
    singles, roles = by_role(demo[0])
    largest = singles[-1]
    matching = roles["matches large"]
    assert matching["val"]["accuracy"] >= largest["val"]["accuracy"]
    assert matching["val"]["average_cost"] <= largest["val"]["average_cost"]
    best = roles["most accurate for large's cost"]
    assert best["val"]["average_cost"] <= largest["val"]["average_cost"]
    assert best["val"]["accuracy"] >= matching["val"]["accuracy"]
    assert roles["ensemble of all"]["val"]["average_cost"] == sum(
        row["val"]["average_cost"] for row in singles
    )


def test_figures_are_those_of_evaluate_on_the_store(demo):
    printed, out, _ = demo
    for row in printed["rows"]:
        cascade = cm.Cascade.from_json(row["cascade"])
        for split in ("val", "test"):
            pool = cm.Pool.load(out / "predictions" / split)
            evaluation = cm.evaluate(cascade, pool)
            assert row[split]["correct"] == evaluation.correct
            assert row[split]["average_cost"] == evaluation.average_cost
            assert row[split]["exit_ratios"] == list(evaluation.exit_ratios)


def test_running_decides_what_evaluation_promised(demo):
    for way, samples in zip(demo[0]["running"], (1000, 200), strict=True):
        agreement = way["agreement"]
        assert agreement["samples"] == samples
        # Rounding differs with the batch size; a sample may sit that close to a threshold.
        assert agreement["same_class"] >= samples - 2
        assert agreement["same_stage"] >= samples - 2
        assert agreement["largest_difference"] < 1e-4
        assert way["cascade_ms"] > 0


def test_files_are_there_and_readable(demo):
    _, out, _ = demo
    cascade = cm.Cascade.load(out / "cascade.json")
    assert cascade.origin.split == "val"
    with (out / "front.csv").open() as file:
        assert len(list(csv.DictReader(file))) >= 10
    assert (out / "front.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (out / "front.svg").read_text()
    page = (out / "report.html").read_text()
    assert "<svg" in page
    assert 'src="http' not in page
    logits = np.load(out / "predictions" / "test" / "large.npy")
    assert logits.shape == (5000, 10)


def test_its_certified_choice_fits_one_screen(demo, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    words = "--match large --within 0.005 --promise 0.95 --out c.json"
    assert main(["search", str(demo[1] / "predictions"), *words.split()]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) < 24, "\n".join(shown)  # one line is the prompt's
    assert not any(line.startswith("          ") for line in shown)  # no value was broken


def test_takes_less_than_a_minute(demo):
    # Seconds of the processor, which are more than those of the clock where nothing else runs; the
    # 4,800 images that were not run take less than ten.
    assert demo[2] < 50


def test_runner_opens_the_cascade_it_left(demo):
    _, out, _ = demo
    run = cm.Runner(out / "cascade.json")
    dataset = embedded_images("test")
    decision = run(dataset.read(np.arange(1))[0])
    assert decision.class_name == run.cascade.classes[decision.class_index]
    costs = [run.cascade.models[name].costs[0].value for name in run.cascade.names]
    assert costs[0] <= decision.cost <= sum(costs)


def test_few_labels_certify_as_the_page_shows(demo, tmp_path, monkeypatch, capsys):
    page = (ROOT / "docs" / "promises.md").read_text(encoding="utf-8")
    section = page.split("## Labels only where they matter")[1].split("The list holds")[0]
    (tmp_path / "demo-out").symlink_to(demo[1])
    monkeypatch.chdir(tmp_path)
    parts = re.findall(r"^```py\n(.*?)```|^    (committee .*?[^\\])$", section, re.M | re.S)
    assert len(parts) == 4
    for code, command in parts:
        if code:
            exec(compile(code, "promises.md", "exec"), {})  # the snippet is ours
        else:
            assert main(shlex.split(command.replace("\\\n", " "))[1:]) == 0
    printed = capsys.readouterr().out
    assert "cascade and `large` disagree on 149 of the 5,000" in " ".join(section.split())
    assert "disagree on 149 of 5,000" in printed
    certificate = cm.Certificate.of("mine.json")
    assert f"{-100 * certificate.lower_bound:.2f} points less accurate" in section
    assert "6.58× cheaper" in certificate.text


def test_the_first_page_shows_what_its_lines_print(demo, tmp_path, monkeypatch, capsys):
    page = (ROOT / "docs/index.md").read_text(encoding="utf-8")
    lines, shown = re.search(r"```python\n(.*?)```\n\n```text\n(.*?)```", page, re.S).groups()
    assert sum(1 for line in lines.splitlines() if line) == 12
    monkeypatch.chdir(tmp_path)
    (tmp_path / "predictions").symlink_to(demo[1] / "predictions")
    exec(compile(lines, "index.md", "exec"), {})  # the page is ours
    assert capsys.readouterr().out == shown


def test_the_exits_of_the_first_stage_are_as_the_method_page_says(demo):
    test = cm.Pool.load(demo[1] / "predictions/test")
    cascade = cm.Cascade.load(demo[1] / "cascade.json")
    outputs = test.model("micro").values
    sure = np.exp(outputs - outputs.max(1, keepdims=True))
    sure = sure.max(1) / sure.sum(1) >= cascade.stages[0].threshold
    page = (ROOT / "docs/method.md").read_text(encoding="utf-8")
    accuracies = [
        (test.model(name).values.argmax(1) == test.samples.labels)[sure].mean()
        for name in ("micro", "large")
    ]
    for figure in (f"{100 * sure.mean():.0f} %", *(f"{100 * each:.1f} %" for each in accuracies)):
        assert figure in page
