# Providers that give tokens, and look at who asks: a token endpoint (client credentials, RFC 8693), GitHub's installation
# tokens (the app's JWT is verified here, with nothing but integers), a Vault with AppRole and KV 2.
#   python3 mint_server.py ADDRESS PORT KEY CERT LOG     from the environment: MODULUS (hex), CLIENT (id:secret), VAULT_SECRET
# Each request is a line of JSON in LOG, with what was given for it.
import base64, hashlib, http.server, json, os, secrets, ssl, sys, threading, time, urllib.parse

address, port, key, cert, log = sys.argv[1:]
N, E, lock, tokens = int(os.environ['MODULUS'], 16), 65537, threading.Lock(), set()
PREFIX = bytes.fromhex('3031300d060960864801650304020105000420')


def part(text):
    return base64.urlsafe_b64decode(text + '=' * (-len(text) % 4))


def app(token):
    signed, _, signature = token.rpartition('.')
    size = (N.bit_length() + 7) // 8
    plain = pow(int.from_bytes(part(signature), 'big'), E, N).to_bytes(size, 'big')
    wanted = PREFIX + hashlib.sha256(signed.encode()).digest()
    if plain != b'\0\1' + b'\xff' * (size - len(wanted) - 3) + b'\0' + wanted:
        return None
    header, claims = (json.loads(part(text)) for text in signed.split('.'))
    good = header['alg'] == 'RS256' and claims['iat'] <= time.time() < claims['exp'] <= claims['iat'] + 600
    return claims['iss'] if good else None


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def log_message(self, *_):
        pass

    def give(self):
        body = self.rfile.read(int(self.headers.get('content-length', 0))).decode()
        path, authorization = self.path, self.headers.get('authorization', '')
        new = lambda kind: f'{kind}-{secrets.token_hex(12)}'
        if path == '/token':
            form = dict(urllib.parse.parse_qsl(body))
            if authorization != 'Basic ' + base64.b64encode(os.environ['CLIENT'].encode()).decode():
                return 401, {'error': 'invalid_client', 'error_description': authorization}
            if form['grant_type'] == 'urn:ietf:params:oauth:grant-type:token-exchange':
                subject = json.loads(part(form['subject_token'].split('.')[1]))['sub']
                return 200, {'access_token': new('for-' + subject), 'issued_token_type': 'urn:ietf:params:oauth:token-type:access_token', 'token_type': 'Bearer', 'expires_in': 300}
            return 200, {'access_token': new('client'), 'token_type': 'Bearer', 'expires_in': 300}
        if path == '/api/v3/app/installations/7/access_tokens':
            if app(authorization.removeprefix('Bearer ')) != '42' or not self.headers.get('user-agent'):
                return 401, {'message': 'A JSON web token could not be decoded'}
            assert json.loads(body) == {'repositories': ['one'], 'permissions': {'contents': 'read'}}
            return 201, {'token': new('ghs'), 'expires_at': time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(time.time() + 3600))}
        if path == '/v1/auth/approle/login':
            if json.loads(body) != {'role_id': 'r', 'secret_id': os.environ['VAULT_SECRET']}:
                return 400, {'errors': ['invalid role or secret ID']}
            token = new('hvs')
            tokens.add(token)
            return 200, {'auth': {'client_token': token, 'lease_duration': 3600, 'renewable': True}}
        if self.headers.get('x-vault-token') not in tokens:
            return 403, {'errors': ['permission denied']}
        if path == '/v1/secret/data/job':
            return 200, {'lease_id': '', 'lease_duration': 0, 'data': {'data': {'key': new('kv')}, 'metadata': {'version': 1, 'destroyed': False}}}
        if path == '/v1/auth/token/revoke-self':
            tokens.discard(self.headers['x-vault-token'])
            return 204, None
        return 404, {}

    def handle_all(self):
        try:
            status, given = self.give()
        except Exception as error:
            status, given = 400, {'error': repr(error)}
        body = b'' if given is None else json.dumps(given).encode()
        with lock, open(log, 'a') as out:
            print(json.dumps({'path': self.path, 'status': status, 'given': given, 'left': len(tokens)}), file=out)
        self.send_response(status)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = handle_all


server = http.server.ThreadingHTTPServer((address, int(port)), Handler)
context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
context.load_cert_chain(cert, key)
server.socket = context.wrap_socket(server.socket, server_side=True)
print('ready', flush=True)
server.serve_forever()
