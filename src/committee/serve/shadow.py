"""Shadow runs: the reference decides a share of the samples too, while nobody waits.

Disagreements need no label. They renew or break what a certificate promises, and they are the
samples whose labels are worth most.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import random
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from committee.certificates.agreement import AgreementNow, agreement_now
from committee.models.images import converted
from committee.models.inputs import RawSamples, as_image
from committee.reading import plain
from committee.rule.certificate import CertificateRecord
from committee.run.decision import Decision
from committee.run.runner import Runner
from committee.serve.daemon import in_daemon
from committee.serve.metrics import Metrics
from committee.serve.observers import Observer
from committee.serve.settings import ShadowSettings
from committee.text import csv_text, first_line

# Samples that wait for the reference; beyond these new ones are left out.
_WAITING = 256
# Samples that the reference decides at once: a request that comes meanwhile waits for no more.
_AT_ONCE = 4
# Seconds between two looks whether anybody waits.
_LOOK = 0.02
# Seconds after which the reference hangs.
_PATIENCE = 60.0
# Disagreements that are written; then the folder is full.
_WRITTEN = 10_000


class Shadow(Observer):
    """Lets the reference decide a share of the samples, while nobody waits.

    Args:
        settings: Which samples.
        load: From the runner that is served to that of its reference.
        idle: Returns True while nobody waits for a decision.
        metrics: Where disagreements are counted.
        note: Called with each message for the operator.
        alarm: Called with the text and the data of an alarm: the promise is broken.
    """

    wants_samples = True

    def __init__(
        self,
        settings: ShadowSettings,
        load: Callable[[Runner], Runner],
        idle: Callable[[], bool],
        metrics: Metrics,
        note: Callable[[str], None],
        alarm: Callable[[str, Mapping[str, Any]], None],
    ) -> None:
        self._settings, self._load, self._idle = settings, load, idle
        self._metrics, self._note, self._alarm = metrics, note, alarm
        self._watch: _Watch | None = None
        self._came = asyncio.Event()
        self._written = 0

    def watching(self, runner: Runner, version: str) -> Observer:
        """Load the reference of another cascade, and count anew unless both are as before."""
        reference = self._load(runner)
        own = runner.cascade.certificate if runner.cascade.is_certified else None
        watch = _Watch(runner, reference, version, own, self._settings.share, self._came.set)
        if self._watch is not None and self._watch.version == version:
            watch.samples, watch.flips = self._watch.samples, self._watch.flips
            watch.broken = self._watch.broken
        self._watch = watch
        return watch

    async def run(self) -> None:
        """Let the reference decide what waits, whenever nobody else does."""
        while True:
            await self._came.wait()
            self._came.clear()
            while (watch := self._watch) is not None and watch.waiting:
                if not self._idle():
                    await asyncio.sleep(_LOOK)
                    continue
                await self._decide(watch)

    def to_json(self) -> dict[str, Any] | None:
        """Return what the samples so far say."""
        watch = self._watch
        if watch is None:
            return None
        return {
            "share": watch.share,
            **plain(watch.agreement),
            "alarm": watch.broken,
            "left_out": watch.left_out,
            "failed": watch.failed,
        }

    async def _decide(self, watch: _Watch) -> None:
        taken = [watch.take() for _ in range(min(_AT_ONCE, len(watch.waiting)))]
        before = watch.agreement.promise
        for sample, made in taken:
            try:
                async with asyncio.timeout(_PATIENCE):
                    found = await in_daemon("shadow", watch.reference, sample)
            except TimeoutError:
                watch.share = 0.0
                watch.waiting.clear()
                self._note("shadow: the reference hangs; it is asked no more")
                return
            except Exception as error:  # a model may raise anything
                watch.failed += 1
                if watch.failed == 1:
                    self._note(f"shadow: the reference fails: {first_line(error)}")
                continue
            flipped = found.class_index != made.class_index
            watch.samples += 1
            watch.flips += flipped
            self._metrics.shadowed(1, int(flipped))
            if flipped:
                await asyncio.to_thread(self._write, watch, sample, made, found)
        now = watch.agreement
        if now.promise == "broken" and not watch.broken:
            watch.broken = True
            data = {"version": watch.version, "alarm": "promise", "reading": plain(now)}
            self._alarm(_text(now), data)
        elif now.promise != before:
            self._note(f"shadow: {_text(now)}")

    def _write(self, watch: _Watch, sample: Any, made: Decision, found: Decision) -> None:
        """Write a disagreement into the folder, with the sample."""
        folder = self._settings.folder
        if folder is None or self._written >= _WRITTEN:
            return
        self._written += 1
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{self._written:05d}"
        rows: list[tuple[str, ...]] = [(name, made.class_name, found.class_name, "")]
        try:
            file = folder / "to_label.csv"
            if not file.exists():
                folder.mkdir(parents=True, exist_ok=True)
                rows.insert(0, ("id", "cascade", "reference", "label"))
            _save(sample, folder / name, image=not watch.reference.task.records)
            _append(file, csv_text(rows))
        except Exception as error:  # a sample may be anything
            self._written = _WRITTEN
            why = getattr(error, "strerror", None) or first_line(error)
            self._note(f"{folder}: disagreements are no longer written ({why})")


class _Watch(Observer):
    """The reference of one cascade, the samples that wait for it, and what was counted."""

    def __init__(
        self,
        runner: Runner,
        reference: Runner,
        version: str,
        record: CertificateRecord | None,
        share: float,
        came: Callable[[], None],
    ) -> None:
        self._cascade, self.reference, self.version = runner.cascade, reference, version
        self._record, self.share, self._came = record, share, came
        self._random = random.Random()
        self.waiting: list[tuple[Any, Decision]] = []
        self._drawn = 0
        self.samples = self.flips = self.left_out = self.failed = 0
        self.broken = False

    def decided(self, number: int, samples: RawSamples, made: Sequence[Decision | None]) -> None:
        """See :class:`Observer`."""
        for row, each in enumerate(made):
            # Chance alone chooses, so that the samples are like all others.
            if each is None or self._random.random() >= self.share:
                continue
            place = self._place()
            if place is None:
                continue
            sample = samples[row]
            drawn = (sample.copy() if hasattr(sample, "copy") else sample, each)
            self.waiting[place : place + 1] = [drawn]
            self._came()

    def _place(self) -> int | None:
        """Return where a drawn sample waits; None if it is left out, or another one for it.

        The first samples of a busy time exit early. So all of it have the same chance.
        """
        self._drawn = self._drawn + 1 if self.waiting else 1
        if len(self.waiting) < _WAITING:
            return len(self.waiting)
        self.left_out += 1
        place = self._random.randrange(self._drawn)
        return place if place < _WAITING else None

    def take(self) -> tuple[Any, Decision]:
        """Return one that waits, whichever: they came in the order in which they exited."""
        place = self._random.randrange(len(self.waiting))
        self.waiting[place], self.waiting[-1] = self.waiting[-1], self.waiting[place]
        return self.waiting.pop()

    @property
    def agreement(self) -> AgreementNow:
        """What was counted says of the promise."""
        return agreement_now(self.samples, self.flips, self._record)


def _text(now: AgreementNow) -> str:
    return (
        f"the promise is {now.promise}: the reference decides {now.flips:,} of {now.samples:,} "
        f"samples otherwise, so {now.low:.2%} to {now.high:.2%} of all"
    )


def _append(file: Path, text: str) -> None:
    """Write text at the end of a file: all of it, or nothing on a disk that is full."""
    data = text.encode()
    with file.open("ab", buffering=0) as opened:
        before = opened.tell()
        if opened.write(data) != len(data):
            opened.truncate(before)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _save(sample: Any, path: Path, image: bool = False) -> None:
    """Write a sample: an image as PNG, a record, which may be an array too, as JSON."""
    if image:
        found = as_image(sample)
        found = converted(found, 3) if found.mode == "CMYK" else found  # which PNG lacks
        found.save(path.with_suffix(".png"), "PNG")
    else:
        text = json.dumps(sample, ensure_ascii=False, default=_as_text)
        path.with_suffix(".json").write_text(text, encoding="utf-8")


def _as_text(value: Any) -> Any:
    """Return what JSON can hold of a value of a record."""
    return value.hex() if isinstance(value, bytes) else getattr(value, "tolist", value.__str__)()
