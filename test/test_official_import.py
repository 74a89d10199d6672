"""Import of the authors' checkpoints: names, layouts, settings, and what is left out."""

from __future__ import annotations

import re
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from twodpass_core.classes import ClassMap
from twodpass_core.errors import WeightsError
from twodpass_core.models.student import PointVoxelStudent
from twodpass_core.official import ImportOptions, import_official
from twodpass_core.weights import load_weights, save_weights

State = dict[str, torch.Tensor]


def linear(name: str, outputs: int, inputs: int) -> State:
    return {f"{name}.weight": torch.randn(outputs, inputs), f"{name}.bias": torch.randn(outputs)}


def norm(name: str, width: int) -> State:
    values = {key: torch.rand(width) for key in ("weight", "bias", "running_mean", "running_var")}
    return {
        **{f"{name}.{key}": value for key, value in values.items()},
        f"{name}.num_batches_tracked": torch.tensor(7),
    }


def official_state(width: int = 8, blocks: int = 4, classes: int = 20) -> State:
    """A state dict with the authors' names and shapes, written from their description."""
    half = width // 2
    state = linear("voxel_3d_generator.PPmodel.0", width, 10) | linear("voxel_3d_generator.PPmodel.2", width, width)
    for i in range(blocks):
        for j in range(2):
            branch = f"spv_enc.{i}.v_enc.{j}"
            state[f"{branch}.layers_in.0.weight"] = torch.randn(width, 1, 1, 1, width)
            state |= norm(f"{branch}.layers_in.1", width)
            for layer in (0, 3):
                state[f"{branch}.layers.{layer}.weight"] = torch.randn(width, 3, 3, 3, width)
                state |= norm(f"{branch}.layers.{layer + 1}", width)
        points = f"spv_enc.{i}.p_enc"
        state |= linear(f"{points}.layer_in.0", width, width)
        state |= linear(f"{points}.PPmodel.0", half, width) | norm(f"{points}.PPmodel.2", half)
        state |= linear(f"{points}.PPmodel.3", half, half) | norm(f"{points}.PPmodel.5", half)
        state |= linear(f"{points}.PPmodel.6", width, half)
        state |= linear(f"{points}.layer_out.0", width, 2 * width) | linear(f"{points}.layer_out.2", width, width)
    state |= linear("classifier.0", 128, width * blocks) | linear("classifier.2", classes, 128)
    return {f"model_3d.{name}": tensor for name, tensor in state.items()}


def config(**model_params: Any) -> dict[str, Any]:
    """hyper_parameters of the authors' trainer, with values of no published configuration."""
    model = {"spatial_shape": [400, 400, 30], "scale_list": [2, 4, 6, 8], "hiden_size": 8, **model_params}
    data = {
        "pc_dataset_type": "SemanticKITTI",
        "min_volume_space": [-20, -20, -3],
        "max_volume_space": [20, 20, 1.5],
    }
    return {"config": {"model_params": model, "dataset_params": data}}


def checkpoint(path: Path, state: State, **more: Any) -> Path:
    torch.save({"epoch": 3, "global_step": 70, "state_dict": OrderedDict(state), **more}, path)
    return path


def test_every_tensor_arrives_and_fits(tmp_path: Path) -> None:
    state = official_state()
    card, ours, report = import_official(checkpoint(tmp_path / "x.ckpt", state))
    assert report.imported == len(ours) == len(state)
    assert report.skipped == {}
    PointVoxelStudent(card.architecture, card.grid).load_state_dict(ours)
    pairs = [
        ("voxel_3d_generator.PPmodel.2.bias", "point_encoder.2.bias"),
        ("spv_enc.3.v_enc.1.layers_in.1.running_var", "blocks.3.voxel_branch.1.shortcut_norm.running_var"),
        ("spv_enc.0.v_enc.0.layers.1.weight", "blocks.0.voxel_branch.0.norm1.weight"),
        ("spv_enc.2.v_enc.0.layers.4.num_batches_tracked", "blocks.2.voxel_branch.0.norm2.num_batches_tracked"),
        ("spv_enc.1.p_enc.layer_in.0.weight", "blocks.1.point_branch.direct.weight"),
        ("spv_enc.1.p_enc.PPmodel.5.running_mean", "blocks.1.point_branch.context.5.running_mean"),
        ("spv_enc.1.p_enc.layer_out.2.weight", "blocks.1.point_branch.merge.2.weight"),
        ("classifier.2.bias", "classifier.2.bias"),
    ]
    for official, name in pairs:
        assert torch.equal(ours[name], state[f"model_3d.{official}"])


