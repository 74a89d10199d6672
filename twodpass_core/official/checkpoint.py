"""Import of the checkpoints that the authors of 2DPASS published, and of those their trainer writes.

Only the student is taken. What its tensors do not tell (volume, grid, scales, classes) is looked for in the
hyper-parameters in the file, then in what is known of the data set with that many classes; options override both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from twodpass_core.checked import describe_problems
from twodpass_core.classes import ClassMap
from twodpass_core.errors import WeightsError
from twodpass_core.models.student import VOXEL_DESCRIPTION, StudentConfig
from twodpass_core.official.restricted_unpickler import InertObject
from twodpass_core.official.torch_archive import TensorReference, read_checkpoint
from twodpass_core.sparse.grid import KITTI_GRID, NUSCENES_GRID, VoxelGrid
from twodpass_core.weights import Card, check_state_dict, expected_shapes

STUDENT = "model_3d."
SKIPPED = {
    "model_2d.": "the image network",
    "fusion.": "the fusion and distillation",
    "model_3d.criterion.": "class weights of the loss",
}
"""What is needed in training only, by the prefix of its tensors."""

SCALES_OF_PUBLISHED = {4: (2, 4, 8, 16), 6: (2, 4, 8, 16, 16, 16)}
CLASS_MAP_OF_NUM_CLASSES = {20: "semantickitti", 17: "nuscenes"}
CLASS_MAP_OF_DATA_SET = {"SemanticKITTI": "semantickitti", "nuScenes": "nuscenes"}
INTENSITY_MAX = {"semantickitti": 1.0, "nuscenes": 255.0}
GRIDS = {"semantickitti": KITTI_GRID, "nuscenes": NUSCENES_GRID}


@dataclass(frozen=True)
class ImportOptions:
    """What the user knows better than the file; None leaves it to the file."""

    class_map: ClassMap | None = None
    scales: tuple[int, ...] | None = None
    volume_minimum: tuple[float, ...] | None = None
    volume_maximum: tuple[float, ...] | None = None
    cells: tuple[int, ...] | None = None
    intensity_max: float | None = None
    licence: str | None = None


@dataclass(frozen=True)
class ImportReport:
    """What became of the file: tensors taken and skipped (count by prefix), where each setting comes from,
    and the classes in it that were left inert."""

    imported: int
    skipped: Mapping[str, int]
    sources: Mapping[str, str]
    not_constructed: tuple[str, ...]


def import_official(
    path: Path, options: ImportOptions | None = None
) -> tuple[Card, dict[str, torch.Tensor], ImportReport]:
    """Card, state dict (CPU, float32) and report of a checkpoint of the authors' (Lightning 1.3 layout).

    Raises WeightsError when the file is damaged or unsafe, is not a 2DPASS student, or leaves a setting open.
    """
    checkpoint = read_checkpoint(path)
    try:
        references, skipped = _split(checkpoint.content)
        settings = _Settings(checkpoint.content, options or ImportOptions())
        card = _make_card(path.name, references, settings)
        ours = expected_shapes(card)
        official = official_names(ours, len(card.architecture.scales))
        check_state_dict({official[name]: _official_shape(name, shape) for name, shape in ours.items()}, references)
    except (WeightsError, ValidationError) as error:
        reason = describe_problems(error) if isinstance(error, ValidationError) else error
        raise WeightsError(f"{path}: {reason}") from error
    tensors = checkpoint.tensors(references)
    state_dict = convert_state(tensors, ours, len(card.architecture.scales))
    return card, state_dict, ImportReport(len(ours), skipped, settings.sources, checkpoint.not_constructed)


def convert_state(
    official: Mapping[str, torch.Tensor], ours: Iterable[str], num_blocks: int
) -> dict[str, torch.Tensor]:
    """Our state dict, or gradients, for the names `ours` from the authors' (keys as in their `state_dict`)."""
    return {name: _convert(name, official[key]) for name, key in official_names(ours, num_blocks).items()}


