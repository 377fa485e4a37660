"""Check what is in an sdist and in wheels, and how large they are.

    python release/contents.py dist/*

Every wheel must have the files of the package, byte by byte, and one compiled part: no tests, no
objects, no local builds. So a wheel made of an sdist is the one that the source tree makes.
"""

import sys
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parent.parent
# 3.8 MB are the demo's images and 2.2 its networks, and both are compressed already.
MOST = {".whl": 7_300_000, ".gz": 7_300_000}
COMPILED = "committee/_native"
SOURCES = ("committee", "committee_command")
# What an sdist holds beside the folder src.
BUILD = {
    ".gitignore", "CHANGELOG.md", "CITATION.cff", "CMakeLists.txt", "LICENSE", "PKG-INFO",
    "README.md", "pyproject.toml",
}  # fmt: skip


def package_files(root: Path = ROOT) -> set[str]:
    """Return the files of the package in the source tree, without local builds."""
    source = root / "src"
    files = (path for name in SOURCES for path in (source / name).rglob("*") if path.is_file())
    return {
        path.relative_to(source).as_posix()
        for path in files
        if "__pycache__" not in path.parts and path.suffix not in {".so", ".pyd"}
    }


def files_of_wheel(path: Path) -> tuple[set[str], list[str]]:
    """Return the files of the package in a wheel, and those of its compiled part."""
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
    own = {name for name in names if ".dist-info/" not in name}
    compiled = [n for n in own if n.startswith(COMPILED) and not n.endswith(".pyi")]
    return own - set(compiled), sorted(compiled)


def wrong_in_wheel(path: Path, expected: set[str]) -> list[str]:
    """Return what is wrong with a wheel."""
    files, compiled = files_of_wheel(path)
    wrong = [f"lacks {name}" for name in sorted(expected - files)]
    wrong += [f"has {name}" for name in sorted(files - expected)]
    with zipfile.ZipFile(path) as archive:
        for name in sorted(files & expected):
            if archive.read(name) != (ROOT / "src" / name).read_bytes():
                wrong.append(f"has another {name}")
    wanted = 0 if path.name.endswith("-none-any.whl") else 1
    if len(compiled) != wanted:
        wrong.append(f"has {len(compiled)} compiled parts instead of {wanted}: {compiled}")
    return wrong


def wrong_in_sdist(path: Path, expected: set[str]) -> list[str]:
    """Return what is wrong with an sdist."""
    with tarfile.open(path) as archive:
        names = [PurePosixPath(each.name) for each in archive.getmembers() if each.isfile()]
    found = {PurePosixPath(*name.parts[1:]).as_posix() for name in names}
    native = {f"src/native/{each.name}" for each in (ROOT / "src/native").glob("*.?pp")}
    wanted = {f"src/{name}" for name in expected} | native | BUILD
    wrong = [f"lacks {name}" for name in sorted(wanted - found)]
    return wrong + [f"has {name}" for name in sorted(found - wanted)]


def wrong_in(path: Path) -> list[str]:
    """Return what is wrong with an sdist or a wheel; empty if nothing is."""
    check = wrong_in_wheel if path.suffix == ".whl" else wrong_in_sdist
    wrong = check(path, package_files())
    size, most = path.stat().st_size, MOST[path.suffix]
    if size > most:
        wrong.append(f"has {size:,} bytes, more than {most:,}")
    return wrong


def main() -> int:
    """Print the size of each file and what is wrong with it."""
    failed = 0
    for name in sys.argv[1:]:
        path = Path(name)
        wrong = wrong_in(path)
        failed += bool(wrong)
        print(f"{path.stat().st_size / 1e6:.2f} MB  {path.name}")
        print(*(f"    {each}" for each in wrong), sep="\n" if wrong else "", end="\n" * bool(wrong))
    return 1 if failed or len(sys.argv) == 1 else 0


if __name__ == "__main__":
    sys.exit(main())
