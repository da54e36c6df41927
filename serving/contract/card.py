"""The model card as the JSON that a SavedModel carries."""

from fovea.v1.model_card_pb2 import ModelCard
from google.protobuf import json_format


def to_json(card: ModelCard) -> str:
    """Write a card as JSON with the field names of the proto file, fields without a value included."""
    return json_format.MessageToJson(
        card, preserving_proto_field_name=True, always_print_fields_with_no_presence=True, indent=None
    )


def to_dict(card: ModelCard) -> dict[str, object]:
    """Return what `to_json` writes, as a dictionary."""
    return json_format.MessageToDict(card, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


def from_json(text: str | bytes) -> ModelCard:
    """Read a card; fields that this version does not know are left out.

    Raises:
        ValueError: the text is not a model card.
    """
    try:
        return json_format.Parse(text, ModelCard(), ignore_unknown_fields=True)
    except json_format.ParseError as error:
        raise ValueError(f"not a model card: {error}") from error
