"""The server answers what search finds, refuses what is too much, and never fails on a body."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from data_prep_trees import encoded, photo, sketch
from front_door import error_line, launch
from served import make_index

from sbir_jax import stopwatch
from sbir_jax.data.strokes import rasterise

pytest.importorskip("starlette", reason="the extra `serve` is not installed")
pytest.importorskip("httpx2", reason="starlette's test client needs httpx2")

from starlette.testclient import TestClient  # noqa: E402

from sbir_jax.retrieval.app import Server  # noqa: E402
from sbir_jax.retrieval.guard import HEADERS, Rate  # noqa: E402
from sbir_jax.retrieval.requests import Limits  # noqa: E402

STROKES = [[[10, 200, 90], [20, 30, 220]], [[5], [7]]]
HOSTS = ("testserver",)


@pytest.fixture(scope="module")
def indexed(finished, tmp_path_factory):
    return make_index(finished[1], tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def server(indexed):
    return Server(*indexed, limits=Limits(rate=0, strokes=50, points=500), hosts=HOSTS)


@pytest.fixture(scope="module")
def client(server):
    with TestClient(server.app, raise_server_exceptions=True) as client:
        yield client


def found(answer) -> list[tuple[str, float]]:
    assert answer.status_code == 200, answer.text
    return [(result["path"], result["similarity"]) for result in answer.json()["results"]]


def expected(indexed, vectors, top: int) -> list[tuple[str, float]]:
    (matches,) = indexed[0].search(vectors, top)
    return [(match.item.path, pytest.approx(match.similarity, abs=1e-5)) for match in matches]


def test_drawn_strokes_find_what_search_finds_for_them(indexed, client):
    """The strokes are drawn by the function that prepares stroke datasets, with the line asked."""
    strokes = [np.array(stroke, float).T for stroke in STROKES]
    for line in (None, 0.03):
        body = {"strokes": STROKES, "top": 7} | ({"line": line} if line else {})
        pixels = rasterise(strokes, line=line or 0.012)
        answer = client.post("/api/search", json=body)
        assert found(answer) == expected(indexed, indexed[1].sketches([pixels]), 7)


def test_images_find_what_search_finds_for_them(indexed, client):
    """As a sketch by default, or as a photo, whatever the format."""
    data = encoded(sketch(3), "PNG")
    answer = client.post("/api/search?top=5", content=data, headers={"content-type": "image/png"})
    assert found(answer) == expected(indexed, indexed[1].sketches([data]), 5)
    data = encoded(photo(3), "JPEG")
    headers = {"content-type": "image/jpeg"}
    answer = client.post("/api/search?as=photo&top=5", content=data, headers=headers)
    assert found(answer) == expected(indexed, indexed[1].photos([data]), 5)


def test_more_like_this_starts_with_the_photo_itself(indexed, client):
    """Similar photos of every third photo; their thumbnails are those of the index."""
    index, _ = indexed
    for item in index.items[::3]:
        results = client.get(f"/api/photos/{item.id}/similar?top=4").json()["results"]
        assert len(results) == 4 and results[0]["id"] == item.id
        thumbnail = client.get(results[0]["thumbnail"])
        assert thumbnail.headers["content-type"] == "image/jpeg"
        assert thumbnail.content == index.thumbnail(item.id)


def test_the_page_loads_nothing_from_elsewhere(client):
    """No address outside the server in any file, and the browser is told to load none."""
    page = client.get("/")
    for file in (page, client.get("/page.css"), client.get("/page.js")):
        assert file.status_code == 200
        assert not re.search(r"https?:|//\w+\.|@import|<script>|style=", file.text)
    assert "default-src 'none'" in page.headers["content-security-policy"]
    for link in re.findall(r'(?:href|src)="(/[^"]*)"', page.text):
        assert client.get(link).status_code == 200


def test_security_headers_are_on_every_answer(client):
    """Of pages, answers, errors and unknown addresses alike; no header names the software."""
    for answer in (
        client.get("/"),
        client.get("/api/health"),
        client.get("/nowhere"),
        client.post("/api/search", content=b"x"),
        client.get("/", headers={"host": "evil.example"}),
    ):
        for name, value in HEADERS.items():
            assert answer.headers[name] == value
        assert "server" not in answer.headers


def test_another_host_name_is_refused(client):
    """A page elsewhere that points its own name here (DNS rebinding) gets nothing."""
    for host in ("evil.example", "testserver.evil.example", ""):
        answer = client.get("/api/health", headers={"host": host})
        assert (answer.status_code, answer.json()) == (400, {"error": "unknown host"})
    assert client.get("/api/health", headers={"host": "TESTSERVER:80"}).status_code == 200


@pytest.mark.parametrize(
    "id", ["..%2F..%2Fmanifest", "....//manifest", "%00", "a/b", "manifest.json", "é" * 50]
)
def test_no_name_from_a_client_reaches_the_file_system(client, id, monkeypatch):
    """Whatever stands for a photo, it is looked up among the ids of the index and nowhere else."""
    from sbir_jax.retrieval import index as module

    monkeypatch.setattr(module, "thumbnail_file", lambda *_: pytest.fail("a path was made"))
    for what in ("thumbnail", "similar"):
        answer = client.get(f"/api/photos/{id}/{what}")
        assert answer.status_code == 404 and answer.headers["content-type"] == "application/json"


# Limits


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"{", 400, "not JSON"),
        (b'{"strokes": [[[NaN], [1]]]}', 400, "not JSON"),
        (b"[" * 100_000, 400, "not JSON"),
        (b"\xff\xfe", 400, "not JSON"),
        (b"[]", 422, 'expected an object with "strokes"'),
        (b'{"strokes": []}', 422, "a stroke in it"),
        (b'{"strokes": [[[1, 2], [3]]]}', 422, "stroke 0: expected [[x, ...], [y, ...]]"),
        (b'{"strokes": [[[1], [3]], [[], []]]}', 422, "stroke 1: expected"),
        (b'{"strokes": [[["1"], [3]]]}', 422, "stroke 0: expected numbers"),
        (b'{"strokes": [[[true], [3]]]}', 422, "stroke 0: expected numbers"),
        (b'{"strokes": [[[1e999], [3]]]}', 422, "stroke 0: expected numbers"),
        (b'{"strokes": [[[1' + b"0" * 4000 + b"], [3]]]}", 422, "stroke 0: expected numbers"),
        (b'{"strokes": [[[1], [3]]], "top": 0}', 422, "top: expected a whole number"),
        (b'{"strokes": [[[1], [3]]], "top": 101}', 422, "from 1 to 100"),
        (b'{"strokes": [[[1], [3]]], "top": 2.5}', 422, "top: expected a whole number"),
        (b'{"strokes": [[[1], [3]]], "line": 1}', 422, "line: expected a number"),
        (b'{"strokes": [[[1], [3]]], "file": "/etc/passwd"}', 422, "unknown 'file'"),
    ],
)
def test_a_body_that_cannot_be_searched_says_why(client, body, status, words):
    """One line that names what is wrong and what is expected."""
    headers = {"content-type": "application/json"}
    answer = client.post("/api/search", content=body, headers=headers)
    assert answer.status_code == status and words in answer.json()["error"]


def test_drawings_and_images_that_are_too_large_are_refused(indexed, client):
    """Strokes, points, bytes (announced or not) and pixels, all before they are worked on."""
    one = [[1.0], [1.0]]
    many, long = [one] * 51, [[[1.0] * 501, [1.0] * 501]]
    for strokes, words in ((many, "51 strokes; at most 50"), (long, "more than 500 points")):
        answer = client.post("/api/search", json={"strokes": strokes})
        assert answer.status_code == 413 and words in answer.json()["error"]
    big = (b"0" * 65536 for _ in range(100))
    answer = client.post("/api/search", content=big, headers={"content-type": "image/png"})
    assert answer.status_code == 413 and "bytes" in answer.json()["error"]
    wide = encoded(photo(1).resize((5000, 4000)), "PNG", compress_level=1)
    small = Limits(rate=0, body_bytes=1 << 30)
    with TestClient(Server(*indexed, limits=small, hosts=HOSTS).app) as roomy:
        answer = roomy.post("/api/search", content=wide, headers={"content-type": "image/png"})
    assert answer.status_code == 413 and "5000 x 4000 pixels" in answer.json()["error"]


def test_images_that_are_none_are_refused(client):
    """Wrong types, wrong content, and what is asked of it."""
    png = {"content-type": "image/png"}
    for content, headers, status, words, query in (
        (b"x", {"content-type": "text/plain"}, 415, "expected one of application/json", ""),
        (b"x", png, 422, "the image is not an image", ""),
        (b"", png, 422, "the image is empty", ""),
        (encoded(photo(1), "PNG")[:90], png, 422, "damaged or truncated", ""),
        (encoded(photo(1), "PNG"), png, 422, "as: expected sketch or photo", "?as=dog"),
        (encoded(photo(1), "PNG"), png, 422, "top: expected", "?top=many"),
    ):
        answer = client.post(f"/api/search{query}", content=content, headers=headers)
        assert answer.status_code == status and words in answer.json()["error"], answer.text


def test_a_rate_is_two_seconds_at_once_and_then_so_many_a_second():
    """By hand, with a clock of its own: 4 at once at 2 a second, one more each half second."""
    now = [0.0]
    rate = Rate(2, clock=lambda: now[0])
    assert [rate.allows("a") for _ in range(5)] == [True] * 4 + [False]
    assert rate.allows("b")
    now[0] = 0.5
    assert [rate.allows("a") for _ in range(2)] == [True, False]
    now[0] = 100.0
    assert [rate.allows("a") for _ in range(5)] == [True] * 4 + [False]


def test_too_many_queries_are_told_to_wait(indexed):
    """Of one address 429, of everybody 503, both with Retry-After; the others are answered."""
    server = Server(*indexed, limits=Limits(rate=0.5, waiting=1), hosts=HOSTS)
    with TestClient(server.app) as client:
        answers = [client.post("/api/search", json={"strokes": STROKES}) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 429, 429]
        assert answers[-1].headers["retry-after"] == "1"
        assert client.get("/api/health").status_code == 200  # looking costs nothing
    server = Server(*indexed, limits=Limits(rate=0, waiting=1), hosts=HOSTS)
    holding, inside = threading.Event(), threading.Event()
    answer_all = server.engine._answer

    def slow(queries):
        inside.set()
        holding.wait(20)
        return answer_all(queries)

    with TestClient(server.app) as client, ThreadPoolExecutor(1) as pool:
        server.engine._answer = slow
        first = pool.submit(client.post, "/api/search", json={"strokes": STROKES})
        assert inside.wait(20)
        second = client.post("/api/search", json={"strokes": STROKES})
        holding.set()
        assert first.result().status_code == 200
    assert second.status_code == 503 and second.headers["retry-after"] == "1"


def test_a_body_that_does_not_come_is_given_up(indexed):
    """Half a body and then silence: 408 after the time that a body may take."""
    server = Server(*indexed, limits=Limits(body_seconds=0.05), hosts=HOSTS)
    headers = [(b"host", b"testserver"), (b"content-type", b"application/json")]
    scope = {
        "type": "http", "method": "POST", "path": "/api/search", "headers": headers,
        "query_string": b"", "client": ("127.0.0.1", 1), "root_path": "", "scheme": "http",
    }  # fmt: skip
    sent = []

    async def receive():
        if not sent:
            sent.append("half")
            return {"type": "http.request", "body": b'{"strokes"', "more_body": True}
        await asyncio.sleep(60)

    async def send(message):
        sent.append(message)

    asyncio.run(server.app(scope, receive, send))
    assert sent[1]["status"] == 408


# Under load


def test_nothing_is_compiled_after_the_start_and_queries_go_together(indexed, server, client):
    """40 queries from 10 threads, of all kinds: no compilation, fewer batches than queries."""
    client.post("/api/search", json={"strokes": STROKES})
    compiled = stopwatch._compiling["seconds"]
    batches, queries = server.engine.batches, server.engine.queries
    item = indexed[0].items[4]
    image = encoded(photo(5), "PNG")

    def ask(i: int):
        if i % 3 == 0:
            return client.post("/api/search", json={"strokes": STROKES, "top": 1 + i})
        if i % 3 == 1:
            return client.get(f"/api/photos/{item.id}/similar")
        headers = {"content-type": "image/png"}
        return client.post("/api/search?as=photo", content=image, headers=headers)

    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(ask, range(40)))
    assert all(answer.status_code == 200 for answer in answers)
    assert server.engine.queries - queries == 40
    assert server.engine.batches - batches < 40
    assert stopwatch._compiling["seconds"] == compiled
    alone = found(ask(2))
    for i in range(2, 40, 3):  # a query's answer does not depend on its batch
        assert found(answers[i]) == [(path, pytest.approx(s, abs=1e-5)) for path, s in alone]


def test_metrics_count_what_was_asked(indexed):
    """Answers by route and status, and the histogram's total, after three queries and an error."""
    with TestClient(Server(*indexed, limits=Limits(rate=0), hosts=HOSTS).app) as client:
        for _ in range(3):
            client.post("/api/search", json={"strokes": STROKES})
        client.post("/api/search", json={})
        text = client.get("/api/metrics").text
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert lines['sbir_requests_total{route="search",status="200"}'] == "3"
    assert lines['sbir_requests_total{route="search",status="422"}'] == "1"
    assert lines['sbir_request_seconds_bucket{route="search",le="+Inf"}'] == "4"
    assert lines["sbir_queries_total"] == "3"


