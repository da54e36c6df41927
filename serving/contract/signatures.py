"""Names of the signatures of a SavedModel and of their tensors (docs/contract.md)."""

CONTRACT_VERSION = 2

PREDICT = "serving_default"
CLASSIFY_BYTES = "classify_bytes"
GRAD_CAM = "grad_cam"
CAM_METHODS = "cam_methods"
INTEGRATED_GRADIENTS = "integrated_gradients"
MODEL_CARD = "model_card"

IMAGES = "images"
IMAGE_BYTES = "image_bytes"
PROBABILITIES = "probabilities"
CLASS_INDEX = "class_index"
POSITION = "position"
HEATMAP = "heatmap"
ACTIVATIONS = "activations"
FILTER_INDEX = "filter_index"
PATTERNS = "patterns"
QUERY = "query"
CARD = "card"
ATTRIBUTIONS = "attributions"
SCORE_CHANGE = "score_change"
COMPLETENESS_ERROR = "completeness_error"

HIRES_CAM = "hires_cam"
GRAD_CAM_PP = "grad_cam_pp"
LAYER_CAM = "layer_cam"
CAM_MAPS = (GRAD_CAM, HIRES_CAM, GRAD_CAM_PP, LAYER_CAM)
"""The maps that `cam_methods` answers; that of Grad-CAM is named as the signature that computes it alone."""

PREDICTED_CLASS = -1
"""The class index that stands for the class with the highest probability."""


def grad_cam(layer: str) -> str:
    """Name the signature that computes Grad-CAM at a convolution."""
    return f"{GRAD_CAM}/{layer}"


def cam_methods(layer: str) -> str:
    """Name the signature that computes all `CAM_MAPS` at a convolution."""
    return f"{CAM_METHODS}/{layer}"


def activations(layer: str) -> str:
    """Name the signature that returns the activations of a convolution or pooling layer."""
    return f"activations/{layer}"


def filter_patterns(layer: str) -> str:
    """Name the signature that draws what the filters of a convolution respond to."""
    return f"filter_patterns/{layer}"
