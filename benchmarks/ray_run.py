"""Time a cascade on Ray against the local runner, and against one written by hand on Ray Data.

    python benchmarks/ray_run.py [--pools fashion,cifar,lite] [--rounds 3] [--quick]

The pools of benchmarks/run.py: 100,000 small images (the embedded ones, repeated), 20,000 of
CIFAR-10, and photographs as JPEG files. Three ways write parquet, with models on onnxruntime, and
are run in turns:

local       committee run, in this process.
ray         committee run --on ray: an actor pool for each stage, on this machine's processors.
by hand     Ray Data, stage by stage: ``map_batches`` with an actor class and boolean masks.

A job on Ray begins with the start of Ray and of its actors, which is measured apart, by the same
job on few samples. Processor time is of this process and all of Ray's. Where other work shares the
machine, run it with priority, Ray's workers too:

    RAY_worker_niceness=0 setsid -w bash -c \
        'echo -15 > /proc/self/autogroup; exec nice -n -15 make bench-ray'

Results go to benchmarks/results/ray.json and ray.md, with the conditions.
"""

import argparse
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import psutil
import ray
import ray.data

import measured_page
import ray_parts
from committee.models.inputs import prepared
from committee.models.load import load_model
from committee.profile.measure import processor
from committee.run.offline import run_into
from committee.run.open import LoadedCascade
from committee.run.runner import Runner, cumulative_costs
from committee.scale.cluster import connect
from committee.scale.data import ray_data
from committee.scale.parts import Parts
from committee.scale.plan import Plan, groups_of, part_size, pools_of, reach_of, work_of
from committee.scale.run import decided, job_of, results_table, run_into_parts
from committee.scale.stage import Job, Source
from run_worlds import DATA, WORLDS, World

RESULTS = Path(__file__).parent / "results"
# Few samples, so that a job on Ray is little but the start of its actors.
FEW = 64


@dataclass(frozen=True)
class Case:
    """A cascade, its samples as a file or folder, and how many they are."""

    job: Job
    count: int
    batch: int

    def few(self) -> "Case":
        source = replace(self.job.source, rows=f"0:{FEW}")
        return replace(self, job=replace(self.job, source=source), count=FEW)


def tiled(world: World, name: str, work: Path, count: int) -> tuple[str, int]:
    """Samples of a pool, repeated: an npz file of images, or a folder of links to files."""
    if world.files is None:
        images = np.asarray(world.images)
        path = work / f"{name}.npz"
        np.savez(path, images=np.resize(images, (count, *images.shape[1:])))
        return str(path), count
    folder = work / name
    files = [path for path in sorted((DATA / "imagenet_sample").rglob("*")) if path.is_file()]
    files = [path for path in files if path.suffix.lower() in (".jpg", ".jpeg", ".png")]
    folder.mkdir()
    for number in range(count):
        (folder / f"{number:06}.jpg").symlink_to(files[number % len(files)])
    return str(folder), count


def local(case: Case, out: Path) -> None:
    job = case.job
    runner = Runner(job.cascade)
    dataset = job.source.open(list(job.specs.values()))
    for _ in run_into(runner, dataset, out / "local.parquet", case.batch):
        pass


def on_ray(case: Case, out: Path) -> None:
    job = case.job
    samples = job.source.open(list(job.specs.values())).samples
    with connect() as cluster:
        plan = Plan(
            groups_of(job, reach_of(job.cascade), case.count), pools_of(work_of(job), cluster)
        )
        parts = Parts.begun(str(out / "ray"), case.count, part_size(case.batch), {}, overwrite=True)
        spans = [(first, parts.end(first)) for first in parts.firsts()]
        _, costs = cumulative_costs(job.cascade, job.specs)
        for _ in run_into_parts(
            decided(job, plan, spans),
            parts,
            lambda block: results_table(block, samples, job.cascade, costs),
        ):
            pass