def official_names(ours: Iterable[str], num_blocks: int) -> dict[str, str]:
    """The authors' name (their key in `state_dict`) of each of our tensors."""
    modules = dict(_modules(num_blocks))
    split = {name: name.rpartition(".") for name in ours}
    return {name: f"{STUDENT}{modules[module]}.{parameter}" for name, (module, _, parameter) in split.items()}


def _modules(num_blocks: int) -> Iterator[tuple[str, str]]:
    """Our name and the authors' of every layer with tensors."""
    for n in (0, 2):
        yield f"point_encoder.{n}", f"voxel_3d_generator.PPmodel.{n}"
        yield f"classifier.{n}", f"classifier.{n}"
    for i in range(num_blocks):
        for j in (0, 1):
            ours, official = f"blocks.{i}.voxel_branch.{j}", f"spv_enc.{i}.v_enc.{j}"
            yield f"{ours}.shortcut", f"{official}.layers_in.0"
            yield f"{ours}.shortcut_norm", f"{official}.layers_in.1"
            yield f"{ours}.convolution1", f"{official}.layers.0"
            yield f"{ours}.norm1", f"{official}.layers.1"
            yield f"{ours}.convolution2", f"{official}.layers.3"
            yield f"{ours}.norm2", f"{official}.layers.4"
        ours, official = f"blocks.{i}.point_branch", f"spv_enc.{i}.p_enc"
        yield f"{ours}.direct", f"{official}.layer_in.0"
        for n in (0, 2, 3, 5, 6):
            yield f"{ours}.context.{n}", f"{official}.PPmodel.{n}"
        for n in (0, 2):
            yield f"{ours}.merge.{n}", f"{official}.layer_out.{n}"


