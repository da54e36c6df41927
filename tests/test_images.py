"""The images, the compose file and what they share with the code; nothing here needs a container engine."""

import json
import os
import re
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from serving.model_server.__main__ import parse_flags
from serving.settings import Settings

REPOSITORY = Path(__file__).resolve().parents[1]
DOCKERFILES = ("Dockerfile.serve", "Dockerfile.train")
BIN = Path(sys.prefix) / "bin"
CHECKOV = Path(sys.prefix) / "checkov" / "bin" / "checkov"
LABELS = ("title", "description", "licenses", "version", "revision", "created", "source")


def _instructions(dockerfile: str) -> list[tuple[str, str]]:
    """Return (instruction, arguments) in order, with continued lines joined and comments gone."""
    lines = (line for line in (REPOSITORY / dockerfile).read_text().splitlines() if not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(line.split()[0], line.split(None, 1)[1]) for line in joined.splitlines() if line.strip()]


def _final_stage(dockerfile: str) -> dict[str, str]:
    """Return the last arguments of each instruction of the last stage."""
    instructions = _instructions(dockerfile)
    begin = max(index for index, (name, _) in enumerate(instructions) if name == "FROM")
    return dict(instructions[begin:])


def _pins(lock: str) -> dict[str, str]:
    return dict(re.findall(r"^(\S+?)(?:\[[\w,-]+\])?==(\S+)", (REPOSITORY / "requirements" / lock).read_text(), re.M))


def _compose() -> dict[str, Any]:
    return yaml.safe_load((REPOSITORY / "compose.yaml").read_text())


