"""Parts that nets are made of."""

import keras
from keras import layers, optimizers


def residual_block(x: keras.KerasTensor, channels: int, name: str) -> keras.KerasTensor:
    """Apply a basic residual block (He et al. 2016) that halves the resolution: [n,h,w,c] to [n,h/2,w/2,channels]."""
    shortcut = convolution(x, channels, 2, f"{name}_shortcut", kernel=1)
    x = convolution(x, channels, 2, f"{name}_conv1")
    x = layers.ReLU(name=f"{name}_relu1")(x)
    x = convolution(x, channels, 1, f"{name}_conv2")
    x = layers.Add(name=f"{name}_add")([x, shortcut])
    return layers.ReLU(name=f"{name}_relu2")(x)


def convolution(
    x: keras.KerasTensor, channels: int, strides: int, name: str, kernel: int | tuple[int, int] = 3
) -> keras.KerasTensor:
    """Apply a convolution without bias and batch normalisation."""
    x = layers.Conv2D(
        channels, kernel, strides, padding="same", use_bias=False, kernel_initializer="he_normal", name=name
    )(x)
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_norm")(x)


def one_cycle(peak: float, steps: int, weight_decay: float = 5e-4) -> optimizers.Optimizer:
    """Return SGD with Nesterov momentum whose rate rises to its peak in a fifth of the steps and falls along a cosine.

    Smith 2018; Loshchilov and Hutter 2017. Biases and normalisation do not decay.
    """
    schedule = optimizers.schedules.CosineDecay(1e-3, steps * 4 // 5, warmup_target=peak, warmup_steps=steps // 5)
    optimizer = optimizers.SGD(schedule, momentum=0.9, nesterov=True, weight_decay=weight_decay)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer
