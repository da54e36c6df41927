"""The core: pictures in, classifications and explanations out. Both doors, HTTP and gRPC, call this."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from fovea.v1.model_card_pb2 import Layer, ModelCard

from serving import metrics, rendering, targets
from serving.admission import Admission
from serving.answers import (
    Activations,
    Attribution,
    ChannelStrength,
    Classification,
    Classifications,
    ClassScore,
    E,
    Explanation,
    Explanations,
    FilterPatterns,
    HeatMap,
    LayerActivations,
    Predictions,
    ServedModel,
    Text,
)
from serving.backend import Backend, RefusedError
from serving.catalog import Catalog, ModelRef, ModelStatus, Served, model_spec
from serving.contract import signatures
from serving.deadline import Deadline
from serving.decoding import Decoder, Picture
from serving.errors import (
    AnswerTooLargeError,
    FoveaError,
    InvalidArgumentError,
    ModelServerBusyError,
    ModelServerError,
    NoInstancesError,
    TooManyPicturesError,
    TooManyPixelsError,
)
from serving.patterns import PatternCache
from serving.prediction import Predictor
from serving.settings import Settings
from serving.targets import Targets

DEFAULT_TOP_K = 5
DEFAULT_ALPHA = 0.5
DEFAULT_FILTERS = 16
MAX_FILTERS = 64
READY_SECONDS = 1.0
STRONGEST = 10
"""How many channels the summary of a layer lists."""

T = TypeVar("T")


class Vision:
    """Classifies and explains with the models of a model server; knows no protocol.

    Whoever calls for work holds a slot of `admission` until the answer is made.

    All methods raise `FoveaError`s: for a reference to a model, version or label that is not served,
    for pictures that are none or too large, for parameters that do not fit the model, and for a
    model server that is away, busy or late.
    """

    def __init__(self, server: Backend, settings: Settings) -> None:
        self._server = server
        self._settings = settings
        self._decoder = Decoder(settings)
        self._catalog = Catalog(server, settings)
        self._predictor = Predictor(self._predict, settings.calls_in_flight, settings.max_pictures)
        self.admission = Admission(settings.max_in_flight, settings.max_queued)
        self._patterns = PatternCache(settings.pattern_cache_bytes)

    def classify(
        self, ref: ModelRef, images: Sequence[Picture], top_k: int | None, deadline: Deadline
    ) -> Classifications:
        """Name the class of each picture, or read its text.

        Args:
            ref: the model.
            images: 1 to `max_pictures` pictures.
            top_k: how many classes to list for each, or for each character; None: five, or all where there are fewer.
            deadline: the request's.
        """
        if top_k is not None and top_k < 1:
            raise InvalidArgumentError("top_k must be 1 or more")

        def work(served: Served) -> Classifications:
            probabilities = self._probabilities(served, images, deadline)
            answer = _text if served.card.positions else _classification
            rows = [answer(row, served.card, top_k or DEFAULT_TOP_K) for row in probabilities]
            return Classifications(_model(served), rows, probabilities)

        return self._work(ref, deadline, work)

    def predict(self, ref: ModelRef, images: Sequence[Picture], deadline: Deadline) -> Predictions:
        """Return the probabilities of all classes for each picture."""

        def work(served: Served) -> Predictions:
            return Predictions(_model(served), self._probabilities(served, images, deadline))

        return self._work(ref, deadline, work)

    def heat_maps(
        self,
        ref: ModelRef,
        images: Sequence[Picture],
        asked: Targets,
        layer: str | None,
        methods: Sequence[str],
        deadline: Deadline,
    ) -> Explanations[HeatMap]:
        """Show where each picture speaks for a class, by class-activation maps at a convolution.

        Args:
            ref: the model.
            images: 1 to `max_pictures` pictures; several classes of each count as so many.
            asked: which classes of each picture to explain.
            layer: name of a convolution; None: the last.
            methods: some of `signatures.CAM_MAPS`; empty: Grad-CAM (Selvaraju et al. 2017).
            deadline: the request's.
        """

        def work(served: Served) -> Explanations[HeatMap]:
            name = layer or served.card.grad_cam_layer
            targets.check_methods(targets.layer(served.card, name, "grad_cam"), methods)
            chosen = list(dict.fromkeys(methods)) or [signatures.GRAD_CAM]
            if chosen == [signatures.GRAD_CAM]:
                signature = signatures.grad_cam(layer) if layer else signatures.GRAD_CAM
                maps = {signatures.GRAD_CAM: signatures.HEATMAP}
            else:
                signature = signatures.cam_methods(layer) if layer else signatures.CAM_METHODS
                maps = {method: method for method in chosen}
            explained = self._explain(served, signature, images, asked, deadline)
            for output in maps.values():
                _output(explained.outputs, output, (explained.count, -1, -1))
            return explained.answer(
                HeatMap(**explained.facts(row, method, explained.outputs[output][row]), layer=name)
                for row in range(explained.count)
                for method, output in maps.items()
            )

        return self._work(ref, deadline, work)

    def attributions(
        self, ref: ModelRef, images: Sequence[Picture], asked: Targets, deadline: Deadline
    ) -> Explanations[Attribution]:
        """Tell what each value of the model's input adds to a class's score (Sundararajan et al. 2017).

        Args:
            ref: the model.
            images: 1 to `max_pictures` pictures; several classes of each count as so many.
            asked: which classes of each picture to explain.
            deadline: the request's.
        """

        def work(served: Served) -> Explanations[Attribution]:
            card, signature = served.card, signatures.INTEGRATED_GRADIENTS
            targets.check_integrated_gradients(card)
            explained = self._explain(served, signature, images, asked, deadline)
            count = explained.count
            shape = (count, card.input_height, card.input_width, 3)
            values = _output(explained.outputs, signatures.ATTRIBUTIONS, shape)
            change = _output(explained.outputs, signatures.SCORE_CHANGE, (count,))
            error = _output(explained.outputs, signatures.COMPLETENESS_ERROR, (count,))
            return explained.answer(
                Attribution(
                    **explained.facts(row, signature, np.maximum(values[row].sum(axis=-1), 0)),
                    attributions=values[row],
                    score_change=float(change[row]),
                    completeness_error=float(error[row]),
                )
                for row in range(count)
            )

        return self._work(ref, deadline, work)

    def overlay(
        self,
        image: Picture,
        rows: Sequence[Explanation],
        alpha: float | None = None,
        colormap: str | None = None,
        box: bool = False,
        legend: bool = False,
    ) -> bytes:
        """Draw explanations over their picture, at the picture's own size; several stand side by side.

        Args:
            image: the picture that was explained.
            rows: its explanations.
            alpha: strength in 0..1; None: 0.5.
            colormap: name of a colour map; None: the configured one.
            box: also draw the edge of the hot region.
            legend: also say what is shown, and on which scale, below the picture.

        Returns:
            A PNG.
        """
        alpha = DEFAULT_ALPHA if alpha is None else alpha
        if not 0 <= alpha <= 1:
            raise InvalidArgumentError("alpha must lie between 0 and 1")
        rendering.palette(name := colormap or self._settings.colormap, 256)
        with self._decoder.whole(image, Deadline(self._settings.deadline_s)) as picture, metrics.RENDER.time():
            if picture.width * picture.height * len(rows) > self._settings.max_pixels:
                raise TooManyPixelsError(
                    f"{len(rows)} explanations of a picture of {picture.width} x {picture.height} pixels side by side "
                    f"have more than {self._settings.max_pixels} pixels; ask for fewer classes or methods"
                )
            panels = []
            for row in rows:
                attribution = isinstance(row, Attribution)
                heatmap = rendering.without_outliers(row.heatmap) if attribution else row.heatmap
                panel = rendering.overlay(picture, heatmap, alpha, name)
                if box and row.box is not None:
                    rendering.outline(panel, row.box)
                if legend:
                    panel = rendering.with_legend(panel, _legend(row), name, float(heatmap.max()))
                panels.append(panel)
            return rendering.png(rendering.side_by_side(panels))

    def activations(
        self,
        ref: ModelRef,
        images: Sequence[Picture],
        layers: Sequence[str],
        channels: Sequence[int],
        values: bool,
        deadline: Deadline,
        first_only: bool = False,
    ) -> Activations:
        """Return what layers make of each picture.

        Args:
            ref: the model.
            images: 1 to `max_pictures` pictures.
            layers: names of convolution and pooling layers; empty: all.
            channels: channels whose values to return; empty: all.
            values: return the values beside the summary.
            deadline: the request's.
            first_only: with no layers named, take the first instead of all.
        """

        def work(served: Served) -> Activations:
            card = served.card
            names = list(dict.fromkeys(layers)) or [item.name for item in card.layers if item.activations]
            chosen = [
                targets.layer(card, name, "activations") for name in names[: 1 if first_only and not layers else None]
            ]
            for item in chosen:
                targets.check_channels(item, channels)
            self._check_answer(chosen, len(images), channels, values)
            pixels, _ = self._decode(images, card, deadline)
            rows: list[list[LayerActivations]] = [[] for _ in images]
            for item in chosen:
                outputs = self._run(served, signatures.activations(item.name), {signatures.IMAGES: pixels}, deadline)
                batch = _output(outputs, signatures.ACTIVATIONS, (len(pixels), item.height, item.width, item.channels))
                for row, maps in zip(rows, batch, strict=True):
                    row.append(_layer_activations(item.name, maps, channels, values))
            return Activations(_model(served), rows)

        return self._work(ref, deadline, work)

    def activation_grid(self, activations: LayerActivations, colormap: str | None) -> bytes:
        """Draw the values of a layer as a grid of channels, 16 a row; a PNG."""
        if activations.values is None:
            raise ValueError("a grid is drawn from activations with their values")
        with metrics.RENDER.time():
            return rendering.png(rendering.activation_grid(activations.values, colormap or self._settings.colormap))

    def filter_patterns(
        self, ref: ModelRef, layer: str | None, filters: Sequence[int], deadline: Deadline
    ) -> FilterPatterns:
        """Draw what filters of a convolution respond to most, by gradient ascent in the model.

        Args:
            ref: the model.
            layer: name of a convolution; None: the last that can be drawn.
            filters: 1 to 64 filters; empty: the first 16.
            deadline: the request's.
        """

        def work(served: Served) -> FilterPatterns:
            card = served.card
            drawable = [item.name for item in card.layers if item.filter_patterns]
            chosen = targets.layer(card, layer or (drawable[-1] if drawable else ""), "filter_patterns")
            targets.check_channels(chosen, filters, "filter")
            indices = list(dict.fromkeys(filters)) or list(range(min(DEFAULT_FILTERS, chosen.channels)))
            if len(indices) > MAX_FILTERS:
                raise InvalidArgumentError(f"at most {MAX_FILTERS} filters can be drawn at a time")

            def draw(some: Sequence[int]) -> np.ndarray:
                inputs = {signatures.FILTER_INDEX: np.array(some, np.int32)}
                outputs = self._run(served, signatures.filter_patterns(chosen.name), inputs, deadline)
                shape = (len(some), card.input_height, card.input_width, 3)
                return _output(outputs, signatures.PATTERNS, shape, np.uint8)

            patterns = self._patterns.fetch((served.name, served.version, chosen.name), indices, draw, deadline)
            return FilterPatterns(_model(served), chosen.name, indices, patterns)

        return self._work(ref, deadline, work)

    def pattern_grid(self, patterns: FilterPatterns) -> bytes:
        """Lay filter patterns side by side, 8 a row; a PNG."""
        with metrics.RENDER.time():
            return rendering.png(rendering.pattern_grid(patterns.patterns))

    def check(self, ref: ModelRef) -> None:
        """Refuse models that are not configured, without asking anyone."""
        self._catalog.check(ref)

    def list_models(self, deadline: Deadline) -> list[ModelStatus]:
        """Describe all configured models."""
        return [self.describe(ModelRef(name), deadline) for name in self._settings.models]

    def describe(self, ref: ModelRef, deadline: Deadline) -> ModelStatus:
        """Describe a model."""
        return self._catalog.status(ref, deadline)

    def card(self, ref: ModelRef, deadline: Deadline) -> ModelCard:
        """Return the card of the version that a reference stands for."""
        return self._catalog.resolve(ref, deadline).card

    def signatures(self, ref: ModelRef, deadline: Deadline) -> tuple[Served, dict[str, object]]:
        """Return a version and its signatures as TensorFlow Serving's REST API writes them."""

        def work(served: Served) -> tuple[Served, dict[str, object]]:
            return served, self._server.signatures(served.name, served.version, deadline)

        return self._work(ref, deadline, work)

    def readiness(self) -> dict[str, str]:
        """Ask every configured model for its card; takes a second at most.

        Returns:
            By model: `OK`, or the code of what is wrong.
        """
        found, deadline = {}, Deadline(READY_SECONDS)
        for name in self._settings.models:
            version = 0
            try:
                version = self._catalog.resolve(ModelRef(name), deadline).version
                found[name] = "OK"
            except ModelServerBusyError:
                # It answers. Not ready under load, the gateways would leave all of it to the last one that is.
                found[name] = "OK"
            except FoveaError as error:
                found[name] = error.code
            metrics.MODEL_READY.labels(name).set(found[name] == "OK")
            metrics.MODEL_VERSION.labels(name).set(version)
        return found

    def _work(self, ref: ModelRef, deadline: Deadline, work: Callable[[Served], T]) -> T:
        try:
            return self._catalog.call(ref, deadline, work)
        except RefusedError as error:
            raise ModelServerError("the model server refused a call that the model card allows") from error

    def _run(
        self, served: Served, signature: str, inputs: dict[str, np.ndarray], deadline: Deadline
    ) -> dict[str, np.ndarray]:
        with metrics.MODEL_SERVER.time():
            return self._call(served, signature, inputs, deadline)

    def _call(
        self, served: Served, signature: str, inputs: dict[str, np.ndarray], deadline: Deadline
    ) -> dict[str, np.ndarray]:
        spec = model_spec(ModelRef(served.name, version=served.version))
        return self._server.predict(spec, signature, inputs, deadline).outputs

    def _probabilities(self, served: Served, images: Sequence[Picture], deadline: Deadline) -> np.ndarray:
        pixels, _ = self._decode(images, served.card, deadline)
        probabilities = self._predictor(served, pixels, deadline)
        _count(served, probabilities)
        return probabilities

    def _predict(self, served: Served, pixels: np.ndarray, deadline: Deadline) -> np.ndarray:
        outputs = self._call(served, signatures.PREDICT, {signatures.IMAGES: pixels}, deadline)
        return _output(outputs, signatures.PROBABILITIES, _shape(served.card, len(pixels)))

    def _explain(
        self, served: Served, signature: str, images: Sequence[Picture], asked: Targets, deadline: Deadline
    ) -> "_Explained":
        """Run a signature that explains classes, once for every class of every picture."""
        card = served.card
        at = targets.position(card, asked.position)
        named = [targets.class_index(card, text) for text in dict.fromkeys(asked.classes)]
        each = len(named) or min(asked.top_k or 1, len(card.class_names))
        if each > 1 and len(images) * each > self._settings.max_pictures:
            raise TooManyPicturesError(
                f"{each} classes of {len(images)} pictures are {each * len(images)} explanations; "
                f"at most {self._settings.max_pictures} are allowed"
            )
        pixels, sizes = self._decode(images, card, deadline)
        if asked.top_k is not None:
            scores = self._predictor(served, pixels, deadline)
            scores = scores if at is None else scores[:, at]
            classes = np.argsort(-scores, axis=-1, kind="stable")[:, :each].reshape(-1)
        else:
            classes = np.array(named * len(pixels) or [signatures.PREDICTED_CLASS] * len(pixels))
        inputs = {
            signatures.IMAGES: pixels if each == 1 else pixels.repeat(each, axis=0),
            signatures.CLASS_INDEX: classes.astype(np.int32),
        }
        if at is not None:
            inputs[signatures.POSITION] = np.full(len(classes), at, np.int32)
        outputs = self._run(served, signature, inputs, deadline)
        probabilities = _output(outputs, signatures.PROBABILITIES, _shape(card, len(classes)))
        if not named and asked.top_k is None and card.decision_threshold > 0 and at is None:
            # The graph explains the most probable class; a threshold may decide for the other one.
            decided = np.array([_decide(row, card) for row in probabilities], np.int32)
            if (decided != outputs[signatures.CLASS_INDEX]).any():
                outputs = self._run(served, signature, inputs | {signatures.CLASS_INDEX: decided}, deadline)
        indices = _output(outputs, signatures.CLASS_INDEX, (len(classes),), np.int32)
        if (indices < 0).any() or (indices >= len(card.class_names)).any():
            raise ModelServerError("the model answered a class that its card does not know")
        return _Explained(served, outputs, each, at, sizes)

    def _decode(
        self, images: Sequence[Picture], card: ModelCard, deadline: Deadline
    ) -> tuple[np.ndarray, list[tuple[int, int]]]:
        """Return the pictures as the model takes them, uint8 [N, H, W, 3], and their own sizes (width, height)."""
        if not images:
            raise NoInstancesError("the request holds no picture")
        if len(images) > self._settings.max_pictures:
            raise TooManyPicturesError(
                f"the request holds {len(images)} pictures; at most {self._settings.max_pictures} are allowed"
            )
        batch = np.empty((len(images), card.input_height, card.input_width, 3), np.uint8)
        sizes = []
        for position, image in enumerate(images):
            batch[position], size = self._decoder.resized(
                image, card.input_height, card.input_width, position if len(images) > 1 else None, deadline
            )
            sizes.append(size)
            metrics.PICTURE_PIXELS.observe(math.prod(size))
            if isinstance(image, bytes):
                metrics.PICTURE_BYTES.observe(len(image))
        return batch, sizes

    def _check_answer(self, layers: Iterable[Layer], count: int, channels: Sequence[int], values: bool) -> None:
        """Refuse before computing what would not fit into one answer."""
        limit = self._settings.max_answer_bytes
        sizes = [item.height * item.width * 4 * count for item in layers]
        whole = [size * item.channels for size, item in zip(sizes, layers, strict=True)]
        kept = [size * len(channels) for size in sizes] if channels else whole
        if max(whole, default=0) > limit or (values and sum(kept) > limit):
            raise AnswerTooLargeError(
                f"these activations take more than {limit} bytes; ask for fewer layers, channels or pictures"
            )


