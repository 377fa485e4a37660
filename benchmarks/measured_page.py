"""What benchmarks measured of several pools, as JSON for programs and as a page for people."""

import json
import os
from collections.abc import Callable
from pathlib import Path


def markdown(results: dict, title: str, command: str, body: Callable[[dict], list[str]]) -> str:
    """The page; every figure stands in the JSON file too. ``body`` has the lines of a pool."""
    lines = [f"# {title}", ""]
    if results["conditions"]:
        data = ", ".join(f"{key}: {value}" for key, value in results["conditions"].items())
        lines += [f"By `{command}`. {data[0].upper()}{data[1:]}.", ""]
    for name, found in results["pools"].items():
        lines += [f"## {name}", ""]
        if "left out" in found:
            lines += [f"Left out: {found['left out']}", ""]
            continue
        lines += [f"{found['what'][0].upper()}{found['what'][1:]}.", "", *body(found)]
    return "\n".join(lines) + "\n"


def write(results: dict, out: Path, page: Callable[[dict], str]) -> None:
    """Write the JSON file and the page beside it, with the load of the machine at the end."""
    # A soak that is added to a page leaves the conditions of the rest.
    results["conditions"].setdefault("load after", round(os.getloadavg()[0], 1))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(results, indent=1) + "\n")
    out.with_suffix(".md").write_text(page(results))
