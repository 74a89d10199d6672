"""The benchmark measures what it says, of the network it was given."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from table_backend import TableBackend
from tiny_weights import SMALL_GRID, tiny_card, tiny_student, write_tiny_weights
from typer.testing import CliRunner

from twodpass_core.benchmark import peer as benchmark_peer
from twodpass_core.benchmark import run as benchmark_run
from twodpass_core.benchmark.machine import using_threads
from twodpass_core.benchmark.memory import peak_bytes
from twodpass_core.benchmark.run import Contender, run_benchmark
from twodpass_core.benchmark.spconv_peer import SpconvStudent
from twodpass_core.cli import app
from twodpass_core.errors import ConfigError, MissingDependencyError, ScanError
from twodpass_core.models.student import PointVoxelStudent, StudentOutput
from twodpass_core.segmenter import Segmentation, Segmenter
from twodpass_core.sparse.backend import SparseBackend

CARD = tiny_card(SMALL_GRID)


def scan() -> np.ndarray:
    low, high = (-12, -9.9, -1.9, 0), (9.9, 9.9, 1.9, 1)
    return np.random.default_rng(0).uniform(low, high, size=(2000, 4)).astype(np.float32)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return write_tiny_weights(tmp_path / "tiny.safetensors", CARD)


def test_report_has_a_column_for_each_way_of_running(weights: Path) -> None:
    told: list[str] = []
    report = run_benchmark(scan(), weights, device="cpu", peer="unfolded", repeats=3, progress=told.append)
    assert [measurement.name for measurement in report.measurements] == ["unfolded", "fp32", "bf16"]
    assert report.points == 2000
    assert report.points_in_volume == int((scan()[:, 0] > -10).sum())
    for measurement in report.measurements[1:]:
        assert 0 < measurement.min_ms <= measurement.median_ms
        assert {"voxelise", "neighbours", "block_0", "block_1", "classifier"} <= measurement.stages_ms.keys()
        assert sum(measurement.stages_ms.values()) < 2 * measurement.median_ms
    (agreement,) = report.agreements
    assert 0.9 < agreement.equal <= 1
    assert 0 < agreement.mean_logit_error < agreement.logit_spread
    assert "measuring, 3 of 3" in told


def test_every_repeat_has_a_scan_of_its_own(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On one scan alone, what a library keeps for sizes that it has met makes times that no stream of scans sees."""
    seen: list[np.ndarray] = []
    segment = Segmenter.segment

    def noting(self: Segmenter, points: np.ndarray, return_scores: bool = False) -> Segmentation:
        seen.append(points)
        return segment(self, points, return_scores)

    monkeypatch.setattr(Segmenter, "segment", noting)
    given = np.concatenate([scan(), np.zeros((1, 4), np.float32)])
    run_benchmark(given, weights, device="cpu", precisions=("fp32",), repeats=3)
    repeated = seen[1:4]  # the first one warms up
    assert len({points.tobytes() for points in (given, *repeated)}) == 4
    for points in repeated:
        np.testing.assert_allclose(np.hypot(*points.T[:2]), np.hypot(*given.T[:2]), rtol=1e-5)
        np.testing.assert_array_equal(points[:, 2:], given[:, 2:])
        assert not points[-1].any()  # still no return


def test_report_reads_as_a_table(weights: Path) -> None:
    report = run_benchmark(scan(), weights, device="cpu", precisions=("fp32",), repeats=1)
    text = io.StringIO()
    Console(file=text, width=120).print(report.render())
    for word in ("voxelise", "block_1", "peak memory", "UNTRAINED", "width 8"):
        assert word in text.getvalue()


def test_backends_are_compared_on_the_same_scan(weights: Path) -> None:
    report = run_benchmark(scan(), weights, device="cpu", precisions=("fp32",), backends=("torch", "auto"), repeats=1)
    assert [measurement.name for measurement in report.measurements] == ["fp32 torch", "fp32 auto"]
    (agreement,) = report.agreements
    assert (agreement.name, agreement.equal) == ("fp32 auto", 1)


