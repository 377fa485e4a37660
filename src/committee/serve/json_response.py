"""Answers in JSON, which has no infinity: a decision without an answer has one as confidence."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette import responses


class JSONResponse(responses.JSONResponse):
    """An answer in JSON; a number that JSON lacks is null."""

    def render(self, content: Any) -> bytes:
        """Return the body."""
        return msgspec.json.encode(content)
