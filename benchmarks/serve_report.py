"""What benchmarks/serve.py measured, as a page for people."""

import measured_page


def markdown(results: dict) -> str:
    """The page; every figure stands in the JSON file too."""
    return measured_page.markdown(
        results, "Serving a cascade, measured", "make bench-serve", _of_pool
    )


def _of_pool(found: dict) -> list[str]:
    loads = [*_loads(found), *_goals(found)] if "loads" in found else []
    return [*loads, *(_soak(found["soak"]) if "soak" in found else [])]


def _loads(found: dict) -> list[str]:
    reach = " / ".join(f"{100 * share:.1f} %" for share in found["reach"])
    servers = list(next(iter(found["loads"].values())))
    lines = [
        f"{found['cascade']}, reached by {reach} of the images; the largest is {found['largest']}. "
        "Images a second; milliseconds to an answer (median / 99th percentile); milliseconds of "
        "the server's processor for each image. "
        f"Measured {found['conditions']['date']}, {found['conditions']['rounds']} rounds, "
        f"load before {found['conditions']['load before']}.",
        "",
        f"| load | {' | '.join(servers)} |",
        f"|---|{'---|' * len(servers)}",
    ]
    for load, each in found["loads"].items():
        lines.append(f"| {load} | {' | '.join(_cell(each[name]) for name in servers)} |")
    return [*lines, ""]


def _cell(data: dict) -> str:
    if data["p50"] is None:
        return "no answer in time: this rate is more than it can"
    times = f"{data['p50']:.2f} / {data['p99']:.1f}"
    return f"{data['images_per_second']:,.0f}; {times}; {data['server_ms']:.3f}"


def _goals(found: dict) -> list[str]:
    lines = [
        "In processor time of the server, but for images a second: at saturation, and at one "
        "request at a time.",
        "",
    ]
    for name, figures in found["goals"].items():
        lines += [f"| {name} | measured | asked | |", "|---|---|---|---|"]
        for key, value in figures.items():
            level = found["asked"][name].get(key)
            lines.append(f"| {key} | {value:.3f} | {_verdict(value, level, key)} |")
        lines.append("")
    return lines


def _verdict(value: float, level: float | None, key: str) -> str:
    """What is asked of a figure, and whether it is met; both are empty if nothing is."""
    if level is None:
        return " | "
    if key == "more":
        return f"at most {level:g} | {'met' if value <= level else 'missed'}"
    return f"at least {level:.3g} | {'met' if value >= level else 'missed'}"


def _soak(data: dict) -> list[str]:
    mb = data["mb"]
    slope = "unknown" if mb["per hour"] is None else f"{mb['per hour']:+.1f}"
    return [
        f"**{data['minutes']:g} minutes at {data['per_second']:.0f} requests a second**, "
        f"{100 * data['share']:.0f} % of what it can: {data['answers']:,} answers, none failed. "
        f"Memory {mb['first']:.0f} MB after 10 s, {mb['last']:.0f} MB at the end, "
        f"{mb['most']:.0f} MB at most, {slope} MB an hour after the first tenth. "
        f"99th percentile of 10 s: {data['p99']['median']:.1f} ms in the middle, "
        f"{data['p99']['most']:.1f} ms at most. "
        f"Measured {data['conditions']['date']}, load before {data['conditions']['load before']}.",
        "",
    ]
