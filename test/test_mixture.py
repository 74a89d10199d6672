"""Several sources trained on together."""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from training_data import GRID, Blobs, tiny_config
from training_runs import STATE, Interrupting, assert_same, load

from twodpass_core.classes import ClassMap
from twodpass_core.data.mixture import FramesByShare, Mixture, describe, epoch_order
from twodpass_core.data.source import SourceConfig
from twodpass_core.errors import ConfigError
from twodpass_core.training.batches import Share, TrainingBatches
from twodpass_core.training.config_file import load_config
from twodpass_core.training.config_text import dump_config
from twodpass_core.training.folder import RunFolder
from twodpass_core.training.run import train


@given(
    st.lists(st.tuples(st.integers(1, 200), st.floats(0.01, 10)), min_size=1, max_size=4),
    st.integers(0, 2**32 - 1),
)
def test_an_epoch_has_each_source_by_its_share_and_no_frame_twice(sources: list[tuple[int, float]], seed: int) -> None:
    sizes, shares = zip(*sources, strict=True)
    order = FramesByShare(sizes, shares)
    drawn = order.draw(np.random.default_rng(seed))
    assert len(set(drawn.tolist())) == len(drawn) == len(order)
    counts = np.histogram(drawn, np.cumsum([0, *sizes]))[0]
    assert counts.tolist() == list(order.counts)
    assert any(count == size for count, size in zip(counts, sizes, strict=True))
    wanted = np.array(shares) / sum(shares) * min(np.array(sizes) * sum(shares) / np.array(shares))
    assert np.all(np.abs(counts - wanted) <= 1)


def test_the_larger_source_gives_another_part_to_each_epoch() -> None:
    order = FramesByShare([10, 1000], [1, 1])
    epochs = [set(order.draw(np.random.default_rng(epoch))) for epoch in range(2)]
    assert all(set(range(10)) <= epoch and len(epoch) == 20 for epoch in epochs)
    assert epochs[0] != epochs[1]


def test_sources_take_turns_in_an_epoch() -> None:
    drawn = FramesByShare([100, 1000], [1, 1]).draw(np.random.default_rng(0))
    assert 30 < (drawn[:100] < 100).sum() < 70


def test_a_source_of_the_smallest_share_is_not_left_out() -> None:
    assert FramesByShare([10, 1000], [1, 1e-6]).counts == (10, 1)


def test_one_frame_is_drawn_as_often_as_it_is_in_an_epoch() -> None:
    order, rng = FramesByShare([10, 800], [2, 1]), np.random.default_rng(0)
    drawn = np.array([order.draw_one(rng) for _ in range(3000)])
    assert abs((drawn < 10).mean() - 2 / 3) < 0.03
    assert set(drawn[drawn < 10]) == set(range(10))
    assert len(set(drawn[drawn >= 10])) > 500
    assert drawn.max() in range(800, 810)


def test_one_source_keeps_its_order() -> None:
    """That of trainings that have begun before there were mixtures."""
    drawn, expected = epoch_order(Blobs(7)).draw(np.random.default_rng(3)), np.random.default_rng(3).permutation(7)
    assert drawn.tolist() == expected.tolist()


def test_frames_of_a_mixture_are_those_of_its_sources() -> None:
    mixture = Mixture([Blobs(2), Blobs(3, seed=5)], [1, 2])
    assert len(mixture) == len(mixture.ids) == len(set(mixture.ids)) == 5
    assert mixture.ids[3] == "1/00/000001"
    assert np.array_equal(mixture[3].points, Blobs(3, seed=5)[1].points)
    with pytest.raises(IndexError):
        mixture[5]
    assert mixture.kind == "blobs"
    assert describe(mixture) == "2 frames of blobs and 3 frames of blobs"


def test_what_does_not_mix_is_refused() -> None:
    other = Blobs(2)
    other.intensity_max = 255.0
    with pytest.raises(ConfigError, match=r"full scales of intensity differ: 1\.0 and 255\.0"):
        Mixture([Blobs(2), other], [1, 1])
    foreign = Blobs(2)
    foreign.class_map = ClassMap.load("nuscenes")
    with pytest.raises(ConfigError, match=r"sources 0 and 1 .* classes differ: .{1,203} and .{1,203}$"):
        Mixture([Blobs(2), foreign], [1, 1])
    elsewhere = Blobs(2)
    elsewhere.grid = GRID.model_copy(update={"minimum": (-9.0, -8.0, -2.0)})
    with pytest.raises(ConfigError, match=r"sources 0 and 2 .* volumes differ"):
        Mixture([Blobs(2), Blobs(2), elsewhere], [1, 1, 1])
    with pytest.raises(ConfigError, match=r"source 1 .* has no frames"):
        Mixture([Blobs(2), Blobs(0)], [1, 1])


