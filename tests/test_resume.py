"""Whatever moment predict is stopped at, the same command goes on and ends at the same bytes."""

from __future__ import annotations

import contextlib
import io
import os
import random
import resource
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import wraps
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from committee import Cascade, Runner
from committee.arrays import Array
from committee.cli import main
from committee.data.arrays import ArrayDataset
from committee.data.base import BrokenSamplesError, PartDataset
from committee.data.segmentation import open_segmentation
from committee.errors import StoreError
from committee.files import sync_folder
from committee.models.load import load_model
from committee.models.pool_file import read_pool_file
from committee.predict import predict
from committee.run.offline import run_into
from committee.segment.predict import predict_tiles
from committee.store.chunks import is_begun, rows_of
from committee.store.entry import CHUNK_ROWS
from dense_world import IGNORED, write_world
from small_world import (
    CLASSES,
    NAMES,
    code_of,
    dataset,
    files_of,
    read_pool,
    samples,
    write_npz,
    write_pool,
)

ROWS = CHUNK_ROWS + 88


class Crash(BaseException):
    """The power is gone: nothing that the code catches."""


# What is about to change the disk; the file that is to be synced, if that is it.
Event = Callable[[int | None], None]


class Disk:
    """Tells of every event that changes the disk, before it happens.

    An event is a file opened for writing, a sync, a rename or a removal.
    """

    def __init__(self, patch: pytest.MonkeyPatch, before: Event) -> None:
        self._before = before
        for name in ("replace", "unlink"):
            patch.setattr(os, name, self._told(getattr(os, name)))
        patch.setattr(os, "fsync", self._told(self._sync))
        opened = io.open
        told = self._told(opened)

        def open_told(file: Any, mode: str = "r", *rest: Any, **named: Any) -> Any:
            writes = set(mode) & set("wa+")
            return (told if writes else opened)(file, mode, *rest, **named)

        patch.setattr(io, "open", open_told)

    def _told(self, event: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **named: Any) -> Any:
            synced = event == self._sync and is_file(arguments[0])
            self._before(arguments[0] if synced else None)
            return event(*arguments, **named)

        return run

    @staticmethod
    def _sync(_: int) -> None:
        """Do nothing, as conftest.py does."""


def is_file(descriptor: int) -> bool:
    return stat.S_ISREG(os.fstat(descriptor).st_mode)


class Death:
    """Lets the first events pass, then dies, and stays dead.

    When it dies at a sync, the end of what was to be synced may be torn off.
    """

    def __init__(self, dies_at: int, torn: bool = False) -> None:
        self._left, self._torn = dies_at, torn

    @property
    def dead(self) -> bool:
        return self._left <= 0

    def __call__(self, synced: int | None) -> None:
        self._left -= 1
        if self._left == 0 and self._torn and synced is not None:
            os.ftruncate(synced, max(os.fstat(synced).st_size - 3, 0))
        if self.dead:
            raise Crash


# What lies in a folder, itself included: the bytes of files, None for folders.
Tree = dict[Path, bytes | None]


def tree_of(root: Path, torn: int | None = None) -> Tree:
    """What lies in a folder; the end of one file, by its descriptor, may be torn off."""
    tree: Tree = {}
    for path in (root, *sorted(root.rglob("*"))) if root.exists() else ():
        inner = path.relative_to(root)
        tree[inner] = None if path.is_dir() else path.read_bytes()
        if torn is not None and os.path.samestat(path.stat(), os.fstat(torn)):
            tree[inner] = (tree[inner] or b"")[:-3]
    return tree


def plant(tree: Tree, root: Path) -> None:
    """Make a folder of what lies in it."""
    for inner, content in tree.items():
        if content is None:
            (root / inner).mkdir()
        else:
            (root / inner).write_bytes(content)


# Of a folder: inode of each entry, and whether it is a folder.
Entries = dict[str, tuple[int, bool]]


