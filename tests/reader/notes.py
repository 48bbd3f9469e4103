"""What verify.py needs of signatures, checksums, trees and files, by docs/store.md alone."""
import base64, datetime, functools, hashlib, os, re, stat

# Ed25519 (RFC 8032, section 5.1 and 6): verification only.
P, L = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
def x_of(y, sign):
    x = pow(xx := (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P, (P + 3) // 8, P)
    if x * x % P != xx: x = x * pow(2, (P - 1) // 4, P) % P
    if x * x % P != xx or not x and sign: return None
    return P - x if x & 1 != sign else x
def add(p, q):
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % P, (p[1] + p[0]) * (q[1] + q[0]) % P
    c, d = 2 * p[3] * q[3] * D % P, 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P
def mul(n, p):
    q = (0, 1, 1, 0)
    while n: q, p, n = add(q, p) if n & 1 else q, add(p, p), n >> 1
    return q
def point(raw):
    sign, y = divmod(int.from_bytes(raw, "little"), 1 << 255)
    x = x_of(y, sign) if y < P else None
    return None if x is None else (x, y, 1, x * y % P)
BASE = point((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))
def ed25519(key, text, signature):
    a, r, s = point(key), point(signature[:32]), int.from_bytes(signature[32:], "little")
    if len(signature) != 64 or a is None or r is None or s >= L: return False
    h = int.from_bytes(hashlib.sha512(signature[:32] + key + text).digest(), "little") % L
    p, q = mul(s, BASE), add(r, mul(h, a))
    return (p[0] * q[2] - q[0] * p[2]) % P == 0 and (p[1] * q[2] - q[1] * p[2]) % P == 0

CRC = [functools.reduce(lambda n, _: n >> 1 ^ (0x82F63B78 if n & 1 else 0), range(8), n) for n in range(256)]
def crc32c(data):
    return functools.reduce(lambda crc, byte: crc >> 8 ^ CRC[(crc ^ byte) & 255], data, 0xFFFFFFFF) ^ 0xFFFFFFFF

sha, node = lambda data: hashlib.sha256(data).digest(), lambda left, right: sha(b"\1" + left + right)
def b64(text):
    if base64.b64encode(raw := base64.b64decode(text, validate=True)).decode() != text: raise ValueError("base64")
    return raw

def push(edge, n, leaf):
    """The right edge of a tree of n leaves, with another (RFC 6962, section 2.1)."""
    edge = edge[:]
    while n & 1: leaf, n = node(edge.pop(), leaf), n >> 1
    return edge + [leaf]
def root_of(edge): return functools.reduce(lambda root, left: node(left, root), edge[-2::-1], edge[-1])
def grows(old, new): return old[0] < new[0] or old == new

ULID = "[0-7][0-9A-HJKMNP-TV-Z]{25}"
TIME, TREE = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", r"(0|[1-9]\d*) ([A-Za-z0-9+/]{43}=)"
CHECKPOINT = re.compile(f"sluice/({ULID})/({ULID})\n(0|[1-9]\\d*)\n([A-Za-z0-9+/]{{43}}=)\ntime ({TIME})\n(?:[^\n]+\n)*")
TIMED, LARGEST, MINUTE = re.compile(rb'"time"\s*:\s*"(%s)"' % TIME.encode()), 1 << 60, datetime.timedelta(minutes=1)
CERTIFICATE = re.compile(f"sluice/({ULID})/key\n(0|[1-9]\\d*)\n([^\n]+)\n({TIME})\n((?:{ULID} {TREE}\n)+|- 0 -\n)")

Bad = ValueError
def moment(text): return datetime.datetime.fromisoformat(text[:-1])
def read(path, most=1 << 30):
    """A file's bytes; never through a link, of a device or a pipe."""
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK)) as file:
        if not stat.S_ISREG((is_ := os.fstat(file.fileno())).st_mode) or is_.st_size > most or len(data := file.read(is_.st_size + 1)) > most: raise Bad(f"{path}: no file of its kind")
        return data
def note(text):
    """Text and signatures of a signed note."""
    body, _, lines = (text or "").rpartition("\n\n")
    if not body or not lines.endswith("\n"): raise Bad("no signed note")
    found = [re.fullmatch("— ([^ +\\s]+) ([A-Za-z0-9+/=]+)", line) for line in lines[:-1].split("\n")]
    if None in found: raise Bad("no signature line")
    return body + "\n", [(match[1], b64(match[2])[:4], b64(match[2])[4:]) for match in found]
def vkey(text):
    name, of, raw = text.split("+", 2)
    if (raw := b64(raw))[0] != 1 or len(raw) != 33 or sha(name.encode() + b"\n" + raw)[:4].hex() != of: raise Bad("no key")
    return name, bytes.fromhex(of), raw[1:]
def signed(parsed, key):
    own = [s for s in parsed[1] if s[:2] == key[:2]]
    if not own or not all(ed25519(key[2], parsed[0].encode(), s[2]) for s in own): raise Bad("not signed by " + key[0])

def split(data):
    """Notes of a file, each followed by an empty line: (text or None, whether it was only cut short)."""
    at = 0
    while at < len(data):
        middle = data.find(b"\n\n", at)
        is_note = middle >= 0 and data.startswith("— ".encode(), middle + 2)
        end = data.find(b"\n\n", middle + 2) if is_note else middle
        piece, at = (data[at:], len(data)) if end < 0 else (data[at:end + 2], end + 2)
        try: yield (piece[:-1].decode() if is_note and end >= 0 else None), end < 0
        except UnicodeDecodeError: yield None, False