def test_a_resumed_training_on_a_mixture_is_bitwise_the_uninterrupted_one(tmp_path: Path) -> None:
    whole, parts = (tiny_config(tmp_path / name) for name in ("whole", "parts"))

    def mixed(own: Blobs) -> Mixture:
        return Mixture([own, Blobs(20, seed=3)], [2, 1])

    train(whole, training=mixed(Blobs(6)))
    with pytest.raises(SystemExit):
        train(parts, training=mixed(Interrupting(6, at=8, number=signal.SIGTERM)))
    assert 1 <= load(parts.run)["global_step"] < 10
    train(parts, training=mixed(Blobs(6)), resume=True)
    one, other = load(whole.run), load(parts.run)
    assert one["global_step"] == 10  # 6 + 3 frames an epoch, batches of 2, 2 epochs
    assert_same({name: one[name] for name in STATE}, {name: other[name] for name in STATE})


def test_processes_share_a_mixture() -> None:
    order = FramesByShare([6, 20], [2, 1])
    shares = [TrainingBatches(order, 2, 7, Share(rank, 2), lambda: 0) for rank in range(2)]
    seen = [key.frame for share in shares for batch in share for key in batch]
    assert len(set(seen)) == len(seen) == 8


# --- Settings -----------------------------------------------------------------------------------------------------

MIXED = """
data:
  train:
    - {root: own, unlabelled: keep, share: 0.7}
    - {kind: simulation, share: 0.3}
"""


def test_a_list_of_sources_is_read_overridden_and_written(tmp_path: Path) -> None:
    path = tmp_path / "mixed.yaml"
    path.write_text(MIXED)
    config = load_config(path, ["data.train.1.simulation.streets=3", "data.train.0.share=2"])
    assert isinstance(config.data.train, tuple)
    own, old = config.data.train
    assert (own.root, own.unlabelled, own.share) == (Path("own"), "keep", 2)
    assert (old.kind, old.simulation.streets, old.share) == ("simulation", 3, 0.3)
    path.write_text(dump_config(config))
    assert load_config(path) == config


def test_settings_of_one_source_are_those_of_before() -> None:
    """A run that was begun by an earlier version goes on."""
    section = load_config(None, ["data.train.root=x"]).data.train
    assert isinstance(section, SourceConfig)
    assert (section.root, section.unlabelled) == (Path("x"), "refuse")


def test_a_run_is_not_resumed_with_other_shares(tmp_path: Path) -> None:
    path = tmp_path / "mixed.yaml"
    path.write_text(f"run: {tmp_path / 'run'}{MIXED}")
    folder = RunFolder(tmp_path / "run")
    folder.begin(load_config(path))
    folder.last_checkpoint.touch()
    assert folder.checkpoint_for(load_config(path, ["data.train.0.root=moved"]), resume=True) == folder.last_checkpoint
    for change in ("data.train.0.share=1", "data.train.0.unlabelled=skip", "data.train={root: own}"):
        with pytest.raises(ConfigError, match=r"other settings of data\.train"):
            folder.checkpoint_for(load_config(path, [change]), resume=True)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "data.train.0.shrae=1",
            r"^--set data\.train\.0\.shrae=1: unknown key data\.train\.0\.shrae: did you mean data\.train\.0\.share\?",
        ),
        (
            "data.train.1.bag={max_ofset: 1}",
            r"unknown key data\.train\.1\.bag\.max_ofset: did you mean data\.train\.1\.bag\.max_offset\?",
        ),
        ("data.train.0.share=0", r"settings with --set: data\.train\.0\.share: Input should be greater than 0"),
        ("data.train.0.share=.inf", r"data\.train\.0\.share: Input should be a finite number"),
        ("data.train.2.share=1", r"--set data\.train\.2\.share: data\.train is a list of 2"),
        ("data.train.0=x", r"--set data\.train\.0: data\.train is a list of 2"),
        ("data.train.root=x", r"data\.train is a list of 2: set a key of one of them, as in data\.train\.0\.root"),
        ("data.train.0.share.x=1", r"data\.train\.0\.share is 0\.7 and has no settings of its own"),
        ("data.train=[]", r"data\.train: Tuple should have at least 1 item"),
        ("data.train={share: 1}", r"data\.train\.share: Extra inputs are not permitted"),
        ("data.train={kind: none}", r"data\.train\.kind: Input should be"),
    ],
)
def test_refusals(override: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "settings"
    path.write_text(MIXED)
    with pytest.raises(ConfigError, match=message):
        load_config(path, [override])
