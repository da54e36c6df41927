"""The gateway's core and its HTTP application, in front of a real model server with tiny models."""

import socket
from collections.abc import Callable, Iterator
from threading import Event
from typing import TYPE_CHECKING

import grpc
import pytest
from flask.testing import FlaskClient

from serving import rpc
from serving.backend import ModelServer
from serving.http.app import create_app
from serving.inference import Vision
from serving.settings import Settings
from tests.model_servers import free_port

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


@pytest.fixture(scope="module")
def open_door() -> Iterator[Callable[[Vision, Settings, Event], tuple[rpc.Door, grpc.Channel]]]:
    """A function that opens the gRPC door and a channel to it."""
    doors = []

    def open_one(vision: Vision, settings: Settings, stopping: Event) -> tuple[rpc.Door, grpc.Channel]:
        address = f"127.0.0.1:{free_port()}"
        door = rpc.Door(vision, settings, stopping, address)
        doors.append((door, grpc.insecure_channel(address, options=[("grpc.max_receive_message_length", -1)])))
        return doors[-1]

    yield open_one
    for door, channel in doors:
        channel.close()
        door.stop(0).wait()


@pytest.fixture(scope="module")
def channel(open_door: Callable, vision: Vision, settings: Settings) -> grpc.Channel:
    return open_door(vision, settings, Event())[1]


@pytest.fixture(scope="module")
def corner(encode: Callable, red_corner: object) -> bytes:
    return encode(red_corner)


@pytest.fixture
def silent_server() -> Iterator[str]:
    """The target of a server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
