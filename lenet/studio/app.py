"""The routes: each checks what came in, asks one object, and answers in JSON."""

import mimetypes
import time
from typing import Any

from flask import Flask, Response, g, jsonify, redirect, render_template, request
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as AnyResponse

from lenet.errors import LenetError
from lenet.studio import wire
from lenet.studio.security import Guard
from lenet.studio.session import Session
from lenet.studio.watch import MAX_EPOCHS, Trainer, View

MAX_SEQUENCE = 2**53
MAX_COUNT, SHOWN = 500, 60  # test images an answer


def create_app(session: Session, guard: Guard, *, debug: bool = False) -> Flask:
    """Return the studio's pages and its API; with ``debug`` it logs a traceback of what should not have happened."""
    app = _new_app(guard, debug)
    _add_pages(app, session)
    _add_network(app, session)
    _add_gallery(app, session)
    _add_drawings(app, session)
    _add_teaching(app, session)
    _add_view(app, session.trainer.view)
    _add_training(app, session.trainer)
    return app


def create_watch_app(view: View, network: dict[str, Any], guard: Guard) -> Flask:
    """Return the one page of ``lenet train --watch``; ``network`` is what `describe_network` says."""
    app = _new_app(guard, debug=False)
    _add_view(app, view)

    @app.get("/")
    def start() -> AnyResponse:
        return redirect("/training", 303)

    @app.get("/training")
    def training_page() -> str:
        return render_template("training.html", network=network, watching=True)

    @app.get("/api/network")
    def described() -> Response:
        return jsonify(network)

    return app


def _new_app(guard: Guard, debug: bool) -> Flask:
    mimetypes.add_type("text/javascript", ".js")  # some machines say otherwise, and no browser runs a module then
    app = Flask("lenet.studio")
    app.json.sort_keys = False  # type: ignore[attr-defined]
    guard.install(app)
    _handle_errors(app, debug)
    _parse_bodies(app)
    return app


def _handle_errors(app: Flask, debug: bool) -> None:
    """Answer every failure with one line for a person."""

    @app.errorhandler(wire.Refusal)
    def refused(error: wire.Refusal) -> tuple[Response, int]:
        return jsonify(error=str(error)), error.status

    @app.errorhandler(HTTPException)
    def failed(error: HTTPException) -> tuple[Response, int]:
        reason = {413: f"a request has at most {wire.MAX_BODY} bytes", 404: "there is no such page"}
        return jsonify(error=reason.get(error.code or 500, error.name)), error.code or 500

    @app.errorhandler(LenetError)
    def expected(error: LenetError) -> tuple[Response, int]:
        return jsonify(error=str(error)), 500

    @app.errorhandler(Exception)
    def unexpected(error: Exception) -> tuple[Response, int]:
        reason = f"unexpected {type(error).__name__}: {error}"
        app.logger.error(reason, exc_info=debug)
        return jsonify(error=reason), 500


def _parse_bodies(app: Flask) -> None:
    """Have the object in a request's body parsed before it is served."""

    @app.before_request
    def parse() -> None:
        if request.method == "POST":
            g.body = wire.parse_object(request.get_data(cache=False))


def _add_pages(app: Flask, session: Session) -> None:
    @app.get("/")
    def studio() -> str:
        return render_template("studio.html", network=session.model.described)

    @app.get("/tests")
    def tests() -> str:
        return render_template("tests.html", network=session.model.described)

    @app.get("/training")
    def training_page() -> str:
        return render_template("training.html", network=session.model.described)