class PowerCut(Disk):
    """A disk that knows what a power cut leaves of it: only what was synced.

    Of a file these are the bytes at its last sync, of a folder the names at its last sync. A disk
    may also keep ``all`` that was done to names since, or only the ``last`` of it, for it need not
    keep to an order; each creation, renaming and removal happens wholly or not at all.
    """

    UNSYNCED: ClassVar = {"none": slice(0), "last": slice(-1, None), "all": slice(None)}

    def __init__(self, patch: pytest.MonkeyPatch, before: Event, root: Path) -> None:
        self._root = root
        # What was done to the names of a folder since its last sync.
        self._done: dict[int, list[Callable[[Entries], object]]] = {}
        # By inode. Files are held open, so that no inode is used twice.
        self._bytes: dict[int, bytes] = {}
        self._entries: dict[int, Entries] = {}
        self._held: list[int] = []
        for path in [root.parent, *(root.rglob("*") if root.exists() else ()), root]:
            if path.exists():
                self._sync_path(path)
        super().__init__(patch, before)
        for module, name, note in (
            (os, "replace", self._replaced),
            (os, "unlink", self._unlinked),
            (io, "open", self._opened),
        ):
            patch.setattr(module, name, self._noting(getattr(module, name), note))

    @staticmethod
    def _noting(event: Callable[..., Any], note: Callable[..., None]) -> Callable[..., Any]:
        def run(file: Any, *rest: Any, **named: Any) -> Any:
            inode = Path(file).stat().st_ino if Path(file).exists() else None
            done = event(file, *rest, **named)
            note(Path(file), inode, *rest)
            return done

        return run

    def _replaced(self, file: Path, inode: int, target: Path) -> None:
        def rename(entries: Entries) -> None:
            entries.pop(file.name, None)
            if target.parent == file.parent:
                entries[target.name] = inode, False

        target = Path(target)
        self._note(file.parent, rename)
        if target.parent != file.parent:
            self._note(target.parent, lambda entries: entries.update({target.name: (inode, False)}))

    def _unlinked(self, file: Path, inode: int | None) -> None:
        self._note(file.parent, lambda entries: entries.pop(file.name, None))

    def _opened(self, file: Path, inode: int | None, mode: str = "r", *rest: Any) -> None:
        if inode is None and set(mode) & set("wa"):
            made = file.stat().st_ino, False
            self._note(file.parent, lambda entries: entries.update({file.name: made}))

    def _note(self, folder: Path, change: Callable[[Entries], object]) -> None:
        self._done.setdefault(folder.stat().st_ino, []).append(change)

    def _sync_path(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY)
        self._sync(descriptor)
        os.close(descriptor)

    def _sync(self, descriptor: int) -> None:  # type: ignore[override]
        inode = os.fstat(descriptor).st_ino
        self._held.append(os.dup(descriptor))
        if is_file(descriptor):
            # Opened again, for a file may be open for writing only.
            self._bytes[inode] = Path(f"/proc/self/fd/{descriptor}").read_bytes()
        else:
            with os.scandir(descriptor) as entries:
                listed = {entry.name: (entry.inode(), entry.is_dir()) for entry in entries}
            self._entries[inode] = listed
            self._done.pop(inode, None)

    def left(self, unsynced: str = "none") -> Tree:
        """What is found when the power is back."""
        entries = {inode: dict(names) for inode, names in self._entries.items()}
        for inode, changes in self._done.items():
            for change in changes[self.UNSYNCED[unsynced]]:
                change(entries.setdefault(inode, {}))
        root = entries[self._root.parent.stat().st_ino].get(self._root.name)
        return {} if root is None else dict(self._found(entries, *root, Path()))

    def _found(
        self, entries: dict[int, Entries], inode: int, is_folder: bool, inner: Path
    ) -> Iterator[tuple[Path, bytes | None]]:
        yield inner, None if is_folder else self._bytes.get(inode, b"")
        if is_folder:
            for name, each in entries.get(inode, {}).items():
                yield from self._found(entries, *each, inner / name)

    def close(self) -> None:
        """Let go of the files that were held open."""
        for descriptor in self._held:
            os.close(descriptor)


