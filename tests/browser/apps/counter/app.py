# An app for an image: a page, a WebSocket, and one session for each visitor, by Python's standard library alone.
import base64
import hashlib
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PAGE = """<!doctype html>
<html lang="en"><title>Burrow counter</title>
<h1>Burrow counter</h1>
<button>Count a sighting</button>
<p>Sightings in this session: <output></output></p>
<script>
  const socket = new WebSocket(`ws://${location.host}/session`);
  socket.onmessage = ({ data }) => (document.querySelector("output").textContent = data);
  document.querySelector("button").onclick = () => socket.send("count");
</script>"""
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        key = self.headers.get("Sec-WebSocket-Key")
        if key:
            return self.session(key.encode())
        body = PAGE.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def session(self, key):
        accept = base64.b64encode(hashlib.sha1(key + GUID).digest()).decode()
        self.send_response(101)
        for name, value in [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", accept)]:
            self.send_header(name, value)
        self.end_headers()
        self.close_connection = True
        count = 0
        self.say(str(count))
        while True:
            # What the page sends is short: a head, a mask, and the word. Anything that is no text is an end or a ping.
            head = self.rfile.read(2)
            if len(head) < 2:
                return
            length = head[1] & 0x7F
            mask, data = self.rfile.read(4), self.rfile.read(length)
            if head[0] & 0x0F == 8:
                return
            text = bytes(byte ^ mask[at % 4] for at, byte in enumerate(data))
            if text == b"count":
                count += 1
                print("counted", count, flush=True)
                self.say(str(count))

    def say(self, text):
        self.wfile.write(bytes([0x81, len(text)]) + text.encode())

    def log_message(self, *arguments):
        pass


print("burrows are counted", flush=True)
ThreadingHTTPServer(("0.0.0.0", int(os.environ["PORT"])), Handler).serve_forever()
