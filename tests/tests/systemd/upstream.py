"""A TLS server of the world outside: says who connected, for each request, in /tmp/peers. A stream lasts three seconds,
and on for as long as there is a file /tmp/hold: /tmp/held names those."""

import http.server
import os
import socket
import ssl
import threading
import time

THROUGH = "203.0.113.254"
peers = open("/tmp/peers", "a", buffering=1)
lock = threading.Lock()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        with lock:
            way = "through" if self.client_address[0] == THROUGH else "direct"
            peers.write(f"{way} {self.path}\n")
        if self.path.startswith("/stream/"):
            return self.stream()
        body = b"hello\n"
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def stream(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        sent = 0
        while sent < 30 or os.path.exists("/tmp/hold"):
            if sent == 30:
                with open("/tmp/held", "a") as held:
                    held.write(self.path.removeprefix("/stream/") + "\n")
            self.wfile.write(b"6\r\nhello\n\r\n")
            sent += 1
            time.sleep(0.1)  # the stream's own pace
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1024

    def get_request(self):
        connection, address = self.socket.accept()
        return context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False), address


context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/tmp/outside/server.pem", "/tmp/outside/server.key")
server = Server(("203.0.113.10", 443), Handler)
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notify.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
server.serve_forever()