def _official_shape(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape the authors' file has for our tensor: spconv stores (C_out, kz, ky, kx, C_in)."""
    if name.endswith((".convolution1.weight", ".convolution2.weight")):
        return (shape[2], 3, 3, 3, shape[1])
    if name.endswith(".shortcut.weight"):
        return (shape[1], 1, 1, 1, shape[0])
    return shape


def _convert(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """Our layout of one of the authors' tensors."""
    if name.endswith((".convolution1.weight", ".convolution2.weight")):
        tensor = tensor.permute(3, 2, 1, 4, 0).flatten(0, 2)  # (27, C_in, C_out), offsets x-major
    elif name.endswith(".shortcut.weight"):
        # spconv multiplies by weight.view(C_in, C_out) whatever the stored order says: reshaped, not transposed.
        tensor = tensor.reshape(tensor.shape[-1], tensor.shape[0])
    return tensor.contiguous().float() if tensor.is_floating_point() else tensor


def _split(content: Any) -> tuple[dict[str, TensorReference], dict[str, int]]:
    """The student's tensors, and how many others were skipped by prefix."""
    state = _mapping(content).get("state_dict", content)
    entries = {key: value for key, value in _mapping(state).items() if isinstance(key, str)}
    skipped = Counter(prefix for key in entries for prefix in SKIPPED if key.startswith(prefix))
    student = {key: value for key, value in entries.items() if not key.startswith(tuple(SKIPPED))}
    tensors = {key: value for key, value in student.items() if isinstance(value, TensorReference)}
    if any(key.startswith("network.student.") for key in entries):
        raise WeightsError("a checkpoint of `twodpass train`: weights.safetensors in its run's folder needs no import")
    if not any(key.startswith(f"{STUDENT}voxel_3d_generator.") for key in tensors):
        found = ", ".join(sorted({ascii(key.split(".")[0]) for key in entries})[:10]) or "none"
        raise WeightsError(f"there is no 2DPASS student in it ({STUDENT}*); its entries begin with: {found}")
    if strange := [key for key in student if key not in tensors]:
        raise WeightsError(f"{strange[0]!a} is not a tensor")
    return tensors, dict(skipped)


class _Settings:
    """Finds each setting in the options, the file or what is known of the data set, and remembers where."""

    def __init__(self, content: Any, options: ImportOptions) -> None:
        config = _mapping(_mapping(_mapping(content).get("hyper_parameters")).get("config"))
        self.options = options
        self.model = _mapping(config.get("model_params"))
        self.data = _mapping(config.get("dataset_params"))
        self.epoch, self.step = (_count(_mapping(content).get(key)) for key in ("epoch", "global_step"))
        self.sources: dict[str, str] = {}

    def choose(self, name: str, option: Any, in_file: Any, known: Any, flag: str) -> Any:
        for source, value in (("option", option), ("checkpoint", in_file), ("data set", known)):
            if value is not None:
                self.sources[name] = source
                return value
        raise WeightsError(f"{name} is not in the file, and not known for this data set: give {flag}")

    def class_map(self, num_classes: int) -> ClassMap:
        data_set = self.data.get("pc_dataset_type")
        in_file = CLASS_MAP_OF_DATA_SET.get(data_set) if isinstance(data_set, str) else None
        known = CLASS_MAP_OF_NUM_CLASSES.get(num_classes)
        found = self.choose("class map", self.options.class_map, in_file, known, "--class-map")
        return found if isinstance(found, ClassMap) else ClassMap.load(found)

    def grid(self, data_set: str) -> VoxelGrid:
        options, known = self.options, GRIDS.get(data_set)
        minimum, maximum = self.data.get("min_volume_space"), self.data.get("max_volume_space")
        cells = self.model.get("spatial_shape")
        return VoxelGrid(
            minimum=self.choose(
                "volume minimum", options.volume_minimum, minimum, known and known.minimum, "--volume-min"
            ),
            maximum=self.choose(
                "volume maximum", options.volume_maximum, maximum, known and known.maximum, "--volume-max"
            ),
            cells=self.choose("cells", options.cells, cells, known and known.cells, "--cells"),
        )


def _make_card(file_name: str, references: Mapping[str, TensorReference], settings: _Settings) -> Card:
    width, encoder_inputs = _matrix(references, "voxel_3d_generator.PPmodel.0.weight")
    hidden, _ = _matrix(references, "classifier.0.weight")
    num_classes, _ = _matrix(references, "classifier.2.weight")
    num_blocks = len({key.split(".")[2] for key in references if key.startswith(f"{STUDENT}spv_enc.")})
    published = SCALES_OF_PUBLISHED.get(num_blocks)
    scales = settings.choose("scales", settings.options.scales, settings.model.get("scale_list"), published, "--scales")
    if not isinstance(scales, list | tuple) or len(scales) != num_blocks:
        raise WeightsError(f"it has {num_blocks} blocks, and a scale for each is needed, not {scales!r}: --scales")
    class_map = settings.class_map(num_classes)
    known_intensity = INTENSITY_MAX.get(class_map.name)
    return Card(
        architecture=StudentConfig(
            scales=tuple(scales),
            width=width,
            num_classes=num_classes,
            input_dims=encoder_inputs - VOXEL_DESCRIPTION,
            hidden=hidden,
        ),
        grid=settings.grid(class_map.name),
        class_map=class_map,
        intensity_max=settings.choose(
            "intensity", settings.options.intensity_max, None, known_intensity, "--intensity-max"
        ),
        trained=settings.step != 0,
        origin=f"2DPASS checkpoint {file_name} (epoch {settings.epoch}, step {settings.step})",
        licence=settings.options.licence or "not stated in the checkpoint",
    )


def _matrix(references: Mapping[str, TensorReference], name: str) -> tuple[int, int]:
    reference = references.get(f"{STUDENT}{name}")
    if reference is None or len(reference.shape) != 2:
        raise WeightsError(f"its {STUDENT}{name} is missing or not a matrix: not a 2DPASS student, or a damaged one")
    return reference.shape[0], reference.shape[1]


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def _mapping(value: Any) -> Mapping[Any, Any]:
    """The entries of a dict, or of an object that is one (EasyDict); of anything else, none."""
    if isinstance(value, InertObject):
        value = value.items or value.state
    return value if isinstance(value, dict) else {}