LITTLE = """
import sys
absent = ["rosbags", "mcap", "lightning", "torchmetrics", "cv2", "rclpy", "matplotlib"]
sys.modules.update(dict.fromkeys([*absent, "PIL"]))  # importing what is None fails
if __name__ == "__main__":
    from twodpass_core.cli import app
    options = ["scan.bin", "--device", "cpu", "--precision", "fp32"]
    app(["benchmark", *options, "-w", "tiny.safetensors", "--repeats", "1"], standalone_mode=False)
    app(["benchmark-kernels", *options, "--width", "4", "--scales", "2", "--json"], standalone_mode=False)
    del sys.modules["PIL"]  # needed by training alone
    import twodpass_core.benchmark.training
"""


def test_the_commands_need_little_beside_torch(weights: Path, tmp_path: Path) -> None:
    """They are to run on a bare machine with a GPU."""
    assert weights.parent == tmp_path
    scan().tofile(tmp_path / "scan.bin")
    (tmp_path / "program.py").write_text(LITTLE)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "program.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "block_1" in done.stdout
    assert "weight gradient" in done.stdout


def test_scans_to_measure_on_need_no_network() -> None:
    code = "import sys; sys.modules['twodpass_core.segmenter'] = None; import twodpass_core.benchmark.scans"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


@pytest.mark.parametrize("settings", [{"peer": "abacus"}, {"repeats": 0}])
def test_wrong_settings_are_refused(weights: Path, settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(settings))):
        run_benchmark(scan(), weights, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--width", "7"), "width: Input should be a multiple of 2"),
        (("--scales", "2,four"), "--scales must be whole numbers with commas between, not '2,four'"),
        (("-w", "some.safetensors", "--width", "8"), "leave them out with --weights"),
    ],
)
def test_shapes_that_no_network_has_are_refused(tmp_path: Path, options: tuple[str, ...], message: str) -> None:
    scan().tofile(tmp_path / "scan.bin")
    result = CliRunner().invoke(app, ["benchmark", str(tmp_path / "scan.bin"), *options])
    assert result.exit_code == 1
    assert message in result.output.replace("\n", " ")


def test_a_scan_beside_the_volume_is_refused(weights: Path) -> None:
    with pytest.raises(ScanError, match=r"none of the scan's 2,000 points .* \(-10\.0, -10\.0, -2\.0\) to "):
        run_benchmark(scan() + np.float32(100), weights, device="cpu", repeats=1)


def test_a_scan_without_returns_is_refused(weights: Path) -> None:
    with pytest.raises(ScanError, match="none of the scan's 30 points is a return"):
        run_benchmark(np.zeros((30, 4), np.float32), weights, device="cpu", repeats=1)


