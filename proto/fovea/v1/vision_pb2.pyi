from fovea.v1 import model_card_pb2 as _model_card_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ModelRef(_message.Message):
    __slots__ = ("name", "version", "label")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: int
    label: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[int] = ..., label: _Optional[str] = ...) -> None: ...

class ServedModel(_message.Message):
    __slots__ = ("name", "version")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: int
    def __init__(self, name: _Optional[str] = ..., version: _Optional[int] = ...) -> None: ...

class ListModelsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models",)
    MODELS_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[ModelStatus]
    def __init__(self, models: _Optional[_Iterable[_Union[ModelStatus, _Mapping]]] = ...) -> None: ...

class ModelStatus(_message.Message):
    __slots__ = ("name", "ready", "versions", "card", "labels")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    CARD_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    name: str
    ready: bool
    versions: _containers.RepeatedCompositeFieldContainer[VersionStatus]
    card: _model_card_pb2.ModelCard
    labels: _containers.ScalarMap[str, int]
    def __init__(self, name: _Optional[str] = ..., ready: _Optional[bool] = ..., versions: _Optional[_Iterable[_Union[VersionStatus, _Mapping]]] = ..., card: _Optional[_Union[_model_card_pb2.ModelCard, _Mapping]] = ..., labels: _Optional[_Mapping[str, int]] = ...) -> None: ...

class VersionStatus(_message.Message):
    __slots__ = ("version", "state", "error")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    version: int
    state: str
    error: str
    def __init__(self, version: _Optional[int] = ..., state: _Optional[str] = ..., error: _Optional[str] = ...) -> None: ...

class ClassifyRequest(_message.Message):
    __slots__ = ("model", "images", "top_k")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    model: ModelRef
    images: _containers.RepeatedScalarFieldContainer[bytes]
    top_k: int
    def __init__(self, model: _Optional[_Union[ModelRef, _Mapping]] = ..., images: _Optional[_Iterable[bytes]] = ..., top_k: _Optional[int] = ...) -> None: ...

class ClassifyResponse(_message.Message):
    __slots__ = ("model", "classifications")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    CLASSIFICATIONS_FIELD_NUMBER: _ClassVar[int]
    model: ServedModel
    classifications: _containers.RepeatedCompositeFieldContainer[Classification]
    def __init__(self, model: _Optional[_Union[ServedModel, _Mapping]] = ..., classifications: _Optional[_Iterable[_Union[Classification, _Mapping]]] = ...) -> None: ...

class Classification(_message.Message):
    __slots__ = ("label", "score", "top_k", "positions")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    POSITIONS_FIELD_NUMBER: _ClassVar[int]
    label: str
    score: float
    top_k: _containers.RepeatedCompositeFieldContainer[ClassScore]
    positions: _containers.RepeatedCompositeFieldContainer[Classification]
    def __init__(self, label: _Optional[str] = ..., score: _Optional[float] = ..., top_k: _Optional[_Iterable[_Union[ClassScore, _Mapping]]] = ..., positions: _Optional[_Iterable[_Union[Classification, _Mapping]]] = ...) -> None: ...

class ClassScore(_message.Message):
    __slots__ = ("label", "class_index", "score")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    CLASS_INDEX_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    label: str
    class_index: int
    score: float
    def __init__(self, label: _Optional[str] = ..., class_index: _Optional[int] = ..., score: _Optional[float] = ...) -> None: ...

class FloatTensor(_message.Message):
    __slots__ = ("shape", "float32_values")
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    FLOAT32_VALUES_FIELD_NUMBER: _ClassVar[int]
    shape: _containers.RepeatedScalarFieldContainer[int]
    float32_values: bytes
    def __init__(self, shape: _Optional[_Iterable[int]] = ..., float32_values: _Optional[bytes] = ...) -> None: ...

class Targets(_message.Message):
    __slots__ = ("classes", "top_k", "position")
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    classes: _containers.RepeatedScalarFieldContainer[str]
    top_k: int
    position: int
    def __init__(self, classes: _Optional[_Iterable[str]] = ..., top_k: _Optional[int] = ..., position: _Optional[int] = ...) -> None: ...

class Overlay(_message.Message):
    __slots__ = ("alpha", "colormap", "box", "legend")
    ALPHA_FIELD_NUMBER: _ClassVar[int]
    COLORMAP_FIELD_NUMBER: _ClassVar[int]
    BOX_FIELD_NUMBER: _ClassVar[int]
    LEGEND_FIELD_NUMBER: _ClassVar[int]
    alpha: float
    colormap: str
    box: bool
    legend: bool
    def __init__(self, alpha: _Optional[float] = ..., colormap: _Optional[str] = ..., box: _Optional[bool] = ..., legend: _Optional[bool] = ...) -> None: ...