class User:
    """What works with a folder of chunks, and what an undisturbed run of it leaves.

    Args:
        total: How many outputs, images or samples it computes.
        chunk: How many of them a crash may cost.
        work: Works in a folder; takes the folder and what to call with (done, total).
        undisturbed: The folder of an undisturbed run.
    """

    def __init__(
        self,
        total: int,
        chunk: int,
        work: Callable[[Path, Callable[[int, int], None]], Any],
        undisturbed: Path,
    ) -> None:
        self.total, self.chunk, self._work, self.undisturbed = total, chunk, work, undisturbed
        assert self.run(undisturbed) == (0, total)

    def run(self, store: Path) -> tuple[int, int]:
        """Run; what was done at the start, and at the end."""
        self.seen = [0]
        with contextlib.suppress(Crash):
            self._work(store, lambda done, _: self.seen.append(done))
        return self.seen[min(1, len(self.seen) - 1)], self.seen[-1]

    def finish(self, store: Path) -> int:
        """Run to the end; what was done at the start."""
        kept, finished = self.run(store)
        assert finished == self.total
        return kept


class Endings:
    """Goes on from what a crash left, to the end; from the same bytes only once."""

    def __init__(self, go_on: Callable[[Path], int], undisturbed: Path, folder: Path) -> None:
        self._go_on, self._expected, self._folder = go_on, files_of(undisturbed), folder
        self._known: dict[tuple[tuple[Path, bytes | None], ...], int] = {}

    def kept(self, tree: Tree, crash: str) -> int:
        """What was kept of what had been computed; every end has the undisturbed bytes."""
        state = tuple(sorted(tree.items(), key=lambda each: each[0]))
        if state not in self._known:
            store = self._folder / str(len(self._known)) / "store"
            store.parent.mkdir()
            plant(dict(state), store)
            self._known[state] = self._go_on(store)
            assert files_of(store) == self._expected, crash
        return self._known[state]


class World(User):
    """A pool that is predicted."""

    def __init__(self, folder: Path) -> None:
        self.pool, self.code = read_pool(folder)
        # Its models lie elsewhere, so that their paths are absolute, wherever a copy of it lies.
        total, chunk = len(NAMES) * ROWS, len(NAMES) * CHUNK_ROWS
        super().__init__(total, chunk, self.predict, folder / "apart" / "undisturbed")

    def predict(self, store: Path, progress: Callable[[int, int], None]) -> None:
        predict(self.pool, dataset(ROWS), store, allow_code=self.code, progress=progress)


def running(folder: Path) -> User:
    """A run of a cascade into a file."""
    pool, code = read_pool(folder)
    models = {s.name: load_model(s, code)[1] for s in pool.models}
    cascade = replace(Cascade.of(["one", "two"], [0.9]), models=models, classes=CLASSES)
    runner = Runner(cascade, allow_code=code)

    def work(place: Path, progress: Callable[[int, int], None]) -> None:
        place.mkdir(exist_ok=True, parents=True)
        sync_folder(place.parent)  # the folder is the user's own
        if (place / "out.csv").exists() and not is_begun(place / "out.csv"):
            progress(20, 20)  # a file that is finished is not made again
            shutil.rmtree(place / "out.csv.part", ignore_errors=True)
            return
        tell = lambda each: progress(each.done, each.total)  # noqa: E731
        list(run_into(runner, dataset(20), place / "out.csv", 1, tell))

    return User(20, 16, work, folder / "apart" / "undisturbed")


def tiling(folder: Path) -> User:
    """Images that are predicted tile by tile."""
    path = write_world(folder, count=2)
    pool, code = read_pool_file(path), [str(folder / "models.py")]
    data = open_segmentation(folder / "val", "val", pool.classes, IGNORED)

    def work(store: Path, progress: Callable[[int, int], None]) -> None:
        predict_tiles(pool, data, store, allow_code=code, progress=progress)

    return User(2, 1, work, folder / "apart" / "undisturbed")


USERS = {"predict": World, "run": running, "tiles": tiling}


@pytest.fixture(scope="module")
def users(tmp_path_factory: pytest.TempPathFactory) -> dict[str, User]:
    """One of each, made when it is needed."""

    class Made(dict[str, User]):
        def __missing__(self, name: str) -> User:
            self[name] = USERS[name](tmp_path_factory.mktemp(name))
            return self[name]

    return Made()


