"""The student against the authors' network, and its folded form against itself."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from twodpass_core.clock import StageClock
from twodpass_core.models.folded import ROWS_AT_ONCE, FoldedStudent
from twodpass_core.models.student import PointVoxelStudent, StudentConfig
from twodpass_core.official import import_official
from twodpass_core.official.checkpoint import convert_state
from twodpass_core.sparse.grid import VoxelGrid

GRID = VoxelGrid(minimum=(-10, -10, -2), maximum=(10, 10, 2), cells=(100, 100, 20))
SMALL = StudentConfig(width=8, num_classes=5, hidden=16)
SIX_SCALES = StudentConfig(scales=(2, 4, 8, 16, 16, 16), width=6, num_classes=4, hidden=8)
FIRST_SCALE = StudentConfig(scales=(1, 2), width=4, num_classes=3, hidden=4)


def scan(count: int, seed: int = 0) -> Tensor:
    unit = torch.rand(count, 4, generator=torch.Generator().manual_seed(seed))
    return unit * torch.tensor([20.0, 20.0, 0.5, 1.0]) - torch.tensor([10.0, 10.0, 0.5, 0.0])


def lived_in(config: StudentConfig) -> PointVoxelStudent:
    """A student whose batch normalisations have statistics and scales of their own."""
    torch.manual_seed(1)
    student = PointVoxelStudent(config, GRID)
    with torch.no_grad():
        for module in student.modules():
            if isinstance(module, torch.nn.BatchNorm1d):
                module.get_buffer("running_mean").normal_(0, 0.2)
                module.get_buffer("running_var").uniform_(0.3, 2)
                module.weight.uniform_(0.5, 2)
                module.bias.normal_(0, 0.2)
    return student.eval()


@pytest.mark.parametrize("rows_at_once", [ROWS_AT_ONCE, 70])
@pytest.mark.parametrize("config", [SMALL, SIX_SCALES, FIRST_SCALE])
def test_folded_student_computes_the_same(
    config: StudentConfig, rows_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twodpass_core.models.folded.ROWS_AT_ONCE", rows_at_once)
    student, points = lived_in(config), scan(3000)
    with torch.no_grad():
        expected = student(points).logits
    answer = FoldedStudent(student, torch.float32, torch.device("cpu"))(points, StageClock(torch.device("cpu")))
    torch.testing.assert_close(answer.logits[answer.point_to_cell.long()], expected, atol=2e-5, rtol=1e-4)


def test_folded_student_in_bf16_is_close() -> None:
    student, points = lived_in(SMALL), scan(3000)
    with torch.no_grad():
        expected = student(points).logits
    answer = FoldedStudent(student, torch.bfloat16, torch.device("cpu"))(points, StageClock(torch.device("cpu")))
    error = answer.logits[answer.point_to_cell.long()] - expected
    assert 0 < float(error.abs().mean()) < 0.02 * float(expected.std())


@pytest.mark.parametrize("count", [1, 2, 17])
def test_few_points_are_segmented(count: int) -> None:
    output = lived_in(SMALL)(scan(count))
    assert output.logits.shape == (count, 5)
    assert bool(output.logits.isfinite().all())


def test_a_single_voxel_is_trained_on_with_the_statistics_of_others() -> None:
    student = lived_in(SMALL)
    before = {name: buffer.clone() for name, buffer in student.named_buffers()}
    expected = student(scan(1)).logits
    torch.testing.assert_close(student.train()(scan(1)).logits, expected)
    assert all(torch.equal(buffer, before[name]) for name, buffer in student.named_buffers())


def test_no_points_give_no_logits() -> None:
    output = lived_in(SMALL)(torch.empty(0, 4))
    assert output.logits.shape == (0, 5)


def test_scans_of_a_batch_do_not_see_each_other() -> None:
    student, first, second = lived_in(SMALL), scan(500, seed=1), scan(400, seed=2)
    together = student(torch.cat([first, second]), torch.tensor([0] * 500 + [1] * 400)).logits
    torch.testing.assert_close(together[:500], student(first).logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(together[500:], student(second).logits, atol=1e-5, rtol=1e-5)


def test_order_of_points_does_not_matter() -> None:
    student, points = lived_in(SMALL), scan(700)
    order = torch.randperm(700)
    torch.testing.assert_close(student(points[order]).logits, student(points).logits[order], atol=1e-5, rtol=1e-5)


def test_every_parameter_learns() -> None:
    student = PointVoxelStudent(SMALL, GRID)
    output = student(scan(600))
    output.logits.square().mean().backward()
    without = [
        name for name, parameter in student.named_parameters() if parameter.grad is None or not parameter.grad.any()
    ]
    assert without == []


def test_scale_features_belong_to_the_input_voxels_of_each_block() -> None:
    output = lived_in(SMALL)(scan(600))
    assert len(output.scale_features) == 4
    for scale in output.scale_features:
        assert scale.features.shape == (int(scale.point_to_voxel.max()) + 1, 8)
        assert scale.point_to_voxel.shape == (600,)


def test_gradients_of_logits_agree_with_finite_differences() -> None:
    student = lived_in(StudentConfig(scales=(2, 4), width=4, num_classes=3, hidden=4)).double()
    points = scan(60)
    weight = torch.randn(60, 3, dtype=torch.float64)
    convolution = student.get_parameter("blocks.0.voxel_branch.0.convolution1.weight")

    def loss() -> Tensor:
        return (run_double(student, points) * weight).sum()

    loss().backward()
    index = (13, 1, 2)
    assert convolution.grad is not None
    analytic, step = float(convolution.grad[index]), 1e-6
    with torch.no_grad():
        convolution[index] += step
        above = float(loss())
        convolution[index] -= 2 * step
        below = float(loss())
    assert analytic == pytest.approx((above - below) / (2 * step), rel=1e-4)


def run_double(student: PointVoxelStudent, points: Tensor) -> Tensor:
    """Voxels are found in float32; the features then run in float64."""
    hook = student.point_encoder[0].register_forward_pre_hook(lambda _, inputs: (inputs[0].double(),))
    try:
        logits: Tensor = student(points).logits
        return logits
    finally:
        hook.remove()


def tiny_student(folder: Path) -> PointVoxelStudent:
    config = json.loads((folder / "tiny_config.json").read_text())
    grid = VoxelGrid(minimum=config["volume_min"], maximum=config["volume_max"], cells=config["grid"])
    with np.load(folder / "tiny_state.npz") as arrays:
        official = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    hidden = official["model_3d.classifier.0.weight"].shape[0]
    shape = StudentConfig(scales=config["scales"], width=config["width"], num_classes=config["classes"], hidden=hidden)
    student = PointVoxelStudent(shape, grid)
    student.load_state_dict(convert_state(official, student.state_dict(), len(shape.scales)))
    return student


def test_golden_tiny_student_equals_the_authors_at_every_block(golden_case: Path) -> None:
    if not (golden_case / "tiny_lidar_only.npz").exists():
        pytest.skip(f"{golden_case} holds no tiny_lidar_only.npz")
    student = tiny_student(golden_case).eval()
    with np.load(golden_case / "tiny_input.npz") as given, np.load(golden_case / "tiny_lidar_only.npz") as expected:
        with torch.no_grad():
            output = student(torch.from_numpy(given["points"]), torch.from_numpy(given["batch_idx"]))
        torch.testing.assert_close(output.logits, torch.from_numpy(expected["logits"]), atol=1e-4, rtol=0)
        for index, scale in enumerate(output.scale_features):
            wanted = torch.from_numpy(expected[f"block{index}_v_enc"])
            torch.testing.assert_close(scale.features, wanted, atol=2e-6, rtol=1e-5)
            source = student.config.input_scales[index]
            assert np.array_equal(scale.point_to_voxel.numpy(), expected[f"scale_{source}_coors_inv"])


@pytest.mark.parametrize("folded", [False, True])
def test_real_scan_equals_the_authors_prediction(golden: Path, kitti_scan: Path, folded: bool) -> None:
    card, state, _ = import_official(golden / "official_student_semantickitti.ckpt")
    student = PointVoxelStudent(card.architecture, card.grid)
    student.load_state_dict(state)
    student.eval()
    points = torch.from_numpy(np.fromfile(kitti_scan, dtype=np.float32).reshape(-1, 4))
    inside = card.grid.contains(points)
    with np.load(golden / "official_student_semantickitti_scan_00_000000.npz") as expected, torch.no_grad():
        assert np.array_equal(np.packbits(inside.numpy()), expected["in_volume"])
        if folded:
            cpu = torch.device("cpu")
            answer = FoldedStudent(student, torch.float32, cpu)(points[inside], StageClock(cpu))
            logits = answer.logits[answer.point_to_cell.long()]
        else:
            logits = student(points[inside]).logits
        assert int((logits.argmax(dim=1).numpy() != expected["pred"]).sum()) == 0
        assert float(np.abs(logits[::16].numpy() - expected["logits_every_16th"]).max()) < 1e-3


@pytest.mark.parametrize("scales", [(2, 4), (16,)])
def test_a_crowd_in_one_voxel_is_within_reach_of_fp16(scales: tuple[int, ...]) -> None:
    """Sums over so many points are not: 65,504 is the largest number. A vehicle that stands has such clouds."""
    student = lived_in(StudentConfig(scales=scales, width=8, num_classes=5, hidden=16))
    crowd = scan(70_000) * torch.tensor([0.001, 0.001, 0.1, 1.0]) + torch.tensor([8.0, 8.0, 0.0, 0.0])
    with torch.no_grad():
        expected = student(crowd).logits
        with torch.autocast("cpu", torch.float16):
            trained = student(crowd).logits
    answer = FoldedStudent(student, torch.float16, torch.device("cpu"))(crowd, StageClock(torch.device("cpu")))
    for logits in (trained.float(), answer.logits[answer.point_to_cell.long()]):
        assert float((logits - expected).abs().max()) < 0.05 * float(expected.abs().max())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_mixed_precision_does_not_round_coordinates(dtype: torch.dtype) -> None:
    """A step of a centimetre at 9 m, which bf16 cannot tell from none: its numbers there are 6 cm apart."""
    student = lived_in(SMALL)
    here = torch.tensor([[9.01, 9.01, 0.05, 0.5]])
    described = []
    student.point_encoder[2].register_forward_pre_hook(lambda module, given: described.append(given[0]))
    with torch.no_grad(), torch.autocast("cpu", dtype):
        for step in (0.0, 0.01):
            student(here + torch.tensor([step, 0, 0, 0]))
    assert float((described[0] - described[1]).abs().max()) > 1e-4
    assert described[0].dtype == torch.float32