def _without_variables(text: str) -> str:
    """Put the default in the place of each `${NAME:-default}`."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


SERVICES = _compose()["services"]


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_hadolint_finds_nothing(dockerfile):
    found = subprocess.run([BIN / "hadolint", REPOSITORY / dockerfile], capture_output=True, text=True)
    assert found.returncode == 0, found.stdout


@pytest.mark.skipif(not CHECKOV.exists(), reason="`make test` installs checkov, in an environment of its own")
def test_checkov_finds_nothing():
    files = [word for dockerfile in DOCKERFILES for word in ("--file", str(REPOSITORY / dockerfile))]
    found = subprocess.run(
        [CHECKOV, *files, "--framework", "dockerfile", "--compact", "--quiet", "--skip-download", "--output", "json"],
        capture_output=True,
        text=True,
    )
    summary = json.loads(found.stdout)["summary"]
    assert (summary["failed"], summary["parsing_errors"]) == (0, 0), found.stdout
    assert summary["passed"] > 100


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_base_is_one_argument_with_a_tag(dockerfile):
    instructions = _instructions(dockerfile)
    assert {arguments.split()[0] for name, arguments in instructions if name == "FROM"} == {"${PYTHON_IMAGE}"}
    assert instructions[0][0] == "ARG"
    registry, tag = re.fullmatch(r"PYTHON_IMAGE=(\S+/python):(\S+)", instructions[0][1]).groups()
    assert registry == "docker.io/library/python"
    assert tag.startswith(f"{sys.version_info.major}.{sys.version_info.minor}-slim-")


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_result_runs_without_root_and_takes_signals(dockerfile):
    final = _final_stage(dockerfile)
    user, group = final["USER"].split(":")
    assert int(user) > 0
    assert int(group) > 0
    assert final["STOPSIGNAL"] == "SIGTERM"
    # A shell as process 1 would not pass signals on.
    started = json.loads(final.get("ENTRYPOINT") or final["CMD"])
    assert all(isinstance(word, str) for word in started)
    assert "HOME=/tmp" in final["ENV"]


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_health_check_is_a_program_that_compiles(dockerfile):
    options, command = _final_stage(dockerfile)["HEALTHCHECK"].split(" CMD ")
    python, dash_c, program = json.loads(command)
    assert (python, dash_c) == ("python", "-c")
    compile(program, dockerfile, "exec")
    assert "--timeout=" in options


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_labels(dockerfile):
    labels = dict(word.split("=", 1) for word in shlex.split(_final_stage(dockerfile)["LABEL"]))
    assert {name.removeprefix("org.opencontainers.image.") for name in labels} == set(LABELS)
    given_at_build = {name for name, value in labels.items() if value.startswith("${")}
    assert len(given_at_build) == 4


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_everything_installed_is_locked(dockerfile):
    installing = [
        command
        for name, arguments in _instructions(dockerfile)
        if name == "RUN"
        for command in arguments.split("&&")
        if re.search(r"\bpip\b.* (install|wheel|download) ", command)
    ]
    assert len(installing) >= 2
    for command in installing:
        assert "--require-hashes" in command or "--no-index" in command, command
        assert "--mount=type=cache" in command or "--no-cache-dir" in command or "--require-hashes" in command, command
    assert not [name for name, _ in _instructions(dockerfile) if name == "ADD"]


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_what_is_copied_is_there_and_in_the_context(dockerfile):
    kept = [line[1:].rstrip("/") for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line[:1] == "!"]
    for name, arguments in _instructions(dockerfile):
        if name != "COPY" or "--from=" in arguments:
            continue
        for source in arguments.split()[:-1]:
            assert (REPOSITORY / source).exists(), source
            assert any(Path(source).is_relative_to(path) for path in kept), source


def test_gateway_image_exposes_the_gateways_ports():
    final = _final_stage("Dockerfile.serve")
    ports = (Settings.model_fields["http_port"].default, Settings.model_fields["grpc_port"].default)
    assert final["EXPOSE"].split() == [str(port) for port in ports]
    assert f"'FOVEA_HTTP_PORT', {ports[0]}" in final["HEALTHCHECK"]


def test_locks_agree():
    development, training = _pins("dev.lock"), _pins("train.lock")
    serving, gpu = _pins("serve.lock"), _pins("train-gpu.lock")
    for pins in (training, serving, {name: pin for name, pin in gpu.items() if not name.startswith("nvidia-")}):
        assert pins.items() <= development.items()
    assert "tensorflow" not in serving
    assert "keras" not in serving
    assert training.items() <= gpu.items()
    assert any(name.startswith("nvidia-cudnn") for name in gpu)


def test_tensorflow_serving_is_of_the_version_that_trains():
    version = _pins("train.lock")["tensorflow"]
    named = re.compile(r"tensorflow/serving:(?:\$\{\w+:-)?([\w.-]+)")
    pages = [REPOSITORY / "compose.yaml", *(REPOSITORY / "docs").glob("*.md"), *(REPOSITORY / "k8s").rglob("*.yaml")]
    tags = {(page.name, tag) for page in pages for tag in named.findall(page.read_text())}
    assert ("compose.yaml", version) in tags
    assert {tag for _, tag in tags} <= {version, f"{version}-gpu"}


def test_images_carry_the_projects_version():
    version = re.search(r'^version = "(.+)"$', (REPOSITORY / "pyproject.toml").read_text(), re.M)[1]
    for service, image in (("gateway", "fovea-gateway"), ("training", "fovea-training")):
        assert _without_variables(SERVICES[service]["image"]) == f"{image}:{version}"


@pytest.mark.parametrize("service", SERVICES)
def test_compose_service_is_confined(service):
    settings = SERVICES[service]
    assert settings["read_only"] is True
    assert settings["cap_drop"] == ["ALL"]
    assert settings["security_opt"] == ["no-new-privileges:true"]
    assert int(settings["user"].split(":")[0]) > 0
    image, _, tag = _without_variables(settings["image"]).rpartition(":")
    assert image
    assert tag != "latest"
    for port in settings.get("ports", ()):
        assert port.startswith("127.0.0.1:")


def test_compose_mounts_what_is_there_and_the_store_at_one_path():
    named = _compose()["volumes"]
    stores = set()
    for settings in SERVICES.values():
        for mount in settings.get("volumes", ()):
            source, target, *_ = _without_variables(mount).split(":")
            assert (REPOSITORY / source).is_file() if source.startswith("./") else source in named, source
            if source == "store":
                stores.add(target)
    assert stores == {"/models"}


def test_compose_gives_the_gateway_settings_that_exist():
    environment = {
        name.removeprefix("FOVEA_").lower(): value for name, value in SERVICES["gateway"]["environment"].items()
    }
    assert environment.keys() <= Settings.model_fields.keys()
    for name, port in zip(("http_port", "grpc_port"), SERVICES["gateway"]["ports"], strict=True):
        assert int(port.rpartition(":")[2]) == Settings.model_fields[name].default
    grace = Settings.model_fields["drain_s"].default + Settings.model_fields["grace_s"].default
    assert int(SERVICES["gateway"]["stop_grace_period"].removesuffix("s")) > grace


def test_compose_gives_the_model_server_flags_that_it_knows_and_no_open_port():
    server = SERVICES["model-server"]
    flags = parse_flags(server["command"])
    target = _without_variables(SERVICES["gateway"]["environment"]["FOVEA_MODEL_SERVER_TARGET"])
    assert target == f"model-server:{flags.port}"
    assert f"/{flags.rest_api_port}" in server["healthcheck"]["test"][-1]
    assert "ports" not in server
    mounted = {mount.split(":")[1] for mount in server["volumes"]}
    files = [value.partition("=")[2] for value in server["command"] if "=/" in value]
    assert len(files) == 3
    for file in files:
        assert file in mounted or str(Path(file).parent) in mounted
    networks = _compose()["networks"]
    assert all(networks[name]["internal"] for name in server["networks"])


def test_compose_lets_prometheus_scrape_what_is_served():
    configuration = yaml.safe_load((REPOSITORY / "deploy" / "prometheus.yml").read_text())
    jobs = {job["job_name"]: job for job in configuration["scrape_configs"]}
    assert jobs["fovea-gateway"]["static_configs"] == [{"targets": ["gateway:8080"]}]
    flags = parse_flags(SERVICES["model-server"]["command"])
    assert jobs["tensorflow-serving"]["static_configs"] == [{"targets": [f"model-server:{flags.rest_api_port}"]}]
    monitoring = (REPOSITORY / "k8s/base/model-server/monitoring.config").read_text()
    assert f'path: "{jobs["tensorflow-serving"]["metrics_path"]}"' in monitoring


def test_compose_trains_with_commands_that_exist(tmp_path):
    """Run the service's own script with `fovea` replaced by one that tells how it was called."""
    script = SERVICES["training"]["command"][-1].replace("$$", "$")
    (tmp_path / "fovea").write_text('#!/bin/sh\necho "fovea $*"\n')
    (tmp_path / "fovea").chmod(0o755)
    for folder in ("data", "models"):
        (tmp_path / folder).mkdir()
        script = script.replace(f"/{folder}", str(tmp_path / folder))

    def run() -> list[str]:
        environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "MODEL": "pets", "RECIPE": "scratch"}
        done = subprocess.run(["sh", "-euc", script], env=environment, capture_output=True, text=True, check=True)
        return done.stdout.splitlines()

    store = tmp_path / "models"
    assert run() == [
        "fovea data make /tmp/pictures",
        f"fovea train --recipe scratch --data /tmp/pictures --store {store} --name pets",
    ]
    (tmp_path / "data" / "cat").mkdir()
    assert run() == [f"fovea train --recipe scratch --data {tmp_path / 'data'} --store {store} --name pets"]
    (store / "pets").mkdir()
    assert run() == ["The store holds pets already."]


