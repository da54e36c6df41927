"""The gateway's settings: environment variables that begin with FOVEA_, and a file for those that are not set there."""

import importlib.util
import os
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import cmap
from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from serving import api_keys, tls

MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
"""What a model name or a version label may look like."""

FILE_VARIABLE = "FOVEA_SETTINGS_FILE"
"""The variable that names a TOML file of settings, by their names in lower case and without FOVEA_."""

MIB = 1024 * 1024
# Probes, metrics, descriptions, refusals, and clients that still send.
_UNQUEUED_THREADS = 8
CommaSeparated = Annotated[list[str], NoDecode]


class Settings(BaseSettings):
    """What the gateway serves, where it listens and what it refuses."""

    model_config = SettingsConfigDict(env_prefix="FOVEA_", frozen=True)

    models: CommaSeparated = Field(description="Names of the models to answer for, separated by commas.")
    labels: CommaSeparated = Field(
        default=["stable", "canary"], description="Version labels to look up when models are listed."
    )
    model_server_target: str = Field(
        default="localhost:8500",
        pattern=r"^\S+$",
        description="gRPC target of the model server, as host:port or dns:///host:port.",
    )
    model_server_ca_file: Path | None = Field(
        default=None,
        description="Certificates, in PEM, that prove the model server; without, it is asked in plain.",
    )
    tls_cert_file: Path | None = Field(
        default=None, description="Certificate with its chain, in PEM, for REST and gRPC; read again when it changes."
    )
    tls_key_file: Path | None = Field(default=None, description="The certificate's key, in PEM, without a password.")
    api_keys: CommaSeparated = Field(
        default=[],
        repr=False,
        description="API keys as NAME:SHA-256, separated by commas; without keys anyone may ask.",
    )
    api_keys_file: Path | None = Field(
        default=None, description="File of API keys, one NAME:SHA-256 a line; read again when it changes."
    )
    host: str = Field(default="0.0.0.0", description="Address to listen on.")
    http_port: int = Field(default=8080, ge=0, le=65535, description="Port of REST and the web page; 0: any free one.")
    grpc_port: int = Field(default=8081, ge=0, le=65535, description="Port of gRPC; 0: any free one.")
    workers: int = Field(default=1, ge=1, le=64, description="Processes that answer.")
    max_in_flight: int = Field(default=8, ge=1, le=256, description="Requests that a process works on at a time.")
    max_queued: int = Field(
        default=32, ge=0, le=1024, description="Requests that wait in a process for their turn; more are refused."
    )
    calls_in_flight: int = Field(
        default=2,
        ge=1,
        le=256,
        description="Calls of the model server for probabilities that a process has under way at a time; requests that "
        "come meanwhile share the next one.",
    )
    max_bytes: int = Field(default=10 * MIB, ge=1024, description="Largest request body in bytes.")
    max_pixels: int = Field(default=50_000_000, ge=1, description="Largest picture in pixels.")
    max_pictures: int = Field(default=32, ge=1, le=1024, description="Most pictures in one request.")
    max_answer_bytes: int = Field(
        default=64 * MIB, ge=MIB, description="Largest answer in bytes, also of the model server to the gateway."
    )
    pattern_cache_bytes: int = Field(
        default=64 * MIB, ge=0, description="Bytes of filter patterns that a process remembers; 0: none."
    )
    deadline_s: float = Field(default=10.0, gt=0, le=600, description="Seconds that a request may take.")
    client_idle_s: float = Field(
        default=15.0, gt=0, le=600, description="Seconds that a client may pause while it sends or receives."
    )
    version_ttl_s: float = Field(
        default=1.0, ge=0, le=60, description="Seconds for which the version behind a name or label is remembered."
    )
    drain_s: float = Field(
        default=3.0,
        ge=0,
        le=300,
        description="Seconds between SIGTERM, when readiness turns false, and the end of accepting.",
    )
    grace_s: float = Field(
        default=15.0, ge=0, le=600, description="Seconds for accepted requests to finish after that."
    )
    otlp_endpoint: str | None = Field(
        default=None,
        pattern=r"^https?://\S+$",
        description="URL of an OpenTelemetry collector that takes OTLP over HTTP; spans are made only for one.",
    )
    trace_share: float = Field(
        default=1.0, ge=0, le=1, description="Share of the traces begun here that have spans; others' callers decide."
    )
    colormap: str = Field(default="inferno", description="Colour map of overlays and grids, by its name in cmap.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least level of the lines that are logged."
    )

    @property
    def door_threads(self) -> int:
        """Threads of each door: for what is worked on, for what waits, and for answers that need no turn."""
        return self.max_in_flight + self.max_queued + _UNQUEUED_THREADS

    @field_validator("models", "labels", "api_keys", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return [name.strip() for name in value.split(",") if name.strip()] if isinstance(value, str) else value

    @field_validator("models", "labels")
    @classmethod
    def _check_names(cls, names: list[str]) -> list[str]:
        for name in names:
            if not MODEL_NAME.fullmatch(name):
                raise ValueError(f"{name!r} is not a name of letters, digits, '.', '_' and '-'")
        return list(dict.fromkeys(names))

    @field_validator("models")
    @classmethod
    def _check_some(cls, names: list[str]) -> list[str]:
        if not names:
            raise ValueError("name at least one model")
        return names

    @field_validator("api_keys", mode="before")
    @classmethod
    def _check_some_keys(cls, value: object) -> object:
        if isinstance(value, str) and not value.strip(" ,"):
            raise ValueError("it holds no keys; leave it unset where none are needed")
        return value

    @field_validator("api_keys")
    @classmethod
    def _check_keys(cls, entries: list[str]) -> list[str]:
        api_keys.parse(entries)
        return entries

    @field_validator("colormap")
    @classmethod
    def _check_colormap(cls, name: str) -> str:
        try:
            cmap.Colormap(name)
        except ValueError:
            raise ValueError(
                f"there is no colour map {name!r}; for example inferno, viridis, magma and cividis"
            ) from None
        return name


def read() -> Settings:
    """Read the settings from the environment, and from the file that it names.

    Raises:
        ValueError: one sentence about the first setting that is missing or wrong.
    """
    values = _read_file()
    try:
        settings = Settings(**values)
    except ValidationError as error:
        first = error.errors()[0]
        location = str(first["loc"][0])
        field = Settings.model_fields[location]
        name = f"{location} in {os.environ[FILE_VARIABLE]}" if location in values else f"FOVEA_{location.upper()}"
        if first["type"] == "missing":
            raise ValueError(f"{name} is not set: {field.description}") from None
        reason = first["msg"].removeprefix("Value error, ")
        got = f" (got {first['input']!r})" if field.repr else ""
        raise ValueError(f"{name} is wrong: {reason[:1].lower()}{reason[1:]}{got}") from None
    _check_packages(settings)
    _check_files(settings)
    return settings


def _read_file() -> dict[str, Any]:
    """Return the settings of the file, without those that the environment sets."""
    path = os.environ.get(FILE_VARIABLE)
    if not path:
        return {}
    try:
        values = tomllib.loads(Path(path).read_text())
    except OSError as error:
        raise ValueError(f"{FILE_VARIABLE} is wrong: {path}: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"{FILE_VARIABLE} is wrong: {path} is not TOML: {error}") from None
    for name in values:
        if name not in Settings.model_fields:
            raise ValueError(f"{FILE_VARIABLE} is wrong: there is no setting {name!r}, which {path} sets")
    set_already = {name.upper() for name in os.environ}
    return {name: value for name, value in values.items() if f"FOVEA_{name.upper()}" not in set_already}


def _check_packages(settings: Settings) -> None:
    """Refuse what needs packages that are not installed."""
    if settings.otlp_endpoint is not None and importlib.util.find_spec("opentelemetry") is None:
        raise ValueError("FOVEA_OTLP_ENDPOINT is set, but OpenTelemetry is not installed; install fovea[otel]")


def _check_files(settings: Settings) -> None:
    """Refuse files that cannot be used before anything listens."""
    checks: dict[str, Callable[[], object]] = {
        "API_KEYS_FILE": lambda: api_keys.ApiKeys(settings.api_keys, settings.api_keys_file),
        "TLS_CERT_FILE": lambda: tls.certificate(settings.tls_cert_file, settings.tls_key_file),
        "MODEL_SERVER_CA_FILE": lambda: tls.authorities(settings.model_server_ca_file),
    }
    for name, check in checks.items():
        try:
            check()
        except OSError as error:
            raise ValueError(f"FOVEA_{name} is wrong: {error.filename}: {error.strerror}") from None
        except ValueError as error:
            raise ValueError(f"FOVEA_{name} is wrong: {error}") from None
