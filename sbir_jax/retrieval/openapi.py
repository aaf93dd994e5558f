"""The interface of the server as an OpenAPI 3.1 document; a test holds the server to it."""

from __future__ import annotations

from typing import Any

from sbir_jax import __version__
from sbir_jax.retrieval.requests import COORDINATE, LINE, LINES, Limits

IMAGES = ("image/png", "image/jpeg", "image/webp", "image/gif", "image/bmp")


def description(limits: Limits) -> dict[str, Any]:
    """The document of a server with these limits."""
    id_parameter = {
        "name": "id",
        "in": "path",
        "required": True,
        "description": "of a photo, as results give it",
        "schema": {"type": "string"},
    }
    whole = {"type": "integer", "minimum": 1, "maximum": limits.top, "default": 20}
    top = {"name": "top", "in": "query", "description": "photos asked for", "schema": whole}
    side = {
        "name": "as",
        "in": "query",
        "description": "what an image is; drawings are sketches",
        "schema": {"enum": ["sketch", "photo"], "default": "sketch"},
    }
    results = {"200": _json("Photos, best first", _ref("Results"))}
    binary = {"schema": {"type": "string", "contentMediaType": "image/*"}}
    drawing = {"application/json": {"schema": _ref("Drawing")}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Sketch-based image retrieval",
            "version": __version__,
            "description": f"At most {limits.rate:g} queries a second of one address.",
        },
        "paths": {
            "/api/search": {
                "post": {
                    "summary": "Photos nearest to a drawing or an image",
                    "parameters": [side, top],
                    "requestBody": {
                        "required": True,
                        "description": f"At most {limits.body_bytes} bytes and, of an image, "
                        f"{limits.pixels} pixels",
                        "content": drawing | dict.fromkeys(IMAGES, binary),
                    },
                    "responses": results | _errors(400, 408, 413, 415, 422, 429, 503),
                }
            },
            "/api/photos/{id}/similar": {
                "get": {
                    "summary": "Photos nearest to a photo of the index",
                    "parameters": [id_parameter, top],
                    "responses": results | _errors(404, 422, 429, 503),
                }
            },
            "/api/photos/{id}/thumbnail": {
                "get": {
                    "summary": "A small JPEG of a photo",
                    "parameters": [id_parameter],
                    "responses": {
                        "200": {"description": "The picture", "content": {"image/jpeg": binary}}
                    }
                    | _errors(404),
                }
            },
            "/api/health": {
                "get": {
                    "summary": "What is served; answers once everything is ready",
                    "responses": {"200": _json("Ready", _ref("Health"))},
                }
            },
            "/api/metrics": {
                "get": {
                    "summary": "Counters for Prometheus",
                    "responses": {
                        "200": {
                            "description": "Lines of text",
                            "content": {"text/plain": {"schema": {"type": "string"}}},
                        }
                    },
                }
            },
            "/api/openapi.json": {
                "get": {
                    "summary": "This document",
                    "responses": {"200": _json("OpenAPI 3.1", {"type": "object"})},
                }
            },
        },
        "components": {"schemas": _schemas(limits, whole)},
    }


def _schemas(limits: Limits, whole: dict[str, Any]) -> dict[str, Any]:
    axis = {
        "type": "array",
        "minItems": 1,
        "items": {"type": "number", "minimum": -COORDINATE, "maximum": COORDINATE},
    }
    return {
        "Drawing": _object(
            {
                "strokes": {
                    "type": "array",
                    "minItems": 1,
                    "maxItems": limits.strokes,
                    "description": "each [[x, ...], [y, ...]], x to the right and y down, in any "
                    f"unit, of equal lengths; at most {limits.points} points in all",
                    "items": {"type": "array", "minItems": 2, "maxItems": 2, "items": axis},
                },
                "line": {
                    "type": "number",
                    "minimum": LINES[0],
                    "maximum": LINES[1],
                    "default": LINE,
                    "description": "width of the lines, as a share of the side",
                },
                "top": whole,
            },
            required=["strokes"],
        ),
        "Results": _object(
            {
                "results": {"type": "array", "items": _ref("Result")},
                "milliseconds": {"type": "number", "minimum": 0},
            }
        ),
        "Result": _object(
            {
                "id": {"type": "string"},
                "path": {"type": "string", "description": "below the directory it was found in"},
                "similarity": {"type": "number", "description": "cosine"},
                "thumbnail": {"type": "string", "description": "address of a small JPEG"},
            }
        ),
        "Health": _object(
            {
                "status": {"const": "ready"},
                "photos": {"type": "integer", "minimum": 1},
                "dim": {"type": "integer", "minimum": 1},
                "line": {"type": "number"},
                "version": {"type": "string"},
            }
        ),
        "Error": _object({"error": {"type": "string"}}),
    }


def _object(properties: dict[str, Any], required: list[str] | None = None) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties) if required is None else required,
        "additionalProperties": False,
    }


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _json(meaning: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": meaning, "content": {"application/json": {"schema": schema}}}


_MEANINGS = {
    400: "Not JSON, or an unknown host",
    404: "No such photo",
    408: "The body did not come in time",
    413: "Too large",
    415: "Neither JSON nor an image",
    422: "Understood, but not possible; the error says what is expected",
    429: "Too many queries from this address",
    503: "Too many queries are waiting",
}


def _errors(*statuses: int) -> dict[str, Any]:
    return {str(status): _json(_MEANINGS[status], _ref("Error")) for status in statuses}
