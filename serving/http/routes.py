"""The routes, one after the other; each only translates between HTTP and the core."""

from collections.abc import Callable, Iterable
from http import HTTPStatus
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
from flask import Response, current_app, g, jsonify, request, send_from_directory
from flask_openapi3 import OpenAPI, Schema, Tag
from fovea.v1.model_card_pb2 import ModelCard
from werkzeug.routing import BaseConverter

from serving import metrics, rendering
from serving.answers import Attribution, E, Explanations, HeatMap, LayerActivations, ServedModel
from serving.catalog import ModelStatus
from serving.contract import card as model_card
from serving.decoding import Picture
from serving.errors import InvalidArgumentError, ModelNotReadyError, OnePictureOnlyError
from serving.http import bodies, errors, headers, schemas
from serving.http.negotiation import HTML, JSON, NPZ, PNG, choose
from serving.inference import Vision
from serving.settings import Settings

PAGE = Path(__file__).parent.parent / "page"
_PREFIXES: tuple[tuple[str, type[schemas.ModelPath]], ...] = (
    ("/v1/models/<name:model>", schemas.ModelPath),
    ("/v1/models/<name:model>/versions/<name:version>", schemas.VersionPath),
    ("/v1/models/<name:model>/labels/<name:label>", schemas.LabelPath),
)
_ANSWER = Tag(name="answers", description="Classify pictures.")
_EXPLAIN = Tag(name="explanations", description="Show what a model looked at.")
_SERVED = Tag(name="models", description="What is served.")
_OPERATION = Tag(name="operation", description="Liveness, readiness, metrics.")

_BINARY = {"schema": {"type": "string", "format": "binary"}}
_JSON_BODY = {
    JSON: {
        "schema": {
            "type": "object",
            "required": ["instances"],
            "properties": {
                "instances": {
                    "type": "array",
                    "minItems": 1,
                    "items": {
                        "anyOf": [
                            {
                                "type": "object",
                                "required": ["b64"],
                                "properties": {"b64": {"type": "string", "contentEncoding": "base64"}},
                            },
                            {"type": "array", "description": "Pixels as nested lists [h][w][3] of 0..255."},
                        ]
                    },
                }
            },
        }
    }
}
_PICTURES_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "image/*": _BINARY,
            "application/octet-stream": _BINARY,
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": [bodies.FIELD],
                    "properties": {bodies.FIELD: {"type": "array", "items": _BINARY["schema"]}},
                }
            },
            **_JSON_BODY,
        },
    }
}
_INSTANCES_BODY = {"requestBody": {"required": True, "content": _JSON_BODY}}


