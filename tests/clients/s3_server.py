# An S3 that believes no signature: a stand-in that verifies AWS Signature Version 4 of each request and each signed piece of a
# body. DynamoDB's and Lambda's endpoints are there too, for their other rules.
#   python3 s3_server.py ADDRESS PORT KEY CERT LOG     keys from the environment: REAL_ID, REAL_SECRET, REAL_TOKEN
# Each request is a line of JSON in LOG: what was asked, how its body was signed, and what was wrong with it.
import base64, http.server, json, os, ssl, sys, threading, urllib.parse, zlib

from aws_signature import Wrong, sha, verify

address, port, key, cert, log = sys.argv[1:]
ID, SECRET, TOKEN = (os.environ[name] for name in ('REAL_ID', 'REAL_SECRET', 'REAL_TOKEN'))
objects, uploads, lock = {}, {}, threading.Lock()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def log_message(self, *_):
        pass

    def pieces(self, raw, payload, sign, seed):
        signed, trailer = 'AWS4-HMAC' in payload, payload.endswith('TRAILER')
        data, before = b'', seed
        while True:
            line, _, raw = raw.partition(b'\r\n')
            size, _, extension = line.decode().partition(';')
            size = int(size, 16)
            piece, raw = raw[:size], raw[size:]
            if signed:
                wanted = sign('AWS4-HMAC-SHA256-PAYLOAD', before, sha(b'') + '\n' + sha(piece))
                if extension != 'chunk-signature=' + wanted:
                    raise Wrong('a piece has another signature')
                before = wanted
            if size == 0:
                break
            if raw[:2] != b'\r\n':
                raise Wrong('a piece is longer than it says')
            data, raw = data + piece, raw[2:]
        lines = raw.decode().split('\r\n')
        fields = dict(line.split(':', 1) for line in lines if line)
        if trailer:
            was = fields.pop('x-amz-trailer-signature', None)
            if signed:
                text = ''.join(f'{n}:{v}\n' for n, v in sorted(fields.items()))
                if was != sign('AWS4-HMAC-SHA256-TRAILER', before, sha(text.encode())):
                    raise Wrong('the trailer has another signature')
            sum = base64.b64encode(zlib.crc32(data).to_bytes(4, 'big')).decode()
            if fields.get('x-amz-checksum-crc32', sum) != sum or not fields:
                raise Wrong('another checksum')
        if len(data) != int(self.headers['x-amz-decoded-content-length']):
            raise Wrong('another length')
        return data

    def body(self):
        if 'chunked' in self.headers.get('transfer-encoding', ''):
            whole = b''
            while size := int(self.rfile.readline().split(b';')[0], 16):
                whole += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return whole
        return self.rfile.read(int(self.headers.get('content-length', 0)))

    def answer(self, status, body=b'', **fields):
        self.send_response(status)
        for name, value in fields.items():
            self.send_header(name.replace('_', '-'), value)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        if self.command != 'HEAD':
            self.wfile.write(body)

    def handle_all(self):
        raw = self.body()
        said = {'method': self.command, 'path': self.path, 'payload': self.headers.get('x-amz-content-sha256', ''), 'wrong': None,
                'leaked': 'PLACEHOLDER' in str(self.headers) + self.path}
        try:
            payload, sign, seed = verify(self, raw, (ID, SECRET, TOKEN))
            data = self.pieces(raw, payload, sign, seed) if payload.startswith('STREAMING') else raw
        except Wrong as wrong:
            said['wrong'] = str(wrong)
        except Exception as error:
            said['wrong'] = repr(error)
        with lock, open(log, 'a') as out:
            print(json.dumps(said), file=out)
        if said['wrong']:
            return self.answer(403, b'<Error><Code>SignatureDoesNotMatch</Code></Error>')
        if 'x-amz-target' in self.headers:
            return self.answer(200, b'{"TableNames":["one"]}', Content_Type='application/x-amz-json-1.0')
        if self.path.startswith('/2015-03-31/'):
            return self.answer(200, b'{"Configuration":{}}', Content_Type='application/json')
        path, _, query = self.path.partition('?')
        name, query = urllib.parse.unquote(path), dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
        xml = lambda text: self.answer(200, f'<?xml version="1.0"?>{text}'.encode(), Content_Type='application/xml')
        with lock:
            if self.command == 'POST' and 'uploads' in query:
                uploads[name] = {}
                return xml(f'<InitiateMultipartUploadResult><UploadId>u-1</UploadId></InitiateMultipartUploadResult>')
            if self.command == 'PUT' and 'partNumber' in query:
                uploads[name][int(query['partNumber'])] = data
                return self.answer(200, ETag=f'"{sha(data)[:32]}"')
            if self.command == 'POST' and 'uploadId' in query:
                objects[name] = b''.join(part for _, part in sorted(uploads.pop(name).items()))
                return xml('<CompleteMultipartUploadResult><ETag>"x"</ETag></CompleteMultipartUploadResult>')
            if self.command == 'PUT':
                objects[name] = data
                return self.answer(200, ETag=f'"{sha(data)[:32]}"')
            if 'list-type' in query:
                return xml('<ListBucketResult><KeyCount>0</KeyCount><IsTruncated>false</IsTruncated></ListBucketResult>')
            if name in objects:
                return self.answer(200, objects[name], ETag=f'"{sha(objects[name])[:32]}"')
        self.answer(404, b'<Error><Code>NoSuchKey</Code></Error>')

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_all


server = http.server.ThreadingHTTPServer((address, int(port)), Handler)
context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
context.load_cert_chain(cert, key)
server.socket = context.wrap_socket(server.socket, server_side=True)
print('ready', flush=True)
server.serve_forever()
