# AWS Signature Version 4 by the manual, with nothing but hmac: for stand-ins that believe no signature.
import datetime, hashlib, hmac, re, urllib.parse


def sha(data):
    return hashlib.sha256(data).hexdigest()


def mac(key, text):
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def quote(text, safe=''):
    return urllib.parse.quote(text, safe=safe + '-._~')


class Wrong(Exception):
    pass


def verify(request, raw, keys):
    """Gives how the body is signed, what signs a piece of it, and the signature; or raises Wrong."""
    ID, SECRET, TOKEN = keys
    authorization = request.headers.get_all('authorization') or []
    if len(authorization) != 1:
        raise Wrong(f'{len(authorization)} signatures')
    found = re.fullmatch(r'AWS4-HMAC-SHA256 Credential=([^,]+), ?SignedHeaders=([^,]+), ?Signature=([0-9a-f]{64})', authorization[0])
    if not found:
        raise Wrong('no signature')
    credential, signed, signature = found.groups()
    who, day, region, service, end = credential.split('/')
    date = request.headers['x-amz-date']
    now = datetime.datetime.now(datetime.timezone.utc)
    then = datetime.datetime.strptime(date, '%Y%m%dT%H%M%S%z' if date[-1] != 'Z' else '%Y%m%dT%H%M%SZ').replace(tzinfo=datetime.timezone.utc)
    if who != ID or end != 'aws4_request' or day != date[:8] or abs((now - then).total_seconds()) > 300:
        raise Wrong('another key or time')
    if (request.headers.get_all('x-amz-security-token') or []) != ([TOKEN] if TOKEN else []):
        raise Wrong('another session token')
    names = signed.split(';')
    for name in request.headers:
        if name.lower().startswith('x-amz-') and name.lower() not in names:
            raise Wrong(f'{name} is not signed')
    if 'host' not in names or names != sorted(names):
        raise Wrong('host is not signed')
    path, _, query = request.path.partition('?')
    if 'X-Amz-Signature' in query:
        raise Wrong('a signature in the query')
    if service == 's3':
        path = quote(urllib.parse.unquote_to_bytes(path), '/')
    else:
        path = quote(path, '/')
    pairs = [(quote(urllib.parse.unquote_plus(n)), quote(urllib.parse.unquote_plus(v))) for n, _, v in (p.partition('=') for p in query.split('&') if p)]
    query = '&'.join(f'{n}={v}' for n, v in sorted(pairs))
    fields = ''.join(f"{n}:{','.join(' '.join(v.split()) for v in request.headers.get_all(n))}\n" for n in names)
    declared = request.headers.get('x-amz-content-sha256')
    if service == 's3' and not declared:
        raise Wrong('no x-amz-content-sha256')
    payload = declared or sha(raw)
    if re.fullmatch('[0-9a-f]{64}', payload) and payload != sha(raw):
        raise Wrong('another body')
    canonical = '\n'.join([request.command, path, query, fields, signed, payload])
    scope = f'{day}/{region}/{service}/aws4_request'
    text = '\n'.join(['AWS4-HMAC-SHA256', date, scope, sha(canonical.encode())])
    key = ('AWS4' + SECRET).encode()
    for part in (day, region, service, 'aws4_request'):
        key = mac(key, part)
    if mac(key, text).hex() != signature:
        raise Wrong('the signature is another: ' + canonical)
    return payload, lambda kind, before, what: mac(key, '\n'.join([kind, date, scope, before, what])).hex(), signature
