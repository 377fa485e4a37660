"""What benchmarks/run.py measured, as a page for people."""

import measured_page


def markdown(results: dict) -> str:
    """The page; every figure stands in the JSON file too."""
    return measured_page.markdown(results, "Running cascades, measured", "make bench-run", _of_pool)


def _of_pool(found: dict) -> list[str]:
    photographs = _photographs(found["photographs"]) if "photographs" in found else []
    return [
        *_offline(found["offline"]),
        *photographs,
        *_online(found["online"]),
        *_committees(found),
    ]


def _ratio(data: dict) -> str:
    low, high = data["quartiles"]
    return f"{data['median']:.3f} ({low:.3f}-{high:.3f})"


def _reach(data: dict) -> str:
    return " / ".join(f"{100 * share:.1f} %" for share in data["reach"])


def _offline(data: dict) -> list[str]:
    ms = data["ms"]
    return [
        f"**Offline, in memory**: {data['cascade']}, reached by {_reach(data)} of "
        f"{data['images']} images, batches of {data['batch']}. Median of the rounds, quartiles "
        "in brackets.",
        "",
        f"- Milliseconds an image: {ms['committee']:.4f}; the ideal {ms['ideal']:.4f}; by hand "
        f"{ms['by hand']:.4f}.",
        f"- Share of the ideal rate: {_ratio(data['of the ideal rate'])}; in processor time, which "
        f"other jobs disturb less, {_ratio(data['of the ideal rate, processor time'])}.",
        f"- Time over that of the loop by hand: {_ratio(data['time over by hand'])}; in processor "
        f"time {_ratio(data['time over by hand, processor time'])}.",
        "",
    ]


def _photographs(data: dict) -> list[str]:
    ms = data["ms"]
    return [
        f"**Offline, from JPEG files**: {data['images']} photographs, batches of "
        f"{data['batch']}, {data['threads that read']} threads that read.",
        "",
        f"- Milliseconds an image: {ms['committee']:.2f}; decoding alone {ms['decoding']:.2f}; "
        f"the ideal of the models {ms['ideal']:.2f}.",
        f"- The larger of the two over ours: {_ratio(data['of the larger limit'])}; what the cores "
        f"allow over ours: {_ratio(data['of what the cores allow'])}.",
        "",
    ]


def _online(data: dict) -> list[str]:
    lines = [
        f"**Online, batch 1**: {data['images']} images, all in turns on each; "
        f"{data['models that ran, mean']:.2f} models run on average. "
        "The mean is that of the middle 90 % of the calls.",
        "",
        "| ms | mean | all calls | p50 | p90 | p99 | worst |",
        "|---|---|---|---|---|---|---|",
    ]
    names = {
        "committee": "committee, from image to decision",
        "bare": "the calls of the models that ran, inputs ready",
        "preparing": "preparing these inputs",
        "by hand": "by hand, with an if",
        "largest": f"{data['largest']} alone, by committee",
    }
    for part, what in names.items():
        p = data["percentiles_ms"][part]
        cells = [data["trimmed_mean_ms"][part], data["mean_ms"][part]]
        cells += [p["p50"], p["p90"], p["p99"], p["max"]]
        lines.append(f"| {what} | " + " | ".join(f"{each:.3f}" for each in cells) + " |")
    above, allowed = data["ms above bare"], data["allowed ms above bare"]
    prepared = data["trimmed_mean_ms"]["preparing"]
    return [
        *lines,
        "",
        f"- Above the bare calls: {above:.3f} ms, {above - prepared:.3f} without preparing; the "
        f"bound of 2 % and 0.1 ms is {allowed:.3f} ms.",
        f"- Time over that of the loop by hand: {data['time over by hand']:.3f}; the median "
        f"difference is {1e3 * data['median difference to by hand, ms']:.0f} microseconds.",
        f"- First call after `warm`: {data['first call after warm, ms']:.3f} ms.",
        "",
    ]


def _committees(found: dict) -> list[str]:
    rows = found["committees"]
    lines = [
        "| committee | accuracy on test, % | M multiply-adds | latency, ms (p99) | images/s | "
        "speedup: multiply-adds | latency | throughput |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        low, high = (100 * each for each in row["interval"])
        times = [f"{row['speedup'][key]:.2f}" for key in ("macs", "latency", "throughput")]
        lines.append(
            f"| {row['committee']}: {row['cascade']} | {100 * row['test_accuracy']:.2f} "
            f"({low:.2f}-{high:.2f}) | {row['macs'] / 1e6:.1f} | {row['latency_ms']:.3f} "
            f"({row['latency_p99_ms']:.3f}) | {row['per_second']:.0f} | " + " | ".join(times) + " |"
        )
    samples = rows[0]["samples"]
    return [
        "**What a user gets**",
        "",
        *lines,
        "",
        f"{samples} samples evaluate, 95 % intervals.",
        *(_shortfall(found, row) for row in rows[1:]),
        "",
    ]


def _shortfall(found: dict, row: dict) -> str:
    """Where the speedup in time falls short of that in multiply-adds, and why."""
    largest = found["committees"][0]["cascade"]
    models = found["models"]
    parts = row["cascade"].replace("+", " -> ").split(" -> ")
    reach = _reached(row)
    data = []
    for key, own, what in (
        ("latency", "ms one by one", "latency"),
        ("throughput", "ms in batches", "throughput"),
    ):
        ideal = models[largest][own] / sum(
            share * models[name][own] for share, name in zip(reach, parts, strict=True)
        )
        promised, measured = row["speedup"]["macs"], row["speedup"][key]
        if measured >= 0.99 * promised:
            data.append(f"{what} gains no less than multiply-adds promise")
            continue
        data.append(
            f"{what} is {measured:.2f} times better where multiply-adds promise {promised:.2f}: "
            f"the models' own times at these exits allow {ideal:.2f}, for a billion multiply-adds "
            f"take {_rates(models, parts, largest, own)}"
        )
    return f"- {row['committee']}: {'; '.join(data)}."


def _reached(row: dict) -> list[float]:
    """Share of samples that each model runs on."""
    shares, left = [], 1.0
    stages = row["cascade"].split(" -> ")
    for stage, exiting in zip(stages, row["exit_ratios"], strict=True):
        shares += [left] * len(stage.split("+"))
        left -= exiting
    return shares


def _rates(models: dict, parts: list[str], largest: str, own: str) -> str:
    def rate(name: str) -> float:
        return models[name][own] / models[name]["macs"] * 1e9

    names = dict.fromkeys([*parts, largest])
    return ", ".join(f"{rate(name):.1f} ms in {name}" for name in names)
