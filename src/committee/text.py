"""Text for people: safe names, short lists, numbers with units; and cells of csv files."""

from __future__ import annotations

import csv
import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from html import escape
from typing import Literal

# How many names a list shows.
LISTED = 5
# Characters that a terminal obeys or hides: controls, right-to-left marks, line separators.
_UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})

# A spreadsheet takes this for a formula, after any apostrophes, unless it is a number.
_FORMULA = re.compile(r"('*)[=+\-@\t\r].*", re.DOTALL)
_NUMBER = re.compile(r"'*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
# Units of large counts, largest first.
_MULTIPLES = ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k"))
_COUNTED = frozenset({"macs", "params"})
_SHORT_UNITS = {"latency_ms": "ms", "ms_per_sample": "ms/sample"}

# How a figure is rounded. A lower bound goes down and an upper bound up, so that a printed bound is
# never better than the true one.
Side = Literal["nearest", "down", "up"]
_ROUNDINGS = {"down": ROUND_FLOOR, "up": ROUND_CEILING}


def printable(text: str) -> str:
    r"""Return text with escapes for every character that a terminal would obey or hide.

    Undecodable bytes of a file name, which Python stores as lone surrogates, become ``\xe9``.

    >>> print(printable("a\x1b]0;b\x07c"))
    a\x1b]0;b\x07c
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_escaped, text))


def _escaped(character: str) -> str:
    if unicodedata.category(character) not in _UNPRINTABLE:
        return character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")


def writable(text: str) -> str:
    r"""Return text that UTF-8 can hold: undecodable bytes of a file name become ``\xe9``.

    >>> print(writable("caf\udce9.png"))
    caf\xe9.png
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return "".join(_escaped(c) if unicodedata.category(c) == "Cs" else c for c in text)
    return text


def listed(names: Collection[object], most: int = LISTED) -> str:
    """Return the first names, quoted, and the number of the others.

    >>> listed(["a", "b", "c"], most=2)
    "'a', 'b' and 1 more"
    """
    shown = [f"'{printable(str(name))}'" for name, _ in zip(names, range(most), strict=False)]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more:,} more" if more else "")


def first_line(error: BaseException) -> str:
    r"""Return an error's type and the first line of its message.

    >>> first_line(ValueError("wrong\nfor a long reason"))
    'ValueError: wrong'
    """
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no reason given'}"


def brief(text: str, most: int = 500) -> str:
    """Return a reason that holds text of strangers: printable, and of bounded length.

    >>> brief("no 'aaaaaaaa'", 6)
    "no 'aa…"
    """
    shown = printable(text[: most + 1])
    return shown if len(shown) <= most else f"{shown[:most]}…"


def tidy(name: str) -> str:
    r"""Return a name for comparison: Unicode NFC, no byte order mark, no outer spaces.

    >>> tidy("\ufeffrose\u0301 ")
    'rosé'
    """
    return unicodedata.normalize("NFC", name).replace("\ufeff", "").strip()


def word(name: str) -> str:
    """Return a name in small letters, with ``_`` for everything but letters and digits.

    >>> word("Sample ID"), word("cost (USD)")
    ('sample_id', 'cost_usd')
    """
    return re.sub(r"[\W_]+", "_", tidy(name).casefold()).strip("_")


def difference(one: str, two: str) -> str:
    """Return the characters in which two similar names differ; empty if they are not similar.

    >>> difference("red", "Red")
    "'red' and 'Red' differ in upper and lower case only"
    >>> difference("a-b", "a_b")
    "'a-b' and 'a_b' differ in U+002D against U+005F"
    """
    if one == two or _look(one) != _look(two):
        return ""
    names = f"'{printable(one)}' and '{printable(two)}'"
    if one.casefold() == two.casefold():
        return f"{names} differ in upper and lower case only"
    start = _common(one, two)
    end = _common(one[start:][::-1], two[start:][::-1])
    codes = (
        " ".join(f"U+{ord(c):04X}" for c in text[start : len(text) - end][:LISTED])
        for text in (one, two)
    )
    first, second = (each or "nothing" for each in codes)
    return f"{names} differ in {first} against {second}"


def _common(one: str, two: str) -> int:
    pairs = enumerate(zip(one, two, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(two)))


