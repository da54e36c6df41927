from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ModelCard(_message.Message):
    __slots__ = ("contract_version", "model_name", "recipe", "class_names", "input_height", "input_width", "resize_rule", "layers", "grad_cam_layer", "training", "decision_threshold", "temperature", "positions", "integrated_gradients")
    CONTRACT_VERSION_FIELD_NUMBER: _ClassVar[int]
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    RECIPE_FIELD_NUMBER: _ClassVar[int]
    CLASS_NAMES_FIELD_NUMBER: _ClassVar[int]
    INPUT_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    INPUT_WIDTH_FIELD_NUMBER: _ClassVar[int]
    RESIZE_RULE_FIELD_NUMBER: _ClassVar[int]
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    GRAD_CAM_LAYER_FIELD_NUMBER: _ClassVar[int]
    TRAINING_FIELD_NUMBER: _ClassVar[int]
    DECISION_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    POSITIONS_FIELD_NUMBER: _ClassVar[int]
    INTEGRATED_GRADIENTS_FIELD_NUMBER: _ClassVar[int]
    contract_version: int
    model_name: str
    recipe: str
    class_names: _containers.RepeatedScalarFieldContainer[str]
    input_height: int
    input_width: int
    resize_rule: str
    layers: _containers.RepeatedCompositeFieldContainer[Layer]
    grad_cam_layer: str
    training: TrainingSummary
    decision_threshold: float
    temperature: float
    positions: int
    integrated_gradients: bool
    def __init__(self, contract_version: _Optional[int] = ..., model_name: _Optional[str] = ..., recipe: _Optional[str] = ..., class_names: _Optional[_Iterable[str]] = ..., input_height: _Optional[int] = ..., input_width: _Optional[int] = ..., resize_rule: _Optional[str] = ..., layers: _Optional[_Iterable[_Union[Layer, _Mapping]]] = ..., grad_cam_layer: _Optional[str] = ..., training: _Optional[_Union[TrainingSummary, _Mapping]] = ..., decision_threshold: _Optional[float] = ..., temperature: _Optional[float] = ..., positions: _Optional[int] = ..., integrated_gradients: _Optional[bool] = ...) -> None: ...

class Layer(_message.Message):
    __slots__ = ("name", "kind", "height", "width", "channels", "grad_cam", "activations", "filter_patterns", "cam_methods")
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    GRAD_CAM_FIELD_NUMBER: _ClassVar[int]
    ACTIVATIONS_FIELD_NUMBER: _ClassVar[int]
    FILTER_PATTERNS_FIELD_NUMBER: _ClassVar[int]
    CAM_METHODS_FIELD_NUMBER: _ClassVar[int]
    name: str
    kind: str
    height: int
    width: int
    channels: int
    grad_cam: bool
    activations: bool
    filter_patterns: bool
    cam_methods: bool
    def __init__(self, name: _Optional[str] = ..., kind: _Optional[str] = ..., height: _Optional[int] = ..., width: _Optional[int] = ..., channels: _Optional[int] = ..., grad_cam: _Optional[bool] = ..., activations: _Optional[bool] = ..., filter_patterns: _Optional[bool] = ..., cam_methods: _Optional[bool] = ...) -> None: ...

class TrainingSummary(_message.Message):
    __slots__ = ("data_fingerprint", "images_per_class", "seed", "validation_accuracy", "test_accuracy", "calibration_error", "created_at", "code_version")
    class ImagesPerClassEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    DATA_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    IMAGES_PER_CLASS_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    VALIDATION_ACCURACY_FIELD_NUMBER: _ClassVar[int]
    TEST_ACCURACY_FIELD_NUMBER: _ClassVar[int]
    CALIBRATION_ERROR_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    CODE_VERSION_FIELD_NUMBER: _ClassVar[int]
    data_fingerprint: str
    images_per_class: _containers.ScalarMap[str, int]
    seed: int
    validation_accuracy: float
    test_accuracy: float
    calibration_error: float
    created_at: str
    code_version: str
    def __init__(self, data_fingerprint: _Optional[str] = ..., images_per_class: _Optional[_Mapping[str, int]] = ..., seed: _Optional[int] = ..., validation_accuracy: _Optional[float] = ..., test_accuracy: _Optional[float] = ..., calibration_error: _Optional[float] = ..., created_at: _Optional[str] = ..., code_version: _Optional[str] = ...) -> None: ...
