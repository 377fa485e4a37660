"""Time running cascades against the ideal, against loops written by hand and against one model.

    python benchmarks/run.py [--pools fashion,cifar,lite] [--threads 1] [--rounds 7] [--quick]

Three pools, all on onnxruntime: the embedded one on Fashion-MNIST; the CIFAR-10 ResNets and
EfficientNet-Lite 0-2 of examples/, on the data that --data names (../shared/data if left out; a
pool whose data or packages are missing is left out and named). Of each, val chooses cascades and
test evaluates them. Everything that is compared is run in turns in one process; who begins changes.

offline     arrays in memory, in batches. The ideal is the sum over stages of the share of images
            that reach a stage times what its models alone take an image, from image to outputs;
            it has no decisions and no gathering. By hand: stage by stage with boolean masks.
photographs JPEG files. No run can take less than decoding alone, or than the ideal of the models;
            nor, where both share the cores, than the processor time of both over the cores.
online      image by image. Bare: the calls of the models that ran, on inputs that lie ready. By
            hand: an if after each model.
committees  the largest model beside cascades: accuracy on test, multiply-adds, latency, throughput.

Results go to benchmarks/results/run.json and run.md, with the conditions.
"""

import argparse
import itertools
import os
import platform
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

import committee as cm
import measured_page
from committee.data.base import map_ahead
from committee.models.inputs import prepared
from committee.predict import THREADS
from committee.profile.measure import processor
from committee.run.offline import run_offline
from committee.run.runner import Runner
from run_report import markdown
from run_worlds import WORLDS, World

RESULTS = Path(__file__).parent / "results"


def softmax_max(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max(1, keepdims=True))
    return (exponentials / exponentials.sum(1, keepdims=True)).max(1)


class Hand:
    """A cascade as a user would write it, on models that are called as they are."""

    def __init__(self, world: World, cascade: cm.Cascade) -> None:
        self.stages = [[world.models[name] for name in stage.models] for stage in cascade.stages]
        self.thresholds = list(cascade.thresholds)

    def in_batches(self, images, batch: int) -> np.ndarray:
        """Stage by stage with boolean masks."""
        total, ran = 0.0, 0
        predicted = np.zeros(len(images), int)
        undecided = np.ones(len(images), bool)
        ready: dict = {}
        for k, stage in enumerate(self.stages):
            rows = np.flatnonzero(undecided)
            for model, recipe in stage:
                if len({recipe for each in self.stages for _, recipe in each}) == 1:
                    # All take the same: prepared once.
                    if recipe not in ready:
                        ready[recipe] = prepared(images, recipe)
                    chunks = [
                        model(ready[recipe][rows[i : i + batch]])
                        for i in range(0, len(rows), batch)
                    ]
                else:
                    chunks = [
                        model(prepared([images[r] for r in rows[i : i + batch]], recipe))
                        for i in range(0, len(rows), batch)
                    ]
                logits = np.concatenate(chunks)
                if not ran:
                    total = np.zeros((len(images), logits.shape[1]))
                total[rows] += logits
                ran += 1
            mean = total[rows] / ran
            predicted[rows] = mean.argmax(1)
            if k < len(self.thresholds):
                undecided[rows[softmax_max(mean) >= self.thresholds[k]]] = False
        return predicted

    def one(self, image) -> int:
        """One image, with an if."""
        total, ran, known = 0.0, 0, {}
        for k, stage in enumerate(self.stages):
            for model, recipe in stage:
                if recipe not in known:
                    known[recipe] = prepared(_alone(image), recipe)
                total = total + model(known[recipe])
                ran += 1
            if k == len(self.thresholds) or softmax_max(total / ran)[0] >= self.thresholds[k]:
                break
        return int(total.argmax())


def _alone(image):
    return image[None] if isinstance(image, np.ndarray) else [image]


def in_turns(parts: dict, rounds: int) -> dict[str, np.ndarray]:
    """Wall seconds of each part, (rounds,), and under ``NAME cpu`` those of the processor."""
    taken: dict[str, list[float]] = {}
    for number in range(rounds + 1):
        names = list(parts) if number % 2 else list(parts)[::-1]
        for name in names:
            began, used = time.perf_counter(), time.process_time()
            parts[name]()
            if number:  # the first warms
                taken.setdefault(name, []).append(time.perf_counter() - began)
                taken.setdefault(f"{name} cpu", []).append(time.process_time() - used)
    return {name: np.array(each) for name, each in taken.items()}


