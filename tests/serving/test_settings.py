import pytest

from serving import settings


def _read(monkeypatch, **variables):
    for name, value in variables.items():
        monkeypatch.setenv(f"FOVEA_{name}", value)
    return settings.read()


def test_lists_are_separated_by_commas(monkeypatch):
    read = _read(monkeypatch, MODELS="pets, digits,pets,", LABELS="")
    assert read.models == ["pets", "digits"]
    assert read.labels == []


def test_the_defaults_are_those_documented(monkeypatch):
    read = _read(monkeypatch, MODELS="pets")
    assert (read.http_port, read.grpc_port, read.workers) == (8080, 8081, 1)
    assert (read.max_in_flight, read.max_queued) == (8, 32)
    assert (read.max_bytes, read.max_pixels, read.max_pictures, read.deadline_s) == (10 << 20, 50_000_000, 32, 10)


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({}, "FOVEA_MODELS is not set: Names of the models to answer for, separated by commas."),
        ({"MODELS": " , "}, "FOVEA_MODELS is wrong: name at least one model"),
        ({"MODELS": "a/b"}, "FOVEA_MODELS is wrong: 'a/b' is not a name of letters, digits, '.', '_' and '-'"),
        ({"MODELS": "a", "HTTP_PORT": "http"}, "FOVEA_HTTP_PORT is wrong: input should be a valid integer"),
        (
            {"MODELS": "a", "MAX_IN_FLIGHT": "0"},
            "FOVEA_MAX_IN_FLIGHT is wrong: input should be greater than or equal to 1",
        ),
        ({"MODELS": "a", "COLORMAP": "nope"}, "FOVEA_COLORMAP is wrong: there is no colour map 'nope'"),
        ({"MODELS": "a", "LOG_LEVEL": "loud"}, "FOVEA_LOG_LEVEL is wrong: input should be 'debug'"),
        ({"MODELS": "a", "MODEL_SERVER_TARGET": ""}, "FOVEA_MODEL_SERVER_TARGET is wrong: "),
    ],
)
def test_a_wrong_setting_is_one_sentence(monkeypatch, variables, sentence):
    with pytest.raises(ValueError, match="FOVEA_") as caught:
        _read(monkeypatch, **variables)
    assert str(caught.value).startswith(sentence)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "FOVEA_API_KEYS_FILE is wrong: {file}: No such file or directory"),
        ("# none\n", "FOVEA_API_KEYS_FILE is wrong: the file holds no keys"),
        (f"lab:{'0' * 64}\nfovea_secret", "FOVEA_API_KEYS_FILE is wrong: entry 2 is not NAME:SHA-256 with "),
    ],
)
def test_a_wrong_file_of_keys_is_one_sentence(monkeypatch, tmp_path, content, sentence):
    file = tmp_path / "keys"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ValueError, match="FOVEA_") as caught:
        _read(monkeypatch, MODELS="a", API_KEYS_FILE=str(file))
    assert str(caught.value).startswith(sentence.format(file=file))
    assert "\n" not in str(caught.value)


def test_a_file_gives_what_the_environment_does_not(monkeypatch, tmp_path):
    file = tmp_path / "fovea.toml"
    file.write_text('models = ["pets", "digits"]\nlabels = "stable, canary"\nworkers = 2\ndeadline_s = 5\n')
    read = _read(monkeypatch, SETTINGS_FILE=str(file), WORKERS="3")
    assert (read.models, read.labels, read.workers, read.deadline_s) == (
        ["pets", "digits"],
        ["stable", "canary"],
        3,
        5.0,
    )


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "FOVEA_SETTINGS_FILE is wrong: {file}: No such file or directory"),
        (b"models = [", "FOVEA_SETTINGS_FILE is wrong: {file} is not TOML: "),
        (b"\xff", "FOVEA_SETTINGS_FILE is wrong: {file} is not TOML: "),
        (b"threads = 8", "FOVEA_SETTINGS_FILE is wrong: there is no setting 'threads', which {file} sets"),
        (b"models = 'a'\nworkers = 0", "workers in {file} is wrong: input should be greater than or equal to 1"),
        (b"models = 5", "models in {file} is wrong: input should be a valid list (got 5)"),
        (b"workers = 1", "FOVEA_MODELS is not set: "),
    ],
)
def test_a_wrong_file_of_settings_is_one_sentence(monkeypatch, tmp_path, content, sentence):
    file = tmp_path / "fovea.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ValueError, match=r"is wrong|is not set") as caught:
        _read(monkeypatch, SETTINGS_FILE=str(file))
    assert str(caught.value).startswith(sentence.format(file=file))
    assert "\n" not in str(caught.value)


def test_a_key_given_in_place_of_its_hash_is_not_repeated(monkeypatch):
    with pytest.raises(ValueError, match="FOVEA_API_KEYS is wrong: entry 1 is not NAME:SHA-256") as caught:
        _read(monkeypatch, MODELS="a", API_KEYS="fovea_secret")
    assert "fovea_secret" not in str(caught.value)
    with pytest.raises(ValueError, match="FOVEA_API_KEYS is wrong: it holds no keys"):
        _read(monkeypatch, MODELS="a", API_KEYS=" ")


def test_every_setting_says_what_it_is():
    assert all(field.description for field in settings.Settings.model_fields.values())
