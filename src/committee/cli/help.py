"""Help texts: what a bare ``committee`` shows, the groups of commands, the panels of options."""

from __future__ import annotations

import re
from textwrap import wrap
from typing import Any

from typer.core import TyperCommand

from committee.errors import CommitteeError

START = """\
Runs the cheap model first and the big one only when the cheap one is unsure.
  committee demo                      does the whole job on six small networks
  committee predict POOL.toml ...     runs your models; or import outputs
  committee search STORE --match BIG  finds the cheapest cascade as accurate
  committee --help                    lists all commands
"""

# Every group of commands with its title in `committee --help`.
GROUPS = {
    "Begin": ("demo",),
    "Outputs of models": ("predict", "import", "relabel", "profile", "costs", "calibrate"),
    "Choose": ("search", "certify", "label", "evaluate", "study", "report"),
    "Run": ("run", "serve", "watch", "verify", "export", "export-onnx"),
}

# The panels of the commands that choose, and of those that load models, with their options in a
# word. Options of no panel stand under "Options".
_OUTPUT = "out figure list_front per_stage overwrite show_tiles as_json help"
_CHOOSE = {
    "What you want": (
        "match within min_accuracy max_cost agree_with against promise level cascade_of ensemble "
        "worst_case average_case cost_limit cascade"
    ),
    "Which committees": (
        "max_models confidence combine grid families self_cascades calibrated method keep tiles"
    ),
    "Where it is evaluated": "split test metric unit labels seed",
    "Options": "",
    "Output": _OUTPUT,
}
_LOAD = {
    "Samples": "data split rows fraction seed labels unlabelled skip_broken",
    "Models": "pool only batch_size dtype engine module allow_code",
    "On Ray": "on address actors replicas target cpus gpus",
    "Options": "",
    "Output": _OUTPUT,
}

# What typer puts around the name of an argument.
_BRACES = re.compile(r"^\{|\.*\}")
# Parameters that name files of this machine, and how an address in their place looks as a path.
_PLACES = ("out", "pool", "results", "state", "store")
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/+")


class Command(TyperCommand):
    """A command whose help shows its options in panels, and whose paths are no addresses."""

    def invoke(self, ctx: Any) -> Any:
        """Call the command; refuse addresses where a path of this machine is meant."""
        parts = ctx.info_name == "run" and ctx.params.get("on")
        for name in _PLACES:
            value = None if parts and name == "out" else ctx.params.get(name)
            for each in value if isinstance(value, list) else [value]:
                found = _ADDRESS.match(str(each))
                if found:
                    raise CommitteeError(
                        f"{found[0].rstrip('/')}//{str(each)[found.end() :]}: is an address, and "
                        "a path of this machine is meant. Bring what is there to a disk, or write "
                        "here and copy it; addresses are for --data, and for --out of run --on ray"
                    )
        return super().invoke(ctx)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the usage with arguments as the help names them: STORE, not {STORE}."""
        return [_BRACES.sub("", piece) for piece in super().collect_usage_pieces(ctx)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments, then each panel that has options."""
        panels = _CHOOSE if ctx.info_name in GROUPS["Choose"] else _LOAD
        place = {name: panel for panel, names in panels.items() for name in names.split()}
        sections: dict[str, list[tuple[str, str]]] = {"Arguments": [], **{p: [] for p in panels}}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                own = place.get(str(parameter.name), "Options")
                argument = parameter.param_type_name == "argument"
                names, text = record
                names = names.replace(" range>", ">")  # The text has the range.
                sections["Arguments" if argument else own].append((names, text))
        for title, records in sections.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the example so that it can be copied."""
        if self.epilog:
            with formatter.section("Example"):
                # A line that goes on ends in a backslash; a whole one has its room.
                width = 78 if len(self.epilog) <= 78 else 74
                lines = wrap(self.epilog, width, break_long_words=False, break_on_hyphens=False)
                formatter.write("  " + " \\\n      ".join(lines) + "\n")
