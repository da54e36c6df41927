"""Integrated gradients: what every value of a picture adds to a score (Sundararajan et al. 2017)."""

from collections.abc import Callable

import tensorflow as tf

STEPS = 50
"""Intervals of the trapezoidal rule along the path."""


def attributions(scores: Callable[[tf.Tensor], tf.Tensor], pictures: tf.Tensor, steps: int = STEPS) -> tf.Tensor:
    """Integrate a score's gradient along the straight path from a black picture.

    Args:
        scores: from pictures float32 [n,h,w,3] to the score of each, [n]; differentiable, rows on their own.
        pictures: float32 [n,h,w,3], where the path ends.
        steps: intervals of the trapezoidal rule.

    Returns:
        float32 [n,h,w,3]. Up to the rule's error the values of a picture add up to its score less that of black.
    """

    def add(step: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        point = pictures * tf.cast(step, tf.float32) / steps
        (gradient,) = tf.gradients(tf.reduce_sum(scores(point)), point)
        weight = tf.where((step == 0) | (step == steps), 0.5, 1.0)
        return step + 1, total + weight * gradient

    _, total = tf.while_loop(
        lambda step, _: step <= steps, add, (tf.constant(0), tf.zeros_like(pictures)), maximum_iterations=steps + 1
    )
    return pictures * total / steps
