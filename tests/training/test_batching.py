"""Batching parameter files."""

from pathlib import Path

import pytest

from training import batching

GOOD = "max_batch_size { value: 64 } allowed_batch_sizes: 8 allowed_batch_sizes: 64 num_batch_threads { value: 2 }"


def test_good_files_have_no_mistakes():
    manifest = Path(__file__).parents[2] / "k8s/base/model-server/batching.config"
    for text in (GOOD, "", "max_batch_size { value: 100 }", manifest.read_text()):
        assert list(batching.mistakes(text)) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("max_batch_size: 64", "no BatchingParameters"),
        ("max_batch { value: 64 }", 'no field named "max_batch"'),
        (GOOD.replace("allowed_batch_sizes: 64", "allowed_batch_sizes: 32"), "must be max_batch_size, 64"),
        ("allowed_batch_sizes: 64", "must be max_batch_size, 1000"),
        (GOOD.replace("allowed_batch_sizes: 8", "allowed_batch_sizes: 80"), "must rise"),
        ("max_batch_size { value: 32 }", "it must be at least 64"),
        ("max_batch_size { value: 0 }", "it must be at least 1"),
        ("num_batch_threads { value: 0 }", "it must be at least 1"),
        ("batch_timeout_micros { value: -1 }", "it must be at least 0"),
    ],
)
def test_each_mistake_is_one_sentence(text, words):
    (sentence,) = batching.mistakes(text)
    assert words in sentence
    assert "\n" not in sentence


def test_splitting_large_requests_allows_small_batches():
    text = "max_batch_size { value: 32 } enable_large_batch_splitting { value: true }"
    assert list(batching.mistakes(text)) == []
