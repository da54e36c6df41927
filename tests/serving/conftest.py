"""The gateway's core and its HTTP application, in front of a real model server with tiny models."""

import socket
from collections.abc import Callable, Iterator
from threading import Event
from typing import TYPE_CHECKING

import pytest
from flask.testing import FlaskClient

from serving.backend import ModelServer
from serving.http.app import create_app
from serving.inference import Vision
from serving.settings import Settings

if TYPE_CHECKING:
    from tests import model_servers


@pytest.fixture(scope="session")
def settings(tiny_server: "model_servers.ModelServer") -> Settings:
    return Settings(
        models=["tiny", "cautious", "broken"],
        model_server_target=tiny_server.grpc_target,
        max_bytes=200_000,
        max_pixels=100_000,
        max_pictures=4,
    )


@pytest.fixture(scope="session")
def make_vision() -> Iterator[Callable[[Settings], Vision]]:
    servers = []

    def make(settings: Settings) -> Vision:
        servers.append(ModelServer(settings.model_server_target, settings.max_answer_bytes))
        return Vision(servers[-1], settings)

    yield make
    for server in servers:
        server.close()


@pytest.fixture(scope="session")
def vision(settings: Settings, make_vision: Callable[[Settings], Vision]) -> Vision:
    return make_vision(settings)


@pytest.fixture(scope="session")
def client(vision: Vision, settings: Settings) -> FlaskClient:
    return create_app(vision, settings, Event()).test_client()


@pytest.fixture
def silent_server() -> Iterator[str]:
    """The target of a server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