@dataclass(frozen=True)
class _Explained:
    """What a signature that explains answered: `each` rows a picture, in the order of the pictures."""

    served: Served
    outputs: dict[str, np.ndarray]
    each: int
    position: int | None
    sizes: list[tuple[int, int]]

    @property
    def count(self) -> int:
        """Number of rows."""
        return len(self.sizes) * self.each

    def facts(self, row: int, method: str, heatmap: np.ndarray) -> dict[str, Any]:
        """Return the fields of a row that all explanations have."""
        index = int(self.outputs[signatures.CLASS_INDEX][row])
        probabilities = self.outputs[signatures.PROBABILITIES][row]
        width, height = self.sizes[row // self.each]
        with metrics.RENDER.time():
            box = rendering.hot_region(heatmap, width, height)
        return {
            "picture": row // self.each,
            "label": self.served.card.class_names[index],
            "class_index": index,
            "score": float(probabilities[index] if self.position is None else probabilities[self.position, index]),
            "method": method,
            "heatmap": heatmap,
            "peak": float(heatmap.max()),
            "box": box,
            "width": width,
            "height": height,
            "position": self.position,
        }

    def answer(self, rows: Iterable[E]) -> Explanations[E]:
        """Make the answer of its rows."""
        probabilities = self.outputs[signatures.PROBABILITIES][:: self.each]
        return Explanations(_model(self.served), list(self.served.card.class_names), probabilities, list(rows))


def _legend(row: Explanation) -> list[str]:
    at = "" if row.position is None else f" at {row.position}"
    return [f"{row.label}{at} {row.score:.3f}", f"{row.method} {row.layer if isinstance(row, HeatMap) else ''}"]


def _model(served: Served) -> ServedModel:
    return ServedModel(served.name, served.version)


def _shape(card: ModelCard, count: int) -> tuple[int, ...]:
    """Return the shape that the probabilities of so many pictures have."""
    classes = len(card.class_names)
    return (count, card.positions, classes) if card.positions else (count, classes)


def _decide(probabilities: np.ndarray, card: ModelCard) -> int:
    """Return the index of the class that an answer names: the most probable, or as the card's threshold says."""
    if len(probabilities) == 2 and card.decision_threshold > 0:
        return int(probabilities[1] >= card.decision_threshold)
    return int(probabilities.argmax())


def _count(served: Served, probabilities: np.ndarray) -> None:
    """Note which classes were answered, and how sure the model was; of texts for each character."""
    card, version = served.card, served.version
    confidence = metrics.CONFIDENCE.labels(served.name, version)
    for row in probabilities.reshape(-1, len(card.class_names)):
        index = int(row.argmax()) if card.positions else _decide(row, card)
        metrics.PREDICTIONS.labels(served.name, version, card.class_names[index]).inc()
        confidence.observe(float(row[index]))


def _classification(probabilities: np.ndarray, card: ModelCard, top_k: int) -> Classification:
    return _chosen(probabilities, card, _decide(probabilities, card), top_k)


def _text(probabilities: np.ndarray, card: ModelCard, top_k: int) -> Text:
    """Read the text of one picture from its probabilities [P, C]."""
    positions = [_chosen(row, card, int(row.argmax()), top_k) for row in probabilities]
    return Text(
        label="".join(item.label for item in positions),
        score=math.prod(item.score for item in positions),
        positions=positions,
    )


def _chosen(probabilities: np.ndarray, card: ModelCard, index: int, top_k: int) -> Classification:
    names = card.class_names
    best = np.argsort(-probabilities, kind="stable")[:top_k].tolist()
    return Classification(
        label=names[index],
        class_index=index,
        score=float(probabilities[index]),
        top_k=[ClassScore(names[i], i, float(probabilities[i])) for i in best],
    )


def _layer_activations(name: str, maps: np.ndarray, channels: Sequence[int], values: bool) -> LayerActivations:
    means = maps.mean(axis=(0, 1))
    strongest = np.argsort(-means, kind="stable")[:STRONGEST].tolist()
    return LayerActivations(
        layer=name,
        shape=maps.shape,
        sparsity=float((maps <= 0).mean()),
        silent_channels=int((maps <= 0).all(axis=(0, 1)).sum()),
        strongest=[ChannelStrength(channel, float(means[channel])) for channel in strongest],
        values=(maps[:, :, list(channels)] if channels else maps) if values else None,
    )


def _output(
    outputs: dict[str, np.ndarray], name: str, shape: tuple[int, ...], dtype: type[np.generic] = np.float32
) -> np.ndarray:
    """Return an output of the expected shape (-1: any size above 0), dtype and finite values."""
    array = outputs.get(name)
    if array is None or array.dtype != dtype or array.ndim != len(shape):
        raise ModelServerError(f"the model's answer has no {name!r} of the expected kind")
    if any(size != want if want >= 0 else size < 1 for size, want in zip(array.shape, shape, strict=True)):
        raise ModelServerError(f"the model's {name!r} has the shape {list(array.shape)}, which its card does not allow")
    if not np.isfinite(array).all():
        raise ModelServerError(f"the model's {name!r} holds values that are not finite")
    return array
