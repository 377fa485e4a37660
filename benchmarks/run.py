"""Time running a cascade on the embedded pool against the ideal and against loops written by hand.

    python benchmarks/run.py

All are run in turns on the same pictures. The ideal is the sum over stages of the share of pictures
that reach a stage times what its model alone takes a picture, preprocessing included; it has no
decisions and no gathering.
"""

import time

import numpy as np

import committee as cm
from committee.embedded import pictures, pool_file
from committee.models import load_model, prepared
from committee.predict import predict
from committee.run import Runner

BATCH = 64
ROUNDS = 7
ONE_BY_ONE = 1000


def softmax_max(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max(1, keepdims=True))
    return (exponentials / exponentials.sum(1, keepdims=True)).max(1)


def by_hand_in_batches(models: list, thresholds: list[float], inputs: np.ndarray) -> np.ndarray:
    """Stage by stage with boolean masks, as a user would write it."""
    total = np.zeros((len(inputs), 10))
    predicted = np.zeros(len(inputs), int)
    undecided = np.ones(len(inputs), bool)
    for k, model in enumerate(models):
        rows = np.flatnonzero(undecided)
        chunks = [model(inputs[rows[i : i + BATCH]]) for i in range(0, len(rows), BATCH)]
        total[rows] += np.concatenate(chunks)
        mean = total[rows] / (k + 1)
        predicted[rows] = mean.argmax(1)
        if k < len(thresholds):
            undecided[rows[softmax_max(mean) >= thresholds[k]]] = False
    return predicted


def by_hand_one_by_one(models: list, thresholds: list[float], inputs: np.ndarray) -> np.ndarray:
    """Picture by picture with an if."""
    predicted = []
    for i in range(len(inputs)):
        total = np.zeros((1, 10))
        for k, model in enumerate(models):
            total += model(inputs[i : i + 1])
            if k == len(thresholds) or softmax_max(total / (k + 1))[0] >= thresholds[k]:
                break
        predicted.append(total.argmax())
    return np.array(predicted)


def seconds(function, *arguments) -> float:
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


def main() -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        val = cm.Pool.load(predict(pool_file(), pictures("val"), folder, batch_size=BATCH))
    chosen = cm.search(val, 3).matching("large").cascade
    if any(len(stage.models) > 1 for stage in chosen.stages):
        raise SystemExit(f"this benchmark wants one model a stage, not {chosen}")
    runner = Runner(chosen)
    largest = Runner(cm.search(val.only(["large"]), 1)[0].cascade)
    dataset = pictures("test")
    images = dataset.read(np.arange(len(dataset.samples)))
    specs = {spec.name: spec for spec in pool_file().models}
    models = [load_model(specs[name])[0] for name in chosen.names]
    recipe = specs[chosen.names[0]].preprocessing
    decisions = runner.decide(images, BATCH)
    reach = [float((decisions.stage >= k).mean()) for k in range(len(models))]
    print(f"{chosen}, thresholds {chosen.thresholds}, reach {reach}, {len(images)} pictures")
    for name, some, batch, by_hand in (
        (f"batches of {BATCH}", images, BATCH, by_hand_in_batches),
        ("one by one", images[:ONE_BY_ONE], 1, by_hand_one_by_one),
    ):
        report(name, some, batch, by_hand, runner, largest, models, chosen, recipe)


def report(name, images, batch, by_hand, runner, largest, models, chosen, recipe) -> None:
    thresholds = list(chosen.thresholds)

    def bare(model) -> None:
        inputs = prepared(images, recipe)
        for i in range(0, len(inputs), batch):
            model(inputs[i : i + batch])

    def ours(which) -> np.ndarray:
        if batch > 1:
            return which.decide(images, batch).predicted
        return np.array([which(image).class_index for image in images])

    def hand() -> np.ndarray:
        return by_hand(models, thresholds, prepared(images, recipe))

    assert (ours(runner) == hand()).all()
    times: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for key, function, arguments in (
            ("committee", ours, (runner,)),
            ("by hand", hand, ()),
            ("largest", ours, (largest,)),
            *((f"bare {k}", bare, (model,)) for k, model in enumerate(models)),
        ):
            times.setdefault(key, []).append(seconds(function, *arguments))
    median = {key: float(np.median(each)) / len(images) * 1e3 for key, each in times.items()}
    stages = runner.decide(images, BATCH).stage
    ideal = sum((stages >= k).mean() * median[f"bare {k}"] for k in range(len(models)))
    print(f"\n{name}, median of {ROUNDS} rounds, ms a picture:")
    for key, value in (*median.items(), ("ideal", ideal)):
        print(f"  {key:10} {value:.4f}")
    print(f"  committee / ideal   {median['committee'] / ideal:.3f}")
    print(f"  committee / by hand {median['committee'] / median['by hand']:.3f}")
    print(f"  largest / committee {median['largest'] / median['committee']:.2f}")


if __name__ == "__main__":
    main()
