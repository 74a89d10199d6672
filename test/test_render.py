from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from twodpass_core.classes import ClassMap, SemanticClass
from twodpass_core.render import render_bird_eye

CLASS_MAP = ClassMap.load("semantickitti")
CAR, BUILDING, UNLABELLED = 1, 13, 255


def wall(x: float, z: float = 0.0) -> np.ndarray:
    """A dense 4 m x 4 m patch at x, seen from above, on a background of nothing."""
    side = np.linspace(-2.0, 2.0, 60)
    grid = np.stack(np.meshgrid(x + side, side), axis=-1).reshape(-1, 2)
    return np.column_stack([grid, np.full((len(grid), 2), z)]).astype(np.float32)


def picture(path: Path, points: np.ndarray, class_id: np.ndarray, title: str = "") -> np.ndarray:
    render_bird_eye(points, class_id, CLASS_MAP, path, title=title)
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB")).astype(int)


def pixels_of(image: np.ndarray, class_id: int) -> np.ndarray:
    """Columns of pixels in the class's colour."""
    return np.nonzero((np.abs(image - CLASS_MAP.colour_table[class_id]) < 12).all(axis=-1))[1]


def ids(count: int, class_id: int) -> np.ndarray:
    return np.full(count, class_id, np.uint8)


def test_points_appear_in_their_colour_forward_to_the_right(tmp_path: Path) -> None:
    behind, ahead = wall(-15.0), wall(15.0)
    class_id = np.concatenate([ids(len(behind), CAR), ids(len(ahead), BUILDING)])
    image = picture(tmp_path / "a.png", np.concatenate([behind, ahead]), class_id)
    assert len(pixels_of(image, CAR)) > 1000
    assert np.median(pixels_of(image, CAR)) < np.median(pixels_of(image, BUILDING))


def test_higher_points_cover_lower_ones(tmp_path: Path) -> None:
    low, high = wall(10.0, z=-1.0), wall(10.0, z=3.0)
    for order in ((low, high), (high, low)):
        class_id = np.concatenate([ids(len(part), BUILDING if part is high else CAR) for part in order])
        image = picture(tmp_path / "a.png", np.concatenate(order), class_id)
        assert len(pixels_of(image, BUILDING)) > 10 * len(pixels_of(image, CAR))


@pytest.mark.parametrize("hidden", [UNLABELLED, 0])
def test_points_without_a_class_are_below_all_others(tmp_path: Path, hidden: int) -> None:
    low, high = wall(10.0, z=-1.0), wall(10.0, z=3.0)
    class_id = np.concatenate([ids(len(low), CAR), ids(len(high), hidden)])
    with_hidden = picture(tmp_path / "a.png", np.concatenate([low, high]), class_id)
    alone = picture(tmp_path / "b.png", low, ids(len(low), CAR))
    assert len(pixels_of(with_hidden, CAR)) >= 0.95 * len(pixels_of(alone, CAR))


def test_single_points_without_a_class_are_seen(tmp_path: Path) -> None:
    line = np.zeros((61, 4), np.float32)
    line[:, 0] = np.linspace(-30, 30, 61)
    line[:, 1] = 7.3
    image = picture(tmp_path / "a.png", line, ids(61, UNLABELLED))
    scene = image[60:-150, 120:-450]  # within the frame
    assert (scene.max(axis=(0, 2)) > 85).sum() >= 61  # columns of pixels; the background and its rings have 28 and 61


def test_legend_names_only_classes_that_are_there(tmp_path: Path) -> None:
    """One more class changes the legend: more light pixels to the right of the plot."""
    points = wall(10.0)
    one = picture(tmp_path / "a.png", points, ids(len(points), CAR))
    class_id = ids(len(points), CAR)
    class_id[:5] = BUILDING
    two = picture(tmp_path / "b.png", points, class_id)
    legend = np.s_[:, int(one.shape[1] * 0.83) :]
    assert (two[legend] > 150).all(axis=-1).sum() > (one[legend] > 150).all(axis=-1).sum()


def test_same_input_gives_the_same_file(tmp_path: Path) -> None:
    points = wall(10.0)
    for name in ("a.png", "b.png"):
        render_bird_eye(points, ids(len(points), CAR), CLASS_MAP, tmp_path / name, title="one")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_title_makes_room_for_itself(tmp_path: Path) -> None:
    points = wall(10.0)
    plain = picture(tmp_path / "a.png", points, ids(len(points), CAR))
    titled = picture(tmp_path / "b.png", points, ids(len(points), CAR), title="UNTRAINED")
    assert titled.shape[0] > plain.shape[0]


def test_points_that_are_not_finite_are_left_out(tmp_path: Path) -> None:
    points = wall(10.0)
    points[::3, 0] = np.nan
    points[1::3, 2] = np.inf
    image = picture(tmp_path / "a.png", points, ids(len(points), CAR))
    assert len(pixels_of(image, CAR)) > 100


@pytest.mark.parametrize("points", [np.zeros((0, 4), np.float32), np.full((3, 4), np.nan, np.float32), np.ones((1, 3))])
def test_nothing_to_see_is_a_picture_too(tmp_path: Path, points: np.ndarray) -> None:
    assert picture(tmp_path / "a.png", points, ids(len(points), UNLABELLED)).size


def test_far_and_narrow_scans_keep_a_sensible_size(tmp_path: Path) -> None:
    far = np.zeros((1000, 4), np.float32)
    for axis in (0, 1):
        points = far.copy()
        points[:, axis] = np.linspace(-200, 200, 1000)
        height, width, _ = picture(tmp_path / "a.png", points, ids(1000, CAR)).shape
        assert 0.3 < height / width < 1.2


@pytest.mark.parametrize("distance", [1e4, 1e12, 3e38])
def test_points_beyond_all_reason_do_not_change_the_view(tmp_path: Path, distance: float) -> None:
    near = wall(15.0)
    far = wall(15.0)
    far[:, 0], far[::2, 1] = distance, -distance
    alone = picture(tmp_path / "a.png", near, ids(len(near), CAR))
    with_far = picture(tmp_path / "b.png", np.concatenate([near, far]), ids(2 * len(near), CAR))
    assert with_far.shape == alone.shape
    np.testing.assert_array_equal(pixels_of(with_far, CAR), pixels_of(alone, CAR))


def test_names_are_shown_as_they_are_also_with_dollars(tmp_path: Path) -> None:
    odd = SemanticClass(id=1, name="$5 \\frac $", raw_ids=(999,), raw_id=999, colour=(255, 0, 0))
    class_map = ClassMap(name="odd", classes=(CLASS_MAP.classes[0], odd))
    points = wall(10.0)
    render_bird_eye(points, ids(len(points), 1), class_map, tmp_path / "a.png", title=r"a $\nonsense{ $ scan")
    assert (tmp_path / "a.png").stat().st_size


def test_shapes_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\(3, 4\) and class_id \(2,\)"):
        render_bird_eye(np.zeros((3, 4)), ids(2, CAR), CLASS_MAP, tmp_path / "a.png")
    with pytest.raises(ValueError, match=">= 3"):
        render_bird_eye(np.zeros((2, 2)), ids(2, CAR), CLASS_MAP, tmp_path / "a.png")


def test_a_picture_that_cannot_be_written_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(self: Figure, path: str, **options: Any) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    (tmp_path / "a.png").write_bytes(b"whole")
    monkeypatch.setattr(Figure, "savefig", half)
    with pytest.raises(OSError, match=r"No space left on device: .*a\.png"):
        render_bird_eye(np.zeros((1, 4)), ids(1, CAR), CLASS_MAP, tmp_path / "a.png")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"whole"]
