"""The last layers of a net: from features to probabilities."""

from keras import layers


def classifier(classes: int, softmax: bool = False) -> list[layers.Layer]:
    """Return the layers that turn features [n,f] into probabilities.

    Args:
        classes: how many.
        softmax: one logit for each class also where there are two; else two classes share a sigmoid.

    Returns:
        A dense layer of logits and its activation: [n,1] for a sigmoid, otherwise [n,classes]. Probabilities are
        float32 under mixed precision too.
    """
    activation, units = ("sigmoid", 1) if classes == 2 and not softmax else ("softmax", classes)
    return [layers.Dense(units, name="logits"), _probabilities(activation)]


def text_classifier(positions: int, classes: int) -> list[layers.Layer]:
    """Return the layers that turn features [n,f] into a softmax for each character of a text.

    Args:
        positions: characters of a text.
        classes: characters of the alphabet.

    Returns:
        A dense layer, its outputs reshaped to logits [n,positions,classes], and the activation along the last axis.
    """
    return [
        layers.Dense(positions * classes, name="dense_logits"),
        layers.Reshape((positions, classes), name="logits"),
        _probabilities("softmax"),
    ]


def _probabilities(activation: str) -> layers.Layer:
    return layers.Activation(activation, dtype="float32", name="probabilities")
