"""A small stand-in for tensorflow_model_server."""