class Hand:
    """One stage as a user would write it."""

    def __init__(self, specs, threshold: float, batch: int, before: int) -> None:
        self.models = [(load_model(spec, threads=1)[0], spec.preprocessing) for spec in specs]
        self.threshold, self.batch, self.before = threshold, batch, before

    def __call__(self, batch: dict) -> dict:
        todo = np.flatnonzero(~batch["done"])
        total = batch["total"].copy() if "total" in batch else None
        columns = {name: batch[name].copy() for name in ("done", "predicted", "score", "stage")}
        for at in range(0, len(todo), self.batch):
            rows = todo[at : at + self.batch]
            images = _images(batch, rows)
            logits = sum(model(prepared(images, recipe)) for model, recipe in self.models)
            if total is None:
                total = np.zeros((len(batch["done"]), logits.shape[1]), np.float32)
            total[rows] += logits
            mean = total[rows] / (self.before + len(self.models))
            shifted = np.exp(mean - mean.max(1, keepdims=True))
            score = (shifted / shifted.sum(1, keepdims=True)).max(1)
            columns["predicted"][rows], columns["score"][rows] = mean.argmax(1), score
            columns["stage"][rows] += 1
            columns["done"][rows] = score >= self.threshold
        if total is None:
            total = np.zeros((len(batch["done"]), 1), np.float32)
        return {**batch, **columns, "total": total}


def _images(batch: dict, rows: np.ndarray):
    if "image" in batch:
        return batch["image"][rows]
    from PIL import Image

    return [Image.open(path).convert("RGB") for path in batch["path"][rows]]