def test_convolution_offsets_are_turned_to_x_major(tmp_path: Path) -> None:
    state = official_state()
    official = state["model_3d.spv_enc.1.v_enc.0.layers.3.weight"]
    _, ours, _ = import_official(checkpoint(tmp_path / "x.ckpt", state))
    weight = ours["blocks.1.voxel_branch.0.convolution2.weight"]
    for dx, dy, dz in [(-1, -1, -1), (1, 0, -1), (-1, 0, 1), (0, 1, 0), (0, 0, 0)]:
        k = (dx + 1) * 9 + (dy + 1) * 3 + (dz + 1)
        assert torch.equal(weight[k], official[:, dz + 1, dy + 1, dx + 1, :].T)


def test_the_pointwise_convolution_is_not_transposed(tmp_path: Path) -> None:
    """spconv stores (C_out, 1, 1, 1, C_in) but multiplies by the same numbers viewed as (C_in, C_out)."""
    state = official_state()
    _, ours, _ = import_official(checkpoint(tmp_path / "x.ckpt", state))
    weight = ours["blocks.1.voxel_branch.0.shortcut.weight"]
    official = state["model_3d.spv_enc.1.v_enc.0.layers_in.0.weight"]
    assert torch.equal(weight.flatten(), official.flatten())
    assert not torch.equal(weight, official[:, 0, 0, 0, :].T)


def test_training_only_parts_are_skipped_and_counted(tmp_path: Path) -> None:
    extra = {
        "model_2d.conv1.weight": torch.zeros(3),
        "model_2d.bn1.weight": torch.zeros(3),
        "fusion.ce_loss.weight": torch.full((20,), float("inf")),
        "model_3d.criterion.ce_loss.weight": torch.full((20,), float("inf")),
    }
    _, ours, report = import_official(checkpoint(tmp_path / "x.ckpt", official_state() | extra))
    assert report.skipped == {"model_2d.": 2, "fusion.": 1, "model_3d.criterion.": 1}
    assert report.imported == len(ours) == len(official_state())


@pytest.mark.parametrize("kind", [dict, lambda values: Namespace(**values)])
def test_settings_come_from_the_file(kind: Callable[[dict[str, Any]], object], tmp_path: Path) -> None:
    parameters = kind(config())
    card, _, report = import_official(checkpoint(tmp_path / "x.ckpt", official_state(), hyper_parameters=parameters))
    assert card.architecture.scales == (2, 4, 6, 8)
    assert (card.architecture.width, card.architecture.num_classes, card.architecture.hidden) == (8, 20, 128)
    assert (card.grid.minimum, card.grid.maximum) == ((-20, -20, -3), (20, 20, 1.5))
    assert card.grid.cells == (400, 400, 30)
    assert card.class_map.name == "semantickitti"
    assert card.intensity_max == 1
    assert card.trained
    assert "x.ckpt (epoch 3, step 70)" in card.origin
    assert set(report.sources.values()) == {"checkpoint", "data set"}
    assert [name for name, source in report.sources.items() if source == "data set"] == ["intensity"]


def test_before_its_first_step_a_network_is_untrained(tmp_path: Path) -> None:
    card, _, _ = import_official(checkpoint(tmp_path / "x.ckpt", official_state(), epoch=0, global_step=0))
    assert not card.trained


