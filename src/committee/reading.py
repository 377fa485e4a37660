"""Files from outside, read with care: JSON, TOML, npy and npz, of bounded size and declared types.

Nothing in a file is run. What is wrong with one comes out as :class:`UnreadableError`, whose text
says why and not where: whoever reads the file names it, in an error of their own. That a file is
missing, or may not be read, stays an OSError.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import stat
import tomllib
import zipfile
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from types import UnionType
from typing import (
    Any,
    BinaryIO,
    NoReturn,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

import msgspec
import numpy as np

from committee.errors import CommitteeError, UnknownNameError, UnreadableError
from committee.text import listed, printable

T = TypeVar("T")
# Bytes of a file that people write, and of one that this library writes for millions of samples.
MOST, MOST_OF_STORES = 2**26, 2**33
# A member of an archive that grows beyond this, and so much, is a trap; and what one name may have.
_LARGE, _GROWTH, _ENTRY = 2**28, 200, 2**14
# How deep lists and objects may nest: what reads them recurses.
DEPTH = 100
# What no path can hold: NUL, and halves of a pair of UTF-16, but for those by which Python keeps
# bytes of a file's name that are no UTF-8.
_ESCAPE = re.compile(r"\\u0000|\\u[dD][89a-fA-F]")
_LONE = re.compile("[\ud800-\udc7f\udd00-\udfff]")
_NUMBERS = re.compile(r"\[\n\s*([-+.,\s\deE]+?)\n\s*\]")
_EXPECTED = re.compile(r"Expected `([^`]*)`(.*?)(?:, got `?(.*?)`?)?")
# Letters of a reason: a name in a text from outside may be as long as the text.
_MOST_OF_REASON = 200
_WORDS = {
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "array": "a list",
    "object": "an object",
    "null": "null",
}


def read_bytes(path: Path, most: int = MOST) -> bytes:
    """Return all bytes of a regular file.

    A pipe or a device, or a link to one, is refused before it is opened.
    """
    check_regular(path)
    with path.open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise UnreadableError(f"larger than {most:,} bytes")
    return data


def check_regular(path: Path) -> None:
    """Refuse what is no regular file: reading a pipe or a device may never end."""
    try:
        mode = path.stat().st_mode
    except ValueError:  # a NUL in the name
        raise UnreadableError("its name is no path") from None
    if not stat.S_ISREG(mode):
        raise UnreadableError("a folder" if stat.S_ISDIR(mode) else "no regular file")


def read_text(path: Path, most: int = MOST) -> str:
    """Return the text of a file in UTF-8, without a byte order mark."""
    return _decoded(read_bytes(path, most))


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableError(f"no UTF-8 at byte {error.start}") from None


def read_json(path: Path) -> Any:
    """Return what a JSON file holds; see :func:`parsed_json`."""
    return parsed_json(read_bytes(path))


def parsed_json(data: str | bytes, *, strict: bool = True) -> Any:
    r"""Return what a JSON text says.

    With ``strict`` texts may hold no NUL.

    Raises:
        UnreadableError: If it is no JSON, nests too deeply, or has NaN, an infinity, a number
            beyond float64, or a text that it must not.

    >>> parsed_json('{"a": [1, 2.5]}')
    {'a': [1, 2.5]}
    """
    try:
        text = data if isinstance(data, str) else _decoded(data)
        value = json.loads(text, parse_constant=_no_number, parse_float=_finite, parse_int=_whole)
    except RecursionError:
        raise UnreadableError("no valid JSON (nested too deeply)") from None
    except ValueError as error:
        raise UnreadableError(f"no valid JSON ({error})") from None
    if text.count("[") + text.count("{") > DEPTH:
        _check_depth(value, "JSON")
    if _ESCAPE.search(text):
        _check_texts(value, "JSON", strict=strict)
    return value


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is beyond all numbers")
    return value


def _whole(text: str) -> int:
    if len(text) > 300:
        raise ValueError(f"{text[:20]}… has {len(text)} digits")
    return int(text)


def _check_depth(value: Any, form: str) -> None:
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(DEPTH):
        inner = (each.values() if isinstance(each, dict) else each for each in level)
        level = [each for some in inner for each in some if isinstance(each, dict | list)]
        if not level:
            return
    raise UnreadableError(f"no valid {form} (nested too deeply)")


def _check_texts(value: Any, form: str, *, strict: bool = True) -> None:
    text = json.dumps(value, ensure_ascii=False, default=str)
    lone = _LONE.search(text)
    if lone:
        raise UnreadableError(f"no valid {form} (lone surrogate {printable(lone[0])})")
    # A backslash before makes it the text of an escape.
    if strict and re.search(r"(?<!\\)(?:\\\\)*\\u0000", text):
        raise UnreadableError(f"no valid {form} (a text with a NUL)")


def read_toml(path: Path) -> dict[str, Any]:
    """Return what a TOML file holds, every number finite."""
    content = read_bytes(path)
    try:
        data = tomllib.loads(_decoded(content), parse_float=_finite)
    except RecursionError:
        raise UnreadableError("no valid TOML (nested too deeply)") from None
    except (ValueError, ArithmeticError) as error:
        raise UnreadableError(f"no valid TOML ({error})") from None
    _check_depth(data, "TOML")
    _check_texts(data, "TOML")
    return data


def typed(where: str, data: Any, kind: Callable[..., T], *, whole: bool = False) -> T:
    """Return data as a value of a declared type, every field checked.

    ``kind`` is a frozen dataclass, whose keys are all that there may be, or any type that
    :func:`msgspec.convert` knows. With ``whole`` fields that have a default must be there too.
    """
    _refuse_unknown(where, data, kind)
    if whole and is_dataclass(kind) and isinstance(data, Mapping):
        lacking = [field.name for field in fields(kind) if field.name not in data]
        if lacking:
            raise UnreadableError(f"{where}: {listed(lacking)} missing")
    try:
        return msgspec.convert(data, cast("type[T]", kind))
    except msgspec.ValidationError as error:
        if isinstance(error.__cause__, CommitteeError):
            raise error.__cause__ from None
        raise UnreadableError(f"{where}: {_worded(str(error), data)}") from None


@cache
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


def typed_json(where: str, data: bytes | msgspec.Raw, kind: type[T]) -> T:
    """Return a JSON text, such as the body of a request, as a value of a type, read in one go.

    Raises:
        UnreadableError: If it is no JSON, nests too deeply, or is of another type.

    >>> typed_json("shape", b"[2, 3]", list[int])
    [2, 3]
    """
    try:
        made: T = _decoder(cast("Hashable", kind)).decode(data)
        return made
    except RecursionError:
        reason = "no valid JSON (nested too deeply)"
    except msgspec.ValidationError as error:
        reason = _worded(str(error), ...)
    except (msgspec.DecodeError, ValueError) as error:  # of old versions no ValueError
        reason = f"no valid JSON ({str(error).removeprefix('JSON is malformed: ')})"
    raise UnreadableError(f"{where}: {printable(reason[:_MOST_OF_REASON])}")


def _refuse_unknown(where: str, data: Any, kind: Any) -> None:
    """Refuse keys that no field of a dataclass has, in data of any depth."""
    if not isinstance(data, Mapping | list | tuple):
        return
    if is_dataclass(kind) and isinstance(data, Mapping):
        known = _hints(kind)  # type: ignore[arg-type]
        for key, value in data.items():
            if key not in known:
                raise UnknownNameError.of(where, "field", str(key), known)
            _refuse_unknown(str(key), value, known[key])
    elif get_origin(kind) in (Union, UnionType):
        for each in get_args(kind):
            _refuse_unknown(where, data, each)
    elif isinstance(data, Mapping | list | tuple) and _holds_fields(kind):
        inner = data.items() if isinstance(data, Mapping) else enumerate(data, 1)
        for key, value in inner:
            for each in get_args(kind):
                _refuse_unknown(f"{where} {key}", value, each)


@cache
def _holds_fields(kind: Any) -> bool:
    """Return True if a dataclass is among the types that a type is made of."""
    return is_dataclass(kind) or any(map(_holds_fields, get_args(kind)))


@cache
def _hints(kind: type) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind)}


def plain(value: Any) -> Any:
    """Return frozen data as JSON holds it: a dataclass as an object, a tuple as a list.

    >>> plain({"sizes": (224, 288)})
    {'sizes': [224, 288]}
    """
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return value


def _worded(message: str, data: Any) -> str:
    """Put what msgspec found in our words: where, what must stand there, what does."""
    what, _, place = message.partition(" - at `$")
    place = place.rstrip("`").lstrip(".")
    expected = _EXPECTED.fullmatch(what)
    if expected is None:
        what = what.replace("`", "").replace("Object missing required field", "lacks")
        what = what[:1].lower() + what[1:]
        return f"{place}: {what}" if place else what
    kinds = " or ".join(_WORDS.get(kind, kind) for kind in expected[1].split(" | "))
    if data is ...:  # nothing keeps it; its type must do
        shown = _WORDS.get(expected[3], expected[3] or "this one")
    else:
        found = printable(repr(_at(data, place)))
        shown = found if len(found) < 60 else f"{found[:60]}…"
    return f"{place or 'it'} must be {kinds}{expected[2]}, not {shown}"


def _at(data: Any, place: str) -> Any:
    """Return what stands at a place such as ``views.resized[0]``."""
    for key, number in re.findall(r"([^.\[\]]+)|\[(\d+)\]", place):
        try:
            data = data[int(number)] if number else data[key]
        except (KeyError, IndexError, TypeError):
            return ...
    return data


def written_json(data: Any, indent: int | None = None) -> str:
    """Return data as JSON; with an indent, lists of numbers stand on one line.

    >>> print(written_json({"sizes": [224, 288]}, 1))
    {
     "sizes": [224, 288]
    }
    """
    text = json.dumps(data, indent=indent, ensure_ascii=False, allow_nan=False)
    # A text in JSON has no line break, so no text is changed.
    return _NUMBERS.sub(lambda found: f"[{' '.join(found[1].split())}]", text)


def sealed_json(data: Mapping[str, Any], indent: int | None = None) -> bytes:
    """Return an object, not empty, as JSON whose last entry is a checksum of all bytes before it.

    >>> is_sealed(sealed_json({"a": 1})), is_sealed(sealed_json({"a": 1}).replace(b"1", b"2", 1))
    (True, False)
    """
    text = written_json(data, indent)
    # Bytes of a file's name that are no UTF-8 become escapes of JSON.
    body = text.removesuffix("}").rstrip().encode("utf-8", "backslashreplace")
    return body + _seal(body)


def is_sealed(data: bytes) -> bool:
    """Return whether bytes are as :func:`sealed_json` gave them."""
    body = data[: -len(_seal(b""))]
    return data[len(body) :] == _seal(body)


def _seal(body: bytes) -> bytes:
    return b',\n"checksum": "' + hashlib.sha256(body).hexdigest().encode() + b'"\n}\n'


@contextmanager
def _guarded() -> Iterator[None]:
    """Name whatever NumPy raises of a file that is no array: it has many words for it."""
    try:
        yield
    except (OSError, CommitteeError):
        raise
    except MemoryError:
        raise UnreadableError("larger than memory") from None
    except Exception as error:
        # Of a crafted header: SyntaxError, tokenize.TokenError, struct.error, zlib.error, …
        reason = str(error).split("\n")[0] or type(error).__name__
        raise UnreadableError(f"no array that can be read ({printable(reason[:200])})") from None


def check_members(path: Path, names: Collection[str]) -> list[str]:
    """Refuse an npz whose members are no data but a trap, and return the names of all of them.

    The first of ``names`` has an entry a sample; the others may have one each.
    """
    check_regular(path)
    with _guarded(), zipfile.ZipFile(path) as archive:
        there = {each.filename.removesuffix(".npy"): each for each in archive.infolist()}
        first, *others = (there.get(name) for name in names)
        samples = 0 if first is None else next(iter(shape_in(archive, first)), 0)
        for each in filter(None, (first, *others)):
            most = None if each is first else max(MOST, _ENTRY * samples)
            check_growth(each, most, f", of {samples:,} samples")
        return list(there)


def check_growth(member: zipfile.ZipInfo, most: int | None = None, of: str = "") -> None:
    """Refuse a member of an archive that is much larger than what is stored of it."""
    sizes = member.file_size, member.compress_size
    grown = max(_LARGE, _GROWTH * sizes[1])
    if sizes[0] > (grown if most is None else min(grown, most)):
        name = printable(member.filename)
        raise UnreadableError(
            f"{name!r} has {sizes[0]:,} bytes, packed into {sizes[1]:,}{of}; save it with "
            "np.savez, uncompressed"
        )


def shape_in(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> tuple[int, ...]:
    """Return the shape of an array in an npz file, of which only the header is read."""
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        old = version == (1, 0)
        read = np.lib.format.read_array_header_1_0 if old else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
    if not dtype.hasobject and math.prod(shape) * dtype.itemsize > member.file_size:
        raise UnreadableError("an array is larger than the file says")
    return shape


def parsed_npz(file: BinaryIO, names: Collection[str]) -> dict[str, np.ndarray[Any, Any]]:
    """Return some arrays of an open npz file by name; other members are not read."""
    with _guarded(), np.load(file, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files if name in names}
