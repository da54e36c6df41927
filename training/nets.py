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


def pooled_residual_block(x: keras.KerasTensor, channels: int, name: str) -> keras.KerasTensor:
    """Apply a residual block with normalisation before its convolutions and pooling after them.

    From [n,h,w,c] to [n,h/2,w/2,channels] (He et al. 2016, "Identity mappings in deep residual networks"; max-pooling
    as in Chollet 2017, "Xception"). Slower than `residual_block`, since its convolutions see the full resolution, and
    better where pictures are few.
    """
    shortcut = layers.Conv2D(channels, 1, use_bias=False, name=f"{name}_shortcut")(x)
    shortcut = layers.AveragePooling2D(2, padding="same", name=f"{name}_shortcut_pool")(shortcut)
    for number in (1, 2):
        x = normalised(x, f"{name}_{number}")
        x = layers.Conv2D(channels, 3, padding="same", use_bias=False, name=f"{name}_conv{number}")(x)
    x = layers.MaxPooling2D(3, strides=2, padding="same", name=f"{name}_pool")(x)
    return layers.Add(name=f"{name}_add")([x, shortcut])


def normalised(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """Apply batch normalisation and ReLU."""
    x = layers.BatchNormalization(momentum=0.9, name=f"{name}_norm")(x)
    return layers.ReLU(name=f"{name}_relu")(x)


def convolution(
    x: keras.KerasTensor, channels: int, strides: int, name: str, kernel: int | tuple[int, int] = 3
) -> keras.KerasTensor:
    """Apply a convolution without bias and batch normalisation."""
    x = layers.Conv2D(
        channels, kernel, strides, padding="same", use_bias=False, kernel_initializer="he_normal", name=name
    )(x)
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_norm")(x)


def warmed_up_cosine(start: float, peak: float, steps: int) -> optimizers.schedules.LearningRateSchedule:
    """Return a rate that rises to its peak in a tenth of the steps and falls along a cosine to nothing."""
    warm_up = max(1, steps // 10)
    return optimizers.schedules.CosineDecay(start, max(1, steps - warm_up), warmup_target=peak, warmup_steps=warm_up)


def one_cycle(peak: float, steps: int, weight_decay: float = 5e-4) -> optimizers.Optimizer:
    """Return SGD with Nesterov momentum whose rate rises to its peak in a fifth of the steps and falls along a cosine.

    Smith 2018; Loshchilov and Hutter 2017. Biases and normalisation do not decay.
    """
    schedule = optimizers.schedules.CosineDecay(1e-3, steps * 4 // 5, warmup_target=peak, warmup_steps=steps // 5)
    optimizer = optimizers.SGD(schedule, momentum=0.9, nesterov=True, weight_decay=weight_decay)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer
