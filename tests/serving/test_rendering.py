import io

import numpy as np
import pytest
from PIL import Image

from serving import rendering
from serving.errors import UnknownColormapError


def test_a_map_is_divided_by_its_peak():
    heatmap = np.array([[0, 1], [2, 4]], np.float32)
    assert rendering.normalize(heatmap).tolist() == [[0, 0.25], [0.5, 1]]


def test_a_map_of_zeros_stays_so():
    assert rendering.normalize(np.zeros((2, 2), np.float32)).tolist() == [[0, 0], [0, 0]]


def test_upsampling_has_half_pixel_centres_and_clamped_edges():
    # Pixel centres of the large map fall on -0.25, 0.25, 0.75 and 1.25 of the small one.
    large = rendering.upsample(np.array([[0, 1]], np.float32), width=4, height=2)
    np.testing.assert_allclose(large, [[0, 0.25, 0.75, 1]] * 2, atol=1e-6)


def test_the_hot_region_is_where_half_of_the_peak_is_reached():
    heatmap = np.zeros((6, 8), np.float32)
    heatmap[1, 2] = 0.25
    # In each direction pixels at 0.5, 1.5, 2.5 from the block's centre have .875, .625 and .375 of its value:
    # .875 * .625 reaches half of .875 * .875, .875 * .375 does not.
    assert rendering.hot_region(heatmap, width=32, height=24) == rendering.Box(8, 4, 12, 8)


def test_a_map_of_zeros_has_no_hot_region():
    assert rendering.hot_region(np.zeros((6, 8), np.float32), 32, 24) is None


def test_the_hot_region_of_a_picture_smaller_than_the_map_holds_a_pixel():
    heatmap = np.zeros((8, 8), np.float32)
    heatmap[0, 0] = 1
    assert rendering.hot_region(heatmap, width=1, height=1) == rendering.Box(0, 0, 1, 1)


def test_an_overlay_of_strength_0_is_the_picture():
    picture = Image.fromarray(np.arange(24, dtype=np.uint8).reshape(2, 4, 3))
    drawn = rendering.overlay(picture, np.ones((1, 1), np.float32), 0.0, "viridis")
    np.testing.assert_array_equal(np.asarray(drawn), np.asarray(picture))


def test_an_overlay_of_strength_1_is_the_map_in_colours():
    picture = Image.new("RGB", (4, 2), "white")
    drawn = np.asarray(rendering.overlay(picture, np.array([[0, 8]], np.float32), 1.0, "gray"))
    # 0, .25, .75 and 1 of 255, rounded.
    assert drawn[0, :, 0].tolist() == [0, 64, 191, 255]


def test_an_overlay_of_strength_one_half_is_the_mean():
    picture = Image.new("RGB", (1, 1), (200, 100, 0))
    drawn = np.asarray(rendering.overlay(picture, np.zeros((1, 1), np.float32), 0.5, "gray"))
    assert drawn[0, 0].tolist() == [100, 50, 0]


def test_a_grid_normalises_each_channel_on_its_own():
    activations = np.zeros((1, 2, 2), np.float32)
    activations[0, :, 0] = [0, 2]  # mean 1, deviation 1: 128 - 64 and 128 + 64
    activations[0, :, 1] = 5  # constant: the lowest colour
    grid = np.asarray(rendering.activation_grid(activations, "viridis"))
    # Cells of 1x2 are enlarged 24 times to 24x48; gaps of one pixel around.
    assert grid.shape == (1 + 24 + 1, 1 + 48 + 1 + 48 + 1)
    assert grid[1, [0, 1, 24, 25, 48, 49, 50, 97, 98]].tolist() == [255, 64, 64, 192, 192, 255, 0, 0, 255]
    assert set(grid[0]) == set(grid[-1]) == {255}


def test_a_grid_starts_a_new_row_after_16_channels():
    grid = rendering.activation_grid(np.zeros((48, 48, 17), np.float32), "viridis")
    assert grid.size == (16 * 49 + 1, 2 * 49 + 1)
    indices = np.asarray(grid)
    assert indices[50, 1] == 0
    assert indices[50, 50] == 255


def test_the_brightest_value_of_a_grid_is_not_the_colour_of_gaps():
    activations = np.zeros((10, 10, 1), np.float32)
    activations[0, 0] = 100
    grid = rendering.activation_grid(activations, "inferno")
    assert np.asarray(grid)[1, 1] == 254
    assert np.asarray(grid.convert("RGB"))[1, 1].tolist() == rendering.palette("inferno", 255)[-1].tolist()


def test_patterns_lie_8_a_row():
    patterns = np.full((9, 3, 5, 3), 7, np.uint8)
    grid = np.asarray(rendering.pattern_grid(patterns))
    assert grid.shape == (4 + 3 + 4 + 3 + 4, 4 + 8 * (5 + 4), 3)
    assert grid[4, 4].tolist() == grid[11, 4].tolist() == [7, 7, 7]
    assert grid[11, 4 + 5 + 4].tolist() == [255, 255, 255]


def test_npz_keeps_values_and_replaces_slashes():
    data = rendering.npz({"block/conv": np.array([1.5], np.float32)})
    with np.load(io.BytesIO(data)) as archive:
        assert list(archive) == ["block.conv"]
        assert archive["block.conv"].dtype == np.float32
        assert archive["block.conv"].tolist() == [1.5]


@pytest.mark.parametrize("size", [255, 256])
def test_palettes_have_the_size_asked_for_and_rising_brightness(size):
    palette = rendering.palette("inferno", size).astype(int)
    assert palette.shape == (size, 3)
    assert palette[0].sum() < palette[size // 2].sum() < palette[-1].sum()


@pytest.mark.parametrize("name", ["nope", "", "../x", "a" * 1000])
def test_colour_maps_that_do_not_exist_are_refused(name):
    with pytest.raises(UnknownColormapError, match="there is no colour map"):
        rendering.palette(name, 256)
