"""Run the tests of the core on an installed wheel, in an environment without the extras.

    python release/installed.py [--plain]

The tests import the package that is installed, never the source tree beside them; ``--plain`` says
that it has no compiled part. They need pytest and hypothesis beside it.
"""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parent.parent
# Rules, pools, search by both parts, evaluation, certificates: all that needs no extra.
CORE = """
    cascade certify choice confidence evaluate exact_tests laws metrics monitors normalise outcomes
    pool sample_costs search statistics threshold_histograms
"""


def main() -> int:
    """Return what pytest returns, or 1 if it would not test the installed wheel."""
    package = find_spec("committee")
    if package is None or package.origin is None:
        print("committee is not installed")
        return 1
    if Path(package.origin).is_relative_to(ROOT / "src"):
        print(f"{package.origin} is the source tree, not an installed wheel")
        return 1
    compiled = find_spec("committee._native") is not None
    if compiled == ("--plain" in sys.argv):
        print(f"{package.origin}: compiled part {'present' if compiled else 'missing'}")
        return 1
    print(f"testing {package.origin}", flush=True)
    files = [str(ROOT / "tests" / f"test_{name}.py") for name in CORE.split()]
    options = ["-p", "no:cacheprovider", "-rs"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.call([sys.executable, "-m", "pytest", *options, *files], env=environment)


if __name__ == "__main__":
    sys.exit(main())
