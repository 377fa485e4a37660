"""Every option of the commands that choose, serve and watch is used, or refused in one line."""

from __future__ import annotations

import json
import re
import shlex
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from committee import Cascade, Pool
from committee.cli import COMMANDS, command, main
from committee.pool.evaluate import stored_decisions
from committee.text import csv_text
from test_every_kind import write_store

# The store of a test, and a second name for what an option adds.
MODES = {
    "exact": ["search", "STORE"],
    "match": ["search", "STORE", "--match", "c"],
    "promise": ["search", "STORE", "--match", "c", "--promise", "0.9"],
    "guided": ["search", "STORE", "--method", "guided"],
    "greedy": ["search", "STORE", "--method", "greedy"],
    "cascade of": ["search", "STORE", "--cascade-of", "b,c"],
    "ensemble": ["search", "STORE", "--ensemble", "a,b"],
    "evaluate": ["evaluate", "CASCADE", "STORE"],
    "calibrate": ["calibrate", "STORE"],
    "remove": ["calibrate", "STORE", "--remove"],
    "report": ["report", "STORE", "--out", "OUT/report.html"],
    "report match": ["report", "STORE", "--match", "c", "--out", "OUT/report.html"],
    "study": ["study", "STORE", "--out", "OUT", "--only", "exit_ratios"],
    "demo": ["demo"],
    "watch": ["watch", "CASCADE", "RESULTS"],
    "serve": ["serve", "CASCADE"],
    "shadow": ["serve", "CASCADE", "--shadow", "0.5"],
    "ray": ["serve", "CASCADE", "--on", "ray"],
}
FIXED = {"cascade of", "ensemble"}
SEARCHES = {"exact", "match", "guided", "greedy", *FIXED}
# Of each option a value, the modes that refuse it, and whether JSON shows that it is used.
OPTIONS: dict[str, dict[str, tuple[str, set[str], bool]]] = {
    "search": {
        "--match": ("a", FIXED, True),
        "--within": ("0.2", SEARCHES - {"match", "cascade of"}, True),
        "--min-accuracy": ("0.8", FIXED | {"promise"}, True),
        "--max-cost": ("101", FIXED, True),
        "--cost-limit": ("200", SEARCHES, False),
        "--cascade-of": ("b,c", {"match", "greedy", "ensemble", "promise"}, True),
        "--ensemble": ("a,b", {"match", "cascade of", "promise"}, True),
        "--worst-case": ("105", {"greedy"}, True),
        "--average-case": ("macs=50", {"greedy", "cascade of", "match", "promise"}, True),
        "--max-models": ("1", set(), True),
        "--confidence": ("logit_gap", set(), True),
        "--combine": ("last", {"ensemble"}, True),
        "--grid": ("3", {"promise"}, True),
        # The store has neither families nor several resolutions of one set of weights.
        "--families": ("", set(), False),
        "--no-families": ("", {"greedy", "promise"}, False),
        "--self-cascades": ("", SEARCHES | {"promise"}, True),
        "--calibrated": ("", set(), True),
        "--metric": ("balanced", {"greedy", "promise"}, True),
        "--agree-with": ("b", {"promise"}, True),
        "--promise": ("0.9", SEARCHES - {"match"}, True),
        "--method": ("exact", set(), False),
        "--keep": ("2", (SEARCHES | {"promise"}) - {"guided"}, False),
        "--unit": ("macs", set(), False),
        "--threads": ("1", set(), False),
        # Ray counts in test_ray_search.py.
        "--on": ("spark", SEARCHES | {"promise"}, False),
        "--address": ("auto", SEARCHES | {"promise"}, False),
        "--split": ("test", set(), True),
        "--test": ("STORE/cal", set(), True),
        "--tiles": ("full", SEARCHES | {"promise"}, True),
        "--out": ("OUT/c.json", {"exact", "guided", "greedy"}, False),
        "--front": ("", SEARCHES | {"promise"}, True),
    },
    "evaluate": {
        "--split": ("val", set(), True),
        "--unit": ("macs", set(), False),
        "--metric": ("balanced", set(), True),
        "--agree-with": ("b", set(), True),
        "--per-stage": ("", set(), True),
        "--on": ("spark", {"evaluate"}, False),
        "--address": ("auto", {"evaluate"}, False),
    },
    "calibrate": {
        "--split": ("val", {"remove"}, True),
        "--method": ("platt", {"remove"}, True),
        "--only": ("a", set(), True),
        "--figure": ("OUT/f.svg", {"remove"}, False),
        "--remove": ("", set(), True),
    },
    "report": {
        "--match": ("a", set(), True),
        "--within": ("0.2", {"report"}, True),
        "--min-accuracy": ("0.8", set(), True),
        "--max-cost": ("101", set(), True),
        "--cascade": ("CASCADE", {"report match"}, True),
        "--figure": ("OUT/f.svg", set(), False),
        "--out": ("OUT/other.html", set(), True),
        "--split": ("cal", set(), True),
        "--test": ("cal", set(), True),
        "--max-models": ("1", set(), True),
        "--confidence": ("logit_gap", set(), True),
        "--combine": ("last", set(), True),
        "--self-cascades": ("", {"report", "report match"}, True),
        "--metric": ("balanced", set(), True),
        "--unit": ("macs", set(), False),
    },
    "study": {
        "--out": ("OUT/other", set(), True),
        "--split": ("cal", set(), True),
        "--test": ("cal", set(), True),
        "--only": ("diversity", set(), True),
        "--max-models": ("1", set(), True),
        "--confidence": ("logit_gap", set(), True),
        "--combine": ("last", set(), True),
        "--grid": ("3", set(), True),
        "--calibrated": ("", set(), True),
        "--metric": ("balanced", set(), True),
        "--unit": ("macs", set(), False),
        "--reference": ("OUT/none.csv", {"study"}, True),
        "--training": ("OUT/none.csv", {"study"}, True),
    },
    "demo": {"--out": ("OUT", set(), False)},
    "watch": {
        "--alpha": ("0.05", set(), True),
        "--tau": ("0.1", set(), True),
        "--most-failed": ("0.2", set(), True),
        "--state": ("OUT/state.json", set(), False),
        "--shuffle": ("", set(), True),
    },
    "serve": {
        "--host": ("127.0.0.2", set(), True),
        "--port": ("0", set(), True),
        "--grpc-port": ("0", {"ray"}, True),
        "--name": ("mine", set(), True),
        "--threads": ("2", set(), True),
        "--workers": ("2", set(), True),
        "--max-batch": ("32,8", set(), True),
        "--max-delay": ("5,1.5", set(), True),
        "--queue": ("9", set(), True),
        "--deadline": ("100", set(), True),
        "--hang": ("3", set(), True),
        "--drain": ("0", set(), True),
        "--slow": ("2", set(), True),
        "--max-body": ("0.5", set(), True),
        "--max-pixels": ("100", set(), True),
        "--max-samples": ("3", set(), True),
        "--token-file": ("TOKEN", set(), True),
        "--reload": ("", set(), True),
        "--quiet": ("", set(), True),
        "--trace": ("console", set(), True),
        "--alpha": ("0.05", set(), True),
        "--tau": ("0.1", set(), True),
        "--most-failed": ("0.2", set(), True),
        "--alarm-state": ("OUT/state.json", set(), True),
        "--webhook": ("http://127.0.0.1/alarm", set(), True),
        "--shadow": ("0.25", {"ray"}, True),
        "--to-label": ("OUT/label", {"serve", "ray"}, True),
        "--pool": ("OUT/pool.toml", set(), True),
        "--allow-code": ("models.py", set(), True),
        "--on": ("ray", {"shadow"}, False),
        "--address": ("auto", {"serve", "shadow"}, True),
        "--replicas": ("1,3", {"serve", "shadow"}, True),
        "--target": ("9", {"serve", "shadow"}, True),
        "--cpus": ("2", {"serve", "shadow"}, True),
        "--gpus": ("1", {"serve", "shadow"}, True),
    },
}
# Draw, which takes seconds; what they do is tested where they are.
SLOW = {"demo", "study", "report", "report match"}


