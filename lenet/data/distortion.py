"""How far each training image is moved: random affine maps, drawn on the host."""

import numpy as np
from numpy.typing import NDArray

from lenet.settings import DistortionSettings
from lenet.streams import Purpose, stream, uniform


def draw_transforms(
    settings: DistortionSettings, seed: int, epoch: int, count: int, height: int, width: int
) -> NDArray[np.float32] | None:
    """Draw a shift, a zoom, a rotation, a slant and a stretch for each of ``count`` images of an epoch.

    About the image's center (cx, cy), the content is enlarged by zx and zy, slanted by k, turned clockwise by an angle
    t, and then shifted by (dx, dy) pixels. With a zoom z and a stretch s, zx = z s and zy = z / s. Resampling needs
    the inverse, from an output pixel (x, y) to the source point:

        p =  cos t (x - cx - dx) + sin t (y - cy - dy)        u = cx + (p - k q) / zx
        q = -sin t (x - cx - dx) + cos t (y - cy - dy)        v = cy + q / zy

    Returns
    -------
    Array (count, 2, 3) of the rows (a, b, c) and (d, e, f) with u = a x + b y + c and v = d x + e y + f, as
    `lenet.backends.base.Backend.distort` takes them; None when the settings move nothing.
    """
    if not settings.active:
        return None
    source = stream(seed, Purpose.DISTORTION, epoch)
    draws = uniform(source, -1.0, 1.0, (count, 4))
    more = uniform(source, -1.0, 1.0, (count, 2))
    dx, dy = settings.shift * draws[:, 0], settings.shift * draws[:, 1]
    zoom = 1.0 + settings.zoom * draws[:, 2]
    angle = np.deg2rad(settings.rotation * draws[:, 3])
    shear, stretch = settings.shear * more[:, 0], np.exp(np.log1p(settings.aspect) * more[:, 1])
    cosine, sine = np.cos(angle), np.sin(angle)
    a, b = (cosine + shear * sine) / (zoom * stretch), (sine - shear * cosine) / (zoom * stretch)
    d, e = -sine / (zoom / stretch), cosine / (zoom / stretch)
    cx, cy = (width - 1) / 2, (height - 1) / 2
    transforms = np.empty((count, 2, 3), np.float32)
    transforms[:, 0, 0], transforms[:, 0, 1] = a, b
    transforms[:, 0, 2] = cx - a * (cx + dx) - b * (cy + dy)
    transforms[:, 1, 0], transforms[:, 1, 1] = d, e
    transforms[:, 1, 2] = cy - d * (cx + dx) - e * (cy + dy)
    return transforms
