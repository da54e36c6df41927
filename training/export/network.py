"""A Keras classifier laid open: every convolution and pooling layer, and the logits, as tensors of one graph."""

from collections.abc import Mapping
from dataclasses import dataclass

import keras

from training.errors import FoveaError

_POOLINGS = (
    keras.layers.MaxPooling2D,
    keras.layers.AveragePooling2D,
)
# Keras's depthwise and separable convolutions are no subclasses of Conv2D; its transposed one is.
_CONVOLUTIONS = (
    keras.layers.Conv2D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv2D,
)


@dataclass(frozen=True)
class OpenLayer:
    """A convolution or pooling layer."""

    name: str
    """Name of the layer, with the names of the models that it is nested in before it: `vgg16/block5_conv3`."""
    kind: str
    """Class of the layer."""
    output: keras.KerasTensor
    """What the layer computes, [n,h,w,c]."""
    is_convolution: bool


@dataclass(frozen=True)
class Network:
    """A classifier's picture input, open layers and logits; all tensors belong to one graph."""

    images: keras.KerasTensor
    """[n,h,w,3], RGB in 0..255."""
    layers: Mapping[str, OpenLayer]
    """By name, from the picture to the answer."""
    logits: keras.KerasTensor
    """[n,classes], [n,1] where the head is a sigmoid, or [n,positions,classes] where texts are read."""

    @property
    def is_sigmoid(self) -> bool:
        """Whether one logit stands for two classes."""
        return self.logits.shape[-1] == 1

    @property
    def positions(self) -> int | None:
        """Number of characters where texts are read."""
        return self.logits.shape[1] if len(self.logits.shape) == 3 else None

    @property
    def convolutions(self) -> list[OpenLayer]:
        """The convolutions, from the picture to the answer."""
        return [layer for layer in self.layers.values() if layer.is_convolution]


def open_network(model: keras.Model) -> Network:
    """Lay a classifier open.

    Args:
        model: Sequential or functional, models nested in it to any depth; input [n,h,w,3] RGB in 0..255;
            output probabilities [n,classes] after softmax, [n,1] after a sigmoid, or for texts
            [n,positions,classes] after a softmax along the last axis, computed by the last layer as its
            activation or as a layer of its own.

    Raises:
        FoveaError: the model is of another form.
    """
    if len(model.inputs) != 1 or len(model.inputs[0].shape) != 4 or None in model.inputs[0].shape[1:]:
        raise FoveaError("the model must take one picture input of fixed size, [n,height,width,3]")
    shape = model.outputs[0].shape
    if len(shape) not in (2, 3) or None in shape[1:] or (len(shape) == 3 and shape[-1] < 2):
        raise FoveaError(
            f"the model answers {list(shape)}; it must answer [n,classes], [n,1], or for texts [n,positions,classes]"
        )
    layers: dict[str, OpenLayer] = {}
    images = keras.Input(model.inputs[0].shape[1:], name="images")
    return Network(images, layers, _logits(_run(model, images, "", layers)))


@dataclass(frozen=True)
class _Call:
    """One layer applied to one tensor."""

    features: keras.KerasTensor
    layer: keras.layers.Layer
    output: keras.KerasTensor


def _run(model: keras.Model, inputs: keras.KerasTensor, path: str, found: dict[str, OpenLayer]) -> _Call:
    """Apply a model layer by layer, the layers of models in it included; return the last call."""
    last: list[_Call] = []

    def call(layer: keras.layers.Layer, *args: keras.KerasTensor, **kwargs: object) -> keras.KerasTensor:
        name = f"{path}{layer.name}"
        if isinstance(layer, keras.Model):
            last[:] = [_run(layer, args[0], f"{name}/", found)]
            return last[0].output
        output = layer(*args, **kwargs)
        if isinstance(layer, (*_CONVOLUTIONS, *_POOLINGS)):
            found[name] = OpenLayer(name, type(layer).__name__, output, isinstance(layer, _CONVOLUTIONS))
        last[:] = [_Call(args[0], layer, output)]
        return output

    if isinstance(model, keras.Sequential):
        for layer in model.layers:
            inputs = call(layer, inputs)
    else:
        keras.models.clone_model(
            model,
            input_tensors=keras.tree.map_structure(lambda _: inputs, model.input),
            clone_function=lambda layer: layer,
            call_function=call,
        )
    return last[0]


def _logits(call: _Call) -> keras.KerasTensor:
    last = call.layer
    if isinstance(last, keras.layers.Softmax) or (
        isinstance(last, keras.layers.Activation) and _is_probability(last.activation)
    ):
        return call.features
    if isinstance(last, keras.layers.Dense) and _is_probability(last.activation):
        return _Linear(last)(call.features)
    raise FoveaError(
        f"the model ends in {type(last).__name__}; it must end in a softmax or sigmoid, "
        "as a layer of its own or as the activation of a Dense layer"
    )


def _is_probability(activation: object) -> bool:
    return activation in (keras.activations.softmax, keras.activations.sigmoid)


class _Linear(keras.layers.Layer):
    """A dense layer without its activation, on the same weights."""

    def __init__(self, dense: keras.layers.Dense):
        super().__init__(name=f"{dense.name}_linear")
        self.dense = dense

    def call(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        outputs = keras.ops.matmul(inputs, self.dense.kernel)
        return outputs if self.dense.bias is None else outputs + self.dense.bias
