"""The gateway: classification and explanations over REST and gRPC, in front of a model server."""