def options_of(name: str) -> set[str]:
    """Names of all options of a command, but for those that every command has."""
    named = [p for p in command(name).params if p.param_type_name == "option"]
    return {name for p in named for name in (*p.opts, *p.secondary_opts)} - {"--json", "--help"}


@pytest.mark.parametrize("command", OPTIONS)
def test_no_option_is_left_out_below(command):
    assert options_of(command) == OPTIONS[command].keys()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_store(tmp_path_factory.mktemp("options"), "logits", classes=3)


CALLS = [
    (mode, option)
    for mode, words in MODES.items()
    if mode not in SLOW
    for option in OPTIONS[words[0]]
    if option not in words and (mode, option) != ("calibrate", "--figure")
] + [
    # Of the slow ones what they refuse, and no more than a few that they use.
    (mode, option)
    for mode in sorted(SLOW)
    for option, (_, refused, _) in OPTIONS[MODES[mode][0]].items()
    if mode in refused
]


def answer(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, Any]:
    """The exit code, and the JSON without seconds, or the error."""
    capsys.readouterr()
    code = main([*words, "--json"])
    out, errors = capsys.readouterr()
    if code:
        return code, errors
    found = json.loads(out)
    if isinstance(found, dict):
        found.get("settings", {}).pop("seconds", None)
    return code, found