def _add_network(app: Flask, session: Session) -> None:
    @app.get("/api/network")
    def network() -> Response:
        return jsonify(session.model.described)

    @app.post("/api/think")
    def think() -> Response:
        started, body, model = time.perf_counter(), g.body, session.model
        sequence = wire.integer(body, "seq", -MAX_SEQUENCE, MAX_SEQUENCE, default=0)
        model.features.start()  # whoever draws will ask why
        found = model.think(model.subject(body))
        milliseconds = 1000 * (time.perf_counter() - started)
        return jsonify(seq=sequence, **found, milliseconds=milliseconds)

    @app.post("/api/unit")
    def unit() -> Response:
        body, model = g.body, session.model
        return jsonify(model.unit(model.subject(body), body))

    @app.post("/api/why")
    def why() -> Response:
        body, model = g.body, session.model
        return jsonify(model.why(model.subject(body), body))


def _add_gallery(app: Flask, session: Session) -> None:
    @app.get("/api/tests")
    def tests_found() -> Response:
        model, query = session.model, request.args
        last = model.saved.network.classes - 1

        def whole(name: str, high: int) -> int | None:
            return wire.parse_whole(query[name], name, high) if query.get(name) else None

        gallery = model.gallery.get()
        chosen = gallery.select(
            label=whole("label", last),
            answer=whole("answer", last),
            wrong=whole("wrong", 1) == 1,
            below=wire.parse_share(query["below"], "below") if query.get("below") else None,
        )
        offset = wire.parse_whole(query.get("offset") or "0", "offset", MAX_SEQUENCE)
        count = wire.parse_whole(query.get("count") or str(SHOWN), "count", MAX_COUNT)
        return jsonify(
            total=len(chosen),
            items=[
                {
                    "index": index,
                    "label": int(gallery.evaluation.labels[index]),
                    "answer": int(gallery.evaluation.answers[index]),
                    "confidence": float(gallery.confidences[index]),
                    "pixels": wire.pixels(gallery.images[index]),
                }
                for index in chosen[offset : offset + count].tolist()
            ],
        )

    @app.get("/api/confusion")
    def confusion() -> Response:
        evaluation = session.model.gallery.get().evaluation
        return jsonify(counts=evaluation.confusion.tolist(), accuracy=evaluation.accuracy)


def _add_drawings(app: Flask, session: Session) -> None:
    @app.get("/api/drawings")
    def drawings() -> Response:
        return jsonify(session.drawings())

    @app.post("/api/drawings")
    def add_drawing() -> tuple[Response, int]:
        return jsonify(session.add_drawing(g.body)), 201

    @app.post("/api/drawings/<drawing>/delete")
    def delete_drawing(drawing: str) -> Response:
        session.collection.delete(drawing)
        return jsonify(counts=session.collection.counts())


def _add_teaching(app: Flask, session: Session) -> None:
    teacher = session.teacher

    @app.get("/api/finetune")
    def finetuning() -> Response:
        return jsonify(teacher.to_dict())

    @app.post("/api/finetune")
    def finetune() -> tuple[Response, int]:
        teacher.start(session.model)
        return jsonify(teacher.to_dict()), 202

    @app.post("/api/finetune/stop")
    def stop_finetuning() -> tuple[Response, int]:
        teacher.stop()
        return jsonify(teacher.to_dict()), 202

    @app.post("/api/finetune/keep")
    def keep() -> Response:
        session.keep()
        return jsonify(teacher.to_dict())

    @app.post("/api/finetune/discard")
    def discard() -> Response:
        teacher.discard()
        return jsonify(teacher.to_dict())


def _add_view(app: Flask, view: View) -> None:
    @app.get("/api/training")
    def training() -> Response:
        found = view.to_dict()
        answer = jsonify(found)
        if found["state"] != "running":
            answer.call_on_close(view.seen.set)  # once it is sent: the process may end right then
        return answer


def _add_training(app: Flask, trainer: Trainer) -> None:
    @app.post("/api/training")
    def train() -> tuple[Response, int]:
        trainer.start(wire.integer(g.body, "epochs", 1, MAX_EPOCHS, default=20))
        return jsonify(trainer.view.to_dict()), 202

    @app.post("/api/training/stop")
    def stop_training() -> tuple[Response, int]:
        trainer.stop()
        return jsonify(trainer.view.to_dict()), 202
