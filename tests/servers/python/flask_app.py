"""The service of the suite in Flask on Werkzeug's own server. README.md beside this folder says what every server does."""

import logging
import sys
import threading

from flask import Flask, request
from werkzeug.serving import WSGIRequestHandler, make_server

app = Flask(__name__, static_folder=None)
METHODS = ["GET", "POST", "PUT", "PATCH", "OPTIONS"]


def answer(ran):
    lines = [
        f"ran: {ran}",
        f"method: {request.method}",
        f"host: {request.environ.get('HTTP_HOST', '')}",
        f"path: {request.environ.get('RAW_URI', '')}",
        f"caller: {request.headers.get('X-Caller', '')}",
        f"decision: {request.headers.get('M2m-Auth-Decision', '')}",
    ]
    lines += [f"header: {name}: {value}" for name, value in request.headers.items()]
    body = "\n".join(lines).encode("utf-8", "replace")
    return body, 200, {"content-type": "text/plain", "x-ran": ran}


@app.before_request
def virtual_host():
    # As the documentation of Flask has it: `host` is without a default port, the name is what stands before the port.
    if request.host.split(":")[0].lower() == "admin.example.com":
        return answer("admin-host")


def route(rule, ran, methods=METHODS):
    app.add_url_rule(rule, f"{ran} {rule}", lambda **_: answer(ran), methods=methods)


for rule in ["/admin", "/admin/", "/admin/<path:rest>"]:
    route(rule, "admin", METHODS + ["DELETE"])
route("/items/<path:rest>", "delete", ["DELETE"])
route("/items/<path:rest>", "items")
route("/health", "health", METHODS + ["DELETE"])
route("/public/", "public", METHODS + ["DELETE"])
route("/public/<path:rest>", "public", METHODS + ["DELETE"])


class Handler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_request(self, *_):
        pass


logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_port, flush=True)
sys.stdin.read()