def test_a_peer_gets_the_points_that_the_network_gets(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And those alone are told to be in the volume."""
    given: list[int] = []
    forward = PointVoxelStudent.forward

    def noting(self: PointVoxelStudent, points: torch.Tensor) -> StudentOutput:
        given.append(len(points))
        return forward(self, points)

    monkeypatch.setattr(PointVoxelStudent, "forward", noting)
    points = np.concatenate([scan(), [[0, 0, 0, 1], [1, 1, 1, np.nan], [np.nan, 1, 1, 1]]]).astype(np.float32)
    report = run_benchmark(points, weights, device="cpu", precisions=("fp32",), peer="unfolded", repeats=1)
    assert report.points_in_volume == int((scan()[:, 0] > -10).sum())
    assert set(given) == {report.points_in_volume}


def test_the_trainable_network_runs_on_the_first_backend(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def noting(name: str, *_: object, **__: object) -> SparseBackend:
        asked.append(name)
        return TableBackend()

    monkeypatch.setattr(benchmark_peer, "make_backend", noting)
    report = run_benchmark(
        scan(), weights, device="cpu", precisions=("fp32",), backends=("auto", "torch"), peer="unfolded", repeats=1
    )
    assert asked == ["auto"]
    assert [measurement.backend for measurement in report.measurements] == ["table", "torch", "torch"]


class WorkingSpconv:
    """Stands in for SpconvStudent: the network itself."""

    def __init__(self, student: PointVoxelStudent, device: torch.device) -> None:
        self.student = student

    def __call__(self, points: torch.Tensor) -> torch.Tensor:
        return self.student(points).logits  # type: ignore[no-any-return]


class AbsentSpconv(WorkingSpconv):
    def __init__(self, student: PointVoxelStudent, device: torch.device) -> None:
        raise MissingDependencyError("spconv", "the spconv peer", "pip install spconv")


class BrokenSpconv(WorkingSpconv):
    def __call__(self, points: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("no kernel image is available")


@pytest.mark.parametrize(
    ("spconv", "names", "told"),
    [
        (WorkingSpconv, ["spconv", "fp32"], []),
        (AbsentSpconv, ["fp32"], []),
        (BrokenSpconv, ["fp32"], ["spconv is installed and not timed beside, because it fails here: no kernel image"]),
    ],
)
def test_spconv_is_timed_unasked_where_it_works(
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    spconv: type,
    names: list[str],
    told: list[str],
) -> None:
    monkeypatch.setattr(benchmark_peer, "SpconvStudent", spconv)
    monkeypatch.setattr(benchmark_run, "peak_bytes", lambda run, device: None)  # in a process without the stand-in
    scan().tofile(tmp_path / "scan.bin")
    options = ["-w", str(weights), "--device", "cpu", "--precision", "fp32", "--repeats", "1", "--json"]
    done = CliRunner().invoke(app, ["benchmark", str(tmp_path / "scan.bin"), *options])
    assert done.exit_code == 0, done.output
    assert [entry["name"] for entry in json.loads(done.stdout)["measurements"]] == names
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [text.startswith(start) for text, start in zip(warnings, told, strict=True)] == [True] * len(told)


@pytest.mark.parametrize(("spconv", "error"), [(AbsentSpconv, MissingDependencyError), (BrokenSpconv, RuntimeError)])
def test_a_peer_that_is_asked_for_and_does_not_work_is_an_error(
    weights: Path, monkeypatch: pytest.MonkeyPatch, spconv: type, error: type[Exception]
) -> None:
    monkeypatch.setattr(benchmark_peer, "SpconvStudent", spconv)
    with pytest.raises(error):
        run_benchmark(scan(), weights, device="cpu", precisions=("fp32",), peer="spconv", repeats=1)


def test_peak_memory_is_of_loading_and_running(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU as on a CPU: weights and buffers count."""
    measured: list[object] = []

    def peak_bytes(run: Callable[[], object], device: torch.device) -> int:
        measured.append(run)
        return 5_000_000

    monkeypatch.setattr(benchmark_run, "peak_bytes", peak_bytes)
    report = run_benchmark(scan(), weights, device="cpu", precisions=("fp32",), peer="unfolded", repeats=1)
    assert [run.name for run in measured if isinstance(run, Contender)] == ["unfolded", "fp32"]
    assert [measurement.peak_memory_mb for measurement in report.measurements] == [5, 5]


def test_peak_memory_of_a_gpu_is_beyond_what_was_there(monkeypatch: pytest.MonkeyPatch) -> None:
    bytes_of = {"allocated": 100, "peak": 900}
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: bytes_of["allocated"])
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: bytes_of["peak"])
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: bytes_of.update(peak=100))
    assert peak_bytes(lambda: bytes_of.update(peak=350), torch.device("cuda")) == 250


def test_spconv_peer_computes_the_same_network() -> None:
    pytest.importorskip("spconv.pytorch", reason="spconv is not installed")
    network = tiny_student(CARD).eval()
    points = torch.from_numpy(scan())
    points = points[SMALL_GRID.contains(points)]
    with using_threads(1):  # the CPU build of spconv is wrong with more
        torch.testing.assert_close(SpconvStudent(network, torch.device("cpu"))(points), network(points).logits)