def test_a_bug_is_an_answer_without_details(indexed, caplog):
    """What goes wrong inside is logged here and told there as an error of the server."""
    server = Server(*indexed, limits=Limits(), hosts=HOSTS)
    with TestClient(server.app) as client:
        server.engine._answer = lambda queries: 1 / 0
        answer = client.post("/api/search", json={"strokes": STROKES})
        assert (answer.status_code, answer.json()) == (500, {"error": "an error of the server"})
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "ZeroDivisionError" in caplog.text
        del server.engine._answer
        assert client.post("/api/search", json={"strokes": STROKES}).status_code == 200


# The description


def test_the_openapi_description_is_of_these_routes(server, client):
    """Every route of the interface is described, with its method, and nothing else is."""
    paths = client.get("/api/openapi.json").json()["paths"]
    described = {(path, method.upper()) for path, of in paths.items() for method in of}
    routes = {
        (route.path, method)
        for route in server.app.routes
        for method in route.methods - {"HEAD"}
        if route.path.startswith("/api/")
    }
    assert described == routes


def test_answers_are_as_the_description_says(indexed, client):
    """Every kind of answer, good or bad, is described and fits its schema."""
    jsonschema = pytest.importorskip("jsonschema")
    document = client.get("/api/openapi.json").json()
    id = indexed[0].items[0].id
    drawn = {"json": {"strokes": STROKES}}
    png = {"headers": {"content-type": "image/png"}}
    for method, path, route, options in (
        ("get", "/api/health", "/api/health", {}),
        ("get", "/api/openapi.json", "/api/openapi.json", {}),
        ("post", "/api/search", "/api/search", drawn),
        ("post", "/api/search", "/api/search", {"json": {}}),
        ("post", "/api/search", "/api/search", {"content": b"{"} | png),
        ("post", "/api/search", "/api/search", {"content": b"{"}),
        ("get", f"/api/photos/{id}/similar", "/api/photos/{id}/similar", {}),
        ("get", "/api/photos/none/similar", "/api/photos/{id}/similar", {}),
        ("get", "/api/photos/none/thumbnail", "/api/photos/{id}/thumbnail", {}),
    ):
        answer = getattr(client, method)(path, **options)
        described = document["paths"][route][method]["responses"][str(answer.status_code)]
        schema = described["content"]["application/json"]["schema"]
        jsonschema.validate(answer.json(), schema | {"components": document["components"]})
    schema = document["components"]["schemas"]["Drawing"]
    jsonschema.validate(drawn["json"], schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"strokes": []}, schema)


