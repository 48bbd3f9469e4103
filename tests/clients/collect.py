"""Takes what is posted, over TLS: ADDRESS PORT KEY CERT LOG. Each body is a line of JSON in LOG."""

import http.server
import json
import ssl
import sys

address, port, key, chain, log = sys.argv[1:]


class Taker(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        with open(log, "a", encoding="utf-8") as lines:
            lines.write(json.dumps({"path": self.path, "body": body}) + "\n")
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer((address, int(port)), Taker)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(chain, key)
server.socket = context.wrap_socket(server.socket, server_side=True)
print("ready", flush=True)
server.serve_forever()
