"""Check that a tag names the version of the package, which src/committee/version.py holds.

    python release/version.py v0.2.0

CITATION.cff and the first section of CHANGELOG.md must name the same version.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PLACES = {
    "src/committee/version.py": r'__version__ = "(.+)"',
    "CITATION.cff": r"^version: (.+)$",
    "CHANGELOG.md": r"^## ([^,\n]+)",
}


def versions(root: Path = ROOT) -> dict[str, str]:
    """Return the version that each of the places names."""
    found = {}
    for place, pattern in PLACES.items():
        text = (root / place).read_text(encoding="utf-8")
        match = re.search(pattern, text, re.MULTILINE)
        found[place] = match[1] if match else "none"
    return found


def main() -> int:
    """Return 1 if the places or the tag disagree."""
    found = versions() | {f"tag {tag}": tag.removeprefix("v") for tag in sys.argv[1:]}
    if len(set(found.values())) == 1:
        return 0
    print(*(f"{place}: {version}" for place, version in found.items()), sep="\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
