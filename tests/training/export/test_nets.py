"""Explanations of nets of every form: equal to what Keras computes, row by row."""

import numpy as np
import pytest

from tests.training.export.nets import NETS, card_of, explained, make, serve
from training.export.network import open_network
from training.export.savedmodel import example_inputs, export
from training.export.verify import Reference, verify

LARGE = ("vgg16", "mobilenet_v2")

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=[pytest.mark.slow] * (name in LARGE)) for name in NETS]
)
def served(request, tmp_path_factory):
    """(model, network, card, session, names): integrated gradients, Grad-CAM, all maps at two convolutions."""
    model = make(request.param)
    convolutions = open_network(model).convolutions
    half, last = (convolutions[index].name for index in (len(convolutions) // 2, -1))
    names = list(
        dict.fromkeys(["integrated_gradients", "grad_cam", "cam_methods", f"cam_methods/{half}", f"cam_methods/{last}"])
    )
    session, network, card = serve(model, names, str(tmp_path_factory.mktemp("nets") / request.param))
    yield model, network, card, session, names
    session.close()


def test_equal_to_keras(served):
    model, network, card, session, names = served
    reference = Reference(model, network, card)
    for name in names:
        inputs = example_inputs(name, card)
        outputs, expected = session.run(name, inputs), reference.answer(name, inputs)
        assert set(outputs) == set(expected) | {"class_index"}
        _assert_same_row({key: outputs[key][0] for key in expected}, {key: expected[key][0] for key in expected}, name)


def test_a_batch_of_eight_and_padding_is_eight_single_calls(served):
    _, network, _, session, names = served
    inputs = explained(network, 8)
    padded = {key: np.concatenate([value, np.repeat(value[-1:], 3, 0)]) for key, value in inputs.items()}
    for name in names:
        together = session.run(name, padded)
        assert {len(value) for value in together.values()} == {11}
        for row in range(8):
            alone = session.run(name, {key: value[row : row + 1] for key, value in inputs.items()})
            found = {key: value[row] for key, value in together.items()}
            _assert_same_row(found, {key: value[0] for key, value in alone.items()}, f"{name}, row {row}")
        maps = together.get("grad_cam", together.get("heatmap", together.get("attributions")))
        assert not np.allclose(maps[0], maps[1], atol=1e-3 * np.abs(maps).max())


def test_the_default_is_the_last_convolution(served):
    _, network, _, session, names = served
    inputs = explained(network, 2)
    default, last = session.run("cam_methods", inputs), session.run(names[-1], inputs)
    for key, value in default.items():
        np.testing.assert_array_equal(value, last[key])
    np.testing.assert_allclose(session.run("grad_cam", inputs)["heatmap"], default["grad_cam"], rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["residual", "captcha", *LARGE])
def test_every_signature_of_a_deeper_net_agrees_with_keras(name, tmp_path):
    model = make(name)
    folder = str(tmp_path / "savedmodel")
    verify(folder, model, *export(model, card_of(model), folder))


def _assert_same_row(found, expected, what):
    for key, value in expected.items():
        difference = np.abs(np.asarray(found[key], np.float64) - value)
        if key == "attributions":
            # A value that rounding puts on the other side of a ReLU's bend changes a few of them by more.
            assert difference.mean() <= 0.02 * np.abs(value).mean(), f"{what}: {key}"
        elif key in ("score_change", "completeness_error"):
            assert difference <= 1e-2 * np.abs(expected["attributions"]).sum(), f"{what}: {key}"
        else:
            assert difference.max() <= 1e-4 * max(np.abs(value).max(), 1e-9), f"{what}: {key}"