def _spread(ratios: np.ndarray) -> dict:
    """Median of rounds, and their quartiles."""
    low, middle, high = np.percentile(ratios, (25, 50, 75))
    return {"median": float(middle), "quartiles": [float(low), float(high)]}


def _reach(stages: np.ndarray, cascade: cm.Cascade) -> list[float]:
    return [float((stages >= k).mean()) for k in range(len(cascade.stages))]


def offline(world: World, cascade: cm.Cascade, threads: int, rounds: int) -> dict:
    """Arrays in memory, or images that are decoded."""
    runner, hand = Runner(cascade, threads=threads), Hand(world, cascade)
    images, batch = world.images, world.batch

    def bare(name):
        model, recipe = world.models[name]

        def run():
            for i in range(0, len(images), batch):
                model(prepared(images[i : i + batch], recipe))

        return run

    decisions = runner.decide(images, batch)
    by_hand = hand.in_batches(images, batch)
    parts = {
        "committee": lambda: runner.decide(images, batch),
        "by hand": lambda: hand.in_batches(images, batch),
        **{name: bare(name) for name in cascade.names},
    }
    taken = in_turns(parts, rounds)
    reach = _reach(decisions.stage, cascade)
    ideal = {
        suffix: sum(
            share * taken[name + suffix]
            for share, stage in zip(reach, cascade.stages, strict=True)
            for name in stage.models
        )
        for suffix in ("", " cpu")
    }
    ms = {name: float(np.median(each)) / len(images) * 1e3 for name, each in taken.items()}
    return {
        "cascade": str(cascade),
        "images": len(images),
        "batch": batch,
        "reach": reach,
        "ms": {**ms, "ideal": float(np.median(ideal[""])) / len(images) * 1e3},
        "of the ideal rate": _spread(ideal[""] / taken["committee"]),
        "of the ideal rate, processor time": _spread(ideal[" cpu"] / taken["committee cpu"]),
        "time over by hand": _spread(taken["committee"] / taken["by hand"]),
        "time over by hand, processor time": _spread(taken["committee cpu"] / taken["by hand cpu"]),
        "other classes than by hand": int((decisions.predicted != by_hand).sum()),
    }


def photographs(world: World, cascade: cm.Cascade, threads: int, rounds: int) -> dict:
    """From JPEG files; the ideal of the models is that on inputs that lie ready."""
    runner, dataset, batch = Runner(cascade, threads=threads), world.files, world.batch
    count, cores = len(dataset.samples), os.cpu_count() or 1
    stages = np.concatenate([each.stage for _, each in run_offline(runner, dataset, batch)])
    first = world.models[cascade.names[0]][1]
    groups = [np.arange(i, min(i + batch, count)) for i in range(0, count, batch)]

    def decode():
        # Decoded one by one and prepared for the first model, as every run must.
        for _ in map_ahead(
            lambda rows: [prepared(dataset.read(np.array([row])), first) for row in rows],
            groups,
            THREADS,
            THREADS + 1,
        ):
            pass

    def bare(name):
        model, recipe = world.models[name]
        ready = prepared(world.images[:batch], recipe)

        def run():
            for rows in groups:
                model(ready[: len(rows)])

        return run

    parts = {
        "committee": lambda: list(run_offline(runner, dataset, batch)),
        "decoding": decode,
        **{name: bare(name) for name in cascade.names},
    }
    taken = in_turns(parts, rounds)
    reach = _reach(stages, cascade)
    ideal, work = (
        sum(
            share * taken[name + suffix]
            for share, stage in zip(reach, cascade.stages, strict=True)
            for name in stage.models
        )
        for suffix in ("", " cpu")
    )
    larger = np.maximum(taken["decoding"], ideal)
    shared = np.maximum(larger, (taken["decoding cpu"] + work) / cores)
    ms = {name: float(np.median(each)) / count * 1e3 for name, each in taken.items()}
    return {
        "cascade": str(cascade),
        "images": count,
        "batch": batch,
        "threads that read": THREADS,
        "reach": reach,
        "ms": {**ms, "ideal": float(np.median(ideal)) / count * 1e3},
        "of the larger limit": _spread(larger / taken["committee"]),
        "of what the cores allow": _spread(shared / taken["committee"]),
    }


