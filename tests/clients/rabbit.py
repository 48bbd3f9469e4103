# What OpenBao asks of RabbitMQ's management API: users that come and go. Each is a line of JSON in LOG.
#   python3 rabbit.py PORT LOG
import http.server, json, sys

port, log = sys.argv[1:]
open(log, 'w').close()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def log_message(self, *_):
        pass

    def handle_all(self):
        body = self.rfile.read(int(self.headers.get('content-length', 0)))
        _, _, kind, *name = self.path.split('/')
        if kind == 'users':
            with open(log, 'a') as out:
                print(json.dumps({'do': self.command, 'user': name[0], 'password': json.loads(body or '{}').get('password')}), file=out)
        self.send_response(204 if self.command == 'DELETE' else 201)
        self.send_header('Content-Length', '0')
        self.end_headers()

    do_GET = do_PUT = do_DELETE = handle_all


server = http.server.ThreadingHTTPServer(('127.0.0.1', int(port)), Handler)
print('ready', flush=True)
server.serve_forever()
