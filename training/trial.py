"""Compare two served versions of a model on labelled pictures, and decide between them."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from fovea.v1.model_card_pb2 import ModelCard

from serving.contract import images
from training.data.pictures import Picture, PictureSet
from training.errors import FoveaError
from training.reports.evaluation import calibrate, standard_error
from training.reports.significance import STANDARD_ERRORS, Difference, mcnemar
from training.served import RefusedError, ServedModel

TOLERANCE = 0.01
"""Accuracy that a canary may lose by default, in 0..1."""

BATCH = 16
"""Pictures a call; the gateway allows 32."""

TIMED_CALLS = 50
"""Calls of one picture each that the latency is taken from."""

_UNTIMED_CALLS = 3


@dataclass(frozen=True)
class Measured:
    """How one version did."""

    version: int
    right: np.ndarray
    """Whether the answer to each picture is right, bool [n]."""
    calibration_error: float
    """Expected calibration error, in 0..1."""
    latency_ms: float
    """Median time of a call with one picture, from here."""
    chance: float
    """Accuracy of guessing, in 0..1."""

    @property
    def accuracy(self) -> float:
        """Share of right answers, in 0..1."""
        return float(self.right.mean())

    @property
    def standard_error(self) -> float:
        """Standard error of the accuracy."""
        return standard_error(self.accuracy, len(self.right))

    def as_json(self) -> dict[str, Any]:
        """Return the figures as JSON types."""
        figures = {"accuracy": self.accuracy, "standard_error": self.standard_error}
        return {"version": self.version, **figures} | {
            "calibration_error": self.calibration_error,
            "latency_ms": self.latency_ms,
        }


@dataclass(frozen=True)
class Trial:
    """A canary, and the stable version beside it on the same pictures."""

    pictures: int
    canary: Measured | None
    """None where the canary does not answer as it should."""
    stable: Measured | None
    """None where no version is stable, or the canary does not answer."""
    fault: str | None = None
    """What is wrong with the canary's answers."""

    @property
    def difference(self) -> Difference | None:
        """The canary's accuracy less the stable one's, paired by picture."""
        if self.canary is None or self.stable is None:
            return None
        return mcnemar(self.canary.right, self.stable.right)

    def lines(self) -> list[str]:
        """Say what was measured."""
        lines = []
        for name, measured in (("stable", self.stable), ("canary", self.canary)):
            if measured is not None:
                lines.append(
                    f"{name}, version {measured.version}: {measured.accuracy:.3f} +/- {measured.standard_error:.3f} of "
                    f"{self.pictures} right, calibration error {measured.calibration_error:.3f}, "
                    f"{measured.latency_ms:.1f} ms a picture"
                )
        if (difference := self.difference) is not None:
            lines.append(
                f"difference: {difference.value:+.3f} +/- {difference.standard_error:.3f} "
                f"(p = {difference.p_value:.3f}, {difference.test})"
            )
        return lines

    def as_json(self) -> dict[str, Any]:
        """Return the figures as JSON types."""
        difference = self.difference
        return {
            "pictures": self.pictures,
            "canary": self.canary and self.canary.as_json(),
            "stable": self.stable and self.stable.as_json(),
            "fault": self.fault,
            "difference": difference
            and {key: getattr(difference, key) for key in ("value", "standard_error", "p_value", "test")},
        }


@dataclass(frozen=True)
class Decision:
    """Whether a canary should become stable, and why."""

    promote: bool
    why: str


def decide(trial: Trial, tolerance: float = TOLERANCE) -> Decision:
    """Promote a canary that is neither significantly worse than stable nor further below it than the tolerance.

    Without a stable version it must answer, and not do significantly worse than guessing.

    Args:
        trial: what was measured.
        tolerance: accuracy that may be lost, in 0..1.
    """
    if trial.canary is None:
        return Decision(False, trial.fault or "the canary does not answer")
    difference = trial.difference
    if difference is None:
        least = trial.canary.chance - STANDARD_ERRORS * standard_error(trial.canary.chance, trial.pictures)
        if trial.canary.accuracy < least:
            return Decision(False, f"accuracy {trial.canary.accuracy:.3f} is below guessing, {trial.canary.chance:.3f}")
        return Decision(True, "it answers, and no version is stable yet")
    if difference.value < 0 and not difference.is_tie:
        return Decision(False, f"the canary is significantly worse (p = {difference.p_value:.3g})")
    # Shares of few pictures are not exact in binary.
    if difference.value < -tolerance - 1e-9:
        return Decision(False, f"the canary is {-difference.value:.3f} worse, more than the tolerance {tolerance:g}")
    if difference.is_tie:
        return Decision(True, f"the canary is not significantly different, and within the tolerance {tolerance:g}")
    return Decision(True, f"the canary is significantly better (p = {difference.p_value:.3g})")


