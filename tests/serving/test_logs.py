"""Lines of the log."""

import json
import logging

import pytest

from serving.logs import JsonFormatter


@pytest.mark.parametrize("value", [2**64, -(2**63) - 1, "\ud800", {1: b"\xff"}, float("nan"), object()])
def test_whatever_a_field_holds_becomes_one_line_of_json(value):
    record = logging.makeLogRecord({"name": "serving", "msg": "request\n\ud800", "fields": {"value": value}})
    line = JsonFormatter().format(record)
    assert "\n" not in line
    assert {"logger": "serving", "message": "request\n\ud800"}.items() <= json.loads(line).items()


def test_numbers_beyond_64_bits_are_kept():
    record = logging.makeLogRecord({"msg": "request", "fields": {"bytes_in": 10**30}})
    assert json.loads(JsonFormatter().format(record))["bytes_in"] == 10**30
