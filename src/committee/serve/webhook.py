"""The webhook: every alarm is sent until it is taken, and kept over a restart until then."""

from __future__ import annotations

import asyncio
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any

from committee.errors import CommitteeError
from committee.files import write_text
from committee.reading import read_json, typed, written_json
from committee.serve.daemon import in_daemon
from committee.text import counted

# Seconds that a webhook has to answer, and those between tries.
_PATIENCE = 5.0
_PAUSES = (0.0, 1.0, 10.0)


class Webhook:
    """Sends alarms to an address in the background.

    Args:
        address: Where they are sent to; empty for nowhere.
        file: Keeps those that were not taken, for the next start; None to keep none.
        failed: Called with each alarm that was not taken.
        note: Called with each message for the operator.
    """

    def __init__(
        self,
        address: str,
        file: Path | None,
        failed: Callable[[], None],
        note: Callable[[str], None],
    ) -> None:
        self._address, self._file, self._failed, self._note = address, file, failed, note
        self._unsent: list[Mapping[str, Any]] = []
        self._kept = True  # the file has what was not taken
        self._sending: set[asyncio.Task[None]] = set()
        self._ending = asyncio.Event()

    def start(self) -> None:
        """Send what was not taken before the server stopped the last time."""
        if not self._address or self._file is None or not self._file.exists():
            return
        try:
            kept = typed("alarms", read_json(self._file), list[dict[str, Any]])
        except (CommitteeError, OSError) as error:
            self._note(f"{self._file}: alarms that were not sent cannot be read ({error})")
            return
        for data in kept:
            self.send(data)

    def send(self, data: Mapping[str, Any]) -> None:
        """Send an alarm."""
        if not self._address:
            return
        self._unsent.append(data)
        self._keep()
        task = asyncio.create_task(self._send(data))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def close(self) -> None:
        """Try once more what is being sent, and say what was not taken."""
        self._ending.set()
        if self._sending:
            _, late = await asyncio.wait(self._sending, timeout=_PATIENCE)
            for task in late:
                task.cancel()
        if self._unsent:
            kept = "Name --alarm-state to keep such alarms over a restart"
            if self._file is not None and not self._kept:
                kept = f"{self._file} could not be written, so the next start sends not all of them"
            elif self._file is not None:
                kept = f"{self._file} keeps them, and the next start sends them"
            self._note(f"the webhook did not take {counted(len(self._unsent), 'alarm')}. {kept}")

    async def _send(self, data: Mapping[str, Any]) -> None:
        """Send an alarm; a failure is noted and hurts nobody."""
        body, problem = written_json(data).encode(), ""
        for pause in _PAUSES:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), pause)
            try:
                # One that answers by drops holds no thread that the end would wait for.
                async with asyncio.timeout(_PATIENCE):
                    await in_daemon("webhook", post, self._address, body, _PATIENCE)
            except (OSError, ValueError) as error:
                why = str(error) or f"no answer within {_PATIENCE:g} s"
                if not problem:
                    self._note(f"the webhook has not taken an alarm yet: {why}")
                problem = why
            else:
                self._unsent.remove(data)
                self._keep()
                return
        self._failed()
        self._note(f"the webhook did not take an alarm: {problem}")

    def _keep(self) -> None:
        """Write what was not taken into the file."""
        if self._file is None:
            return
        self._kept = False
        try:
            if self._unsent:
                write_text(self._file, written_json(self._unsent) + "\n")
            else:
                self._file.unlink(missing_ok=True)
            self._kept = True
        except OSError as error:
            self._note(f"{self._file}: alarms cannot be kept ({error.strerror})")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: an alarm goes to the address that the operator gave, or nowhere."""

    def redirect_request(self, *arguments: Any) -> None:
        return None


def post(address: str, body: bytes, seconds: float) -> None:
    """Send a body of JSON to an address.

    Raises:
        OSError: If it is not taken in time.
    """
    headers = {"Content-Type": "application/json", "User-Agent": "committee"}
    request = urllib.request.Request(address, body, headers, method="POST")
    opener = urllib.request.build_opener(_NoRedirect)
    try:
        opener.open(request, timeout=seconds).close()
    except urllib.error.HTTPError as error:
        error.close()  # it holds the connection
        raise
    except HTTPException as error:
        raise OSError(f"no answer of HTTP: {type(error).__name__}") from error
