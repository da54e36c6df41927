"""Random variations of training pictures, as functions of a seed."""

from dataclasses import dataclass

import numpy as np
import tensorflow as tf


@dataclass(frozen=True)
class Augmentation:
    """Variations of shape, composed to one affine map and one bilinear sampling per picture; of colour; and cutout.

    The pixels outside the picture repeat its border.
    """

    rotation: float = 0.0
    """Greatest angle, in degrees, either way."""
    shift: float = 0.0
    """Greatest shift along each axis, as a share of the side."""
    shear: float = 0.0
    """Greatest shear angle, in radians, either way."""
    zoom: float = 0.0
    """Greatest change of the scale along each axis, as a share."""
    flip: bool = False
    """Mirror half of the pictures left to right."""
    colour: float = 0.0
    """Greatest change of brightness and of contrast, as a share."""
    cutout: float = 0.0
    """Side of a square that is filled with the picture's mean colour at a random place, as a share of the side
    (DeVries and Taylor 2017)."""

    def __call__(self, images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Vary each picture of a batch on its own.

        Args:
            images: uint8 or float32 [n,h,w,3].
            seed: int64 [2]; the same seed gives the same variations.

        Returns:
            float32 [n,h,w,3] in the range of `images`.
        """
        images = self._move(images, seed)
        if not (self.colour or self.cutout):
            return images
        draws = [
            tf.random.stateless_uniform([tf.shape(images)[0], 1, 1, 1], key, -1.0, 1.0)
            for key in tf.unstack(tf.random.split(seed, 4))
        ]
        mean = tf.reduce_mean(images, axis=(1, 2), keepdims=True)
        images = (images - mean) * (1 + self.colour * draws[0]) + mean * (1 + self.colour * draws[1])
        inside = self._square(images.shape[1], images.shape[2], (draws[2] + 1) / 2, (draws[3] + 1) / 2)
        return tf.clip_by_value(tf.where(inside, mean, images), 0.0, 255.0)

    def _move(self, images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        transforms = self._transforms(tf.shape(images)[0], images.shape[1], images.shape[2], seed)
        return tf.raw_ops.ImageProjectiveTransformV3(
            images=tf.cast(images, tf.float32),
            transforms=transforms,
            output_shape=images.shape[1:3],
            fill_value=0.0,
            interpolation="BILINEAR",
            fill_mode="NEAREST",
        )

    def _transforms(self, count: tf.Tensor, height: int, width: int, seed: tf.Tensor) -> tf.Tensor:
        """Draw maps from output to input pixels, float32 [n,8]: rows a0 a1 a2 b0 b1 b2 0 0 of x' = a·(x,y,1)."""
        draws = tf.random.stateless_uniform([7, count], seed, -1.0, 1.0)
        angle = draws[0] * np.float32(np.deg2rad(self.rotation))
        shear = draws[1] * self.shear
        shift_x, shift_y = draws[2] * self.shift * width, draws[3] * self.shift * height
        mirror = tf.where(draws[6] < 0, -1.0, 1.0) if self.flip else tf.ones([count])
        zoom_x, zoom_y = (1 + draws[4] * self.zoom) * mirror, 1 + draws[5] * self.zoom
        a0, a1 = zoom_x * tf.cos(angle), -zoom_y * tf.sin(angle + shear)
        b0, b1 = zoom_x * tf.sin(angle), zoom_y * tf.cos(angle + shear)
        # The map turns about the centre of the pixel grid.
        centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
        a2 = centre_x + shift_x - a0 * centre_x - a1 * centre_y
        b2 = centre_y + shift_y - b0 * centre_x - b1 * centre_y
        zero = tf.zeros([count])
        return tf.stack([a0, a1, a2, b0, b1, b2, zero, zero], axis=1)

    def _square(self, height: int, width: int, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        """Mark the pixels of a square about (x, y) in 0..1, bool [n,height,width,1]."""
        rows, columns = tf.meshgrid(
            tf.range(height, dtype=tf.float32), tf.range(width, dtype=tf.float32), indexing="ij"
        )
        half = self.cutout / 2
        return (tf.abs(columns[None, :, :, None] - x * width) < half * width) & (
            tf.abs(rows[None, :, :, None] - y * height) < half * height
        )
