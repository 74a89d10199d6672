"""What a training starts from: weights files and checkpoints of runs, and those that will not do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from training_data import CLASS_MAP, Blobs, tiny_config
from training_runs import load

from twodpass_core.classes import ClassMap, SemanticClass
from twodpass_core.errors import ConfigError, WeightsError
from twodpass_core.models.student import StudentShape
from twodpass_core.pretrained import default_weights
from twodpass_core.training.network import TrainingNetwork
from twodpass_core.training.run import train
from twodpass_core.training.start import initialise, start_from
from twodpass_core.weights import load_weights

DISTILLED = {"kind": "msfskd"}
MORE_CLASSES = ClassMap(
    name="more", classes=(*CLASS_MAP.classes, SemanticClass(id=3, name="top", colour=(1, 2, 3), raw_ids=(3,), raw_id=3))
)


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run."""
    run = tmp_path_factory.mktemp("run")
    train(tiny_config(run, epochs=1), training=Blobs(2))
    return run


def test_starting_from_weights_and_from_a_checkpoint(tmp_path: Path) -> None:
    weights = train(tiny_config(tmp_path / "first", epochs=1, distillation=DISTILLED), training=Blobs(2))
    checkpoint = tmp_path / "first/checkpoints/last.ckpt"
    in_weights = {f"network.student.{name}": tensor for name, tensor in load_weights(weights)[1].items()}
    still = {"learning_rate": 1e-30, "weight_decay": 0}
    for start, before in ((weights, in_weights), (checkpoint, load(tmp_path / "first")["state_dict"])):
        run = tmp_path / f"second{start.suffix}"
        config = tiny_config(run, epochs=1, start_from=start, optimiser=still, distillation=DISTILLED)
        train(config, training=Blobs(2))
        after = load(run)["state_dict"]
        parameters = [name for name in before if name.endswith(("weight", "bias"))]
        assert len(parameters) > 20
        assert all(torch.allclose(before[name], after[name], atol=1e-12) for name in parameters)


def test_starting_from_the_weights_that_come_with_twodpass(tmp_path: Path) -> None:
    card, shipped = load_weights(default_weights())
    shape = {key: getattr(card.architecture, key) for key in StudentShape.model_fields}
    config = tiny_config(tmp_path, start_from="default", student=shape)
    source = Blobs(2, class_map=card.class_map)
    network = TrainingNetwork(config, source.class_map, source.grid)
    initialise(network, config, source)
    assert all(torch.equal(tensor, shipped[name]) for name, tensor in network.student.state_dict().items())


@pytest.mark.parametrize("file", ["weights.safetensors", "checkpoints/last.ckpt"])
@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"width": 16}, r"a network with width 8, but this training's has width 16: change student\.width$"),
        (
            {"scales": (2, 8), "hidden": 8},
            r"scales 2, 4 and hidden 16, .* has scales 2, 8 and hidden 8: change student\.scales and student\.hidden",
        ),
    ],
)
def test_weights_of_another_shape_are_refused(begun: Path, tmp_path: Path, file: str, shape: Any, message: str) -> None:
    config = tiny_config(tmp_path, start_from=begun / file, student=shape)
    with pytest.raises(WeightsError, match=message):
        train(config, training=Blobs(2))


@pytest.mark.parametrize("file", ["weights.safetensors", "checkpoints/last.ckpt"])
def test_weights_for_other_classes_give_all_but_the_last_layer(
    begun: Path, caplog: pytest.LogCaptureFixture, file: str
) -> None:
    network = TrainingNetwork(tiny_config(begun), MORE_CLASSES, Blobs(2).grid)
    before = {name: tensor.clone() for name, tensor in network.student.state_dict().items()}
    start_from(begun / file, network, Blobs(2, class_map=MORE_CLASSES))
    kept = [name for name, tensor in network.student.state_dict().items() if torch.equal(tensor, before[name])]
    assert {"classifier.2.weight", "classifier.2.bias"} <= set(kept)
    assert "blocks.0.voxel_branch.0.convolution1.weight" not in kept
    assert "the student's last layer starts anew" in caplog.text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file"),
        (b"not a pickle", "twodpass import-weights"),
        ({"state_dict": {"model_3d.x": torch.zeros(1)}}, "twodpass import-weights .*authors.ckpt authors.safetensors"),
        ({"callbacks": {Blobs: 1}}, "twodpass import-weights"),
    ],
)
def test_what_is_no_checkpoint_of_a_run_is_named(content: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "authors.ckpt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(WeightsError, match=message):
        train(tiny_config(tmp_path / "run", start_from=path), training=Blobs(2))


def test_teachers_of_other_classes_keep_all_but_their_classifiers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = tiny_config(tmp_path / "run", epochs=1, distillation=DISTILLED)
    train(config, training=Blobs(2))
    saved = load(tmp_path / "run")["state_dict"]
    renamed = CLASS_MAP.model_copy(
        update={"classes": tuple(entry.model_copy(update={"name": f"{entry.name} one"}) for entry in CLASS_MAP.classes)}
    )
    network = TrainingNetwork(config, renamed, Blobs.grid)
    start_from(tmp_path / "run/checkpoints/last.ckpt", network, Blobs(2, class_map=renamed))
    weights = {f"network.{name}": value for name, value in network.named_parameters() if not name.startswith("student")}
    same = {name: torch.equal(value, saved[name]) for name, value in weights.items()}
    assert all(is_same for name, is_same in same.items() if "classifier" not in name)
    assert not any(is_same for name, is_same in same.items() if "classifier" in name and name.endswith("weight"))
    assert "of the image network start anew: classifier" in caplog.text


def test_a_run_goes_on_with_as_many_processes(tmp_path: Path) -> None:
    config = tiny_config(tmp_path / "run", epochs=1)
    train(config, training=Blobs(2))
    checkpoint = tmp_path / "run/checkpoints/last.ckpt"
    torch.save(torch.load(checkpoint, weights_only=True) | {"processes": 2}, checkpoint)
    with pytest.raises(ConfigError, match="begun by 2 processes, not 1: resume it with as many"):
        train(config, training=Blobs(2), resume=True)


def test_weights_of_another_unit_of_intensity_or_volume_are_told(begun: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = Blobs(2, intensity_max=255.0)
    source.grid = source.grid.model_copy(update={"minimum": (-9.0, -8.0, -2.0)})
    network = TrainingNetwork(tiny_config(begun), source.class_map, source.grid)
    start_from(begun / "weights.safetensors", network, source)
    assert "was trained on intensities up to 1, those of data.train go up to 255" in caplog.text
    assert "was trained in the volume" in caplog.text