def online(world: World, cascade: cm.Cascade, largest: str, threads: int, count: int) -> dict:
    """Image by image, all in turns on the same image."""
    runner, hand = Runner(cascade, threads=threads), Hand(world, cascade)
    single = Runner(world.alone(largest), threads=threads)
    images = [world.images[i] for i in range(min(count, len(world.images)))]
    stages = [runner(image).stage for image in images]
    runner.warm()
    single.warm()
    names = [[n for s in cascade.stages[: k + 1] for n in s.models] for k in stages]
    recipes = {world.models[name][1] for name in cascade.names}
    # In every order alike often: who comes after a part that does the same work finds it in caches.
    orders = list(itertools.permutations(["bare", "committee", "by hand", "largest"]))
    parts = orders[0]
    ms = {part: np.zeros(len(images)) for part in [*parts, "preparing"]}
    for i, image in enumerate(images):
        known = {}
        began = time.perf_counter()
        for recipe in dict.fromkeys(world.models[name][1] for name in names[i]):
            known[recipe] = prepared(_alone(image), recipe)
        ms["preparing"][i] = time.perf_counter() - began
        calls = [(world.models[name][0], known[world.models[name][1]]) for name in names[i]]
        single(image)  # so that who comes first does not pay for what was cold
        for part in orders[i % len(orders)]:
            began = time.perf_counter()
            if part == "bare":
                for model, inputs in calls:
                    model(inputs)
            elif part == "committee":
                runner(image)
            elif part == "by hand":
                hand.one(image)
            else:
                single(image)
            ms[part][i] = time.perf_counter() - began
    ms = {part: each * 1e3 for part, each in ms.items()}
    fresh = Runner(cascade, threads=threads)
    fresh.warm()
    began = time.perf_counter()
    fresh(images[0])
    first = (time.perf_counter() - began) * 1e3
    # A share of all is cut off at both ends, for others interrupt: see the trimmed mean.
    return {
        "cascade": str(cascade),
        "largest": largest,
        "images": len(images),
        "preprocessings": len(recipes),
        "models that ran, mean": float(np.mean([len(each) for each in names])),
        "mean_ms": {part: float(each.mean()) for part, each in ms.items()},
        "trimmed_mean_ms": {part: _trimmed(each) for part, each in ms.items()},
        "percentiles_ms": {
            part: {
                **{f"p{q}": float(np.percentile(each, q)) for q in (50, 90, 99)},
                "max": float(each.max()),
            }
            for part, each in ms.items()
        },
        "ms above bare": _trimmed(ms["committee"]) - _trimmed(ms["bare"]),
        "allowed ms above bare": 0.02 * _trimmed(ms["bare"]) + 0.1,
        "time over by hand": _trimmed(ms["committee"]) / _trimmed(ms["by hand"]),
        "median difference to by hand, ms": float(np.median(ms["committee"] - ms["by hand"])),
        "first call after warm, ms": first,
    }


def _trimmed(values: np.ndarray) -> float:
    low, high = np.percentile(values, (5, 95))
    return float(values[(values >= low) & (values <= high)].mean())


