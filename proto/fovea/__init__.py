"""Messages of the gateway and the model card, and a client."""
