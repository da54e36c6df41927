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

    def shuffle_variables(self, random: np.random.Generator) -> None:
        """Put the values of every variable that a model computes with into another order."""
        handles = [node for node in self._graph.get_operations() if node.type == "VarHandleOp"]
        with self._graph.as_default():
            checks = [tf.raw_ops.VarIsInitializedOp(resource=node.outputs[0]) for node in handles]
        # A SavedModel also names variables that no signature uses.
        handles = [node for node, used in zip(handles, self._session.run(checks), strict=True) if used]
        # One call for all reads and one for all assignments: after every change of the graph the session prepares
        # all of it anew.
        with self._graph.as_default():
            reads = [
                tf.raw_ops.ReadVariableOp(resource=node.outputs[0], dtype=tf.as_dtype(node.get_attr("dtype")))
                for node in handles
            ]
            feeds = [tf.compat.v1.placeholder(read.dtype) for read in reads]
            writes = [
                tf.raw_ops.AssignVariableOp(resource=node.outputs[0], value=feed)
                for node, feed in zip(handles, feeds, strict=True)
            ]
        values = self._session.run(reads)
        shuffled = [random.permuted(value.ravel()).reshape(value.shape) for value in values]
        self._session.run(writes, dict(zip(feeds, shuffled, strict=True)))

    def close(self) -> None:
        """Free the session."""
        self._session.close()
