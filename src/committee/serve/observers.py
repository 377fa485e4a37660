"""What the server tells to those who watch it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from committee.models.failures import reason_of
from committee.models.inputs import RawSamples
from committee.run.decision import Decision
from committee.run.runner import Runner


class Observer:
    """Learns what the server does; every method may be left out. All are called by the event loop.

    A method must not block: the next request waits for it.

    Attributes:
        wants_samples: Whether it looks at samples, which must then stay as they were sent.
    """

    wants_samples = False

    def watching(self, runner: Runner, version: str) -> Observer:
        """Return who learns of a cascade that is served from now on; here the observer itself.

        Samples that wait for the cascade before are still told to whom it had.

        Args:
            runner: The cascade with its models.
            version: Its fingerprint.
        """
        return self

    async def run(self) -> None:
        """Do what takes time, until it is cancelled at the end of the server."""

    def began(self, number: int) -> None:
        """A request waits for decisions, which lets all stages run; requests are numbered."""

    def decided(self, number: int, samples: RawSamples, made: Sequence[Decision | None]) -> None:
        """The samples of a request were decided; requests end in another order than they come.

        Args:
            number: The number of the request.
            samples: The samples.
            made: The decision on each, None if it failed; none at all if the request was given up.
        """

    def batch(self, stage: int, size: int, wait_s: float, model_s: float) -> None:
        """A batch has run.

        Args:
            stage: Its stage, from 0; 0 for a cascade that is one ONNX file.
            size: How many samples it had.
            wait_s: Seconds that its samples waited at the stage, on average.
            model_s: Seconds that its models ran.
        """

    def exited(self, made: Sequence[Decision], failed: Sequence[int]) -> None:
        """Samples of a batch were decided, and others failed.

        Args:
            made: Decisions on those that exited.
            failed: The stage of each that failed.
        """

    def answered(self, route: str, status: int, seconds: float, samples: int) -> None:
        """A request was answered.

        Args:
            route: The path with the names of its parts, such as ``/v2/models/{name}/infer``.
            status: The code of HTTP, or that which an error of gRPC stands for.
            seconds: How long it took.
            samples: How many samples it had; 0 if they were not read.
        """


async def run_noted(observer: Observer, note: Callable[[str], None]) -> None:
    """Let an observer do what takes time; if that fails, say so: nothing else would show it."""
    try:
        await observer.run()
    except Exception as error:
        what = type(observer).__name__.lower()
        note(f"{what}: has failed and looks at nothing any more: {reason_of(error)}")
