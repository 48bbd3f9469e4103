# For gunicorn: writes one line a request that reaches the application, method and target, to $APP_LOG.
import os

lines = open(os.environ["APP_LOG"], "ab", buffering=0)


def app(environ, start_response):
    lines.write(f"{environ['REQUEST_METHOD']} {environ['RAW_URI']}\n".encode("latin-1"))
    environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
