"""How far each training image is moved: random affine maps, drawn on the host."""

import numpy as np
from numpy.typing import NDArray

from lenet.settings import DistortionSettings
from lenet.streams import Purpose, stream, uniform


def draw_transforms(
    settings: DistortionSettings, seed: int, epoch: int, count: int, height: int, width: int
) -> NDArray[np.float32] | None:
    """Draw a shift, a zoom and a rotation about the image's center for each of ``count`` images of an epoch.

    The content of an image is turned clockwise by an angle t, enlarged by a factor z about the center (cx, cy) and
    shifted by (dx, dy) pixels. Resampling needs the inverse, from an output pixel (x, y) to the source point

        u = cx + ( cos t (x - cx - dx) + sin t (y - cy - dy)) / z
        v = cy + (-sin t (x - cx - dx) + cos t (y - cy - dy)) / z

    Returns
    -------
    Array (count, 2, 3) of the rows (a, b, c) and (d, e, f) with u = a x + b y + c and v = d x + e y + f, as
    `lenet.backends.base.Backend.distort` takes them; None when the settings move nothing.
    """
    if not settings.active:
        return None
    source = stream(seed, Purpose.DISTORTION, epoch)
    draws = uniform(source, -1.0, 1.0, (count, 4))
    dx, dy = settings.shift * draws[:, 0], settings.shift * draws[:, 1]
    zoom = 1.0 + settings.zoom * draws[:, 2]
    angle = np.deg2rad(settings.rotation * draws[:, 3])
    cosine, sine = np.cos(angle) / zoom, np.sin(angle) / zoom
    cx, cy = (width - 1) / 2, (height - 1) / 2
    transforms = np.empty((count, 2, 3), np.float32)
    transforms[:, 0, 0] = cosine
    transforms[:, 0, 1] = sine
    transforms[:, 0, 2] = cx - cosine * (cx + dx) - sine * (cy + dy)
    transforms[:, 1, 0] = -sine
    transforms[:, 1, 1] = cosine
    transforms[:, 1, 2] = cy + sine * (cx + dx) - cosine * (cy + dy)
    return transforms