def by_hand(case: Case, out: Path) -> None:
    job = case.job
    dataset = job.source.open(list(job.specs.values()))
    with connect():
        ray_data()
        rows, size = np.arange(case.count), 1024
        column = "image" if job.source.spec.endswith(".npz") else "path"
        whole = dataset.read(rows) if column == "image" else None
        if whole is None:
            folder = Path(job.source.spec)
            whole = np.array([str(folder / name) for name in dataset.samples.ids])
            size = 32
        data = ray.data.from_items(
            [
                {
                    "row": row,
                    column: whole[row],
                    "done": False,
                    "predicted": 0,
                    "score": 0.0,
                    "stage": -1,
                }
                for row in range(case.count)
            ],
            override_num_blocks=max(case.count // size, 1),
        )
        before, stages = 0, job.cascade.stages
        cpus = round(os.cpu_count() * 0.9 / len(stages), 2)
        for stage in stages:
            specs = [job.specs[name] for name in stage.models]
            data = data.map_batches(
                Hand,
                fn_constructor_args=(specs, stage.threshold, case.batch, before),
                batch_size=size,
                compute=ray.data.ActorPoolStrategy(min_size=1, max_size=2),
                num_cpus=min(cpus, 1.0),
            )
            before += len(stage.models)
        data.select_columns(["row", "predicted", "score", "stage"]).write_parquet(str(out / "hand"))


WAYS: dict[str, Callable[[Case, Path], None]] = {"local": local, "ray": on_ray, "by hand": by_hand}


def used() -> dict[int, float]:
    """Processor seconds of this process and of all that it started and that still runs."""
    own = psutil.Process()
    found = {}
    for each in (own, *own.children(recursive=True)):
        try:
            times = each.cpu_times()
            found[each.pid] = times.user + times.system
        except psutil.NoSuchProcess:
            continue
    return found


class Meter:
    """Processor seconds of a block, of processes that end meanwhile too, to half a second."""

    def __enter__(self) -> "Meter":
        import threading

        self._before, self._last, self._stop = used(), {}, threading.Event()
        self._began = time.perf_counter()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._stop.wait(0.5):
            self._last |= used()

    def __exit__(self, *_: object) -> None:
        self.wall = time.perf_counter() - self._began
        self._stop.set()
        self._thread.join()
        self._last |= used()
        self.cpu = sum(each - self._before.get(pid, 0.0) for pid, each in self._last.items())


def measured(case: Case, rounds: int, out: Path) -> dict:
    """Wall and processor seconds of each way, (rounds,), and of its start."""
    found: dict = {way: {"wall": [], "cpu": [], "start wall": [], "start cpu": []} for way in WAYS}
    for number in range(rounds):
        names = list(WAYS) if number % 2 else list(WAYS)[::-1]
        for way in names:
            for start, each in (("start ", case.few()), ("", case)):
                shutil.rmtree(out, ignore_errors=True)
                out.mkdir()
                with Meter() as meter:
                    WAYS[way](each, out)
                found[way][f"{start}wall"].append(meter.wall)
                found[way][f"{start}cpu"].append(meter.cpu)
            took = found[way]
            print(
                f"  {way}: {took['wall'][-1]:.1f} s, {took['cpu'][-1]:.1f} s of processors",
                flush=True,
            )
    return found


def once_started(found: dict, way: str, what: str) -> float:
    """Seconds of a way beyond its start: the median over rounds."""
    pairs = zip(found[way][what], found[way][f"start {what}"], strict=True)
    return float(np.median([whole - start for whole, start in pairs]))


def body(found: dict) -> list[str]:
    lines = [
        "| way | wall, s | of it start, s | once started, ms a sample | to local "
        "| processors, s | once started, to local |",
        "|---|---|---|---|---|---|---|",
    ]
    seconds, count = found["seconds"], found["samples"]
    here = {what: once_started(seconds, "local", what) for what in ("wall", "cpu")}
    for way in WAYS:
        wall, cpu = (once_started(seconds, way, what) for what in ("wall", "cpu"))
        whole = float(np.median(seconds[way]["wall"]))
        start = float(np.median(seconds[way]["start wall"]))
        spent = float(np.median(seconds[way]["cpu"]))
        lines.append(
            f"| {way} | {whole:.1f} | {start:.1f} | {1000 * wall / count:.3f} | "
            f"{wall / here['wall']:.2f}× | {spent:.1f} | {cpu / here['cpu']:.2f}× |"
        )
    return [
        *lines,
        "",
        f"{count:,} samples; {found['cascade']}; {found['groups']} samples a batch by stage.",
    ]


def page(results: dict) -> str:
    title = "A cascade on Ray, beside the local runner and one by hand"
    whole = measured_page.markdown(results, title, "make bench-ray", body)
    parts = [f"| {what} | {found:.2f} |" for what, found in results.get("parts", {}).items()]
    if not parts:
        return whole
    return "\n".join([whole, "## Parts of a job", "", "| part | |", "|---|---|", *parts, ""])


def start_of_ray(rounds: int) -> list[float]:
    """Seconds until Ray runs on this machine."""
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        with connect():
            taken.append(time.perf_counter() - began)
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--pools", default="fashion,cifar,lite")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--work", type=Path, help="keeps graphs and predictions for the next time")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, default=RESULTS / "ray.json")
    args = parser.parse_args()
    started = start_of_ray(1 if args.quick else 3)
    results: dict = {
        "conditions": {
            "processor": processor(),
            "processors": os.cpu_count(),
            "Python": platform.python_version(),
            "Ray": ray.__version__,
            "date": datetime.now(UTC).date().isoformat(),
            "rounds": args.rounds,
            "load before": round(os.getloadavg()[0], 1),
            "start of Ray, s": round(float(np.median(started)), 1),
        },
        "pools": {},
    }
    counts = {"fashion": 100_000, "cifar": 20_000, "lite": 600}
    with tempfile.TemporaryDirectory() as work:
        for name in args.pools.split(","):
            print(name, flush=True)
            world, why = WORLDS[name](args.data, args.work or Path(work), 1, True)
            if world is None:
                results["pools"][name] = {"left out": why}
                continue
            count = counts[name] // (20 if args.quick else 1)
            spec, count = tiled(world, name, Path(work), count)
            cascade = world.known(world.chosen)
            job = job_of(LoadedCascade(cascade), Source(spec, cascade.classes), world.batch)
            case = Case(job, count, world.batch)
            if name == "fashion":
                few = 2_000 if args.quick else 10_000
                results["parts"] = {
                    **ray_parts.driver(Path(work)),
                    **ray_parts.photographs((args.data or DATA) / "imagenet_sample"),
                    **ray_parts.batches(job, few),
                }
            results["pools"][name] = {
                "what": world.what,
                "samples": count,
                "cascade": str(cascade),
                "groups": "/".join(map(str, groups_of(job, reach_of(cascade), count))),
                "seconds": measured(case, args.rounds, Path(work) / "out"),
            }
            measured_page.write(results, args.out, page)
    print(args.out.with_suffix(".md").read_text())


if __name__ == "__main__":
    main()