def register(app: OpenAPI, vision: Vision, settings: Settings, stopping: Event) -> None:
    """Add all routes to an application.

    Args:
        app: the application.
        vision: the core.
        settings: limits of bodies.
        stopping: set once the process is about to end, which makes it not ready.
    """

    app.url_map.converters["name"] = _NameConverter

    def bind(view: Callable, path: type[schemas.ModelPath], works: bool) -> Callable:
        """Return a view that takes its path as the given class, answers for known models only, and waits its turn."""

        def bound(**arguments: Any) -> Response:
            ref = arguments["path"].ref()
            g.access.model = "unknown"
            vision.check(ref)
            g.access.model = ref.name
            if not works:
                return view(**arguments)
            with bodies.admitted(request, settings, vision.admission, g.deadline):
                return view(**arguments)

        bound.__name__, bound.__doc__ = view.__name__, view.__doc__
        bound.__annotations__ = {**view.__annotations__, "path": path}
        return bound

    def on_model(method: Callable, suffix: str, **options: Any) -> Callable[[Callable], Callable]:
        """Register a view for a model, for a version of it and for a label (as paths of three classes).

        What takes a picture as its body takes it by PUT too, which is how `curl -T` sends a file.
        """
        methods = [method, app.put] if options.get("openapi_extensions") is _PICTURES_BODY else [method]

        def register_view(view: Callable) -> Callable:
            for prefix, path in _PREFIXES:
                for register in methods:
                    endpoint = f"{view.__name__}:{path.__name__}:{register.__name__}"
                    bound = bind(view, path, works=options["tags"] != [_SERVED])
                    register(prefix + suffix, endpoint=endpoint, **options)(bound)
            return view

        return register_view

    def explanation(
        query: schemas.GradCamQuery | schemas.AttributionsQuery,
        answer: Callable[[list[Picture]], Explanations[E]],
    ) -> Response:
        """Answer with explanations in the form that the client asks for."""
        form = choose(request.accept_mimetypes, [JSON, PNG, NPZ])
        uploads = bodies.read(request, settings)
        if form == PNG:
            _check_one(uploads)
            rendering.palette(query.colormap or settings.colormap, 256)
        images = [item.picture for item in uploads]
        result = answer(images)
        _note(result.model)
        if form == PNG:
            legend = len(result.rows) > 1 if query.legend is None else query.legend
            drawn = vision.overlay(images[0], result.rows, query.alpha, query.colormap, query.box, legend)
            return Response(drawn, mimetype=PNG)
        if form == NPZ:
            return Response(_explanations_npz(result), mimetype=NPZ)
        return jsonify(model=result.model, explanations=_explanations(result, uploads))

    @on_model(
        app.post, ":predict", tags=[_ANSWER], openapi_extensions=_INSTANCES_BODY, responses={200: schemas.PredictBody}
    )
    def predict(path: schemas.ModelPath, query: schemas.NoQuery) -> Response:
        """Return the probabilities of all classes, as TensorFlow Serving does."""
        choose(request.accept_mimetypes, [JSON])
        uploads = bodies.read(request, settings)
        result = vision.predict(path.ref(), [item.picture for item in uploads], g.deadline)
        _note(result.model)
        return jsonify(predictions=result.probabilities)

    @on_model(
        app.post, ":classify", tags=[_ANSWER], openapi_extensions=_PICTURES_BODY, responses={200: schemas.ClassifyBody}
    )
    def classify(path: schemas.ModelPath, query: schemas.ClassifyQuery) -> Response:
        """Name the class of each picture, or read its text."""
        choose(request.accept_mimetypes, [JSON])
        uploads = bodies.read(request, settings)
        result = vision.classify(path.ref(), [item.picture for item in uploads], query.top_k, g.deadline)
        _note(result.model)
        return jsonify(model=result.model, classifications=_named(({**vars(row)} for row in result.rows), uploads))

    @on_model(
        app.post,
        ":explain",
        tags=[_EXPLAIN],
        openapi_extensions=_INSTANCES_BODY,
        responses={200: schemas.ExplainAnswer},
    )
    def explain(path: schemas.ModelPath, query: schemas.ExplainQuery) -> Response:
        """Explain the class of each picture by class-activation maps, as KServe's V1 protocol asks for it."""
        choose(request.accept_mimetypes, [JSON])
        uploads = bodies.read(request, settings)
        images = [item.picture for item in uploads]
        result = vision.heat_maps(path.ref(), images, query.targets(), query.layer, query.method, g.deadline)
        _note(result.model)
        return jsonify(explanations=_explanations(result, uploads))

    @on_model(
        app.post,
        "/explain/grad-cam",
        tags=[_EXPLAIN],
        openapi_extensions=_PICTURES_BODY,
        responses={200: _forms(app, schemas.GradCamAnswer, PNG, NPZ)},
    )
    def grad_cam(path: schemas.ModelPath, query: schemas.GradCamQuery) -> Response:
        """Show where each picture speaks for a class: maps as JSON or npz, or overlays as PNG (one picture).

        The arrays of an npz have a row for every explanation: heatmap, class_index, method, picture; probabilities
        have one for every picture.
        """

        def answer(images: list[Picture]) -> Explanations[HeatMap]:
            return vision.heat_maps(path.ref(), images, query.targets(), query.layer, query.method, g.deadline)

        return explanation(query, answer)

    @on_model(
        app.post,
        "/explain/attributions",
        tags=[_EXPLAIN],
        openapi_extensions=_PICTURES_BODY,
        responses={200: _forms(app, schemas.AttributionsAnswer, PNG, NPZ)},
    )
    def attributions(path: schemas.ModelPath, query: schemas.AttributionsQuery) -> Response:
        """Show what each pixel adds to a class's score, by integrated gradients: as JSON, npz, or PNG (one picture).

        An npz also has the attributions themselves, [n, H, W, 3], score_change and completeness_error.
        """

        def answer(images: list[Picture]) -> Explanations[Attribution]:
            return vision.attributions(path.ref(), images, query.targets(), g.deadline)

        return explanation(query, answer)

    @on_model(
        app.post,
        "/explain/activations",
        tags=[_EXPLAIN],
        openapi_extensions=_PICTURES_BODY,
        responses={200: _forms(app, schemas.ActivationsAnswer, PNG, NPZ)},
    )
    def activations(path: schemas.ModelPath, query: schemas.ActivationsQuery) -> Response:
        """Show what layers make of each picture: summaries as JSON, a grid of channels as PNG, float32 as npz.

        The arrays of an npz are [N, h, w, channels], named like the layers, with `.` for `/`.
        """
        form = choose(request.accept_mimetypes, [JSON, PNG, NPZ])
        uploads = bodies.read(request, settings)
        if form == PNG:
            _check_one(uploads)
            if len(set(query.layer)) > 1:
                raise InvalidArgumentError("a PNG shows one layer; ask for one, or for JSON or npz")
            rendering.palette(query.colormap or settings.colormap, 255)
        values = form != JSON or bool(query.channels)
        images = [item.picture for item in uploads]
        result = vision.activations(
            path.ref(), images, query.layer, query.channels, values, g.deadline, first_only=form == PNG
        )
        _note(result.model)
        if form == PNG:
            return Response(vision.activation_grid(result.pictures[0][0], query.colormap), mimetype=PNG)
        if form == NPZ:
            return Response(_activations_npz(result.pictures), mimetype=NPZ)
        rows = ({"layers": [_layer(item, query.channels) for item in layers]} for layers in result.pictures)
        return jsonify(model=result.model, pictures=_named(rows, uploads))

    @on_model(app.get, "/explain/filters", tags=[_EXPLAIN], responses={200: _forms(app, None, PNG, NPZ)})
    def filters(path: schemas.ModelPath, query: schemas.FiltersQuery) -> Response:
        """Draw the patterns that filters of a convolution respond to, as a PNG grid or npz (patterns, filters)."""
        form = choose(request.accept_mimetypes, [PNG, NPZ])
        result = vision.filter_patterns(path.ref(), query.layer, query.filter, g.deadline)
        _note(result.model)
        if form == NPZ:
            arrays = {"patterns": result.patterns, "filters": np.array(result.filters, np.int32)}
            return Response(rendering.npz(arrays), mimetype=NPZ)
        return Response(vision.pattern_grid(result), mimetype=PNG)

    @app.get("/v1/models", tags=[_SERVED], responses={200: schemas.ModelsBody})
    def models(query: schemas.NoQuery) -> Response:
        """List the models: versions, labels, classes, layers."""
        return jsonify(models=[_model(status) for status in vision.list_models(g.deadline)])

    @on_model(app.get, "", tags=[_SERVED], responses={200: schemas.ModelBody})
    def model(path: schemas.ModelPath, query: schemas.NoQuery) -> Response:
        """Describe a model; 503 when no version of it is ready.

        The fields are those of TensorFlow Serving's model status, of KServe's V1 protocol, and our own.
        """
        status = vision.describe(path.ref(), g.deadline)
        if not status.ready:
            response = errors.respond(ModelNotReadyError(f"model {status.name!r} has no version that is ready"))
            response.set_data(current_app.json.dumps({**_model(status), **response.get_json()}))
            return response
        return jsonify(_model(status))

    @on_model(
        app.get, "/metadata", tags=[_SERVED], responses={200: {"content": {JSON: {"schema": {"type": "object"}}}}}
    )
    def metadata(path: schemas.ModelPath, query: schemas.NoQuery) -> Response:
        """Return the signatures, as TensorFlow Serving does, and the model card."""
        served, signature_map = vision.signatures(path.ref(), g.deadline)
        g.access.version = served.version
        return jsonify(
            model_spec={"name": served.name, "signature_name": "", "version": str(served.version)},
            metadata={"signature_def": signature_map},
            model_card=model_card.to_dict(served.card),
        )

    @app.get("/healthz", tags=[_OPERATION], responses={200: schemas.AliveBody})
    def healthz() -> Response:
        """Say that the process is alive; asks nobody else."""
        return jsonify(status="alive")

    @app.get("/readyz", tags=[_OPERATION], responses={200: schemas.ReadyBody, 503: schemas.ReadyBody})
    def readyz() -> tuple[Response, int]:
        """Say whether every configured model answers."""
        found = vision.readiness()
        ready = not stopping.is_set() and all(code == "OK" for code in found.values())
        if not ready:
            g.access.code = ModelNotReadyError.code
        return jsonify(ready=ready, models=found), HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE

    @app.get(
        "/metrics", tags=[_OPERATION], responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}
    )
    def expose_metrics() -> Response:
        """Return the metrics for Prometheus; asks the model server for every model, as readiness does."""
        vision.readiness()
        return Response(metrics.expose(), content_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/openapi.json", doc_ui=False)
    def openapi() -> Response:
        """Return the OpenAPI document."""
        return jsonify(app.api_doc)

    @app.get("/", doc_ui=False)
    def index() -> Response:
        """Show the web page to browsers; tell everyone else that the process is alive (KServe V1)."""
        if choose(request.accept_mimetypes, [JSON, HTML]) == HTML and (PAGE / "index.html").is_file():
            response = send_from_directory(PAGE, "index.html")
            headers.allow_page(response)
            return response
        return jsonify(status="alive")

    @app.get("/page/<path:name>", doc_ui=False)
    def page(path: schemas.PagePath) -> Response:
        """Return a file of the web page."""
        return send_from_directory(PAGE, path.name)


class _NameConverter(BaseConverter):
    """A part of a path up to the colon that parts a model from what is to be done with it."""

    regex = "[^/:]+"


def _forms(app: OpenAPI, json_model: type[schemas.Answer] | None, *media_types: str) -> dict[str, Any]:
    """Describe an answer that comes in several media types, which `responses` cannot do for a class alone."""
    content: dict[str, Any] = dict.fromkeys(media_types, _BINARY)
    if json_model is not None:
        schema = json_model.model_json_schema(ref_template="#/components/schemas/{model}")
        app.components_schemas |= {name: Schema(**part) for name, part in schema.pop("$defs", {}).items()}
        content[JSON] = {"schema": schema}
    return {"content": content}


def _note(model: ServedModel) -> None:
    g.access.version = model.version


def _check_one(uploads: list[bodies.Upload]) -> None:
    if len(uploads) != 1:
        raise OnePictureOnlyError(f"a PNG shows one picture, the request holds {len(uploads)}; ask for JSON or npz")


def _named(rows: Iterable[dict[str, Any]], uploads: list[bodies.Upload]) -> list[dict[str, Any]]:
    return [
        row if item.filename is None else {**row, "filename": item.filename}
        for row, item in zip(rows, uploads, strict=True)
    ]


def _explanations(result: Explanations[E], uploads: list[bodies.Upload]) -> list[dict[str, Any]]:
    rows = [{**vars(row), "normalized": rendering.normalize(row.heatmap)} for row in result.rows]
    for row in rows:
        row.pop("attributions", None)
        if row["position"] is None:
            del row["position"]
    return _named(rows, [uploads[row.picture] for row in result.rows])


def _explanations_npz(result: Explanations[E]) -> bytes:
    rows = result.rows
    arrays = {
        "heatmap": np.stack([row.heatmap for row in rows]),
        "class_index": np.array([row.class_index for row in rows], np.int32),
        "method": np.array([row.method for row in rows]),
        "picture": np.array([row.picture for row in rows], np.int32),
        "probabilities": result.probabilities,
        "class_names": np.array(result.class_names),
    }
    if result.probabilities.ndim == 3:
        arrays["position"] = np.array([row.position for row in rows], np.int32)
    attributions = [row for row in rows if isinstance(row, Attribution)]
    if attributions:
        arrays["attributions"] = np.stack([row.attributions for row in attributions])
        arrays["score_change"] = np.array([row.score_change for row in attributions], np.float32)
        arrays["completeness_error"] = np.array([row.completeness_error for row in attributions], np.float32)
    return rendering.npz(arrays)


def _activations_npz(pictures: list[list[LayerActivations]]) -> bytes:
    return rendering.npz(
        {layer[0].layer: np.stack([item.values for item in layer]) for layer in zip(*pictures, strict=True)}
    )


def _layer(item: LayerActivations, channels: list[int]) -> dict[str, Any]:
    row = {name: value for name, value in vars(item).items() if name != "values"}
    if item.values is not None:
        row |= {"channels": channels, "activations": np.ascontiguousarray(item.values)}
    return row


def _model(status: ModelStatus) -> dict[str, Any]:
    card = status.served.card if status.served else ModelCard()
    details = model_card.to_dict(card)
    return {
        "name": status.name,
        "ready": status.ready,
        "model_version_status": [
            {
                "version": str(item.version),
                "state": item.state,
                "status": {"error_code": item.error_code, "error_message": item.error_message},
            }
            for item in status.versions
        ],
        "version": status.served.version if status.served else None,
        "labels": status.labels,
        "classes": list(card.class_names),
        "positions": card.positions or None,
        "layers": details["layers"],
        "grad_cam_layer": card.grad_cam_layer or None,
        "integrated_gradients": card.integrated_gradients,
        "input_height": card.input_height or None,
        "input_width": card.input_width or None,
    }
