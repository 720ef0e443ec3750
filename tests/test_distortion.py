"""The drawn transforms do to images what the settings say: measured on the images themselves."""

import numpy as np
import pytest

from lenet.backends import get
from lenet.data import draw_transforms
from lenet.settings import DistortionSettings

SIZE = 41
CENTER = (SIZE - 1) / 2


def draw(count: int = 1, epoch: int = 1, seed: int = 1, size: int = SIZE, **ranges: float) -> np.ndarray:
    settings = DistortionSettings(**{"shift": 0.0, "zoom": 0.0, "rotation": 0.0, **ranges})
    transforms = draw_transforms(settings, seed, epoch, count, size, size)
    assert transforms is not None
    return transforms


def apply(image: np.ndarray, transforms: np.ndarray) -> np.ndarray:
    backend = get("numpy", dtype=np.float64)
    out = backend.empty((len(transforms), 1, *image.shape))
    index = np.zeros(len(transforms), np.int32)
    backend.distort(image[None], index, transforms.astype(np.float64), out=out)
    return out[:, 0]


def moments(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Center of mass (x, y) and covariance of an image."""
    rows, columns = np.indices(image.shape)
    points = np.stack([columns.ravel(), rows.ravel()])
    weight = image.ravel() / image.sum()
    center = points @ weight
    centered = points - center[:, None]
    return center, (centered * weight) @ centered.T


def bar() -> np.ndarray:
    """A smooth bar along the x axis, centered."""
    rows, columns = np.indices((SIZE, SIZE)) - CENTER
    return (255 * np.exp(-((columns / 6) ** 2) - (rows / 3) ** 2)).astype(np.uint8)


def test_nothing_to_move() -> None:
    assert draw_transforms(DistortionSettings(0.0, 0.0, 0.0), 1, 1, 5, 28, 28) is None


def test_shift_moves_the_center_of_mass_as_far_as_the_transform_says() -> None:
    transforms = draw(count=20, shift=4.0)
    for image, transform in zip(apply(bar(), transforms), transforms, strict=True):
        center, _ = moments(image)
        np.testing.assert_allclose(transform[:, :2], np.eye(2), atol=1e-7)
        np.testing.assert_allclose(center, CENTER - transform[:, 2], atol=0.02)


def test_shift_of_whole_pixels_moves_pixels() -> None:
    image = np.arange(SIZE * SIZE, dtype=np.uint32).astype(np.uint8).reshape(SIZE, SIZE)
    right_2_up_1 = np.array([[[1, 0, -2], [0, 1, 1]]], np.float32)
    moved = apply(image, right_2_up_1)[0] * 255
    np.testing.assert_allclose(moved[:-1, 2:], image[1:, :-2], atol=1e-9)
    assert not moved[-1].any()
    assert not moved[:, :2].any()


def test_zoom_enlarges_about_the_center() -> None:
    _, before = moments(apply(bar(), np.array([[[1, 0, 0], [0, 1, 0]]], np.float32))[0])
    transforms = draw(count=20, zoom=0.3)
    zooms = 1 / transforms[:, 0, 0]
    assert zooms.min() < 0.8
    assert zooms.max() > 1.2
    for image, zoom in zip(apply(bar(), transforms), zooms, strict=True):
        center, after = moments(image)
        np.testing.assert_allclose(center, CENTER, atol=0.05)
        assert np.trace(after) / np.trace(before) == pytest.approx(zoom**2, rel=0.02)


def test_rotation_turns_the_axis_of_the_bar() -> None:
    transforms = draw(count=20, rotation=30.0)
    angles = np.arctan2(transforms[:, 0, 1], transforms[:, 0, 0])
    assert np.abs(angles).max() > np.deg2rad(20)
    for image, angle in zip(apply(bar(), transforms), angles, strict=True):
        center, covariance = moments(image)
        np.testing.assert_allclose(center, CENTER, atol=0.05)
        axis = np.linalg.eigh(covariance)[1][:, 1]
        # Rows count downward, so a positive angle turns clockwise as one sees it.
        turned = np.arctan2(axis[1], axis[0])
        assert np.sin(turned - angle) == pytest.approx(0, abs=0.03)


def test_shear_slants_a_column_and_keeps_rows_and_area() -> None:
    _, before = moments(bar().T.astype(float))
    transforms = draw(count=20, shear=0.4)
    assert np.abs(transforms[:, 0, 1]).max() > 0.3
    for image, transform in zip(apply(bar().T, transforms), transforms, strict=True):
        center, after = moments(image)
        np.testing.assert_allclose(center, CENTER, atol=0.05)
        slant = -transform[0, 1]  # pixels to the right for each row downward
        assert after[0, 1] / after[1, 1] == pytest.approx(slant, abs=0.01)
        assert after[1, 1] == pytest.approx(before[1, 1], rel=0.02)
        np.testing.assert_allclose(np.linalg.det(after), np.linalg.det(before), rtol=0.05)


def test_aspect_widens_as_much_as_it_flattens() -> None:
    _, before = moments(bar().astype(float))
    transforms = draw(count=20, aspect=0.25)
    for image, transform in zip(apply(bar(), transforms), transforms, strict=True):
        center, after = moments(image)
        np.testing.assert_allclose(center, CENTER, atol=0.05)
        wider = 1 / transform[0, 0]
        assert 1 / 1.25 <= wider <= 1.25
        assert after[0, 0] == pytest.approx(before[0, 0] * wider**2, abs=0.3)  # resampling blurs by up to a quarter
        assert after[1, 1] == pytest.approx(before[1, 1] / wider**2, abs=0.3)


def test_slanted_before_it_is_turned() -> None:
    """The formula of the docstring, step by step, as matrices that act on the content."""
    settings = DistortionSettings(shift=0.0, zoom=0.2, rotation=30.0, shear=0.3, aspect=0.2)
    transforms = draw_transforms(settings, 1, 1, 100, SIZE, SIZE)
    assert transforms is not None
    forward = np.linalg.inv(transforms[:, :, :2].astype(np.float64))
    for matrix in forward:
        angle = np.arctan2(matrix[1, 0], matrix[0, 0])  # where a row of pixels points
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        upright = turn.T @ matrix
        assert upright[1, 0] == pytest.approx(0, abs=1e-6)
        assert abs(angle) <= np.deg2rad(30) + 1e-6
        assert abs(upright[0, 1] / upright[1, 1]) <= 0.3 + 1e-6
        assert 1 / 1.2**2 - 1e-6 <= upright[0, 0] / upright[1, 1] <= 1.2**2 + 1e-6
        assert 0.8 - 1e-6 <= np.sqrt(np.linalg.det(matrix)) <= 1.2 + 1e-6


def test_the_center_stays_where_it_is() -> None:
    transforms = draw(count=50, zoom=0.2, rotation=180.0, shear=0.4, aspect=0.2).astype(np.float64)
    center = np.array([CENTER, CENTER, 1.0])
    np.testing.assert_allclose(transforms @ center, np.full((50, 2), CENTER), atol=1e-4)


def test_ranges_are_filled_and_not_left() -> None:
    transforms = draw(count=20_000, shift=2.5).astype(np.float64)
    shifts = -transforms[:, :, 2]
    assert np.abs(shifts).max() <= 2.5 + 1e-5
    assert shifts.min() < -2.49
    assert shifts.max() > 2.49
    np.testing.assert_allclose(shifts.mean(axis=0), 0, atol=0.05)
    np.testing.assert_allclose(shifts.std(axis=0), 2.5 / np.sqrt(3), rtol=0.02)


def test_turned_and_enlarged_about_the_center_then_shifted() -> None:
    height, width = 28, 20
    settings = DistortionSettings(shift=2.5, zoom=0.15, rotation=12.0)
    transforms = draw_transforms(settings, 1, 1, 20_000, height, width)
    assert transforms is not None
    center = np.array([(width - 1) / 2, (height - 1) / 2])
    forward = np.linalg.inv(transforms[:, :, :2].astype(np.float64))  # where the content goes
    shift = np.einsum("nij,nj->ni", forward, center - transforms[:, :, 2]) - center  # were it shifted first: 2.5 * zoom
    zoom = np.sqrt(np.linalg.det(forward))
    np.testing.assert_allclose(forward @ forward.transpose(0, 2, 1), zoom[:, None, None] ** 2 * np.eye(2), atol=1e-6)
    degrees = np.rad2deg(np.arctan2(forward[:, 1, 0], forward[:, 0, 0]))
    for drawn, middle, reach in ((shift[:, 0], 0, 2.5), (shift[:, 1], 0, 2.5), (zoom, 1, 0.15), (degrees, 0, 12.0)):
        assert np.abs(drawn - middle).max() == pytest.approx(reach, rel=0.002)
        assert np.abs(drawn - middle).max() <= reach + 2e-5
        assert drawn.mean() == pytest.approx(middle, abs=0.03 * reach)
    drawn = np.column_stack([shift, zoom, degrees])
    assert np.abs(np.corrcoef(drawn.T) - np.eye(4)).max() < 0.03  # each drawn by itself


def test_streams() -> None:
    one = draw(count=9, shift=1.0)
    np.testing.assert_array_equal(one, draw(count=9, shift=1.0))
    assert (one != draw(count=9, shift=1.0, epoch=2)).any()
    assert (one != draw(count=9, shift=1.0, seed=2)).any()
    assert one.dtype == np.float32