def committees(world: World, threads: int, rounds: int) -> list[dict]:
    """The largest model, the cascade that matches it and the most accurate that costs as much."""
    front, test = world.front, world.test
    largest = world.largest
    rows = {
        f"{largest}, the largest": world.alone(largest),
        "matches it on val": front.matching(largest).cascade,
        "most accurate at its cost on val": front.at_most(world.macs[largest]).cascade,
    }
    wanted = cm.evaluate(world.alone(largest), test).accuracy
    for choice in sorted(front, key=lambda each: each.evaluation.average_cost):
        if cm.evaluate(choice.cascade, test).accuracy >= wanted:
            rows["first of the front that matches it on test (test chose)"] = choice.cascade
            break
    runners = {name: Runner(world.known(each), threads=threads) for name, each in rows.items()}
    images, few = world.images, [world.images[i] for i in range(world.online)]
    parts = {
        name: lambda runner=runner: runner.decide(images, world.batch)
        for name, runner in runners.items()
    }
    batches = in_turns(parts, rounds)
    each_one: dict[str, list[float]] = {name: [] for name in rows}
    for runner in runners.values():
        runner.warm()
    for i, image in enumerate(few):
        for name in list(rows) if i % 2 else list(rows)[::-1]:
            began = time.perf_counter()
            runners[name](image)
            each_one[name].append((time.perf_counter() - began) * 1e3)
    found = []
    for name, cascade in rows.items():
        evaluated, chosen = cm.evaluate(cascade, test), cm.evaluate(cascade, world.val)
        found.append(
            {
                "committee": name,
                "cascade": str(cascade),
                "thresholds": list(cascade.thresholds),
                "val_accuracy": chosen.accuracy,
                "test_accuracy": evaluated.accuracy,
                "interval": list(evaluated.interval),
                "samples": evaluated.samples,
                "exit_ratios": list(evaluated.exit_ratios),
                "macs": evaluated.average_cost,
                "latency_ms": _trimmed(np.array(each_one[name])),
                "latency_p99_ms": float(np.percentile(each_one[name], 99)),
                "per_second": len(images) / float(np.median(batches[name])),
            }
        )
    first = found[0]
    for row in found:
        row["speedup"] = {
            "macs": first["macs"] / row["macs"],
            "latency": first["latency_ms"] / row["latency_ms"],
            "throughput": row["per_second"] / first["per_second"],
        }
    return found


def own_times(world: World, rounds: int) -> dict[str, dict]:
    """Of each model alone: milliseconds an image, on inputs that lie ready."""
    found = {}
    parts = {}
    for name, (model, recipe) in world.models.items():
        ready = prepared(world.images[: world.batch], recipe)
        parts[f"{name} batch"] = lambda m=model, x=ready: m(x)
        parts[f"{name} one"] = lambda m=model, x=ready: [m(x[i : i + 1]) for i in range(8)]
    taken = in_turns(parts, rounds)
    for name, (_, recipe) in world.models.items():
        count = len(prepared(world.images[: world.batch], recipe))
        found[name] = {
            "macs": world.macs[name],
            "ms in batches": float(np.median(taken[f"{name} batch"])) / count * 1e3,
            "ms one by one": float(np.median(taken[f"{name} one"])) / 8 * 1e3,
        }
    return found


def conditions(threads: int, rounds: int) -> dict:
    import onnxruntime

    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": processor(),
        "cores": os.cpu_count(),
        "load before": round(os.getloadavg()[0], 1),
        "threads of a model": threads or "all",
        "rounds": rounds,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "onnxruntime": onnxruntime.__version__,
        "committee": cm.__version__,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pools", default="fashion,cifar,lite")
    parser.add_argument("--data", type=Path, default=None)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="few images, to see that it runs")
    parser.add_argument("--work", type=Path, default=None, help="keeps predictions between runs")
    parser.add_argument("--out", type=Path, default=RESULTS / "run.json")
    given = parser.parse_args()
    results: dict = {"conditions": conditions(given.threads, given.rounds), "pools": {}}
    for name in given.pools.split(","):
        world, missing = WORLDS[name](given.data, given.work, given.threads, given.quick)
        if world is None:
            results["pools"][name] = {"left out": missing}
            print(f"{name}: left out, {missing}")
            continue
        cascade = world.known(world.chosen)
        found: dict = {"what": world.what, "models": own_times(world, given.rounds)}
        found["offline"] = offline(world, cascade, given.threads, given.rounds)
        if world.files is not None:
            found["photographs"] = photographs(world, cascade, given.threads, given.rounds)
        found["online"] = online(world, cascade, world.largest, given.threads, world.online)
        found["committees"] = committees(world, given.threads, given.rounds)
        results["pools"][name] = found
        print(markdown({"conditions": {}, "pools": {name: found}}), flush=True)
    measured_page.write(results, given.out, markdown)


if __name__ == "__main__":
    main()
