"""Draw animals in cluttered scenes, with the mask of each: a picture set that needs no photographs."""

from training.drawing.animals import SPECIES
from training.drawing.make import make_picture_set
from training.drawing.scene import Drawing, draw

__all__ = ["SPECIES", "Drawing", "draw", "make_picture_set"]
