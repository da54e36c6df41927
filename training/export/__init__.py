"""From a Keras model to a SavedModel that keeps the contract, checked the way TensorFlow Serving loads it."""