@pytest.mark.parametrize(
    ("classes", "blocks", "name", "scales", "top", "intensity"),
    [
        (20, 4, "semantickitti", (2, 4, 8, 16), 2.0, 1.0),
        (20, 6, "semantickitti", (2, 4, 8, 16, 16, 16), 2.0, 1.0),
        (17, 6, "nuscenes", (2, 4, 8, 16, 16, 16), 3.0, 255.0),
    ],
)
def test_without_hyper_parameters_the_number_of_classes_tells(
    classes: int, blocks: int, name: str, scales: tuple[int, ...], top: float, intensity: float, tmp_path: Path
) -> None:
    path = checkpoint(tmp_path / "x.ckpt", official_state(blocks=blocks, classes=classes))
    card, _, report = import_official(path)
    assert card.class_map.name == name
    assert card.architecture.scales == scales
    assert card.grid.maximum == (50.0, 50.0, top)
    assert card.grid.cells == (1000, 1000, round((top + 4) * 10))
    assert card.intensity_max == intensity
    assert report.sources["class map"] == "data set"


def test_options_override_the_file(tmp_path: Path) -> None:
    options = ImportOptions(
        scales=(1, 2, 3, 4),
        volume_minimum=(-30.0, -30.0, -2.0),
        volume_maximum=(30.0, 30.0, 4.0),
        cells=(600, 600, 60),
        intensity_max=255.0,
        licence="MIT",
        class_map=ClassMap.load("semantickitti").model_copy(update={"name": "yard"}),
    )
    path = checkpoint(tmp_path / "x.ckpt", official_state(), hyper_parameters=config())
    card, _, report = import_official(path, options)
    assert card.architecture.scales == (1, 2, 3, 4)
    assert (card.grid.minimum, card.grid.maximum) == ((-30, -30, -2), (30, 30, 4))
    assert card.grid.cells == (600, 600, 60)
    assert (card.intensity_max, card.licence, card.class_map.name) == (255, "MIT", "yard")
    assert set(report.sources.values()) == {"option"}


@pytest.mark.parametrize(
    ("state", "options", "reason"),
    [
        (official_state(classes=12), ImportOptions(), "class map .*--class-map"),
        (official_state(blocks=5), ImportOptions(), "scales .*--scales"),
        (official_state(), ImportOptions(scales=(2, 4)), r"4 blocks, .*\(2, 4\).*--scales"),
        (official_state(), ImportOptions(class_map=ClassMap.load("nuscenes")), "20 classes, .*nuscenes has 17"),
        (official_state(), ImportOptions(volume_minimum=(60.0, 0.0, 0.0)), "below its maximum"),
    ],
)
def test_what_cannot_be_known_is_asked_for(state: State, options: ImportOptions, reason: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=rf"x\.ckpt: .*{reason}"):
        import_official(checkpoint(tmp_path / "x.ckpt", state), options)


def test_a_class_map_of_ones_own_needs_an_intensity(tmp_path: Path) -> None:
    yard = ClassMap.load("semantickitti").model_copy(update={"name": "yard"})
    with pytest.raises(WeightsError, match=r"intensity .*--intensity-max"):
        import_official(
            checkpoint(tmp_path / "x.ckpt", official_state(), hyper_parameters=config()), ImportOptions(yard)
        )


def test_hyper_parameters_of_the_wrong_type_are_refused(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "x.ckpt", official_state(), hyper_parameters=config(spatial_shape="large"))
    with pytest.raises(WeightsError, match="cells"):
        import_official(path)


def test_differences_are_listed_by_the_authors_names(tmp_path: Path) -> None:
    state = official_state()
    del state["model_3d.spv_enc.2.v_enc.0.layers.3.weight"]
    state["model_3d.spv_enc.0.v_enc.0.layers.0.weight"] = torch.zeros(3, 3, 3, 8, 8)
    state["model_3d.decoder.weight"] = torch.zeros(3)
    with pytest.raises(WeightsError) as caught:
        import_official(checkpoint(tmp_path / "x.ckpt", state))
    message = str(caught.value)
    assert "missing: model_3d.spv_enc.2.v_enc.0.layers.3.weight (8, 3, 3, 3, 8)" in message
    assert re.search(
        r"model_3d\.spv_enc\.0\.v_enc\.0\.layers\.0\.weight is \(3, 3, 3, 8, 8\), must be \(8, 3,", message
    )
    assert "unexpected: model_3d.decoder.weight (3,)" in message


