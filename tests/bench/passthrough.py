"""A bare pass-through, to compare with: Flask, gunicorn (gthread) and requests, nothing else."""

from __future__ import annotations

import os

import requests
from flask import Flask, Response, request
from requests.adapters import HTTPAdapter

UPSTREAM = os.environ["PASSTHROUGH_UPSTREAM"]

app = Flask(__name__)
session = requests.Session()
session.trust_env = False
session.mount("http://", HTTPAdapter(pool_maxsize=64))


@app.get("/healthz")
def health() -> dict[str, str]:
    return {"state": "ready"}


@app.post("/v1/chat/completions")
def relay() -> Response:
    answer = session.post(
        UPSTREAM + request.path,
        data=request.get_data(),
        headers={"Content-Type": "application/json"},
        stream=True,
    )
    return Response(
        answer.iter_content(chunk_size=None),
        answer.status_code,
        content_type=answer.headers["Content-Type"],
    )