def changes(then: object, now: object) -> tuple[object, object]:
    """Return two values, reduced to the keys that differ if they are tables, at any depth.

    >>> changes({"crop": 1.0, "exif": False}, {"crop": 0.9, "exif": False})
    ({'crop': 1.0}, {'crop': 0.9})
    """
    if not isinstance(then, Mapping) or not isinstance(now, Mapping):
        return then, now
    keys = [key for key in {**then, **now} if then.get(key) != now.get(key)]
    pairs = {key: changes(then.get(key), now.get(key)) for key in keys}
    before = {key: pair[0] for key, pair in pairs.items()}
    return before, {key: pair[1] for key, pair in pairs.items()}


def _look(name: str) -> str:
    """Return a name without case, spacing, invisible marks and variant forms."""
    shown = unicodedata.normalize("NFKC", name).casefold()
    return "".join(c for c in shown if c.isalnum() or not (c in "_- " or _escaped(c) != c))


def cell(value: object) -> object:
    """Return a value for a csv file: text that a spreadsheet would run as a formula is quoted.

    :func:`from_cell` is the inverse.

    >>> cell("=1+1"), cell("-5"), cell("red"), cell(-0.5)
    ("'=1+1", '-5', 'red', -0.5)
    """
    return f"'{value}" if isinstance(value, str) and _is_formula(value) else value


def csv_text(rows: Iterable[Iterable[object]]) -> str:
    r"""Return rows as csv that every reader reads back, with line feeds at the ends of lines.

    >>> csv_text([["id", "cost"], ["a\rb", 0.5]])
    'id,cost\n"a\rb",0.5\n'
    """
    lines = _Lines()
    # The writer quotes the characters of its own line ends, so both must be in them.
    csv.writer(lines, lineterminator="\r\n").writerows([*map(cell, row)] for row in rows)
    return "".join(lines)


class _Lines(list[str]):
    def write(self, line: str) -> None:
        self.append(line.removesuffix("\r\n") + "\n")


def from_cell(text: str) -> str:
    """Return the text that :func:`cell` was given.

    >>> from_cell("'=1+1"), from_cell("'tis")
    ('=1+1', "'tis")
    """
    return text[1:] if text.startswith("'") and _is_formula(text) else text


def is_ours(header: Collection[str]) -> bool:
    """Return True if a csv file has the columns of our results, which :func:`cell` wrote."""
    return {"id", "class_index", "class_name"} <= set(header)


def _is_formula(text: str) -> bool:
    return bool(_FORMULA.fullmatch(text)) and not _NUMBER.fullmatch(text)


def counted(count: int, what: str) -> str:
    """Return so many of something.

    >>> counted(1, "model"), counted(2000, "model")
    ('1 model', '2,000 models')
    """
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def about(count: float, what: str) -> str:
    """Return an estimate of how many of something are needed, rounded up to two digits.

    >>> about(31_122, "sample"), about(7, "sample")
    ('about 32,000 samples', 'about 7 samples')
    """
    return f"about {counted(int(to_digits(count, 2, 'up')), what)}"


def to_decimals(value: float, decimals: int, side: Side) -> float:
    """Return a number rounded down or up to some decimals; ``nearest`` leaves it to the format.

    A double that is a round figure but for its last digits counts as that figure.

    >>> to_decimals(0.12345, 4, "down"), to_decimals(-0.12345, 4, "down")
    (0.1234, -0.1235)
    >>> to_decimals(1 - 0.07, 4, "down")  # 0.9299999999999999
    0.93
    """
    if side == "nearest":
        return value
    step = Decimal(1).scaleb(-decimals)
    # No minus before a zero.
    return float(_meant(value).quantize(step, _ROUNDINGS[side])) + 0.0


def to_digits(value: float, digits: int, side: Side) -> float:
    """Return a number rounded as by :func:`to_decimals`, to some digits.

    >>> to_digits(123_456, 3, "up"), to_digits(0.0012345, 3, "down"), to_digits(0.005, 3, "up")
    (124000.0, 0.00123, 0.005)
    """
    return to_decimals(value, digits - 1 - _meant(value).adjusted(), side)


def _meant(value: float) -> Decimal:
    return Decimal(f"{value:.12g}")


def percent(share: float, side: Side = "nearest") -> str:
    """Return a share of 1 as a percentage.

    >>> percent(0.93456), percent(0.93456, "down")
    ('93.46 %', '93.45 %')
    """
    return f"{100 * to_decimals(share, 4, side):.2f} %"


def points(difference: float, side: Side = "nearest") -> str:
    """Return a difference of two shares of 1, in percentage points with its sign.

    >>> points(0.0123), points(-0.0123), points(-0.00123456, "down")
    ('+1.23', '−1.23', '−0.13')
    """
    return f"{100 * to_decimals(difference, 4, side) + 0.0:+.2f}".replace("-", "−")