def try_versions(
    served: ServedModel,
    pictures: PictureSet,
    canary: int,
    stable: int | None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Trial:
    """Ask both versions for every validation picture, in turns, so that both meet the same load.

    Args:
        served: the model on its server; both versions are loaded.
        pictures: the labelled set.
        canary: the version to try.
        stable: the version to compare it with.
        progress: called with (what is done, pictures done, pictures in all).

    Raises:
        FoveaError: there are no validation pictures, they have classes that the canary does not know, or the server or
            the stable version does not answer.
    """
    held_out = pictures.splits.get("validation", ())
    if not held_out:
        raise FoveaError(f"{pictures.root} has no validation pictures to compare versions on")
    try:
        new = _Contestant(served, canary, pictures)
    except RefusedError as error:
        return Trial(len(held_out), None, None, str(error))
    if missing := set(pictures.class_names) - set(new.card.class_names):
        raise FoveaError(
            f"version {canary} of {served.model!r} does not know the classes {', '.join(sorted(missing))} of "
            f"{pictures.root}; it knows {', '.join(new.card.class_names)}"
        )
    old = None if stable is None else _Contestant(served, stable, pictures)
    for start in range(0, len(held_out), BATCH):
        batch = held_out[start : start + BATCH]
        decoded = [images.decode(picture.path.read_bytes()) for picture in batch]
        if old is not None:
            old.answer(decoded, batch)
        try:
            new.answer(decoded, batch)
        except RefusedError as error:
            return Trial(len(held_out), None, None, str(error))
        if progress:
            progress("compare versions", start + len(batch), len(held_out))
    picture = images.decode(held_out[0].path.read_bytes())
    for call in range(_UNTIMED_CALLS + TIMED_CALLS):
        for contestant in (new, *([old] if old else [])):
            contestant.time(picture, call >= _UNTIMED_CALLS)
    return Trial(len(held_out), new.measured(), old.measured() if old else None)


class _Contestant:
    """One version and its answers so far."""

    def __init__(self, served: ServedModel, version: int, pictures: PictureSet):
        self.card: ModelCard = served.card(version)
        self._served = served
        self._version = version
        self._pictures = pictures
        self._names = list(self.card.class_names)
        self._probabilities: list[np.ndarray] = []
        self._labels: list[np.ndarray] = []
        self._seconds: list[float] = []

    def answer(self, decoded: Sequence[Any], batch: Sequence[Picture]) -> None:
        """Classify pictures."""
        size = (self.card.input_height, self.card.input_width)
        given = np.stack([images.resize(image, *size) for image in decoded])
        probabilities = self._served.probabilities(self._version, given)
        labels = np.array([self._label(picture) for picture in batch])
        if probabilities.shape != (*labels.shape, len(self._names)):
            raise RefusedError(
                f"version {self._version} of {self._served.model!r} answers with shape {list(probabilities.shape)}; "
                f"for these pictures it should be {[*labels.shape, len(self._names)]}"
            )
        self._probabilities.append(probabilities)
        self._labels.append(labels)

    def time(self, image: Any, counts: bool) -> None:
        """Take the time of a call with one picture."""
        given = images.resize(image, self.card.input_height, self.card.input_width)[np.newaxis]
        started = time.perf_counter()
        self._served.probabilities(self._version, given)
        if counts:
            self._seconds.append(time.perf_counter() - started)

    def measured(self) -> Measured:
        """Return the figures."""
        probabilities, labels = np.concatenate(self._probabilities), np.concatenate(self._labels)
        right = (probabilities.argmax(axis=-1) == labels).reshape(len(labels), -1).all(axis=1)
        classes = len(self._names)
        return Measured(
            self._version,
            right,
            calibrate(probabilities.reshape(-1, classes), labels.reshape(-1)).error,
            1000 * float(np.median(self._seconds)),
            float(classes ** -np.prod(labels.shape[1:], dtype=float)),
        )

    def _label(self, picture: Picture) -> Any:
        """Return the index of a picture's class in this version's own order; -1 for a class that it does not know."""
        indices = [self._index(label) for label in np.atleast_1d(picture.label)]
        return indices if isinstance(picture.label, tuple) else indices[0]

    def _index(self, label: int) -> int:
        name = self._pictures.class_names[label]
        return self._names.index(name) if name in self._names else -1