@pytest.fixture
def world(users: dict[str, User]) -> User:
    return users["predict"]


def nothing(store: Path, world: World) -> None:
    """Predict from the start."""


def made_once(start: Callable[[Path, World], None]) -> Callable[[Path, World], None]:
    """Copy what a start makes, which is the same each time."""

    @wraps(start)
    def copy(store: Path, world: World) -> None:
        made = world.undisturbed.with_name(start.__name__)
        if not made.exists():
            start(made, world)
        shutil.copytree(made, store)

    return copy


@made_once
def one_finished(store: Path, world: World) -> None:
    predict(world.pool.only(["one"]), dataset(ROWS), store, allow_code=world.code)


def damaged(store: Path, world: World) -> None:
    shutil.copytree(world.undisturbed, store)
    data = bytearray((store / "val" / "two.npy").read_bytes())
    data[150] ^= 1
    (store / "val" / "two.npy").write_bytes(data)


@made_once
def fewer_samples(store: Path, world: World) -> None:
    some = PartDataset(dataset(ROWS), np.arange(CHUNK_ROWS + 50))
    predict(world.pool, some, store, allow_code=world.code)


def outputs_missing(store: Path, world: World) -> None:
    shutil.copytree(world.undisturbed, store)
    (store / "val" / "two.npy").unlink()


ALIKE = [(name, nothing) for name in USERS]
STARTS = [
    *ALIKE,
    *(("predict", f) for f in (one_finished, damaged, outputs_missing, fewer_samples)),
]


@pytest.mark.parametrize(("user", "start"), STARTS)
def test_a_crash_at_any_event_costs_a_chunk_at_most(
    users: dict[str, User], tmp_path: Path, user: str, start: Callable[..., None]
) -> None:
    world, store = users[user], tmp_path / "store"
    start(store, world)
    found: list[tuple[Tree, int]] = []

    def note(synced: int | None) -> None:
        # What is whole before a sync is what is there after it, too.
        found.append((tree_of(store, torn=synced), world.seen[-1]))

    with pytest.MonkeyPatch.context() as patch:
        Disk(patch, note)
        world.run(store)
    assert len(found) > 10
    assert files_of(store) == files_of(world.undisturbed)
    endings = Endings(world.finish, world.undisturbed, tmp_path)
    for number, (tree, computed) in enumerate(found):
        crash = f"crash {number}"
        assert endings.kept(tree, crash) >= computed - world.chunk, crash


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks into files by /proc")
@pytest.mark.parametrize(("user", "start"), [*ALIKE, ("predict", fewer_samples)])
def test_a_power_cut_at_any_event_costs_a_chunk_at_most(
    users: dict[str, User], tmp_path: Path, user: str, start: Callable[..., None]
) -> None:
    world, store = users[user], tmp_path / "store"
    start(store, world)
    found: list[tuple[Tree, int]] = []

    def note(synced: int | None) -> None:
        found.extend((disk.left(unsynced), world.seen[-1]) for unsynced in PowerCut.UNSYNCED)

    with pytest.MonkeyPatch.context() as patch:
        disk = PowerCut(patch, note, store)
        world.run(store)
        note(None)
    disk.close()
    assert len(found) > 10 * len(PowerCut.UNSYNCED)
    endings = Endings(world.finish, world.undisturbed, tmp_path)
    for number, (tree, computed) in enumerate(found):
        cut = f"cut {number}"
        assert endings.kept(tree, cut) >= computed - world.chunk, cut


