# Providers that give tokens, and look at who asks: a token endpoint (client credentials, RFC 8693), GitHub's installation
# tokens (the app's JWT is verified here, with nothing but integers), a Vault with AppRole, KV 2 and leases, AWS's Secrets Manager,
# Parameter Store and STS (signatures verified), Google's Secret Manager (the account's JWT verified), Azure's Key Vault.
#   python3 mint_server.py ADDRESS PORT KEY CERT LOG     from the environment: MODULUS (hex), CLIENT (id:secret), VAULT_SECRET;
#     AWS_KEYS (id:secret); CANARY, which all that is given then bears; CONTROL, a file: while it says `echo`, each request is
#     answered 500 with all that it said
# Each request is a line of JSON in LOG, with what was given for it.
import base64, hashlib, http.server, json, os, secrets, ssl, sys, threading, time, urllib.parse

from aws_signature import verify

address, port, key, cert, log = sys.argv[1:]
N, E, lock, tokens = int(os.environ['MODULUS'], 16), 65537, threading.Lock(), set()
CANARY, CONTROL = os.environ.get('CANARY'), os.environ.get('CONTROL')
KEYS = (*os.environ.get('AWS_KEYS', ':').split(':'), None)
PREFIX = bytes.fromhex('3031300d060960864801650304020105000420')


def part(text):
    return base64.urlsafe_b64decode(text + '=' * (-len(text) % 4))


def new(kind):
    return f'{kind}/{CANARY}/{secrets.token_hex(6)}' if CANARY else f'{kind}-{secrets.token_hex(12)}'


def crc32c(data):
    sum = 0xffffffff
    for byte in data:
        sum ^= byte
        for _ in range(8):
            sum = sum >> 1 ^ (0x82f63b78 if sum & 1 else 0)
    return sum ^ 0xffffffff


def app(token, longest=600):
    signed, _, signature = token.rpartition('.')
    size = (N.bit_length() + 7) // 8
    plain = pow(int.from_bytes(part(signature), 'big'), E, N).to_bytes(size, 'big')
    wanted = PREFIX + hashlib.sha256(signed.encode()).digest()
    if plain != b'\0\1' + b'\xff' * (size - len(wanted) - 3) + b'\0' + wanted:
        return None
    header, claims = (json.loads(part(text)) for text in signed.split('.'))
    good = header['alg'] == 'RS256' and claims['iat'] <= time.time() < claims['exp'] <= claims['iat'] + longest
    return claims['iss'] if good else None


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def log_message(self, *_):
        pass

    def give(self):
        body = self.rfile.read(int(self.headers.get('content-length', 0))).decode()
        path, authorization = self.path, self.headers.get('authorization', '')
        if CONTROL and os.path.exists(CONTROL) and open(CONTROL).read() == 'echo':
            return 500, {'error': str(self.headers), 'error_description': body, 'errors': [body, authorization]}
        if path == '/token':
            form = dict(urllib.parse.parse_qsl(body))
            # RFC 6749 section 2.3.1: both are encoded as in a form.
            client = ':'.join(urllib.parse.quote_plus(part) for part in os.environ['CLIENT'].split(':'))
            if authorization != 'Basic ' + base64.b64encode(client.encode()).decode():
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
        if 'x-amz-target' in self.headers or 'Action=AssumeRole' in body:
            verify(self, body.encode(), KEYS)
            return self.aws(body)
        if path == '/v1/projects/p/secrets/s/versions/latest:access':
            if app(authorization.removeprefix('Bearer '), 3600) != 'me@p.iam.gserviceaccount.com':
                return 401, {'error': 'no account'}
            data = new('gcp').encode()
            return 200, {'payload': {'data': base64.b64encode(data).decode(), 'dataCrc32c': str(crc32c(data))}}
        if path == '/tenant/oauth2/v2.0/token':
            if dict(urllib.parse.parse_qsl(body))['client_secret'] != os.environ['CLIENT'].split(':')[1]:
                return 401, {'error': 'invalid_client'}
            token = new('entra')
            tokens.add('Bearer ' + token)
            return 200, {'access_token': token, 'token_type': 'Bearer', 'expires_in': 300}
        if path == '/secrets/key?api-version=7.4':
            return (200, {'value': new('azure')}) if authorization in tokens else (401, {'error': 'no token'})
        if self.headers.get('x-vault-token') not in tokens:
            return 403, {'errors': ['permission denied']}
        if path == '/v1/secret/data/job':
            return 200, {'lease_id': '', 'lease_duration': 0, 'data': {'data': {'key': new('kv')}, 'metadata': {'version': 1, 'destroyed': False}}}
        if path == '/v1/database/creds/ro':
            return 200, {'lease_id': 'database/creds/ro/' + secrets.token_hex(4), 'lease_duration': 60, 'renewable': True,
                         'data': {'username': 'robot', 'password': new('leased')}}
        if path == '/v1/sys/leases/renew':
            return 200, {'lease_id': json.loads(body)['lease_id'], 'lease_duration': 60, 'renewable': True}
        if path in ('/v1/sys/leases/revoke', '/v1/auth/token/renew-self'):
            return 200, {'auth': {'client_token': self.headers['x-vault-token'], 'lease_duration': 3600, 'renewable': True}}
        if path == '/v1/auth/token/revoke-self':
            tokens.discard(self.headers['x-vault-token'])
            return 204, None
        return 404, {}

    def aws(self, body):
        target = self.headers.get('x-amz-target')
        if target == 'secretsmanager.GetSecretValue':
            return 200, {'SecretString': new('manager')}
        if target == 'AmazonSSM.GetParameter':
            return 200, {'Parameter': {'Name': 'x', 'Type': 'SecureString', 'Value': new('parameter')}}
        end = time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(time.time() + 3600))
        return 200, (f'<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>ASIA{secrets.token_hex(8).upper()}</AccessKeyId>'
                     f'<SecretAccessKey>{new("assumed")}</SecretAccessKey><SessionToken>{secrets.token_hex(40)}</SessionToken>'
                     f'<Expiration>{end}</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>')

    def handle_all(self):
        try:
            status, given = self.give()
        except Exception as error:
            status, given = 400, {'error': repr(error)}
        body = b'' if given is None else given.encode() if isinstance(given, str) else json.dumps(given).encode()
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
