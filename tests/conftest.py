"""Settings of all tests."""

import gc
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

# Few objects are in cycles, least of all while modules are imported.
gc.set_threshold(20_000, 20, 20)

# Two workers on two cores: more threads would only wait for each other. Libraries read this when
# they are imported, as does every program that a test starts.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import pytest  # noqa: E402  # after the threads are set
from hypothesis import settings  # noqa: E402

# What a process wrote outlives it without being synced; tests of power cuts watch the syncs.
os.fsync = lambda _: None

# Programs in the background have interrupts ignored, and hand that on to those that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Derandomized, so that a failure is the same failure everywhere; no deadline, because machines that
# run tests are shared.
settings.register_profile(
    "committee", derandomize=True, deadline=None, database=None, max_examples=50
)
settings.load_profile("committee")


# The files that take longest, longest first: workers take whole files, and shall end together.
LONGEST = """
    real_pools statistics demo resume search findings sources graph study report metrics
    multiply_adds certify page estimator terminal compound_scaling verify search_options dense
    calibration serve serve_faults serve_observing video export_rules engines verify_promise
    calibrate self_cascades hub notebooks every_option sharded run_resume study_analyses
    dense_study study_any_pool bundle docs certify_commands record_examples ray_cluster
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest; the order within a file stays."""
    places = {f"test_{name}": place for place, name in enumerate(LONGEST.split())}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give workers whole files, and one of them all files on Ray: they share a cluster."""
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class WholeFiles(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return "ray" if "test_ray_" in file else file

    return WholeFiles(config, log)


@pytest.fixture(scope="session")
def report_extra() -> None:
    """Skip where pages and figures cannot be drawn, as on a wheel that is tested without extras."""
    for name in ("jinja2", "matplotlib"):
        pytest.importorskip(name, reason="the extra report draws pages and figures")


@pytest.fixture
def committee(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Call a command, and return what it printed."""
    from committee.cli import main

    def call(*words: object) -> str:
        status = main(list(map(str, words)))
        out, err = capsys.readouterr()
        assert status == 0, err
        return out + err

    return call


@pytest.fixture
def enter_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Path]:
    """Enter a folder of its own, with the JSON files of another and a link to its store."""

    def enter(root: Path) -> Path:
        for path in root.glob("*.json"):
            shutil.copy(path, tmp_path)
        (tmp_path / "store").symlink_to(root / "store")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("COLUMNS", "300")
        return tmp_path

    return enter


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A browser for tests of pages."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    from browser import found

    ready = found()
    if ready is None:
        pytest.skip("no browser: `python tests/browser.py` fetches one")
    program, environment = ready
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=program, env=environment, args=["--no-sandbox"]
        )
        yield started
        started.close()


def pytest_collection_finish() -> None:
    """Keep the garbage collector from walking again and again over what was imported."""
    gc.freeze()


class _BeforeTorchvision(MetaPathFinder):
    """Define what torchvision's CUDA build needs beside a CPU build of torch, when it is imported.

    Registries offer no torchvision for processors only; the tests need none of its kernels.
    """

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> None:
        if name != "torchvision":
            return
        sys.meta_path.remove(self)
        found = PathFinder.find_spec(name, path)
        if found is None or found.origin is None:
            return
        import torch

        built = Path(found.origin).with_name("version.py").read_text(encoding="utf-8")
        if torch.version.cuda is None and "+cu" in built:
            # The library lives as long as this object does.
            self.library = torch.library.Library("torchvision", "DEF")
            for operator in ("nms", "qnms"):
                self.library.define(
                    f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
                )


_BEFORE_TORCHVISION = _BeforeTorchvision()
sys.meta_path.insert(0, _BEFORE_TORCHVISION)


@pytest.fixture(autouse=True)
def _only_own_confidences() -> Iterator[None]:
    """What a test registers is gone after it; studies compare all that is registered."""
    from committee.rule.scores import CONFIDENCES

    before = dict(CONFIDENCES)
    yield
    CONFIDENCES.clear()
    CONFIDENCES.update(before)


@pytest.fixture(autouse=True, scope="session")
def _embedded_images_are_unpacked_once() -> Iterator[None]:
    """Unpack the embedded images once, not for every command of a test: it takes a third second."""
    from committee.data import arrays
    from committee.embedded import FOLDER

    unpack, known = arrays.parsed_npz, {}

    def parsed(file: Any, names: Sequence[str]) -> dict[str, Any]:
        if Path(file.name) != FOLDER / "fashion_mnist_test.npz":
            return unpack(file, names)
        if names not in known:
            known[names] = unpack(file, names)
        return {name: array.copy() for name, array in known[names].items()}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrays, "parsed_npz", parsed)
        yield


@pytest.fixture(scope="session")
def ray_address() -> Iterator[str]:
    """The address of a Ray of two nodes, which starts with the first test that asks for it."""
    from ray_world import nodes

    with nodes(2) as cluster:
        yield cluster.address
