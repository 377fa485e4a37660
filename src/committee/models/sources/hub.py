"""Hubs of weights: whether one can be reached, found out in seconds and told in one line."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from urllib.parse import urlsplit

from committee.errors import ModelError

# Hubs answer in well under a second; libraries that ask them retry for minutes.
PATIENCE = 8.0


def check_reachable(where: str, url: str, cache: str, patience: float = PATIENCE) -> None:
    """Refuse to wait for a hub that does not answer.

    Args:
        where: What is loaded, for the error.
        url: What will be asked for; any answer of its host will do.
        cache: Environment variable of the folder in which its library keeps what it loaded.
        patience: Seconds to wait.

    Raises:
        ModelError: If no answer comes.
    """
    answers: list[str] = []
    # A name that does not resolve can hold the system's resolver for longer than any time limit.
    asking = threading.Thread(target=lambda: answers.append(_answer(url, patience)), daemon=True)
    asking.start()
    asking.join(patience)
    reason = answers[0] if answers else f"no answer in {patience:g} s"
    if reason:
        raise ModelError(
            f"{where}: {urlsplit(url).hostname} cannot be reached ({reason}). Give the weights as "
            'a file, weights = "FILE.safetensors" in the pool file, or load them once on a machine '
            f"with a network and bring its cache, the folder that {cache} names"
        )


def _answer(url: str, patience: float) -> str:
    """Nothing if there is an answer, else why there is none."""
    request = urllib.request.Request(url, method="HEAD")
    try:
        urllib.request.urlopen(request, timeout=patience).close()
    except urllib.error.HTTPError:
        return ""  # the host answers; what it refuses, the library will say
    except (OSError, ValueError) as error:
        return str(getattr(error, "reason", error))
    return ""
