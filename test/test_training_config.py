"""Settings: files, overrides, refusals, the shipped ones, and the learning rates that follow from them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from twodpass_core.cli import app
from twodpass_core.data.augment import AugmentationConfig
from twodpass_core.data.source import SourceConfig
from twodpass_core.errors import ConfigError
from twodpass_core.losses import inverse_frequency_weights
from twodpass_core.pretrained import default_weights
from twodpass_core.training.config import OptimiserSettings, TrainingConfig
from twodpass_core.training.config_file import known_keys, load_config
from twodpass_core.training.config_text import dump_config
from twodpass_core.training.schedules import authors_annealing, cosine, make_schedule
from twodpass_core.training.shipped import shipped_settings
from twodpass_core.weights import read_card


@pytest.mark.parametrize("path", shipped_settings().values(), ids=lambda path: path.stem)
def test_shipped_settings_are_valid_and_survive_being_written(path: Path, tmp_path: Path) -> None:
    config = load_config(path)
    copy = tmp_path / "copy.yaml"
    copy.write_text(dump_config(config), encoding="utf-8")
    assert load_config(copy) == config


def shipped(name: str) -> TrainingConfig:
    return load_config(shipped_settings()[name])


def test_the_papers_hyper_parameters() -> None:
    kitti, nuscenes = shipped("semantickitti"), shipped("nuscenes")
    for config in (kitti, nuscenes):
        optimiser = config.optimiser
        assert (optimiser.learning_rate, optimiser.momentum, optimiser.nesterov) == (0.24, 0.9, True)
        assert (optimiser.weight_decay, optimiser.schedule) == (1e-4, "cosine")
        assert (config.distillation.kind, config.distillation.variant) == ("msfskd", "paper")
        assert (config.distillation.width, config.distillation.kl_weight) == (64, 0.05)
        assert config.distillation.fusion_weight == 1
        assert config.augmentation.crop == (480, 320)
    assert (kitti.data.batch_size, kitti.epochs, kitti.student.width, len(kitti.student.scales)) == (8, 64, 64, 4)
    assert (nuscenes.data.batch_size, nuscenes.epochs, nuscenes.student.width) == (16, 80, 128)
    assert len(nuscenes.student.scales) == 6
    second = shipped("semantickitti_cutmix")
    assert second.augmentation.cutmix
    assert (second.epochs, second.start_from) == (48, kitti.run / "checkpoints/last.ckpt")


def test_fine_tuning_starts_from_the_weights_that_come_with_twodpass_wherever_those_are() -> None:
    config, card = shipped("finetune"), read_card(default_weights())
    assert config.start_from == Path("default")
    assert "start_from: default\n" in dump_config(config)
    assert (config.student.scales, config.student.width) == (card.architecture.scales, card.architecture.width)


def test_the_defaults_are_the_papers_for_semantickitti() -> None:
    defaults, kitti = TrainingConfig(), shipped("semantickitti")
    for name in ("student", "distillation", "optimiser", "augmentation", "epochs"):
        assert getattr(defaults, name) == getattr(kitti, name), name


def test_class_weights_are_the_authors(golden: Path) -> None:
    counts = shipped("semantickitti").loss.point_counts
    assert counts is not None
    expected = json.loads((golden / "misc.json").read_text())["ce_weights"]
    assert inverse_frequency_weights(counts)[1:].tolist() == pytest.approx(expected[1:], rel=1e-6)


# --- Overrides and refusals ---------------------------------------------------------------------------------------


def test_an_alias_is_changed_where_it_is_named_alone(tmp_path: Path) -> None:
    path = tmp_path / "shared.yaml"
    source = "{kind: simulation, simulation: &streets {streets: 200}}"
    path.write_text(f"data: {{train: {source}, validation: {{kind: simulation, simulation: *streets}}}}")
    config = load_config(path, ["data.train.simulation.streets=5"])
    assert isinstance(config.data.train, SourceConfig)
    assert config.data.validation is not None
    assert (config.data.train.simulation.streets, config.data.validation.simulation.streets) == (5, 200)


def test_overrides() -> None:
    overrides = [
        "optimiser.learning_rate=0.1",
        "student.scales=[2, 4]",
        "data.train.root=/data",
        "data.validation=null",
    ]
    config = load_config(None, overrides)
    assert config.optimiser.learning_rate == 0.1
    assert config.student.scales == (2, 4)
    assert isinstance(config.data.train, SourceConfig)
    assert config.data.train.root == Path("/data")
    assert config.data.validation is None
    assert config.optimiser.momentum == OptimiserSettings().momentum


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimiser.learning_rat=0.1", r"unknown key optimiser\.learning_rat: did you mean optimiser\.learning_rate\?"),
        ("learning_rate=0.1", r"unknown key learning_rate: did you mean optimiser\.learning_rate\?"),
        ("optimizer.momentum=0.1", r"unknown key optimizer: did you mean optimiser\?"),
        ("zzz=1", "unknown key zzz: see `twodpass train --print-config`"),
        ("distillation.kind=mskd", r"distillation\.kind: Input should be 'msfskd' or 'none'"),
        ("optimiser.learning_rate=fast", r"optimiser\.learning_rate: Input should be a valid number"),
        ("optimiser.learning_rate=.inf", r"optimiser\.learning_rate: Input should be a finite number"),
        ("seed=4294967296", "seed: Input should be less than 4294967296"),
        ("optimiser=5", "optimiser: must have keys and values"),
        ("run=[1]", "run: must be a path"),
        ("run=!!bool z", "the value is not YAML: cannot be read as bool"),
        ("augmentation.preset=[a]", r"augmentation\.preset: Input should be 'paper'"),
        ("data.train.cameras=image_2", r"data\.train\.cameras: must be a list"),
        ("epochs=0", "epochs: Input should be greater than 0, not 0"),
        ("epochs", "must be KEY=VALUE"),
        ("student.scales=[2", "not YAML"),
        ("optimiser={schedule: authors_annealing, warmup_steps: 5}", r"optimiser: warmup_steps are the cosine's"),
        ("student.scales=[]", r"student\.scales: Tuple should have at least 1 item"),
        ("distillation.width=0", r"distillation\.width: Input should be greater than or equal to 1"),
        ("distillation.kl_weight=-1", r"distillation\.kl_weight: Input should be greater than or equal to 0"),
        ("distillation.fusion_weight=-1", r"distillation\.fusion_weight: Input should be greater than or equal to 0"),
        ("loss.point_counts=[0, -1]", r"loss\.point_counts\.1: Input should be greater than or equal to 0"),
    ],
)
def test_refusals(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(None, [override])


def test_annealing_is_not_cut_short() -> None:
    with pytest.raises(ConfigError, match="settings: max_steps would cut authors_annealing short"):
        load_config(None, ["max_steps=5", "optimiser.schedule=authors_annealing"])


def test_what_has_no_effect_is_written_as_a_comment(tmp_path: Path) -> None:
    path = tmp_path / "written.yaml"
    path.write_text(dump_config(load_config(None, ["distillation={variant: authors, fusion: false}"])))
    assert load_config(path).distillation.fusion is False
    assert load_config(path, ["distillation.variant=paper"]).distillation.learner


@pytest.mark.parametrize(("fusion", "learner"), [(True, True), (True, False), (False, False)])
def test_what_has_an_effect_is_not(fusion: bool, learner: bool) -> None:
    config = load_config(None, [f"distillation={{variant: authors, fusion: {fusion}, learner: {learner}}}"])
    lines = [line.split("#")[0].strip() for line in dump_config(config).splitlines()]
    assert f"learner: {str(learner).lower()}" in lines


def test_parts_of_bags_for_training_and_validation_do_not_overlap() -> None:
    base = ["data.train={kind: bag, root: d, split: train, bag: {held_out: 0.2}}"]
    validation = "data.validation={{kind: bag, root: {}, split: val, bag: {{held_out: {}}}}}"
    load_config(None, [*base, validation.format("d", 0.2)])
    load_config(None, [*base, validation.format("other", 0.5)])
    with pytest.raises(ConfigError, match=r"train and validation divide the same bags by bag.held_out 0.2 and 0.5"):
        load_config(None, [*base, validation.format("d", 0.5)])


@pytest.mark.parametrize(
    "sensor", ["intensity_scale: 0.5", "training_from_sensor: [0, 0, 1, 0, 0, 0]", "intensity_field: reflectivity"]
)
def test_bags_are_read_alike_for_training_and_validation(sensor: str) -> None:
    def load(train: str, validation: str) -> None:
        sources = (f"data.train=[{{kind: bag, {train}}}]", f"data.validation={{kind: bag, {validation}}}")
        load_config(None, sources)

    load(f"root: d, bag: {{{sensor}}}", f"root: d, bag: {{{sensor}}}")
    load(f"root: d, bag: {{{sensor}}}", "root: of_another_vehicle")
    load(f"root: d, bag: {{topic: left, {sensor}}}", "root: d, bag: {topic: right}")
    with pytest.raises(ConfigError, match=f"read the same bags with another bag.{sensor.split(':')[0]}, so that one"):
        load(f"root: d, bag: {{{sensor}}}", "root: d")


def test_sequences_need_no_quotes() -> None:
    config = load_config(None, ["data.train.sequences=[00, 08, 10]"])
    assert isinstance(config.data.train, SourceConfig)
    assert config.data.train.sequences == ("00", "08", "10")
    with pytest.raises(ConfigError, match=r"data\.train\.sequences\.0: Input should be a valid string"):
        load_config(None, ["data.train.sequences=[1.5]"])


def test_a_bad_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    with pytest.raises(ConfigError, match=r"bad\.yaml: no such configuration"):
        load_config(path)
    path.write_text("[1, 2]")
    with pytest.raises(ConfigError, match="must hold keys and values"):
        load_config(path)
    path.write_text("epochs: 1\nseed: 3\nepochs: 50\n")
    with pytest.raises(ConfigError, match=r"(?s)bad\.yaml: not a YAML file: duplicate key 'epochs'.*line 3"):
        load_config(path)
    path.write_text("data:\n  trian: {root: x}\n")
    with pytest.raises(ConfigError, match=r"bad\.yaml: unknown key data\.trian: did you mean data\.train\?"):
        load_config(path)


def test_every_setting_is_printed() -> None:
    result = CliRunner().invoke(app, ["train", "--print-config", "--set", "epochs=3", "--devices", "2"])
    assert result.exit_code == 0
    assert "epochs: 3" in result.output
    assert "devices: 2" in result.output
    missing = [key for key in known_keys() if f"{key.split('.')[-1]}:" not in result.output]
    assert all(key.startswith("data.validation.") or key == "data.train.share" for key in missing)


def test_what_follows_from_a_preset_is_written_as_a_comment(tmp_path: Path) -> None:
    path = tmp_path / "written.yaml"
    path.write_text(dump_config(load_config(None, ["augmentation.brightness=0.1"])))
    changed = load_config(path, ["augmentation.preset=authors"]).augmentation
    assert changed == AugmentationConfig(preset="authors", brightness=0.1)
    assert changed.dropout > 0


def test_every_setting_is_explained() -> None:
    lines = dump_config(shipped("finetune")).splitlines()
    assert "seed: 0  # of initial weights, order of frames and augmentation" in lines
    assert "  kind: msfskd  # msfskd | none; none: the student is trained alone" in lines
    assert all(len(line) <= 120 for line in lines)


def test_the_command_says_what_is_missing() -> None:
    result = CliRunner().invoke(app, ["train"])
    assert result.exit_code == 1
    assert all(name in result.output for name in shipped_settings())


def test_shipped_settings_go_by_their_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_config(Path("nuscenes"), ["epochs=3"]) == shipped("nuscenes").model_copy(update={"epochs": 3})
    Path("nuscenes").write_text("epochs: 7")
    assert load_config(Path("nuscenes")).epochs == 7
    with pytest.raises(ConfigError, match=r"nus: no such configuration .*; with twodpass come ablation, finetune, nu"):
        load_config(Path("nus"))


# --- Learning rates -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("key", "gpus"), [("warmup_cosine_1gpu", 1), ("warmup_cosine_4gpu", 4)])
def test_cosine_is_the_authors(golden: Path, key: str, gpus: int) -> None:
    factor = cosine(64 * -(-19132 // (8 * gpus)), 0 if gpus == 1 else 1000 // gpus)
    for step, expected in json.loads((golden / "misc.json").read_text())[key].items():
        assert factor(int(step)) == pytest.approx(expected, abs=1e-12), step


def test_annealing_is_the_authors(golden: Path) -> None:
    factor = authors_annealing(80, 100, 0.24)
    expected = json.loads((golden / "misc.json").read_text())["cosine_annealing_80"]
    assert [0.24 * factor(100 * epoch) for epoch in range(80)] == pytest.approx(expected, abs=1e-12)
    assert factor(199) == factor(100)
    settings = OptimiserSettings(schedule="authors_annealing", learning_rate=0.24)
    made = make_schedule(settings, epochs=80, steps_per_epoch=100, max_steps=None)
    assert [made(step) for step in range(0, 8000, 50)] == [factor(step) for step in range(0, 8000, 50)]


@pytest.mark.parametrize("epochs", [1, 4])
def test_annealing_of_few_epochs_begins_at_the_whole_rate(epochs: int) -> None:
    assert authors_annealing(epochs, 100, 0.24)(0) == 1


def test_cosine_ends_at_zero_and_stays_there() -> None:
    factor = cosine(10)
    assert factor(0) == 1
    assert factor(10) == factor(99) == pytest.approx(0, abs=1e-15)


@pytest.mark.parametrize(("max_steps", "steps"), [(None, 160), (150, 150), (1000, 160)])
def test_a_training_with_a_warm_up_ends_at_zero_too(max_steps: int | None, steps: int) -> None:
    factor = make_schedule(OptimiserSettings(warmup_steps=50), epochs=20, steps_per_epoch=8, max_steps=max_steps)
    assert factor(49) == factor(50) == 1
    assert 0 < factor(steps - 1) < 1e-3
    assert factor(steps) == pytest.approx(0, abs=1e-15)