@pytest.fixture(scope="module")
def known() -> dict[str, Any]:
    """What each mode answers without the option."""
    return {}


@pytest.fixture(scope="module")
def places(store: Path) -> dict[str, str]:
    """A store, a cascade, results of it, and a token."""
    folder = store.parent
    cascade, results, token = folder / "cascade.json", folder / "results.csv", folder / "token"
    assert main(["calibrate", str(store), "--json"]) == 0
    assert main(["search", str(store), "--match", "c", "--out", str(cascade), "--json"]) == 0
    made = stored_decisions(Cascade.load(cascade), Pool.load(store / "test"))
    exits = zip(made.stage.tolist(), made.score.tolist(), strict=True)
    results.write_text(csv_text([("stage", "confidence"), *exits]))
    token.write_text("secret")
    known = {"STORE": store, "CASCADE": cascade, "RESULTS": results, "TOKEN": token}
    return {name: str(path) for name, path in known.items()}


def said(load: Any, settings: Any, *_: Any, log: bool, watched: Any, **more: Any) -> None:
    """Say what a server would be told, in place of serving."""
    parts = load.args, settings, log, watched, type(more["tracing"]), more["observing"]
    print(json.dumps([*map(repr, parts), repr(more["observing"].load_reference.args)]))


def said_on_ray(cluster: Any, read: Any, replicas: Any, alarms: Any, *more: Any) -> None:
    """The same for a cluster, which is here the address."""
    ready, _, watched = more
    print(json.dumps([*map(repr, (cluster, read.args, replicas, alarms, ready.args, watched))]))


@pytest.mark.parametrize(("mode", "option"), CALLS, ids=map(" ".join, CALLS))
def test_option_is_used_or_refused(mode, option, places, known, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("committee.serve.process.run_server", said)
    monkeypatch.setattr("committee.scale.serve.serve_on", said_on_ray)
    monkeypatch.setattr("committee.cli.serve.joined", lambda address, _: nullcontext(address))
    places = {**places, "OUT": str(tmp_path)}

    def full(words: list[str]) -> list[str]:
        return [re.sub("|".join(places), lambda m: places[m[0]], word) for word in words]

    value, refused, shows = OPTIONS[MODES[mode][0]][option]
    words = [*MODES[mode], option, *([value] if value else [])]
    code, found = answer(full(words), capsys)
    if mode in refused:
        assert code == 2
        assert found.count("\n") == 1
        return
    assert code == 0, found
    if not shows:
        return
    if mode not in known:
        known[mode] = answer(full(MODES[mode]), capsys)[1]
    assert found != known[mode]


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_in_help_name_options_that_are_there(name, capsys):
    example = command(name).epilog
    words = shlex.split(example)
    assert words[:2] == ["committee", name]
    assert {word for word in words if word.startswith("--")} <= options_of(name)
    assert main([name, "-h"]) == 0
    shown = capsys.readouterr().out.partition("\nExample:\n")[2]
    assert shlex.split(shown.replace("\\\n", "")) == words