# Bodies of every kind


def test_no_body_makes_the_server_fail(client):
    """Random JSON, near-drawings, bytes and types: an answer of the described kinds, always."""
    hypothesis = pytest.importorskip("hypothesis")
    st = hypothesis.strategies
    number = st.one_of(st.floats(), st.integers(), st.just(10**400), st.just(-0.0))
    axis = st.lists(number, max_size=4)
    junk = st.recursive(
        st.none() | st.booleans() | number | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
        max_leaves=6,
    )
    stroke = st.one_of(st.lists(axis, min_size=2, max_size=2), junk)
    drawing = st.fixed_dictionaries(
        {"strokes": st.one_of(st.lists(stroke, max_size=3), junk)},
        optional={"top": junk, "line": st.one_of(number, junk), "x": junk},
    )
    body = st.one_of(drawing.map(json.dumps).map(str.encode), junk.map(json.dumps).map(str.encode))
    body = st.one_of(body, st.binary(max_size=60), st.just(encoded(sketch(1), "GIF")))
    kind = st.sampled_from(["application/json"] * 4 + ["image/png", "image/gif", "a/b", ""])
    query = st.sampled_from(["", "?top=1", "?top=-1", "?top=²", "?as=photo", "?as=%00", "?top="])

    @hypothesis.settings(max_examples=150, deadline=None, database=None, derandomize=True)
    @hypothesis.given(body, kind, query)
    def answers(body: bytes, kind: str, query: str):
        headers = {"content-type": kind}
        answer = client.post(f"/api/search{query}", content=body, headers=headers)
        assert answer.status_code in (200, 400, 413, 415, 422)
        assert ("results" if answer.status_code == 200 else "error") in answer.json()

    answers()


