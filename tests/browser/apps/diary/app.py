"""A private diary: what others would like to read and to write in."""

import base64
import hashlib
import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECRET = "dear diary"
notes = []


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, text, kind="text/html; charset=utf-8"):
        body = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        if self.headers.get("Upgrade"):
            digest = hashlib.sha1((self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode())
            self.send_response(101)
            self.send_header("Connection", "upgrade")
            self.send_header("Upgrade", "websocket")
            self.send_header("Sec-WebSocket-Accept", base64.b64encode(digest.digest()).decode())
            self.end_headers()
            self.wfile.write(b"\x81" + bytes([len(SECRET)]) + SECRET.encode())
            self.wfile.flush()
            self.rfile.read()
        elif self.path == "/notes":
            self.answer(json.dumps(notes), "application/json")
        elif self.path == "/secret.js":
            self.answer(f"window.stolen = {json.dumps(SECRET)};", "text/javascript")
        elif self.path == "/who":
            told = {name: self.headers.get(f"X-Marmot-{name}") for name in ("User", "Visitor", "Identity")}
            self.answer(json.dumps(told), "application/json")
        else:
            self.answer(f"<!doctype html><title>Diary</title><h1>{SECRET}</h1>")

    def do_POST(self):
        notes.append(self.rfile.read(int(self.headers.get("Content-Length", 0))).decode(errors="replace"))
        self.answer("noted")

    def log_message(self, *arguments):
        pass


ThreadingHTTPServer(("0.0.0.0", int(os.environ["PORT"])), Handler).serve_forever()
