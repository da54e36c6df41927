"""A SavedModel in a session of its own, as TensorFlow Serving's session loader makes it."""

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

Arrays = dict[str, np.ndarray]


class Session:
    """A loaded SavedModel; to be closed when done."""

    def __init__(self, folder: str, rewrite: bool = True):
        """Load a model.

        Args:
            folder: the SavedModel.
            rewrite: let TensorFlow rewrite the graph of a signature for speed when it is first called.
        """
        self._graph = tf.Graph()
        options = tf.compat.v1.ConfigProto()
        options.graph_options.rewrite_options.disable_meta_optimizer = not rewrite
        self._session = tf.compat.v1.Session(graph=self._graph, config=options)
        with self._graph.as_default():
            meta = tf.compat.v1.saved_model.loader.load(self._session, [tf.saved_model.SERVING], folder)
        self.signatures = meta.signature_def

    def run(self, name: str, inputs: Mapping[str, np.ndarray]) -> Arrays:
        """Run a signature; inputs and outputs are named as in the signature."""
        signature = self.signatures[name]
        fetches = {key: info.name for key, info in signature.outputs.items()}
        return self._session.run(fetches, {signature.inputs[key].name: value for key, value in inputs.items()})

    def close(self) -> None:
        """Free the session."""
        self._session.close()
