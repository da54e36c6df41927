"""The HTTP door: REST, the metrics, the OpenAPI document and the web page."""
