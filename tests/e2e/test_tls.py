"""TLS on both doors of a real gateway, and towards the model server."""

import asyncio
import shutil
import socket
import ssl
import subprocess
import threading
from contextlib import contextmanager

import grpc
import httpx
import pytest
from fovea.v1 import vision_pb2 as pb
from fovea.v1 import vision_pb2_grpc

from tests import certificates
from tests.gateways import Gateway
from tests.model_servers import wait_until

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl on PATH")


@contextmanager
def encrypted(target, chain, key):
    """Encrypt what a model server sends in plain; yields the target to ask instead."""
    host, port = target.split(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    context.set_alpn_protocols(["h2"])
    loop = asyncio.new_event_loop()

    async def pump(reader, writer):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def serve(reader, writer):
        inner = await asyncio.open_connection(host, int(port))
        await asyncio.gather(pump(reader, inner[1]), pump(inner[0], writer), return_exceptions=True)

    server = loop.run_until_complete(asyncio.start_server(serve, "127.0.0.1", 0, ssl=context))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield f"localhost:{server.sockets[0].getsockname()[1]}"
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return certificates.make(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="module")
def gateway(tiny_server, pair, tmp_path_factory):
    folder = tmp_path_factory.mktemp("gateway")
    inner = certificates.make(folder)
    with (
        encrypted(tiny_server.grpc_target, *inner) as target,
        Gateway(
            folder / "log",
            models="tiny",
            model_server_target=target,
            model_server_ca_file=inner[0],
            tls_cert_file=pair[0],
            tls_key_file=pair[1],
            client_idle_s=1,
        ) as gateway,
    ):
        yield gateway


def list_models(gateway, chain):
    target = gateway.grpc_target.replace("127.0.0.1", "localhost")
    with grpc.secure_channel(target, grpc.ssl_channel_credentials(chain.read_bytes())) as channel:
        return vision_pb2_grpc.VisionStub(channel).ListModels(pb.ListModelsRequest(), timeout=10).models


def test_rest_is_encrypted(gateway):
    answer = gateway.http.get("/v1/models")
    assert answer.json()["models"][0]["ready"]
    assert answer.headers["Strict-Transport-Security"].startswith("max-age=")
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(gateway.url)
    with pytest.raises(httpx.TransportError):
        httpx.get(gateway.url.replace("https:", "http:"), timeout=5)


def test_grpc_is_encrypted(gateway, pair):
    assert list_models(gateway, pair[0])[0].ready
    with grpc.insecure_channel(gateway.grpc_target) as channel, pytest.raises(grpc.RpcError) as caught:
        vision_pb2_grpc.VisionStub(channel).ListModels(pb.ListModelsRequest(), timeout=5)
    assert caught.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


@pytest.mark.parametrize(("version", "accepted"), [("-tls1", False), ("-tls1_1", False), ("-tls1_2", True)])
def test_old_versions_are_refused(gateway, version, accepted):
    for address in (gateway.url.removeprefix("https://"), gateway.grpc_target):
        command = ["openssl", "s_client", "-connect", address, version, "-cipher", "ALL:@SECLEVEL=0"]
        done = subprocess.run(command, input="", capture_output=True, text=True, timeout=20)
        assert ("Cipher is (NONE)" not in done.stdout) is accepted, done.stdout


def test_clients_that_stop_in_the_handshake_do_not_stop_the_gateway(gateway):
    host, port = gateway.url.removeprefix("https://").split(":")
    half = [socket.create_connection((host, int(port)), timeout=10) for _ in range(100)]
    for connection in half:
        connection.sendall(b"\x16\x03\x01")
    assert gateway.http.get("/healthz").status_code == 200
    for connection in half:
        assert connection.recv(1000) == b""
        connection.close()
    assert "Traceback" not in gateway.log.read_text()


def test_a_renewed_certificate_is_used_without_a_restart(gateway, pair, tmp_path):
    renewed = certificates.make(tmp_path)
    for new, old in zip(renewed, pair, strict=True):
        old.write_bytes(new.read_bytes())
    context = ssl.create_default_context(cafile=renewed[0])

    def trusted():
        try:
            return httpx.get(f"{gateway.url}/healthz", verify=context).status_code == 200
        except httpx.ConnectError:
            return False

    wait_until(trusted, 10, "the renewed certificate over REST")
    assert list_models(gateway, renewed[0])[0].ready


@pytest.mark.parametrize("case", ["another key", "no certificate", "no file", "no key"])
def test_a_wrong_pair_ends_the_start_with_one_sentence(tmp_path, case):
    chain, key = certificates.make(tmp_path)
    files = {"tls_cert_file": chain, "tls_key_file": key}
    if case == "another key":
        files["tls_key_file"] = certificates.make(tmp_path, "other")[1]
        sentence = f"the key in {tmp_path / 'other.key'} is not that of the certificate in {chain}"
    elif case == "no certificate":
        chain.write_text("nothing")
        sentence = f"{chain} and {key} must hold a certificate and its key, which has no password, in PEM"
    elif case == "no file":
        chain.unlink()
        sentence = f"{chain}: No such file or directory"
    else:
        del files["tls_key_file"]
        sentence = "a certificate and its key belong together: set FOVEA_TLS_CERT_FILE and FOVEA_TLS_KEY_FILE"
    gateway = Gateway(tmp_path / "log", models="tiny", **files)
    gateway.start()
    assert gateway.process.wait(30) == 1
    assert gateway.log.read_text() == f"FOVEA_TLS_CERT_FILE is wrong: {sentence}\n"


def test_a_model_server_that_cannot_prove_itself_is_not_asked(tiny_server, tmp_path):
    served, other = certificates.make(tmp_path), certificates.make(tmp_path, "other")
    with encrypted(tiny_server.grpc_target, *served) as target:
        settings = {"model_server_target": target, "model_server_ca_file": other[0]}
        with Gateway(tmp_path / "log", models="tiny", **settings) as gateway:
            answer = gateway.http.get("/readyz").json()
    assert answer["models"] == {"tiny": "MODEL_SERVER_UNAVAILABLE"}
