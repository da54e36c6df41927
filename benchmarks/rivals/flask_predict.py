"""Flask with `model.predict`, as tutorials have it; behind gunicorn, as Flask's documentation asks for."""

from typing import Any

import numpy as np
from flask import Flask, request

from benchmarks.rivals import net
from serving.contract import images

app = Flask(__name__)
model = net.load()
model.predict(np.zeros((1, *model.input_shape[1:]), np.uint8), verbose=0)


@app.post("/classify")
def classify() -> dict[str, Any]:
    """Classify the picture of the body."""
    picture = net.pixels(images.decode(request.get_data()), model)
    return {"probability": float(model.predict(picture[np.newaxis], verbose=0)[0, 0])}
