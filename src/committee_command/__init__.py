"""The command's first lines, outside the package: Ctrl-C is answered while the package loads."""

import sys


def main() -> int:
    """Load the command line and run it; return the exit code."""
    try:
        from committee.cli import main as run
    except KeyboardInterrupt:
        sys.stderr.write("committee: stopped. Run the same command again\n")
        return 130
    return run()
