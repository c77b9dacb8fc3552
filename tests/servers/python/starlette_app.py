"""The service of the suite in Starlette, on uvicorn (HTTP/1) or hypercorn (HTTP/2 too). README.md beside this folder says
what every server does."""

import asyncio
import os
import socket
import sys
import threading

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Host, Route, Router


def answer(ran):
    async def endpoint(request):
        lines = [
            f"ran: {ran}",
            f"method: {request.method}",
            f"host: {request.headers.get('host', '')}",
            f"path: {request.scope.get('raw_path', b'').decode('latin-1')}",
            f"caller: {request.headers.get('x-caller', '')}",
            f"decision: {request.headers.get('m2m-auth-decision', '')}",
        ]
        lines += [f"header: {name}: {value}" for name, value in request.headers.items()]
        return PlainTextResponse("\n".join(lines), headers={"x-ran": ran})

    return endpoint


METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "OPTIONS"]
ALL = METHODS + ["DELETE"]
app = Starlette(
    routes=[
        Host("admin.example.com", Router([Route("/{rest:path}", answer("admin-host"), methods=ALL)])),
        Route("/admin", answer("admin"), methods=ALL),
        Route("/admin/{rest:path}", answer("admin"), methods=ALL),
        Route("/items/{rest:path}", answer("delete"), methods=["DELETE"]),
        Route("/items/{rest:path}", answer("items"), methods=METHODS),
        Route("/health", answer("health"), methods=ALL),
        Route("/public/{rest:path}", answer("public"), methods=ALL),
    ]
)


def ends_with_its_input():
    sys.stdin.read()
    os._exit(0)


listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("127.0.0.1", 0))
listener.listen(128)
print(listener.getsockname()[1], flush=True)
threading.Thread(target=ends_with_its_input, daemon=True).start()
if sys.argv[1] == "uvicorn":
    import uvicorn

    config = uvicorn.Config(app, http="h11", log_level="critical", access_log=False, lifespan="off")
    asyncio.run(uvicorn.Server(config).serve([listener]))
else:
    from hypercorn.asyncio import serve
    from hypercorn.config import Config

    config = Config()
    config.bind = [f"fd://{listener.fileno()}"]
    config.loglevel = "CRITICAL"
    asyncio.run(serve(app, config))
