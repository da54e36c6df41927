"""What a training run is told."""

from dataclasses import asdict, dataclass
from pathlib import Path

from training.bases import FOVEA_SMALL_WEIGHTS


@dataclass(frozen=True)
class TrainOptions:
    """The resolved configuration of a run; `config.json` in its folder."""

    recipe: str
    data: Path
    name: str
    """Name of the model in the store."""
    size: int
    """Height and width of the pictures that the net takes, in pixels."""
    epochs: int
    """Epochs of the main training phase."""
    batch_size: int = 32
    seed: int = 0
    base_weights: Path = FOVEA_SMALL_WEIGHTS
    """Weights of the base."""

    def to_json(self) -> dict[str, object]:
        """Return the options as JSON values."""
        return {key: str(value) if isinstance(value, Path) else value for key, value in asdict(self).items()}
