"""What benchmarks/serve.py measured, as a page for people."""


def markdown(results: dict) -> str:
    """The page; every figure stands in the JSON file too."""
    lines = ["# Serving a cascade, measured", ""]
    if results["conditions"]:
        data = ", ".join(f"{key}: {value}" for key, value in results["conditions"].items())
        lines += [f"By `make bench-serve`. {data[0].upper()}{data[1:]}.", ""]
    for name, found in results["pools"].items():
        lines += [f"## {name}", ""]
        if "left out" in found:
            lines += [f"Left out: {found['left out']}", ""]
            continue
        lines += [f"{found['what'][0].upper()}{found['what'][1:]}.", ""]
        lines += _soak(found["soak"]) if "soak" in found else [*_loads(found), *_goals(found)]
    return "\n".join(lines) + "\n"


def _loads(found: dict) -> list[str]:
    reach = " / ".join(f"{100 * share:.1f} %" for share in found["reach"])
    servers = list(next(iter(found["loads"].values())))
    lines = [
        f"{found['cascade']}, reached by {reach} of the images; the largest is {found['largest']}. "
        "Images a second; milliseconds to an answer (median / 99th percentile); milliseconds of "
        "the server's processor for each image.",
        "",
        f"| load | {' | '.join(servers)} |",
        f"|---|{'---|' * len(servers)}",
    ]
    for load, each in found["loads"].items():
        cells = [
            f"{each[name]['images_per_second']:,.0f}; {each[name]['p50']:.2f} / "
            f"{each[name]['p99']:.1f}; {each[name]['server_ms']:.3f}{_failed(each[name])}"
            for name in servers
        ]
        lines.append(f"| {load} | {' | '.join(cells)} |")
    return [*lines, ""]


def _failed(data: dict) -> str:
    return f"; **{data['failed']} failed**" if data["failed"] else ""


def _goals(found: dict) -> list[str]:
    lines = ["In processor time of the server at saturation, and at one request at a time:", ""]
    for name, row in found["goals"].items():
        lines.append(f"- {name}: " + "; ".join(f"{key} {value:.3f}" for key, value in row.items()))
    return [*lines, ""]


def _soak(data: dict) -> list[str]:
    mb = data["mb"]
    slope = "unknown" if mb["per hour"] is None else f"{mb['per hour']:+.1f}"
    return [
        f"**{data['minutes']:g} minutes at {data['per_second']:.0f} requests a second**, 70 % of "
        f"what it can: {data['failed']} failed of about {data['answers']:,.0f}. Memory "
        f"{mb['first']:.0f} MB after 10 s, {mb['last']:.0f} MB at the end, {mb['most']:.0f} MB at "
        f"most, {slope} MB an hour after the first tenth. 99th percentile of 10 s: "
        f"{data['p99']['median']:.1f} ms in the middle, {data['p99']['most']:.1f} ms at most.",
        "",
    ]