class GradCamRequest(_message.Message):
    __slots__ = ("model", "images", "targets", "layer", "methods", "overlay")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    LAYER_FIELD_NUMBER: _ClassVar[int]
    METHODS_FIELD_NUMBER: _ClassVar[int]
    OVERLAY_FIELD_NUMBER: _ClassVar[int]
    model: ModelRef
    images: _containers.RepeatedScalarFieldContainer[bytes]
    targets: Targets
    layer: str
    methods: _containers.RepeatedScalarFieldContainer[str]
    overlay: Overlay
    def __init__(self, model: _Optional[_Union[ModelRef, _Mapping]] = ..., images: _Optional[_Iterable[bytes]] = ..., targets: _Optional[_Union[Targets, _Mapping]] = ..., layer: _Optional[str] = ..., methods: _Optional[_Iterable[str]] = ..., overlay: _Optional[_Union[Overlay, _Mapping]] = ...) -> None: ...

class GradCamResponse(_message.Message):
    __slots__ = ("model", "explanations")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    EXPLANATIONS_FIELD_NUMBER: _ClassVar[int]
    model: ServedModel
    explanations: _containers.RepeatedCompositeFieldContainer[Explanation]
    def __init__(self, model: _Optional[_Union[ServedModel, _Mapping]] = ..., explanations: _Optional[_Iterable[_Union[Explanation, _Mapping]]] = ...) -> None: ...

class AttributionsRequest(_message.Message):
    __slots__ = ("model", "images", "targets", "values", "overlay")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    OVERLAY_FIELD_NUMBER: _ClassVar[int]
    model: ModelRef
    images: _containers.RepeatedScalarFieldContainer[bytes]
    targets: Targets
    values: bool
    overlay: Overlay
    def __init__(self, model: _Optional[_Union[ModelRef, _Mapping]] = ..., images: _Optional[_Iterable[bytes]] = ..., targets: _Optional[_Union[Targets, _Mapping]] = ..., values: _Optional[bool] = ..., overlay: _Optional[_Union[Overlay, _Mapping]] = ...) -> None: ...

class AttributionsResponse(_message.Message):
    __slots__ = ("model", "explanations")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    EXPLANATIONS_FIELD_NUMBER: _ClassVar[int]
    model: ServedModel
    explanations: _containers.RepeatedCompositeFieldContainer[Explanation]
    def __init__(self, model: _Optional[_Union[ServedModel, _Mapping]] = ..., explanations: _Optional[_Iterable[_Union[Explanation, _Mapping]]] = ...) -> None: ...

class Explanation(_message.Message):
    __slots__ = ("picture", "label", "class_index", "score", "method", "layer", "heatmap", "peak", "box", "overlay_png", "position", "attributions", "score_change", "completeness_error")
    PICTURE_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    CLASS_INDEX_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    LAYER_FIELD_NUMBER: _ClassVar[int]
    HEATMAP_FIELD_NUMBER: _ClassVar[int]
    PEAK_FIELD_NUMBER: _ClassVar[int]
    BOX_FIELD_NUMBER: _ClassVar[int]
    OVERLAY_PNG_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTIONS_FIELD_NUMBER: _ClassVar[int]
    SCORE_CHANGE_FIELD_NUMBER: _ClassVar[int]
    COMPLETENESS_ERROR_FIELD_NUMBER: _ClassVar[int]
    picture: int
    label: str
    class_index: int
    score: float
    method: str
    layer: str
    heatmap: FloatTensor
    peak: float
    box: Box
    overlay_png: bytes
    position: int
    attributions: FloatTensor
    score_change: float
    completeness_error: float
    def __init__(self, picture: _Optional[int] = ..., label: _Optional[str] = ..., class_index: _Optional[int] = ..., score: _Optional[float] = ..., method: _Optional[str] = ..., layer: _Optional[str] = ..., heatmap: _Optional[_Union[FloatTensor, _Mapping]] = ..., peak: _Optional[float] = ..., box: _Optional[_Union[Box, _Mapping]] = ..., overlay_png: _Optional[bytes] = ..., position: _Optional[int] = ..., attributions: _Optional[_Union[FloatTensor, _Mapping]] = ..., score_change: _Optional[float] = ..., completeness_error: _Optional[float] = ...) -> None: ...