def test_message_modules_suffice_without_tensorflow(tmp_path):
    """What the image's build takes out of the wheel is all that the gateway's wire needs."""
    installed = next(path for path in map(Path, sys.path) if (path / "tensorflow" / "core").is_dir())
    wheel = tmp_path / "tensorflow-0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for folder in ("core", "compiler"):
            for file in (installed / "tensorflow" / folder).rglob("*.py"):
                if file.name == "__init__.py" or file.name.endswith("_pb2.py"):
                    archive.write(file, file.relative_to(installed))
        archive.writestr("tensorflow/__init__.py", "raise ImportError('the runtime was imported')")
    site_packages = tmp_path / "site-packages"
    site_packages.mkdir()
    (site_packages / "serving").symlink_to(REPOSITORY / "serving")
    for entry in installed.iterdir():
        if entry.name == "tensorflow_serving" or not entry.name.startswith(("tensorflow", "__editable__")):
            (site_packages / entry.name).symlink_to(entry)
    # -S: without the environment's own site-packages.
    python = [sys.executable, "-S"]
    subprocess.run([*python, REPOSITORY / "deploy/message_modules.py", wheel, site_packages], check=True)
    copied = list((site_packages / "tensorflow").rglob("*.py"))
    assert 10 < len(copied) < 40
    program = (
        "import serving.wire as wire\n"
        "request = wire.PredictRequest(model_spec=wire.ModelSpec(name='x'))\n"
        "assert wire.PredictRequest.FromString(request.SerializeToString()) == request\n"
    )
    subprocess.run([*python, "-c", program], check=True, cwd=tmp_path, env={"PYTHONPATH": str(site_packages)})
