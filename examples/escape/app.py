"""Tries to escape from its sandbox, and shows what it could do. With the standard library alone."""

import html
import http.server
import os
import subprocess
import sys
import urllib.parse

HERE = os.path.dirname(os.path.abspath(__file__))
# What hurts its own app alone, where the platform keeps its promises.
HOGS = {
    "fills": "write 300 MiB to /tmp",
    "greedy": "start as many processes, and open as many files, as it may",
    "flees": "leave processes behind that ignore being asked to end",
}


def environment():
    """What the probe is told, as far as an app can guess it. Name the rest in the launcher's variables."""
    here = urllib.parse.urlsplit(os.environ.get("MARMOT_APP_URL", "http://localhost"))
    port = here.port or (443 if here.scheme == "https" else 80)
    guessed = {
        "DATA_DIR": "/var/lib/marmot",
        "NEIGHBOUR": "/var/lib/marmot/apps",
        # Higher than any process has: nobody is killed by mistake where this is run without a sandbox.
        "SERVER_PID": str(1 << 23),
        "CONTROL_PORT": str(port),
    }
    return guessed | dict(os.environ)


def probe():
    # Its last try ends the first process that it sees, which in a sandbox is the sandbox's own.
    done = subprocess.run(
        [sys.executable, os.path.join(HERE, "probe.py")],
        env=environment(), cwd=HERE, capture_output=True, text=True, timeout=300,
    )
    return done.stdout.splitlines() + done.stderr.splitlines()


def page(lines):
    could = [line for line in lines if line.startswith("COULD")]
    refused = [line for line in lines if line.startswith("refused")]
    others = [line for line in lines if line not in could and line not in refused]
    listed = lambda lines: "".join(f"<li><code>{html.escape(line)}</code></li>" for line in lines)
    hogs = "".join(
        f'<form method="post" action="/{name}"><button>Let it {html.escape(what)}</button></form>'
        for name, what in HOGS.items()
    )
    return f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>Escape</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>body {{ font: 1rem/1.5 system-ui; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }} li {{ overflow-wrap: anywhere }}</style>
<h1>It could do {len(could)} of {len(could) + len(refused)} things</h1>
<ul>{listed(could)}</ul>
<h2>Besides</h2><ul>{listed(others)}</ul>{hogs}
<details><summary>{len(refused)} were refused</summary><ul>{listed(refused)}</ul></details></html>"""


class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self, status, text, kind="text/html; charset=utf-8"):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        if "marmot-probe" in self.headers.get("User-Agent", "") or self.path != "/":
            return self.answer(200 if self.path == "/" else 404, "")
        self.answer(200, page(probe()))

    def do_POST(self):
        name = self.path.strip("/")
        if name not in HOGS:
            return self.answer(404, "")
        # What it says is in the app's log.
        subprocess.Popen([sys.executable, os.path.join(HERE, f"{name}.py")])
        self.answer(202, f"It begins to {HOGS[name]}. The app's log tells how that goes.", "text/plain")

    def log_message(self, *arguments):
        pass


if __name__ == "__main__":
    http.server.ThreadingHTTPServer(("0.0.0.0", int(os.environ.get("PORT", "8080"))), Handler).serve_forever()