class Box(_message.Message):
    __slots__ = ("left", "top", "right", "bottom")
    LEFT_FIELD_NUMBER: _ClassVar[int]
    TOP_FIELD_NUMBER: _ClassVar[int]
    RIGHT_FIELD_NUMBER: _ClassVar[int]
    BOTTOM_FIELD_NUMBER: _ClassVar[int]
    left: int
    top: int
    right: int
    bottom: int
    def __init__(self, left: _Optional[int] = ..., top: _Optional[int] = ..., right: _Optional[int] = ..., bottom: _Optional[int] = ...) -> None: ...

class ActivationsRequest(_message.Message):
    __slots__ = ("model", "images", "layers", "channels", "values")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    model: ModelRef
    images: _containers.RepeatedScalarFieldContainer[bytes]
    layers: _containers.RepeatedScalarFieldContainer[str]
    channels: _containers.RepeatedScalarFieldContainer[int]
    values: bool
    def __init__(self, model: _Optional[_Union[ModelRef, _Mapping]] = ..., images: _Optional[_Iterable[bytes]] = ..., layers: _Optional[_Iterable[str]] = ..., channels: _Optional[_Iterable[int]] = ..., values: _Optional[bool] = ...) -> None: ...

class ActivationsResponse(_message.Message):
    __slots__ = ("model", "pictures")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PICTURES_FIELD_NUMBER: _ClassVar[int]
    model: ServedModel
    pictures: _containers.RepeatedCompositeFieldContainer[PictureActivations]
    def __init__(self, model: _Optional[_Union[ServedModel, _Mapping]] = ..., pictures: _Optional[_Iterable[_Union[PictureActivations, _Mapping]]] = ...) -> None: ...

class PictureActivations(_message.Message):
    __slots__ = ("layers",)
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    layers: _containers.RepeatedCompositeFieldContainer[LayerActivations]
    def __init__(self, layers: _Optional[_Iterable[_Union[LayerActivations, _Mapping]]] = ...) -> None: ...

class LayerActivations(_message.Message):
    __slots__ = ("layer", "shape", "sparsity", "silent_channels", "strongest", "activations")
    LAYER_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    SPARSITY_FIELD_NUMBER: _ClassVar[int]
    SILENT_CHANNELS_FIELD_NUMBER: _ClassVar[int]
    STRONGEST_FIELD_NUMBER: _ClassVar[int]
    ACTIVATIONS_FIELD_NUMBER: _ClassVar[int]
    layer: str
    shape: _containers.RepeatedScalarFieldContainer[int]
    sparsity: float
    silent_channels: int
    strongest: _containers.RepeatedCompositeFieldContainer[ChannelStrength]
    activations: FloatTensor
    def __init__(self, layer: _Optional[str] = ..., shape: _Optional[_Iterable[int]] = ..., sparsity: _Optional[float] = ..., silent_channels: _Optional[int] = ..., strongest: _Optional[_Iterable[_Union[ChannelStrength, _Mapping]]] = ..., activations: _Optional[_Union[FloatTensor, _Mapping]] = ...) -> None: ...

class ChannelStrength(_message.Message):
    __slots__ = ("channel", "mean")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    MEAN_FIELD_NUMBER: _ClassVar[int]
    channel: int
    mean: float
    def __init__(self, channel: _Optional[int] = ..., mean: _Optional[float] = ...) -> None: ...

class FilterPatternsRequest(_message.Message):
    __slots__ = ("model", "layer", "filters")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    LAYER_FIELD_NUMBER: _ClassVar[int]
    FILTERS_FIELD_NUMBER: _ClassVar[int]
    model: ModelRef
    layer: str
    filters: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, model: _Optional[_Union[ModelRef, _Mapping]] = ..., layer: _Optional[str] = ..., filters: _Optional[_Iterable[int]] = ...) -> None: ...

class FilterPatternsResponse(_message.Message):
    __slots__ = ("model", "layer", "filters", "patterns_png")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    LAYER_FIELD_NUMBER: _ClassVar[int]
    FILTERS_FIELD_NUMBER: _ClassVar[int]
    PATTERNS_PNG_FIELD_NUMBER: _ClassVar[int]
    model: ServedModel
    layer: str
    filters: _containers.RepeatedScalarFieldContainer[int]
    patterns_png: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, model: _Optional[_Union[ServedModel, _Mapping]] = ..., layer: _Optional[str] = ..., filters: _Optional[_Iterable[int]] = ..., patterns_png: _Optional[_Iterable[bytes]] = ...) -> None: ...
