"""Search over a folder of stores, in one process and on Ray, and what reading the files takes.

    python benchmarks/ray_search.py [--folder DIR] [--samples 10000000] [--models 3] [--keep]
        [--shard 1000000] [--out benchmarks/results/ray_search.json] [--only one,ray]

Each shard is a store of decisions of models whose errors are correlated, made from a seed, with
ids, labels and checksums like any other: 66 bytes a sample for three models. A process of its own
searches; the processor time of Ray is that of its workers too. Memory is what processes hold
besides files mapped from disk, the most at any time.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

SEED = 2022
CLASSES = 100
# Accuracies of the models, and their costs.
ACCURACY = (0.78, 0.84, 0.88, 0.9, 0.91)
COSTS = (1.0, 3.0, 9.0, 27.0, 81.0)
_TICK = os.sysconf("SC_CLK_TCK")


def make_shard(root: Path, number: int, samples: int, models: int) -> None:
    """Write one store of decisions; confidences say how likely they are right."""
    from committee import Pool
    from committee.store.import_predictions import write_pool

    rng = np.random.default_rng([SEED, number])
    labels = rng.integers(0, CLASSES, samples)
    ease = rng.normal(size=samples)
    outputs = {}
    for k in range(models):
        odds = np.log(ACCURACY[k] / (1 - ACCURACY[k])) + 1.6 * ease + 0.8 * rng.normal(size=samples)
        chance = 1 / (1 + np.exp(-odds))
        right = rng.random(samples) < chance
        predicted = np.where(right, labels, (labels + 1 + k) % CLASSES)
        outputs[f"m{k}"] = (predicted, chance.astype(np.float32))
    pool = Pool.from_arrays(
        labels,
        outputs,
        kind="decisions",
        costs=dict(zip(outputs, COSTS, strict=False)),
        ids=[f"{number:04d}-{row:07d}" for row in range(samples)],
    )
    write_pool(root / f"{number:04d}", pool)


def make(folder: Path, samples: int, shard: int, models: int) -> None:
    """Write the shards that are not there; a half-written one is made again."""
    for number in range(-(-samples // shard)):
        path, done = folder / f"{number:04d}", folder / f"{number:04d}.done"
        if not done.exists():
            shutil.rmtree(path, ignore_errors=True)
            make_shard(folder, number, min(shard, samples - number * shard), models)
            done.touch()


def processes(named: str) -> Iterator[Path]:
    """The processes whose command line holds a text, this one first."""
    yield Path("/proc/self")
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if named and named in path.joinpath("cmdline").read_text():
                yield path
        except OSError:
            continue


def seconds_of(path: Path) -> float:
    """Processor seconds of a process."""
    fields = path.joinpath("stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


class Watch(threading.Thread):
    """The most memory of one process of Ray and of this one, and the processor time of all."""

    def __init__(self, named: str) -> None:
        super().__init__(daemon=True)
        self.named, self.over = named, threading.Event()
        self.own = self.worker = 0
        self.used: dict[str, float] = {}

    def run(self) -> None:
        while not self.over.wait(0.1):
            for path in processes(self.named):
                try:
                    held = path.joinpath("status").read_text().split("RssAnon:")[1].split()[0]
                    self.used[path.name] = seconds_of(path)
                except (OSError, IndexError):
                    continue
                if path.name == "self":
                    self.own = max(self.own, int(held) * 1024)
                else:
                    self.worker = max(self.worker, int(held) * 1024)


def measure(folder: Path, where: str) -> None:
    """What the fresh process does; prints one line of JSON."""
    from contextlib import nullcontext

    import committee as cm
    from committee.scale.cluster import connect
    from committee.scale.search import over_shards
    from committee.store.shards import open_shards

    start = time.perf_counter()
    with connect() if where == "ray" else nullcontext() as cluster:
        begun = time.perf_counter()
        watch = Watch("ray::" if where == "ray" else "")
        watch.start()
        run = map if cluster is None else over_shards(cluster)
        pool = open_shards(folder, "val", run)
        opened = time.perf_counter()
        front = cm.search(pool, threads=1)
        searched = time.perf_counter()
        choice = front.matching(pool.names[-1], within=0.002)
        chosen = time.perf_counter()
        evaluated = cm.evaluate(choice.cascade, pool)
        ended = time.perf_counter()
        # A rule that these samples did not choose; the one that they chose is refused.
        names, promise = pool.names, {"match": pool.names[-1], "within": 0.02}
        given = cm.Cascade.of([[names[0]], [names[-1]]], thresholds=[0.8])
        certified = cm.certify(pool, cascade=given, **promise)
        tested = time.perf_counter()
        try:
            cm.certify(pool, cascade=choice.cascade, **promise)
            raise AssertionError("samples that chose a cascade certified it")
        except cm.errors.MisalignedError as error:
            refused = str(error)
        time.sleep(0.3)
        watch.over.set()
    assert evaluated == choice.evaluation
    used = dict(watch.used)
    own = used.pop("self")
    print(
        json.dumps(
            {
                "start": begun - start,
                "open and check": opened - begun,
                "search": searched - opened,
                "match": chosen - searched,
                "evaluate": ended - chosen,
                "certify": tested - ended,
                "certificate": certified.cascade.to_json()["certificate"],
                "refused": refused,
                "processor": own + sum(used.values()),
                "processor of the driver": own,
                "memory": watch.own,
                "memory of a worker": watch.worker,
                "front": [
                    [str(each.cascade), each.cascade.thresholds, each.evaluation.correct]
                    for each in front
                ],
                "samples": len(pool),
                "models": len(pool.names),
                "shards": len(pool.places),
                "choice": str(choice),
            }
        )
    )


def read_once(folder: Path) -> dict[str, float]:
    """Seconds and bytes of reading every file of the shards, one after another."""
    start, cpu, size = time.perf_counter(), time.process_time(), 0
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb", buffering=0) as file:
                while data := file.read(1 << 22):
                    size += len(data)
    return {
        "seconds": time.perf_counter() - start,
        "processor": time.process_time() - cpu,
        "bytes": float(size),
    }


def fresh(folder: Path, where: str) -> dict:
    words = [sys.executable, __file__, "--folder", str(folder), "--measure", where]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def page(results: dict) -> str:
    """The figures as a page."""
    size = results["read"]["bytes"]
    lines = [
        "# Search over a folder of stores",
        "",
        f"By `python benchmarks/ray_search.py --samples {results['samples']}`: "
        f"{results['samples']:,} samples x {results['models']} models of decisions in "
        f"{results['shards']} stores, {size / 1e9:.1f} GB. {results['machine']}, load "
        f"{results['load'][0]} before and {results['load'][1]} after.",
        "",
        "| | one process | Ray |",
        "|---|---|---|",
    ]
    found = [results[where] for where in ("one", "ray") if where in results]
    rows = {
        "start of Ray, s": "start",
        "open and check every store, s": "open and check",
        "search, three passes, s": "search",
        "match a model: one evaluation, three passes for the expected exits, s": "match",
        "evaluate a cascade, one pass, s": "evaluate",
        "certify a given cascade, s": "certify",
        "processor time of all, s": "processor",
    }
    for name, key in rows.items():
        lines.append(f"| {name} | " + " | ".join(f"{own[key]:.1f}" for own in found) + " |")
    for name, key in {
        "memory of the driver": "memory",
        "of a worker": "memory of a worker",
    }.items():
        lines.append(
            f"| {name}, MB | " + " | ".join(f"{own[key] / 1e6:.0f}" for own in found) + " |"
        )
    read = results["read"]
    lines += [
        "",
        f"Reading all files once takes {read['seconds']:.1f} s "
        f"({size / read['seconds'] / 1e6:,.0f} MB/s), {read['processor']:.1f} s of a processor.",
        "",
        f"Both found the same {len(found[0]['front']):,} committees, thresholds to the last "
        "bit, and the same certificate. Both refused to certify the cascade that these samples "
        "chose."
        if results["same"]
        else "The fronts or certificates DIFFER.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--samples", type=int, default=10_000_000)
    parser.add_argument("--shard", type=int, default=1_000_000)
    parser.add_argument("--models", type=int, default=3)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", default="one,ray")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--measure")
    words = parser.parse_args()
    folder = words.folder or Path(tempfile.gettempdir()) / "committee-ray-search"
    if words.measure:
        measure(folder, words.measure)
        return
    folder.mkdir(parents=True, exist_ok=True)
    make(folder, words.samples, words.shard, words.models)
    load = [round(os.getloadavg()[0], 1)]
    results: dict = {"read": read_once(folder)}
    for where in words.only.split(","):
        results[where] = fresh(folder, where)
        print(where, {k: v for k, v in results[where].items() if k != "front"}, flush=True)
    found = [results[where] for where in words.only.split(",")]
    results |= {key: found[0][key] for key in ("samples", "models", "shards")}
    results["same"] = all(
        each[what] == found[0][what]
        for each in found
        for what in ("front", "certificate", "refused")
    )
    results["machine"] = f"{os.cpu_count()} cores of {platform.machine()}"
    results["load"] = [*load, round(os.getloadavg()[0], 1)]
    print(page(results))
    if words.out:
        kept = {k: {n: v for n, v in own.items() if n != "front"} if isinstance(own, dict) else own
                for k, own in results.items()}  # fmt: skip
        words.out.write_text(json.dumps(kept, indent=1) + "\n")
        words.out.with_suffix(".md").write_text(page(results))
    if not words.keep:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