def test_the_power_cut_tests_can_fail(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Folders are not synced: names are lost, and with them what was computed.
    monkeypatch.setattr("committee.files.sync_folder", lambda _: None)
    for module in ("chunks", "writer"):
        monkeypatch.setattr(f"committee.store.{module}.sync_folder", lambda _: None)
    with pytest.MonkeyPatch.context() as patch:
        disk = PowerCut(patch, lambda _: None, tmp_path / "store")
        _, computed = world.run(tmp_path / "store")
    plant(disk.left(), tmp_path / "found")
    disk.close()
    assert world.run(tmp_path / "found")[0] < computed - len(NAMES) * CHUNK_ROWS


class Flawed(ArrayDataset):
    """Some of its images cannot be read."""

    def read(self, rows: Array) -> Array:
        broken = [(str(row), "for the test") for row in rows.tolist() if row in BROKEN]
        if broken:
            raise BrokenSamplesError(broken)
        return super().read(rows)


BROKEN = (CHUNK_ROWS + 70, CHUNK_ROWS + 71, ROWS - 1)


@pytest.mark.parametrize("failed_before", [False, True])
def test_a_crash_while_broken_samples_are_left_out_is_made_good(
    world: World, tmp_path: Path, failed_before: bool
) -> None:
    def run(store: Path, skip_broken: bool = True) -> None:
        flawed = Flawed(dataset(ROWS).read(np.arange(ROWS)), samples(ROWS))
        options = {"allow_code": world.code, "skip_broken": skip_broken}
        with contextlib.suppress(Crash):
            predict(world.pool, flawed, store, **options)

    def go_on(store: Path) -> int:
        run(store)
        return 0

    run(tmp_path / "undisturbed")
    store, found = tmp_path / "store", list[Tree]()
    if failed_before:
        with pytest.raises(BrokenSamplesError):
            run(store, skip_broken=False)
    with pytest.MonkeyPatch.context() as patch:
        Disk(patch, lambda synced: found.append(tree_of(store, synced)))
        run(store)
    assert len(found) > 10
    endings = Endings(go_on, tmp_path / "undisturbed", tmp_path)
    for number, tree in enumerate(found):
        endings.kept(tree, f"crash {number}")


def test_crash_after_crash_still_ends_at_the_same_bytes(world: World, tmp_path: Path) -> None:
    # Every run dies one event later than the one before, so most of them die while they resume.
    for event in count(1):
        with pytest.MonkeyPatch.context() as patch:
            death = Death(event, torn=event % 2 == 0)
            Disk(patch, death)
            world.run(tmp_path / "store")
        if not death.dead:
            break
    assert event > 10
    assert files_of(tmp_path / "store") == files_of(world.undisturbed)


def test_the_crash_tests_can_fail(world: World, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        death = Death(12)
        Disk(patch, death)
        world.run(tmp_path)
    assert death.dead
    assert files_of(tmp_path) != files_of(world.undisturbed)


@pytest.mark.parametrize(
    ("start", "room"),
    [(nothing, 0), (nothing, 200), (nothing, 3_000), (one_finished, 1_000), (one_finished, 4_000)],
)
def test_a_full_disk_is_told_and_made_good(
    world: World, tmp_path: Path, start: Callable[[Path, World], None], room: int
) -> None:
    store = tmp_path / "store"
    start(store, world)
    # No file may grow beyond so many bytes: what goes beyond is written in part.
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        with pytest.raises(StoreError, match=r"cannot be written .*run the same command") as told:
            world.run(store)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "\n" not in str(told.value)
    kept, finished = world.run(store)
    # With room for 4,000 bytes the first chunk of 3,072 was kept.
    assert kept == (start is one_finished) * ROWS + (room == 4_000) * CHUNK_ROWS
    assert finished == len(NAMES) * ROWS
    assert files_of(store) == files_of(world.undisturbed)


# Processes: a model slow enough to be stopped, which notes every batch in a file beside it.
SLOW = """
import time
from pathlib import Path
import numpy as np

def _model(weights):
    matrix = np.random.default_rng(weights).normal(size=({pixels}, {classes})).astype(np.float32)
    def run(batch):
        time.sleep(0.008)
        with Path(__file__).with_name("log").open("a") as log:
            log.write(f"{{len(batch)}}\\n")
        return batch.reshape(len(batch), -1) @ matrix
    return run

def one():
    return _model(1)

def two():
    return _model(2)
"""
MANY = 6 * CHUNK_ROWS - 70


class Command:
    """``committee predict`` as a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.pool = write_pool(folder, SLOW)
        self.data = write_npz(folder / "data.npz", MANY)
        self.log = folder / "log"

    def words(self, store: Path) -> list[str]:
        words = ["predict", self.pool, "--data", self.data, "--split", "val", "--out", store]
        options = ["--batch-size", "64", "--allow-code", code_of(self.pool)[0], "--json"]
        return [*map(str, words), *options]

    def start(self, store: Path) -> subprocess.Popen[str]:
        program = "import sys; from committee.cli import main; sys.exit(main())"
        command = [sys.executable, "-c", program, *self.words(store)]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True)

    def stop(
        self, store: Path, how: signal.Signals, after: float, batch_is_enough: bool = False
    ) -> tuple[int, str]:
        """Start, stop some time after it has got on by a chunk or a batch, and say how it ended."""
        got_on = self.batches if batch_is_enough else lambda: chunks(store)
        before = got_on()
        with self.start(store) as process:
            while process.poll() is None and got_on() <= before:
                time.sleep(0.005)
            time.sleep(after)
            process.send_signal(how)
            _, errors = process.communicate(timeout=60)
        return process.returncode, errors

    def batches(self) -> int:
        """How many batches were computed since the log was removed."""
        return self.log.read_text().count("\n") if self.log.exists() else 0

    def finish(self, store: Path, *more: str) -> int:
        """Run to the end, in this process; the outputs that were computed."""
        self.log.unlink(missing_ok=True)
        assert main([*self.words(store), *more]) == 0
        return sum(map(int, self.log.read_text().split())) if self.log.exists() else 0


def chunks(store: Path) -> int:
    """Chunks that the journals of a store vouch for; a finished model counts as many."""
    found = 0
    for name in NAMES:
        try:
            found += (store / "val" / f"{name}.npy.part" / "journal").read_text().count("\n")
        except FileNotFoundError:
            found += 100 * (store / "val" / f"{name}.json").exists()
    return found


def kept_rows(store: Path) -> int:
    """Rows that the journals vouch for; the last chunk of an interrupted run may have fewer."""
    journals = (store / "val" / f"{name}.npy.part" / "journal" for name in NAMES)
    lines = [line for each in journals if each.exists() for line in each.read_text().splitlines()]
    return sum(end - start for start, end in (rows_of(line.split()[0]) for line in lines))


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Command:
    return Command(tmp_path_factory.mktemp("command"))


@pytest.fixture(scope="module")
def undisturbed(command: Command, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    store = tmp_path_factory.mktemp("undisturbed")
    assert command.finish(store) == len(NAMES) * MANY
    return files_of(store)


def test_killed_processes_leave_the_bytes_of_an_undisturbed_one(
    command: Command, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    moments = random.Random(4)
    ends = [command.stop(tmp_path, signal.SIGKILL, moments.uniform(0, 0.2))[0] for _ in range(2)]
    assert -signal.SIGKILL in ends
    assert command.finish(tmp_path) < len(NAMES) * MANY
    assert files_of(tmp_path) == undisturbed


def test_processes_killed_while_a_split_grows_leave_the_same_bytes(
    command: Command, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    assert command.finish(tmp_path, "--rows", ":700") == len(NAMES) * 700
    moments = random.Random(5)
    ends = [
        command.stop(tmp_path, signal.SIGKILL, moments.uniform(0, 0.2), batch_is_enough=True)[0]
        for _ in range(2)
    ]
    assert -signal.SIGKILL in ends
    # Of what was there, only a batch that was not full is computed again: 700 is 640 and 60.
    assert command.finish(tmp_path) <= len(NAMES) * (MANY - 640)
    assert files_of(tmp_path) == undisturbed


def test_an_interrupted_process_says_so_and_goes_on_afterwards(
    command: Command, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    code, errors = command.stop(tmp_path, signal.SIGINT, 0.05)
    assert code == 130
    assert errors.count("\n") == 1
    assert "predict goes on where it stopped" in errors
    kept = kept_rows(tmp_path)
    assert 0 < kept < len(NAMES) * MANY
    assert command.finish(tmp_path) == len(NAMES) * MANY - kept
    assert files_of(tmp_path) == undisturbed