# From the command line


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        ([], 2, "missing --index=DIR"),
        (["--index=x", "--port=0"], 2, "--port=0: expected a whole number"),
        (["--index=x", "--line=2"], 2, "--line=2: expected a number from 0.002 to 0.1"),
        (["--index=x", "--rate=many"], 2, "--rate=many: expected a number"),
        (["--index=x", "--method=hnsw"], 2, "--method=hnsw"),
        (["--index=none"], 1, "no index there"),
    ],
)
def test_a_wrong_command_is_one_line(argv, code, words, capsys):
    """Before anything is loaded, one line that names the flag and what is valid."""
    assert words in error_line(capsys, "serve", *argv, code=code)


@pytest.mark.parametrize(("host", "checked"), [("", True), ("0.0.0.0", False)])
def test_it_listens_on_this_machine_alone_unless_told(
    indexed, small_model, capsys, monkeypatch, host, checked
):
    """127.0.0.1 by default, where other host names are refused; --host opens it to all."""
    import uvicorn

    seen = {}

    def run(self, sockets):
        seen["address"] = sockets[0].getsockname()
        # No lifespan: what is refused needs no engine.
        answer = TestClient(self.config.app).get("/api/health", headers={"host": "other"})
        seen["refused"] = answer.status_code == 400
        sockets[0].close()
        raise KeyboardInterrupt  # as uvicorn does after Ctrl-C

    monkeypatch.setattr(uvicorn.Server, "run", run)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    argv = [f"--index={indexed[0].folder}", f"--port={port}"]
    assert launch.main(["serve", *argv, *([f"--host={host}"] if host else [])]) == 0
    assert seen == {"address": (host or "127.0.0.1", port), "refused": checked}
    assert f"http://{host or '127.0.0.1'}:{port}" in capsys.readouterr().out


def test_a_taken_port_is_one_line(indexed, small_model, capsys):
    """The address that cannot be listened on is named."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        argv = [f"--index={indexed[0].folder}", f"--port={port}"]
        line = error_line(capsys, "serve", *argv, code=1)
    assert f"--port={port}" in line and "in use" in line
