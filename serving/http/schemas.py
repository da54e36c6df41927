"""Parameters and answers of the REST interface; the OpenAPI document is made from these."""

import functools
from typing import Annotated, Any

from flask_openapi3 import Parameter
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, WithJsonSchema

from serving.catalog import ModelRef
from serving.contract.signatures import CAM_MAPS, GRAD_CAM
from serving.inference import DEFAULT_ALPHA, DEFAULT_FILTERS, DEFAULT_TOP_K, MAX_FILTERS
from serving.targets import Targets

TIMEOUT = TypeAdapter(Annotated[float, Field(gt=0, allow_inf_nan=False)])
"""The seconds that a client gives its request."""
TIMEOUT_HEADER = Parameter.model_validate(
    {
        "name": "X-Request-Timeout",
        "in": "header",
        "description": "Seconds that the request may take, where that is less than the gateway gives it.",
        "schema": TIMEOUT.json_schema(),
    }
)


class ModelPath(BaseModel):
    """The newest version of a model."""

    model: str = Field(description="Name of the model.")

    def ref(self) -> ModelRef:
        """Return the reference that the path spells."""
        return ModelRef(self.model)


class VersionPath(ModelPath):
    """A version of a model."""

    version: int = Field(ge=1, lt=2**63, description="Number of the version.")

    def ref(self) -> ModelRef:
        """Return the reference that the path spells."""
        return ModelRef(self.model, version=self.version)


class LabelPath(ModelPath):
    """The version of a model that carries a label."""

    label: str = Field(description="Label of the version, such as stable or canary.")

    def ref(self) -> ModelRef:
        """Return the reference that the path spells."""
        return ModelRef(self.model, label=self.label)


class PagePath(BaseModel):
    """A file of the web page."""

    name: str = Field(description="Path of the file.")


def _numbers(value: object) -> object:
    """Expand `0,3,8-15`, given once or several times, to a list of numbers."""
    if not isinstance(value, list):
        return value
    found: list[int] = []
    for part in ",".join(map(str, value)).split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or len(part) > 20:
            raise ValueError("write numbers and ranges, such as 0,3,8-15")
        start, stop = int(first), int(last or first)
        if stop < start or stop - start >= 4096:
            raise ValueError("a range goes from the smaller to the greater number")
        found.extend(range(start, stop + 1))
        if len(found) > 4096:
            raise ValueError("at most 4096 numbers")
    return list(dict.fromkeys(found))


