"""How far to trust a model's explanations: every method, against maps that know nothing of the model."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from fovea.v1.model_card_pb2 import ModelCard
from PIL import Image
from scipy.stats import bootstrap, spearmanr

from serving.contract import images, signatures
from training.data.pictures import PictureSet
from training.errors import FoveaError
from training.explanations import faithfulness, localisation
from training.explanations.controls import CONTROLS
from training.explanations.exported import ExportedModel

MASKS = "masks"
"""The folder of the objects' masks, beside the splits: masks/<split>/<class>/<name>.png, 255 on the object."""

CONFIDENCE = 0.95
EXAMPLES = 6
SHUFFLED = 20
"""Pictures that the check with shuffled weights looks at."""

RELATED = 0.5
"""A map whose rank correlation with that of the shuffled model is above this hardly depends on the model."""

_RESAMPLES = 2000
_BATCH = 16
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Estimate:
    """A mean over pictures and its confidence interval (percentile bootstrap)."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: np.ndarray, seed: int) -> "Estimate":
        """Estimate the mean of values, one a picture."""
        values = np.asarray(values, float)
        if len(values) < 2 or np.ptp(values) == 0:
            return cls(*[float(values.mean())] * 3)
        interval = bootstrap(
            (values,), np.mean, n_resamples=_RESAMPLES, confidence_level=CONFIDENCE, method="percentile", rng=seed
        ).confidence_interval
        return cls(float(values.mean()), float(interval.low), float(interval.high))


@dataclass(frozen=True)
class Scores:
    """What the maps of one method or control did, one value a picture."""

    name: str
    layer: str | None
    """The convolution of class-activation maps; None for others."""
    is_control: bool
    insertion: np.ndarray
    """Area below the probability of the class while the picture is put in, hottest pixels first; more is better."""
    deletion: np.ndarray
    """The same while it is taken away; less is better."""
    pointing: np.ndarray | None
    """Whether the hottest pixel is on the object; None where no masks are."""
    energy: np.ndarray | None
    """Share of the map on the object."""
    insertion_curve: np.ndarray
    """Mean over the pictures, [STEPS + 1]."""
    deletion_curve: np.ndarray
    silent: int
    """Maps that are 0 everywhere."""

    @property
    def title(self) -> str:
        """Name the method and its layer."""
        return _title((self.name, self.layer))

    def measures(self) -> dict[str, np.ndarray]:
        """Return the values by measure."""
        found = {name: getattr(self, name) for name in MEASURES}
        return {name: values for name, values in found.items() if values is not None}


MEASURES = {"insertion": 1, "deletion": -1, "pointing": 1, "energy": 1}
"""By measure whether more is better (1) or worse (-1)."""


@dataclass(frozen=True)
class Comparison:
    """A method against a control on one measure, picture by picture."""

    measure: str
    control: str
    advantage: Estimate
    """How much better the method is; above 0 it wins."""

    @property
    def verdict(self) -> str:
        """Say whether the method wins, loses, or neither can be said."""
        if self.advantage.low > 0:
            return "wins"
        return "loses" if self.advantage.high < 0 else "tie"


@dataclass(frozen=True)
class Example:
    """A picture and its maps, as they were judged."""

    file: str
    label: str
    predicted: str
    picture: np.ndarray
    """uint8 [h, w, 3], of the model's size."""
    maps: dict[str, np.ndarray]
    """By title, float32 [h, w]."""
    mask: np.ndarray | None


@dataclass(frozen=True)
class Evaluation:
    """The explanations of a model, judged on a set of pictures."""

    model: str
    split: str
    files: list[str]
    accuracy: float
    object_share: float | None
    """Mean share of a picture that is object: the energy of a map without any opinion."""
    scores: list[Scores]
    shuffled: dict[str, Estimate]
    """By title, rank correlation of the maps with those of the same model with shuffled weights (Adebayo et al.)."""
    examples: list[Example]
    seed: int

    def estimates(self, scores: Scores) -> dict[str, Estimate]:
        """Estimate each measure."""
        return {name: Estimate.of(values, self.seed) for name, values in scores.measures().items()}

    def comparisons(self, scores: Scores) -> list[Comparison]:
        """Compare a method with every control on every measure."""
        return [
            Comparison(measure, control.name, Estimate.of(sign * (values - control.measures()[measure]), self.seed))
            for measure, sign in MEASURES.items()
            if (values := scores.measures().get(measure)) is not None
            for control in self.scores
            if control.is_control
        ]

    def sentences(self) -> list[str]:
        """Say for every method which controls it beats."""
        lines = []
        for scores in self.scores:
            if scores.is_control:
                continue
            parts = []
            found = self.comparisons(scores)
            for measure in scores.measures():
                by = {item.control: item.verdict for item in found if item.measure == measure}
                beaten = [control for control, verdict in by.items() if verdict == "wins"]
                others = [f"{verdict} against {control}" for control, verdict in by.items() if verdict != "wins"]
                said = (
                    "beats all controls" if not others else f"beats {', '.join(beaten) or 'none'}; {', '.join(others)}"
                )
                parts.append(f"{measure} {said}")
            related = self.shuffled[scores.title]
            change = "hardly changes" if related.mean > RELATED else "changes"
            parts.append(f"its map {change} when the weights are shuffled (rank correlation {related.mean:.2f})")
            lines.append(f"{scores.title}: {'. '.join(parts)}")
        return lines


