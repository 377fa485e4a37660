"""The file that keeps what monitors remember, for one process at a time."""

from __future__ import annotations

from itertools import count
from pathlib import Path

from committee.certificates.monitors import Monitors, State
from committee.errors import CascadeError, CommitteeError
from committee.files import write_text
from committee.reading import parsed_json, read_bytes, written_json


class StateFile:
    """A file of a :class:`State`, which is written whole or not at all.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._seen = path, b""

    def read(self, monitors: Monitors) -> State | None:
        """Return the state in the file, None if there is none.

        Raises:
            CascadeError: If it holds another thing, or the state of other monitors.
            OSError: If it cannot be read.
        """
        if not self.path.exists():
            return None
        try:
            self._seen = read_bytes(self.path)
            return monitors.resumed(parsed_json(self._seen))
        except CommitteeError as error:
            raise CascadeError(f"{self.path}: {error}") from None

    def set_aside(self) -> Path:
        """Rename the file, so that another state may begin and none is lost; return its new name.

        Raises:
            OSError: If it cannot be renamed.
        """
        names = (self.path.with_name(f"{self.path.name}.{number}") for number in count(1))
        kept = next(each for each in names if not each.exists())
        self.path.rename(kept)
        self._seen = b""
        return kept

    def write(self, state: State) -> None:
        """Write the state, unless another process has written the file since.

        Raises:
            CascadeError: If it has: the samples of one of both would be lost.
            OSError: If the file cannot be written.
        """
        if self.path.exists() and read_bytes(self.path) != self._seen:
            raise CascadeError(
                f"{self.path}: another process has written this state. Name a file for each, or "
                "let one follow the other"
            )
        text = written_json(state.to_json()) + "\n"
        write_text(self.path, text)
        self._seen = text.encode()
