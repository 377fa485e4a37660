"""What a terminal shows: the choice first, on one screen; help in panels with examples that run."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from committee import Cascade, Pool
from committee.cli import COMMANDS, command, main
from committee.cli.choice import committee_table
from committee.cli.help import GROUPS, START
from committee.cli.output import joined, say_joining
from committee.embedded import FOLDER
from committee.report.rows import Report
from committee.selection.exhaustive import search

NAMES = ("nano", "micro", "tiny", "small", "medium", "large")
# Of 24 lines one is the prompt.
SCREEN = 23

Caught = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Imported outputs of six models on two splits."""
    root = tmp_path_factory.mktemp("six")
    for seed, split in enumerate(("val", "test")):
        rng = np.random.default_rng(seed)
        labels = rng.integers(0, 10, 2000)
        np.save(root / "labels.npy", labels)
        words = ["import", "--kind", "logits", "--split", split, "--out", str(root / "store")]
        words += ["--labels", str(root / "labels.npy"), "--json"]
        for k, name in enumerate(NAMES):
            outputs = (2 + 0.5 * k) * np.eye(10)[labels] + rng.normal(size=(2000, 10))
            np.save(root / f"{name}.npy", outputs)
            words += [f"{name}={root / name}.npy", "--cost", f"{name}={2.0**k * 1e6}"]
        assert main(words) == 0
    return root / "store"


