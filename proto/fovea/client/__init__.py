"""A client of the gateway, over REST or gRPC.

    with Client("http://localhost:8080") as client:
        print(client.classify("pets", "cat.jpg").label)

It needs the packages of the extra `client`, and neither Flask nor TensorFlow.
"""

from fovea.client.answers import Box, Classification, ClassScore, Explanation, Layer, Model, Overlay, Served
from fovea.client.client import Client
from fovea.client.errors import FoveaError, UnavailableError

__all__ = [
    "Box",
    "ClassScore",
    "Classification",
    "Client",
    "Explanation",
    "FoveaError",
    "Layer",
    "Model",
    "Overlay",
    "Served",
    "UnavailableError",
]
