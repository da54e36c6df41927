"""What training, model server and gateway agree on: the resize, the signatures, the model card."""
