"""What a training run is told."""

from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class TrainOptions:
    """The resolved configuration of a run; `config.json` in its folder."""

    recipe: str
    data: Path
    name: str
    """Name of the model in the store."""
    height: int
    """Rows of the pictures that the net takes."""
    width: int
    """Columns of the pictures that the net takes."""
    epochs: int
    """Epochs of the main training phase."""
    batch_size: int = 32
    seed: int = 0
    base: str = "fovea_small"
    """Name of the pretrained base of a transfer recipe."""
    base_weights: Path | None = None
    """File of the base's weights; None means its published ones."""
    cached: bool = False
    """Run the base over the pictures once and keep its features on disk; no augmentation then."""
    unfreeze: str | None = None
    """What fine-tuning adapts of the base: a prefix of layer names, or how many of the last convolutions."""
    from_run: Path | None = None
    """Folder of a run whose trained head fine-tuning begins with."""
    keep_best: bool = False
    """End a phase with the weights of its best epoch on the validation pictures, not with those of the last."""
    patience: int | None = None
    """End a phase after so many epochs without a better one."""
    class_weights: bool = False
    """Weigh the classes of an unbalanced set by the inverse of their numbers of pictures."""
    precision: str = "float32"
    """Keras's name of the arithmetic: float32, mixed_bfloat16 or mixed_float16. Weights stay float32."""

    def to_json(self) -> dict[str, object]:
        """Return the options as JSON values."""
        return {key: str(value) if isinstance(value, Path) else value for key, value in asdict(self).items()}