def evaluate(
    model: ExportedModel,
    pictures: PictureSet,
    split: str = "validation",
    most: int = 100,
    layers: Sequence[str] = (),
    seed: int = 0,
    progress: Progress | None = None,
) -> Evaluation:
    """Judge the explanations of the predicted classes.

    Args:
        model: the model; its weights are shuffled at the end.
        pictures: a labelled set of the model's classes; where `masks` lies beside its splits, maps are also judged
            by the objects.
        split: whose pictures to take.
        most: so many pictures at most, spread evenly over the split.
        layers: convolutions to explain; the last by default.
        seed: of the random map, of ties, of the bootstrap and of the shuffling.
        progress: called with (what, pictures done, pictures in all).

    Raises:
        FoveaError: no such split, layer or mask, or classes that the model does not know.
    """
    card = model.card
    chosen = _choose(pictures, split, most, card.class_names)
    able = [layer.name for layer in card.layers if layer.grad_cam]
    if unknown := [layer for layer in layers if layer not in able]:
        raise FoveaError(
            f"the model has no convolution {unknown[0]!r}; its convolutions are {', '.join(able) or 'none'}"
        )
    if not model.methods:
        raise FoveaError(f"{model.folder} carries no explanation")
    places = list(layers) or [card.grad_cam_layer]
    random = np.random.default_rng(seed)
    rows = _Rows()
    right, shares = [], []
    for start in range(0, len(chosen), _BATCH):
        batch = chosen[start : start + _BATCH]
        pixels = _read([path for path, _ in batch], card)
        predicted = model.probabilities(pixels).argmax(axis=1)
        found = dict(_maps(model, places, pixels, predicted))
        for number, (path, label) in enumerate(batch):
            right.append(card.class_names[predicted[number]] == label)
            mask = _mask(pictures.root, path, pixels.shape[1:3])
            if mask is not None:
                shares.append(mask.mean())
            picture, maps = pixels[number], {}
            for key, values in found.items():
                maps[key] = _enlarged(values[number], picture.shape[:2])
            maps |= {(name, None): control(picture, random) for name, control in CONTROLS.items()}
            for key, heatmap in maps.items():
                rows.add(key, model, picture, heatmap, int(predicted[number]), mask, random)
            if len(rows.examples) < EXAMPLES and (start + number) % max(1, len(chosen) // EXAMPLES) == 0:
                rows.examples.append(
                    Example(
                        path.relative_to(pictures.root).as_posix(),
                        label,
                        card.class_names[predicted[number]],
                        picture,
                        {_title(key): heatmap for key, heatmap in maps.items()},
                        mask,
                    )
                )
            if progress:
                progress("judge maps", start + number + 1, len(chosen))
    return Evaluation(
        card.model_name,
        split,
        [path.relative_to(pictures.root).as_posix() for path, _ in chosen],
        float(np.mean(right)),
        float(np.mean(shares)) if len(shares) == len(chosen) else None,
        rows.scores(with_masks=len(shares) == len(chosen)),
        _shuffled(model, places, [path for path, _ in chosen[:SHUFFLED]], random, seed, progress),
        rows.examples,
        seed,
    )


Key = tuple[str, str | None]


class _Rows:
    """Values of every map, picture after picture."""

    def __init__(self) -> None:
        self.examples: list[Example] = []
        self._values: dict[Key, list[dict[str, Any]]] = {}

    def add(
        self,
        key: Key,
        model: ExportedModel,
        picture: np.ndarray,
        heatmap: np.ndarray,
        class_index: int,
        mask: np.ndarray | None,
        random: np.random.Generator,
    ) -> None:
        """Judge one map."""
        deletion, insertion = faithfulness.curves(model.probabilities, picture, heatmap, class_index, random)
        values = {"deletion_curve": deletion, "insertion_curve": insertion, "silent": heatmap.max() <= 0}
        values |= {"deletion": faithfulness.area(deletion), "insertion": faithfulness.area(insertion)}
        if mask is not None:
            values["pointing"] = localisation.points_inside(heatmap, mask)
            values["energy"] = localisation.energy_inside(heatmap, mask)
        self._values.setdefault(key, []).append(values)

    def scores(self, with_masks: bool) -> list[Scores]:
        """Return the values of all pictures by map."""

        def column(rows: list[dict[str, Any]], name: str) -> np.ndarray:
            return np.array([row[name] for row in rows], float)

        return [
            Scores(
                name,
                layer,
                name in CONTROLS,
                column(rows, "insertion"),
                column(rows, "deletion"),
                column(rows, "pointing") if with_masks else None,
                column(rows, "energy") if with_masks else None,
                column(rows, "insertion_curve").mean(axis=0),
                column(rows, "deletion_curve").mean(axis=0),
                int(column(rows, "silent").sum()),
            )
            for (name, layer), rows in self._values.items()
        ]


def _choose(pictures: PictureSet, split: str, most: int, known: Sequence[str]) -> list[tuple[Path, str]]:
    """Return files and class names, spread evenly over a split."""
    if split not in pictures.splits:
        raise FoveaError(f"{pictures.root} has no {split} pictures; it has {', '.join(pictures.splits)}")
    if missing := set(pictures.class_names) - set(known):
        raise FoveaError(
            f"the model does not know the classes {', '.join(sorted(missing))} of {pictures.root}; "
            f"it knows {', '.join(known)}"
        )
    members = pictures.splits[split]
    places = np.unique(np.linspace(0, len(members) - 1, min(most, len(members))).round().astype(int))
    return [(members[place].path, pictures.name(members[place])) for place in places]


def _maps(
    model: ExportedModel, layers: Sequence[str], pixels: np.ndarray, classes: np.ndarray
) -> Iterator[tuple[Key, np.ndarray]]:
    cams = [method for method in model.methods if method in signatures.CAM_MAPS]
    for layer in layers if cams else ():
        for method, values in model.maps(cams, layer, pixels, classes).items():
            yield (method, layer), values
    for method, values in model.maps([m for m in model.methods if m not in cams], "", pixels, classes).items():
        yield (method, None), values


def _title(key: Key) -> str:
    name, layer = key
    return name if layer is None else f"{name} at {layer}"


def _read(files: Sequence[Path], card: ModelCard) -> np.ndarray:
    """Return pictures as the model takes them, uint8 [n, h, w, 3]."""
    size = card.input_height, card.input_width
    return np.stack([images.resize(images.decode(file.read_bytes()), *size) for file in files])


def _enlarged(heatmap: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Interpolate a map to the size of the model's pictures, as overlays do."""
    height, width = size
    return np.asarray(Image.fromarray(heatmap).resize((width, height), Image.Resampling.BILINEAR))


def _mask(root: Path, picture: Path, size: tuple[int, int]) -> np.ndarray | None:
    """Return where the object of a picture is, bool [h, w] of the model's size; None where nobody says."""
    file = (root / MASKS / picture.relative_to(root)).with_suffix(".png")
    if not file.is_file():
        return None
    height, width = size
    with Image.open(file) as mask:
        return np.asarray(mask.convert("L").resize((width, height), Image.Resampling.BOX)) >= 128


def _shuffled(
    model: ExportedModel,
    layers: Sequence[str],
    files: Sequence[Path],
    random: np.random.Generator,
    seed: int,
    progress: Progress | None,
) -> dict[str, Estimate]:
    """Compare the maps with those of the model with shuffled weights (Adebayo et al. 2018), the class held."""
    pixels = _read(files, model.card)
    classes = model.probabilities(pixels).argmax(axis=1)
    before = dict(_maps(model, layers, pixels, classes))
    model.shuffle_weights(random)
    after = dict(_maps(model, layers, pixels, classes))
    found = {}
    for done, (key, maps) in enumerate(before.items(), start=1):
        values = [_correlation(one, other) for one, other in zip(maps, after[key], strict=True)]
        found[_title(key)] = Estimate.of(np.array(values), seed)
        if progress:
            progress("shuffle weights", done, len(before))
    return found


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Return Spearman's rank correlation of two maps; 0 where one of them is the same everywhere."""
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    return float(spearmanr(one.ravel(), other.ravel()).statistic)