def points_text(points: float) -> str:
    """Return a number of points, 0 or more.

    >>> points_text(0.5), points_text(1.0)
    ('0.5 points', '1 point')
    """
    shown = f"{abs(points):.4g}"
    return f"{shown} point{'' if shown == '1' else 's'}"


def human_cost(value: float, unit: str, side: Side = "nearest", precision: int = 3) -> str:
    """Return a cost to three digits with its unit, and counts in k, M, G or T.

    >>> human_cost(41_234_567, "macs"), human_cost(3.14159, "latency_ms"), human_cost(0, "macs")
    ('41.2 M macs', '3.14 ms', '0 macs')
    >>> human_cost(41_234_567, "macs", "up")
    '41.3 M macs'
    """
    return f"{cost_number(value, unit, side, precision)} {unit_name(unit)}"


def cost_number(value: float, unit: str, side: Side = "nearest", precision: int = 3) -> str:
    """Return a cost as :func:`human_cost` does, without its unit.

    >>> cost_number(41_234_567, "macs"), cost_number(41_234_567, "macs", precision=2)
    ('41.2 M', '41 M')
    """
    value = to_digits(value, precision, side)
    if unit in _COUNTED:
        rounded = float(f"{value:.{precision}g}")
        for size, letter in _MULTIPLES:
            if rounded >= size:
                return f"{digits(rounded / size, precision)}{letter}"
    return digits(value, precision)


def unit_name(unit: str) -> str:
    """Return a unit of costs as people read it."""
    return _SHORT_UNITS.get(unit, unit)


def human_bytes(size: int) -> str:
    """Return the size of files.

    >>> human_bytes(812), human_bytes(45_678), human_bytes(9_000_000)
    ('812 bytes', '45.7 kB', '9.00 MB')
    """
    for step, unit in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if size >= step:
            return f"{digits(size / step)} {unit}"
    return counted(size, "byte")


def digits(value: float, precision: int = 3) -> str:
    """Return three digits, or all digits before the point."""
    if value >= 10**precision - 0.5 or value == 0:
        return f"{value:,.0f}"
    return f"{value:#.{precision}g}".rstrip(".")


def times(ratio: float | None, precision: int = 3) -> str:
    """Return a speedup; a dash where there is none.

    >>> times(2.437), times(19.42), times(19.42, 2), times(None)
    ('2.44×', '19.4×', '19×', '–')
    """
    if ratio is None:
        return "–"
    return f"{digits(ratio, precision)}×" if ratio >= 1 else f"{ratio:.2f}×"


def saving(ratio: float | None, precision: int = 3) -> str:
    """Return how much cheaper, or dearer, something is than a reference.

    >>> saving(2.87), saving(0.5), saving(2.87, 2), saving(None)
    ('2.87× cheaper', '2.00× dearer', '2.9× cheaper', 'free')
    """
    if ratio is None:
        return "free"
    if ratio >= 1 or not ratio:
        return f"{times(ratio, precision)} cheaper"
    return f"{times(1 / ratio, precision)} dearer"


def html_table(
    title: str, headings: Sequence[str], rows: Iterable[Sequence[tuple[str, str]]], note: str = ""
) -> str:
    """Return a table for a notebook; every text is escaped.

    Args:
        title: What stands above.
        headings: One a column.
        rows: Of each cell its text, and what stands below it in small letters.
        note: What stands under the table.

    >>> html_table("", ["a"], [[("<b>", "")]])
    '<table><thead><tr><th>a</th></tr></thead><tbody><tr><td>&lt;b&gt;</td></tr></tbody></table>'
    """

    def written(cell: tuple[str, str]) -> str:
        text, small = (escape(printable(each)) for each in cell)
        return f"<td>{text}{f'<br><small>{small}</small>' if small else ''}</td>"

    caption = f"<caption>{escape(printable(title))}</caption>" if title else ""
    head = "".join(f"<th>{escape(printable(each))}</th>" for each in headings)
    body = "".join(f"<tr>{''.join(map(written, row))}</tr>" for row in rows)
    below = f"<p>{escape(printable(note))}</p>" if note else ""
    return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{below}"


def shares(ratios: Iterable[float]) -> str:
    """Return shares of 1 in percent, such as those of the samples that exit at each stage.

    >>> shares([0.7512, 0.2488])
    '75.1/24.9 %'
    """
    return "/".join(f"{100 * ratio:.3g}" for ratio in ratios) + " %"