@pytest.fixture
def lines(
    capsys: Caught, monkeypatch: pytest.MonkeyPatch, store: Path, tmp_path: Path
) -> Iterator[object]:
    """Runs a command in a terminal of so many columns and gives the lines that it shows."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "store").symlink_to(store)
    capsys.readouterr()

    def run(words: str, columns: int = 80) -> list[str]:
        monkeypatch.setenv("COLUMNS", str(columns))
        assert main(words.split()) == 0
        return capsys.readouterr().out.splitlines()

    return run


CALLS = (
    "search store",
    "search store --match large --within 0.01 --out c.json",
    "search store --match large --within 0.05 --promise 0.95 --out c.json",
    "search store --min-accuracy 0.8 --max-cost 90%",
)


@pytest.mark.parametrize("words", CALLS)
def test_six_models_fit_one_screen_and_the_choice_comes_first(lines, words):
    shown = lines(words)
    assert len(shown) <= SCREEN, "\n".join(shown)
    assert max(map(len, shown)) <= 80
    assert shown[0].startswith("Choice    ")
    assert [line.split()[0] for line in shown[1:3]] == ["Cost", "Accuracy"]
    table = [line for line in shown if re.match(r"[> ] \S+  +\S", line)]
    assert [line[2:].split()[0] for line in table[:6]] == [*NAMES]
    assert sum(line.startswith("> ") for line in shown) == 1
    assert any(line.startswith(("Next: ", "Written: ")) for line in shown)


def test_evaluate_and_report_fit_too(lines):
    lines("search store --match large --within 0.01 --out c.json")
    for words in ("evaluate c.json store", "report store --match large --out r.html"):
        shown = lines(words)
        assert len(shown) <= SCREEN
        assert any(line.startswith("Choice    ") for line in shown)


@pytest.mark.parametrize("columns", [40, 60])
@pytest.mark.parametrize("words", CALLS)
def test_narrow_terminals_get_fewer_columns_not_broken_ones(lines, words, columns):
    shown = lines(words, columns)
    # Commands are not broken, so that they can be copied.
    assert max(len(line) for line in shown if "committee run" not in line) <= columns
    (heading,) = (line for line in shown if line.startswith("committee ") and "test" in line)
    assert ("worst" in heading) == (columns > 60)
    row = next(line for line in shown if line.startswith("  large "))
    assert len(row.replace(" M", "").split()) == len(heading.replace(" %", "").split())


def test_the_front_has_one_line_a_committee_with_exits_and_thresholds(lines):
    shown = lines("search store --front")
    (first,) = (k for k, line in enumerate(shown) if line.startswith("committee "))
    end = next(k for k, line in enumerate(shown) if line.startswith("Top-1 in %"))
    assert shown[first].split()[-1] == "thresholds"
    assert max(map(len, shown)) <= 80
    rows = [line for line in shown[first + 1 : end] if re.match(r"[> ] \S.* \d+\.\d+ ", line)]
    assert len(rows) == end - first - 1 > 20
    staged = [line for line in rows if " -> " in line]
    assert all(re.search(r"\d/\S+  +0\.\d+", line) for line in staged)


def test_a_pipe_gets_whole_names_in_one_line_and_no_colour(store, tmp_path):
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "FORCE_COLOR")}
    words = [sys.executable, "-m", "committee", "search", str(store), "--match", "large"]
    out = subprocess.run(words, env=environment, capture_output=True, check=True).stdout.decode()
    assert "\x1b" not in out
    shown = out.splitlines()
    assert len(shown) <= SCREEN
    assert any(line.startswith("> ") and line.count(" -> ") for line in shown)


@pytest.mark.parametrize("plain", [False, True])
def test_no_color_is_obeyed_where_colour_is_forced(lines, capsys, monkeypatch, plain):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    if plain:
        monkeypatch.setenv("NO_COLOR", "1")
    assert any("\x1b[1m" in line for line in lines("search store")) == (not plain)


def test_figures_in_a_terminal_are_rounded_and_json_has_them_in_full(lines, capsys):
    shown = " ".join(" ".join(lines("search store --match large")).split())
    main(["search", "store", "--match", "large", "--json"])
    chosen = json.loads(capsys.readouterr().out)["chosen"]
    accuracy = chosen["test"]["accuracy"]
    low, high = chosen["test"]["interval"]
    assert low < accuracy < high
    assert f"Accuracy {100 * accuracy:.1f} % (" in shown
    # 2,000 samples support one digit behind the point.
    assert not re.search(r"\d\.\d\d %", shown.partition("Note")[0])


def test_names_that_are_too_long_give_way_to_what_they_stand_for():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, 400)
    names = [f"a_very_long_name_of_a_model_{k}" for k in range(2)] + ["[red]b[/red]"]
    outputs = {
        name: (1 + k) * np.eye(5)[labels] + rng.normal(size=(400, 5))
        for k, name in enumerate(names)
    }
    costs = {name: 10.0**k for k, name in enumerate(names)}
    pool = Pool.from_arrays(labels, outputs, kind="logits", costs=costs, unit="dollars")
    rows = Report(search(pool, grid=6, threads=1)).rows
    table = committee_table(rows, rows[-1], 80)
    labels_shown = [str(cell) for cell in table.columns[0].cells]
    assert any("[red]b[/red]" in each for each in labels_shown)
    assert any("matches " in each for each in labels_shown)


def test_a_bare_call_shows_where_to_begin_in_five_lines(capsys):
    assert main([]) == 0
    assert capsys.readouterr().out == START
    assert len(START.splitlines()) == 5
    assert max(map(len, START.splitlines())) <= 80
    for name in re.findall(r"committee ([a-z]+)", START):
        assert name in COMMANDS


def test_every_command_stands_in_one_group():
    grouped = [name for names in GROUPS.values() for name in names]
    assert sorted(grouped) == sorted(COMMANDS)


@pytest.mark.parametrize("name", GROUPS["Choose"])
def test_options_of_commands_that_choose_stand_in_panels(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main([name, "--help"]) == 0
    titles = re.findall(r"^([A-Z][a-z ]+):$", capsys.readouterr().out, re.MULTILINE)
    assert titles[0] == "Arguments"
    assert titles[-2:] == ["Output", "Example"]
    if name == "search":
        panels = ["What you want", "Which committees", "Where it is evaluated"]
        assert titles[1:4] == panels


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands_and_options(shell, capsys, monkeypatch):
    for typed, found in (("sea", "search"), ("search --wors", "--worst-case")):
        monkeypatch.setenv("_COMMITTEE_COMPLETE", f"complete_{shell}")
        monkeypatch.setenv("COMP_WORDS", f"committee {typed}")
        monkeypatch.setenv("COMP_CWORD", str(len(typed.split())))
        monkeypatch.setenv("_TYPER_COMPLETE_ARGS", f"committee {typed}")
        monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
        assert main([]) == 0
        assert found in capsys.readouterr().out


def test_completion_is_installed_for_a_shell(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("typer._completion_shared._get_shell_name", lambda: "bash")
    assert main(["--install-completion"]) == 0
    assert "bash completion installed" in capsys.readouterr().out
    script = tmp_path / ".bash_completions" / "committee.sh"
    assert "_COMMITTEE_COMPLETE=complete_bash" in script.read_text()
    assert str(script) in (tmp_path / ".bashrc").read_text()


# What an example needs beside what the folder has, so that it takes seconds; None: it is not run
# here, because it serves until it is stopped, needs torch, or is run by tests of its own.
MORE: dict[str, str | None] = {
    "predict": "--rows :10 --out other",
    "import": "--out imported",
    "profile": "--only nano --calls 5 --seconds 0",
    "study": "--only exit_ratios --max-models 2",
    "run": "--rows :300",
    "verify": "--rows :500",
    "certify": "--within 0.06",  # fewer samples than a user has
    "demo": None,
    "serve": None,
    "export-onnx": None,
}
DATA = {"images/val": "embedded:val", "images/test": "embedded:test", "images/new": "embedded:test"}
# In this order, for some need what others write.
ORDER = [
    *("predict", "import", "relabel", "profile", "costs", "calibrate", "search", "label", "report"),
    *("evaluate", "study", "certify", "run", "watch", "verify", "export"),
]


def test_every_example_is_run_or_says_why_not():
    assert sorted([*ORDER, *(name for name, more in MORE.items() if more is None)]) == sorted(
        COMMANDS
    )


def test_examples_of_the_help_run_on_the_embedded_pool(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = (FOLDER / "pool.toml").read_text(encoding="utf-8")
    text = text.replace('source = "onnx:', f'source = "onnx:{FOLDER.as_posix()}/')
    Path("pool.toml").write_text(text, encoding="utf-8")
    for split, data, rows in (
        ("val", "embedded:val", ":1000"), ("test", "embedded:test", ":500"),
        ("cal", "embedded:val", "1000:1300"), ("new", "embedded:test", "1000:1200"),
    ):  # fmt: skip
        words = ["predict", "pool.toml", "--data", data, "--split", split, "--rows", rows]
        assert main([*words, "--json", *(["--unlabelled"] if split == "new" else [])]) == 0
    Path("costs.csv").write_text(
        "model,dollars\n" + "".join(f"{name},{k + 1}\n" for k, name in enumerate(NAMES))
    )
    for name in "ab":
        np.save(f"{name}.npy", np.load("predictions/val/nano.npy"))
    labels = Pool.load("predictions/val").samples.labels
    np.save("labels.npy", labels)
    ids = Pool.load("predictions/val").samples.ids
    Path("labels.csv").write_text(
        "id,label\n" + "".join(f"{i},{label}\n" for i, label in zip(ids, labels, strict=True))
    )
    for name in ORDER:
        example = re.sub(r"images/\w+", lambda found: DATA[found[0]], command(name).epilog)
        words = shlex.split(f"{example} {MORE.get(name) or ''}")[1:]
        capsys.readouterr()
        assert main(words) == 0, (words, capsys.readouterr().err)
    assert Cascade.load("c.json").certificate is not None


def test_a_terminal_learns_that_ray_begins(capsys: Caught, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    say_joining(None, quiet=False)  # to a file
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr("committee.cli.output.connect", nullcontext)
    with joined("10.0.0.1:6379", quiet=False) as cluster:
        assert str(cluster) == "10.0.0.1:6379"
    say_joining(None, quiet=False)
    say_joining(None, quiet=True)
    told = "Joining Ray at 10.0.0.1:6379 ...\nStarting Ray on this machine ...\n"
    assert capsys.readouterr() == ("", told)