def test_checkpoints_of_other_networks_are_refused(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "x.ckpt", {"backbone.weight": torch.zeros(3), "head.weight": torch.zeros(3)})
    with pytest.raises(WeightsError, match=r"no 2DPASS student in it .*'backbone', 'head'"):
        import_official(path)
    checkpoint(path, {"network.student.classifier.0.weight": torch.zeros(3)})
    with pytest.raises(WeightsError, match=r"`twodpass train`: weights\.safetensors in its run's folder"):
        import_official(path)
    torch.save([1, 2, 3], path)
    with pytest.raises(WeightsError, match="no 2DPASS student"):
        import_official(path)
    state = official_state()
    state["model_3d.classifier.2.weight"] = torch.zeros(20)
    with pytest.raises(WeightsError, match=r"classifier\.2\.weight is missing or not a matrix"):
        import_official(checkpoint(path, state))
    with pytest.raises(WeightsError, match=r"'model_3d\.scale' is not a tensor"):
        import_official(checkpoint(path, {**official_state(), "model_3d.scale": 2}))  # type: ignore[dict-item]


class Endless:
    """Pickled as an object whose state is the object."""

    def __reduce__(self) -> tuple[type[Endless], tuple[()], Endless]:
        return Endless, (), self


def test_an_object_that_holds_itself_is_not_followed_for_ever(tmp_path: Path) -> None:
    torch.save(Endless(), tmp_path / "x.ckpt")
    with pytest.raises(WeightsError, match="there is no 2DPASS student in it"):
        import_official(tmp_path / "x.ckpt")


def test_a_bare_state_dict_and_half_precision_are_read(tmp_path: Path) -> None:
    state = official_state()
    half = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
    torch.save(OrderedDict(half), tmp_path / "x.pth")
    _, ours, _ = import_official(tmp_path / "x.pth")
    assert ours["classifier.2.bias"].dtype == torch.float32
    assert torch.equal(ours["classifier.2.bias"], half["model_3d.classifier.2.bias"].float())


def test_the_checkpoint_of_the_small_semantickitti_network(golden: Path, tmp_path: Path) -> None:
    card, ours, report = import_official(golden / "official_student_semantickitti.ckpt")
    assert card.architecture.scales == (2, 4, 8, 16)
    assert (card.architecture.width, card.architecture.num_classes) == (64, 20)
    assert (card.grid.minimum, card.grid.maximum) == ((-50, -50, -4), (50, 50, 2))
    assert card.grid.cells == (1000, 1000, 60)
    assert (card.class_map.name, card.intensity_max) == ("semantickitti", 1)
    assert report.not_constructed == ("easydict.EasyDict",)
    trainable = PointVoxelStudent(card.architecture, card.grid).state_dict()
    assert sum(value.numel() for key, value in ours.items() if "running" not in key and "num_" not in key) == 1_933_460
    assert trainable.keys() == ours.keys()
    save_weights(tmp_path / "w.safetensors", ours, card)
    assert load_weights(tmp_path / "w.safetensors")[0] == card


def test_the_checkpoint_of_lightning_1_3_8(golden: Path) -> None:
    card, ours, _ = import_official(golden / "tiny_lightning138.ckpt")
    assert card.architecture.width == 16
    assert card.architecture.scales == (2, 4, 8, 16)
    assert all(bool(torch.isfinite(tensor).all()) for tensor in ours.values())


def test_names_cover_the_authors_whole_state(golden: Path, tmp_path: Path) -> None:
    """The authors' own list of names and values, from a file that is not a pickle."""
    with np.load(golden / "tiny_state.npz") as file:
        state = {name: torch.from_numpy(file[name]) for name in file.files}
    _, _, report = import_official(checkpoint(tmp_path / "x.ckpt", state))
    assert report.imported + sum(report.skipped.values()) == len(state)
    assert report.skipped["fusion."] > 0