_NUMBERS_SCHEMA = {
    "type": "array",
    "items": {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": "^[0-9]+(-[0-9]+)?$"}]},
}
Numbers = Annotated[list[int], BeforeValidator(_numbers), WithJsonSchema(_NUMBERS_SCHEMA)]


class _Query(BaseModel):
    """Query parameters; one that does not exist is refused, since it would be a misspelt one."""

    model_config = ConfigDict(extra="forbid")

    @classmethod
    @functools.cache
    def _schema(cls) -> dict[str, Any]:
        return super().model_json_schema()

    @classmethod
    def model_json_schema(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return the JSON schema; without arguments, as every request asks for it, from memory."""
        return super().model_json_schema(*args, **kwargs) if args or kwargs else cls._schema()


class ClassifyQuery(_Query):
    """Parameters of classify."""

    top_k: int | None = Field(
        default=None,
        ge=1,
        description=f"How many classes to list for each picture, or each character; default {DEFAULT_TOP_K}.",
    )


class NoQuery(_Query):
    """No parameters."""


class _TargetsQuery(_Query):
    """Which classes of each picture to explain."""

    target_class: list[str] = Field(
        default=[], alias="class", description="Names or indices of classes to explain; default: the predicted one."
    )
    top_k: int | None = Field(
        default=None, ge=1, description="Explain so many of the most probable classes instead of named ones."
    )
    position: int | None = Field(
        default=None,
        ge=0,
        lt=2**31,
        description="Character of the text to explain, counted from 0; default: the first (models that read texts).",
    )

    def targets(self) -> Targets:
        """Return what the parameters ask for."""
        return Targets(self.target_class, self.top_k, self.position)


class ExplainQuery(_TargetsQuery):
    """Parameters of KServe's explain."""

    layer: str | None = Field(default=None, description="Name of a convolution; default: the last.")
    method: list[str] = Field(default=[], description=f"Some of {', '.join(CAM_MAPS)}; default: {GRAD_CAM}.")


class _OverlayQuery(BaseModel):
    """How to draw maps over a picture; all of these for PNG only."""

    alpha: float = Field(default=DEFAULT_ALPHA, ge=0, le=1, description="Strength of the overlay (PNG only).")
    colormap: str | None = Field(
        default=None, description="Colour map of the overlay, such as inferno or viridis (PNG only)."
    )
    box: bool = Field(default=False, description="Draw the edge of the hot region too (PNG only).")
    legend: bool | None = Field(
        default=None,
        description="Say below the picture what is shown, on which scale; default: where maps stand side by side "
        "(PNG only).",
    )


class GradCamQuery(_OverlayQuery, ExplainQuery):
    """Parameters of class-activation maps."""


class AttributionsQuery(_OverlayQuery, _TargetsQuery):
    """Parameters of integrated gradients."""


class ActivationsQuery(_Query):
    """Parameters of activations."""

    layer: list[str] = Field(
        default=[], description="Names of convolution and pooling layers; default: all (PNG: the first)."
    )
    channels: Numbers = Field(
        default=[], description="Channels whose values to return, such as 0,3,8-15; default: all (JSON: no values)."
    )
    colormap: str | None = Field(default=None, description="Colour map of the grid (PNG only).")


class FiltersQuery(_Query):
    """Parameters of filter patterns."""

    layer: str | None = Field(default=None, description="Name of a convolution; default: the last.")
    filter: Numbers = Field(
        default=[],
        description=f"Filters to draw, such as 0,3,8-15; at most {MAX_FILTERS}; default: the first {DEFAULT_FILTERS}.",
    )


class Answer(BaseModel):
    """What all answers have in common: no field that is not declared."""

    model_config = ConfigDict(extra="forbid")


class ErrorBody(Answer):
    """Every error."""

    error: str = Field(description="One sentence.")
    code: str = Field(description="A stable name, for programs.")
    request_id: str = Field(description="Also in the header X-Request-Id and in the log.")


class ServedModelBody(Answer):
    """The version that answered."""

    name: str
    version: int


class ClassScoreBody(Answer):
    """Probability of a class."""

    label: str
    class_index: int
    score: float


class PositionBody(Answer):
    """A character of a text."""

    label: str
    class_index: int
    score: float
    top_k: list[ClassScoreBody] = Field(description="The most probable classes, best first.")


class ClassificationBody(PositionBody):
    """The class of a picture."""

    filename: str | None = Field(default=None, description="Name of the uploaded file, where it has one.")


class TextBody(Answer):
    """The text of a picture, where the model reads texts."""

    label: str = Field(description="The text.")
    score: float = Field(description="Product of the scores of its characters.")
    positions: list[PositionBody] = Field(description="Each character, in the order of the text.")
    filename: str | None = Field(default=None, description="Name of the uploaded file, where it has one.")


class ClassifyBody(Answer):
    """Answer of classify."""

    model: ServedModelBody
    classifications: list[ClassificationBody | TextBody] = Field(description="One a picture, in the order sent.")


class PredictBody(Answer):
    """Answer of predict, as TensorFlow Serving gives it."""

    predictions: list[list[float]] | list[list[list[float]]] = Field(
        description="Probabilities of the classes, one row a picture; of texts, one row a character."
    )


class BoxBody(Answer):
    """Pixels of the picture, half-open: left <= x < right, top <= y < bottom."""

    left: int
    top: int
    right: int
    bottom: int


class ExplanationBody(Answer):
    """Why a picture would be of a class."""

    picture: int = Field(description="Place of the picture in the request, counted from 0.")
    label: str
    class_index: int
    score: float
    method: str = Field(description="How the map was made.")
    heatmap: list[list[float]] = Field(description="The map as the model computed it, 0 or more, not normalised.")
    normalized: list[list[float]] = Field(description="The map divided by its peak; all 0 where the peak is 0.")
    peak: float = Field(description="Greatest value of the map; 0: nothing in the picture speaks for the class.")
    box: BoxBody | None = Field(description="Where the map reaches half of its peak; null where the peak is 0.")
    width: int = Field(description="Width of the upright picture in pixels.")
    height: int = Field(description="Height of the upright picture in pixels.")
    position: int | None = Field(default=None, description="The explained character, where the model reads texts.")
    filename: str | None = None


class GradCamBody(ExplanationBody):
    """A class-activation map, at the resolution of a convolution."""

    layer: str


class AttributionBody(ExplanationBody):
    """Integrated gradients at the model's input; the map is the part above 0 of their sum over the colours."""

    score_change: float = Field(description="Score (logit) of the picture less that of the baseline.")
    completeness_error: float = Field(description="Sum of all attributions less score_change.")


class GradCamAnswer(Answer):
    """Answer of class-activation maps as JSON."""

    model: ServedModelBody
    explanations: list[GradCamBody] = Field(description="Picture by picture, class by class, method by method.")


class AttributionsAnswer(Answer):
    """Answer of integrated gradients as JSON."""

    model: ServedModelBody
    explanations: list[AttributionBody] = Field(description="Picture by picture, class by class.")


class ExplainAnswer(Answer):
    """Answer of KServe's explain."""

    explanations: list[GradCamBody]


class ChannelStrengthBody(Answer):
    """Mean activation of a channel."""

    channel: int
    mean: float


class LayerActivationsBody(Answer):
    """Summary of a layer for one picture."""

    layer: str
    shape: list[int] = Field(description="Height, width and channels of the layer.")
    sparsity: float = Field(description="Share of values that are 0 or less.")
    silent_channels: int = Field(description="Channels without a value above 0.")
    strongest: list[ChannelStrengthBody] = Field(description="Channels with the greatest mean, strongest first.")
    channels: list[int] | None = Field(default=None, description="The channels asked for.")
    activations: list[list[list[float]]] | None = Field(
        default=None, description="Their values, [h][w][channel asked for]; only where channels were asked for."
    )


class PictureActivationsBody(Answer):
    """The layers of one picture."""

    layers: list[LayerActivationsBody]
    filename: str | None = None


class ActivationsAnswer(Answer):
    """Answer of activations as JSON."""

    model: ServedModelBody
    pictures: list[PictureActivationsBody] = Field(description="One a picture, in the order sent.")


class VersionErrorBody(Answer):
    """What went wrong with a version."""

    error_code: str
    error_message: str


class VersionStatusBody(Answer):
    """State of a version, as TensorFlow Serving gives it."""

    version: str
    state: str
    status: VersionErrorBody


class LayerBody(Answer):
    """A layer and what can be asked of it."""

    name: str
    kind: str
    height: int
    width: int
    channels: int
    grad_cam: bool
    cam_methods: bool = Field(description="Whether the other methods of heat maps can be asked for.")
    activations: bool
    filter_patterns: bool


class ModelBody(Answer):
    """A model: TensorFlow Serving's status, KServe's readiness and what Fovea knows."""

    name: str
    ready: bool
    model_version_status: list[VersionStatusBody] = Field(description="Newest first.")
    version: int | None = Field(description="The version that answers; null when not ready.")
    labels: dict[str, int] = Field(description="Versions by label.")
    classes: list[str]
    positions: int | None = Field(description="Characters of the texts that the model reads; null: it reads none.")
    layers: list[LayerBody]
    grad_cam_layer: str | None = Field(description="The convolution that Grad-CAM explains by default.")
    integrated_gradients: bool
    input_height: int | None
    input_width: int | None


class ModelsBody(Answer):
    """All models."""

    models: list[ModelBody]


class ReadyBody(BaseModel):
    """Readiness, by model."""

    ready: bool
    models: dict[str, str] = Field(description="OK, or the code of what is wrong.")


class AliveBody(BaseModel):
    """Liveness."""

    status: str
