#!/usr/bin/env python3
"""Verifies a store of Sluice by docs/store.md alone: python3 verify.py DIR [KEY]. Prints one JSON object, exits 0 for good.
A second opinion on `sluice audit verify`, written without its code. It says nothing of clocks and silence."""
import base64, collections, functools, hashlib, json, pathlib, re, struct, sys

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
CERTIFICATE = re.compile(f"sluice/({ULID})/key\n(0|[1-9]\\d*)\n([^\n]+)\n({TIME})\n((?:{ULID} {TREE}\n)+|- 0 -\n)")

Bad = ValueError
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
class Store:
    def __init__(self, path, first):
        self.dir, self.first, self.wrong, self.said, self.count = pathlib.Path(path), first, [], [], collections.Counter()
        self.chain, self.marks, self.claims, self.logs, self.holes, self.tails = [], collections.defaultdict(list), [], {}, [], []
        self.deleted, self.erased, self.missing, self.diverted, self.recovered, self.given_up = set(), set(), {}, {}, {}, {}
        self.log = self.next = None
        for work in self.keys, self.checkpoints, self.segments, self.end: work()
    def keys(self):
        path = self.dir / "keys"
        for text, torn in split(path.read_bytes() if path.exists() else b""):
            if torn: return self.said.append("keys: cut short")
            try: self.key(text)
            except ValueError as error: return self.wrong.append(f"key {len(self.chain)}: {error}")
    def key(self, text):
        parsed = note(text)
        if not (match := CERTIFICATE.fullmatch(parsed[0])): raise Bad("no certificate")
        key, before, pins = vkey(match[3]), self.chain[-1] if self.chain else None, {}
        if int(match[2]) != len(self.chain) or key[0] != f"sluice/{match[1]}/key#{match[2]}": raise Bad("another number")
        if (match[1] != before["store"]) if before else (self.first not in (None, match[3])): raise Bad("another first key")
        signed(parsed, before["key"] if before else key)
        for line in match[5].splitlines() if match[5] != "- 0 -\n" else []:
            log, size, root = line.split(" ")
            last = [c["pins"][log] for c in self.chain if log in c["pins"]][-1:]
            if log in pins or last and not grows(last[0], (int(size), b64(root))): raise Bad("pins a smaller tree")
            pins[log] = (int(size), b64(root))
        self.chain.append({"store": match[1], "key": key, "pins": pins, "text": parsed[0]})
        for log, tree in pins.items(): self.marks[log].append((*tree, "pin"))
    def checkpoints(self):
        for path in sorted(self.dir.glob("logs/*")):
            best, all_, one = (0, 0), path / "checkpoints", path / "checkpoint"
            for file in filter(pathlib.Path.exists, (all_, one)):
                for text, torn in split(file.read_bytes() + (b"\n" if file == one else b"")):
                    try:
                        if torn and file == all_:
                            self.said.append(f"{file}: cut short")
                            continue
                        number, size, root = self.checkpoint(text, path.name)
                        if file == all_ and (size < best[0] or number < best[1]): raise Bad("smaller than the one before")
                        if file == all_ or size > best[0]: self.marks[path.name].append((size, root, "checkpoint"))
                        if file == one and all_.exists() and size > best[0]: self.said.append(f"{all_} lacks the last")
                        best = max(best[0], size), max(best[1], number)
                    except ValueError as error: self.wrong.append(f"{file}: {error}")
            if one.exists() and not all_.exists(): self.said.append(f"{all_} is not there")
    def checkpoint(self, text, log):
        parsed = note(text)
        if not (match := CHECKPOINT.fullmatch(parsed[0])) or match[2] != log or not self.chain or match[1] != self.chain[0]["store"]: raise Bad("not of this log")
        names = {c["key"][0]: n for n, c in enumerate(self.chain)}
        number = next((names[s[0]] for s in parsed[1] if s[0] in names), None)
        if number is None: raise Bad("no key of the chain signed it")
        signed(parsed, self.chain[number]["key"])
        tree, own = (int(match[3]), b64(match[4])), self.chain[number]["pins"].get(log)
        if own and not grows(own, tree): raise Bad("less than its key's certificate pins")
        if not own and any(log in c["pins"] for c in self.chain[:number]): raise Bad("of a log that was closed")
        end = self.chain[number + 1]["pins"].get(log) if number + 1 < len(self.chain) else tree
        if not end or not grows(tree, end): raise Bad("more than the next certificate pins")
        return number, *tree
    def frame_at(self, data, at, end):
        if at + 20 > end: return None
        length, kind, zero, sequence, crc = struct.unpack_from("<IB3sQI", data, at)
        if not kind or zero != bytes(3) or at + 20 + length > end: return None
        payload = data[at + 20:at + 20 + length]
        return (kind, sequence, payload) if crc32c(payload + data[at:at + 16]) == crc else None
    def frames(self, data, at, end):  # None for bytes that are none, behind which it goes on
        while at < end and any(data[at:end]):
            frame, start = self.frame_at(data, at, end), at
            at = at + 20 + len(frame[2]) if frame else next((i for i in range(at + 1, end - 19) if self.frame_at(data, i, end)), end)
            yield start, frame
    def segments(self):
        found, last = [], 0
        for path in sorted(self.dir.glob("*.sluice"), key=lambda path: int(path.stem)):
            data, head = path.read_bytes(), None
            frame = self.frame_at(data, 8, len(data)) if data.startswith(b"SLUICE1\n") else None
            try: head = json.loads(frame[2]) if frame and frame[0] == 1 else None
            except ValueError: pass
            found.append((int(path.stem), data, frame, head if isinstance(head, dict) and "store" in head and "segment" in head else None))
        for head in (f[3] for f in found if f[3]):
            for end in ((head.get("log") or {}).get("begins") or {}).get("previous", []): self.claim(end)
        self.store = self.chain[0]["store"] if self.chain else next((f[3]["store"] for f in found if f[3]), None)
        if not found and not self.chain: self.wrong.append("no segments")
        for i, (number, data, frame, head) in enumerate(found):
            previous = next((f[3] for f in found[i + 1:] if f[3]), {}).get("previous")
            self.segment(number, data, frame, head, previous["offset"] if previous and previous["segment"] == number else None, last)
            last = number
        self.count["segments"], self.count["logs"] = len(found), len(self.logs)
    def head(self, number, sequence, head, last):
        gone, log, previous, first = range(last + 1, number), head.get("log"), head.get("previous"), self.next or 1
        if head["store"] != self.store or head["segment"] != number: self.wrong.append(f"segment {number} is another one")
        if last and not previous and not head.get("apart") or previous and not gone and previous["segment"] != last:
            self.wrong.append(f"segment {number} follows another one")
        if not head.get("apart") and (gone or sequence > first): self.holes.append((first, max(first, sequence), gone))
        self.next = max(self.next or 0, sequence)
        if not log or not re.fullmatch(ULID, log["id"]):
            if self.log: self.wrong.append(f"segment {number} is of no log")
            self.log = None
            return
        if log["id"] != (self.log and self.log.name) and log["id"] in self.logs: self.wrong.append(f"log {log['id']} goes on")
        self.log = self.logs.setdefault(log["id"], Log(log["id"], log["first"], self.dir))
        if log["first"] != self.log.first or bool(log.get("begins")) != (log["first"] == sequence):
            self.wrong.append(f"segment {number}: another first record of its log")
    def segment(self, number, data, frame, head, end, last):
        if not data.startswith(b"SLUICE1\n"): self.wrong.append(f"segment {number} does not begin as one")
        if head: self.head(number, frame[1], head, last)
        elif any(data[8:]): self.wrong.append(f"segment {number} has no head")
        limit, at = len(data) if end is None else min(end, len(data)), 8
        for at, frame in list(self.frames(data, 8, limit)):
            if frame: self.frame(number, *frame)
            elif end is None and not any(self.frame_at(data, i, limit) for i in range(at + 1, limit - 19)):
                self.tails.append((number, at, len(data[at:].rstrip(b"\0")), not (self.log and self.log.stopped)))
            else: self.wrong.append(f"segment {number}: the bytes from {at} on are no record")
        if end is not None and len(data) < end: self.wrong.append(f"segment {number} ends before byte {end}")
        if end is not None and data[end:].rstrip(b"\0"): self.tails.append((number, end, len(data[end:].rstrip(b"\0")), False))
    def claim(self, end):
        try: log, size, root, ended = end["log"], end["size"], b64(end["root"]), end["ended"]
        except (KeyError, ValueError, TypeError): return self.wrong.append("a log is named in no known form")
        self.claims.append((log, size, ended))
        self.marks[log].append((size, root, "log"))
    def frame(self, segment, kind, sequence, payload):
        if sequence < (self.next or 0): return self.wrong.append(f"record {sequence} is twice or out of order")
        hole = self.holes and self.holes[-1][1] == sequence
        if self.next is not None and sequence > self.next and not hole: self.holes.append((self.next, sequence, range(0)))
        elif self.log and self.log.first + len(self.log.leaves) < sequence and not hole: self.wrong.append(f"record {sequence}: log without its beginning")
        self.next, self.count["records"] = sequence + 1, self.count["records"] + 1
        if not self.log: self.count["outside"] += 1
        elif sequence >= self.log.first: self.log.put(sequence, sha(bytes([0, kind]) + payload), segment, kind == 3)
        try:
            if kind in (1, 4, 5, 6, 7, 8, 9, 10, 12): self.told(kind, json.loads(payload))
            elif kind in (37, 38): self.body(kind, sequence, payload)
        except (ValueError, KeyError, TypeError, struct.error): self.wrong.append(f"record {sequence} is not in the form of its kind")
    def told(self, kind, said):
        at = (said["at"]["segment"], said["at"]["offset"]) if kind in (4, 5) else None
        if kind == 4: self.recovered[at] = said["bytes"]
        if kind == 5: self.given_up[at] = said.get("unproven")
        if kind == 6: self.deleted.add(said["segment"])
        if kind == 7: self.claim(said)
        if kind == 8 and note(said["certificate"])[0] not in [c["text"] for c in self.chain]: self.wrong.append("a certificate is not in keys")
        if kind == 12: self.erased |= {n for v in said.values() for n in (v if isinstance(v, list) else [v]) if isinstance(n, int)}
        if kind == 10:
            if not (path := self.dir / f"{said['number']:012}.key").exists(): self.missing[path.name] = said["number"], self.erased
            elif sha(path.read_bytes()).hex() != said["file_sha256"]: self.wrong.append(f"{path.name} is another key")
    def body(self, kind, sequence, payload):
        if kind == 38: return self.diverted.update({struct.unpack_from("<QQ", payload): sha(payload[16:])})
        stored, file, place = struct.unpack_from("<IQQ", payload, 36)
        path, found = self.dir / f"{file:012}.bodies", self.diverted.pop((file, place), None)
        if not found and not path.exists(): self.missing[path.name] = file, set()
        elif (found or sha(path.read_bytes()[place:place + stored])) == payload[56:] and len(payload) == 88: self.count["bodies"] += 1
        else: self.wrong.append(f"{path.name}, byte {place}: not what record {sequence} refers to")
    def end(self):
        for name, log in self.logs.items():
            most = max((m[0] for m in self.marks[name] if m[2] != "log"), default=0)
            if len(log.leaves) < most:
                gone = next((h[2] for h in self.holes if h[2] and h[2].start == log.segment + 1), range(0))
                self.holes.append((log.first + len(log.leaves), log.first + most, gone))
                log.leaves += [None] * (most - len(log.leaves))
            log.judge(self.marks[name], self)
            if name != list(self.logs)[-1] and name not in [c[0] for c in self.claims]: self.wrong.append(f"no later log names log {name}")
        for first, end, gone in self.holes:
            lost = any(u and u[0] <= first and end <= u[1] + 1 for u in self.given_up.values())
            (self.said if gone and set(gone) <= self.deleted or lost and not gone else self.wrong).append(f"records {first} to {end - 1} are not there")
        for name, size, ended in self.claims:
            if (log := self.logs.get(name)) and (len(log.leaves) < size or ended and len(log.leaves) > size): self.wrong.append(f"log {name} is not as long as another says")
        excused = any(h[2] for h in self.holes) and all(set(h[2]) <= self.deleted for h in self.holes)
        for name in (n for n in set(self.marks) - set(self.logs) if any(m[0] for m in self.marks[n])):
            (self.said if excused else self.wrong).append(f"log {name} is not there")
        for number, at, size, open_ in self.tails:
            known = open_ or self.recovered.get((number, at)) == size or (number, at) in self.given_up
            (self.said if known else self.wrong).append(f"segment {number}, byte {at}: {size} bytes are no record")
        for name, (number, erased) in self.missing.items():
            (self.said if number in self.deleted | erased else self.wrong).append(f"{name} is not there")
        if self.first and not self.chain: self.wrong.append("no chain of keys begins with the one given")

class Log:
    def __init__(self, name, first, store):
        self.name, self.first, self.dir, self.leaves, self.segment, self.stopped = name, first, store / "logs" / name / "tile", [], 0, False
    def put(self, sequence, leaf, segment, stopped):
        self.leaves += [None] * min(sequence - self.first - len(self.leaves), 1 << 24) + [leaf]
        self.segment, self.stopped = segment, stopped
    def on_disk(self, index):
        for file in [path := self.dir / "0" / tile_name(index // 256)] + sorted(path.parent.glob(path.name + ".p/*"), key=lambda path: -int(path.name)):
            data, at = file.read_bytes() if file.is_file() else b"", index % 256 * 32
            if len(data) >= at + 32: return data[at:at + 32]
    def judge(self, marks, store):
        marks, edge, good, here, waiting = sorted((m for m in marks if m[0]), key=lambda m: (m[0], m[2] == "log")), [], (0, []), 0, 0
        hashes = [leaf or self.on_disk(i) for i, leaf in enumerate(self.leaves)]
        if None in hashes: return store.wrong.append(f"log {self.name}: its tiles lack hashes of records that are not there")
        for size, leaf in enumerate(hashes, 1):
            edge, here = push(edge, size - 1, leaf), here + (self.leaves[size - 1] is not None)
            while marks and marks[0][0] == size:
                _, root, by = marks.pop(0)
                if root_of(edge) != root:
                    if good[0] == size and not store.wrong.append(f"log {self.name}: another tree of {size} leaves"): continue
                    edge = good[1]
                    for i in range(good[0], size): hashes[i] = self.on_disk(i) or hashes[i]
                    for i in range(good[0], size): edge = push(edge, i, hashes[i])
                    changed = [i for i in range(good[0], size) if self.leaves[i] not in (None, hashes[i])]
                    if root_of(edge) != root: return store.wrong.append(f"log {self.name}: a record before {self.first + size} was changed")
                    store.wrong += [f"record {self.first + i} was changed" for i in changed]
                    here -= len(changed)
                waiting, here, good = waiting + here, 0, (size, edge)
                if by != "log": store.count["proven"], waiting = store.count["proven"] + waiting, 0
                store.count["checkpoints"] += by == "checkpoint"
        for level in range(8):
            for index in range((len(hashes) + 255) // 256):
                own, path = b"".join(hashes[index * 256:index * 256 + 256]), self.dir / str(level) / tile_name(index)
                if len(own) < 8192: path = path.with_name(f"{path.name}.p") / str(len(own) // 32)
                if path.exists() and path.read_bytes() != own: store.wrong.append(f"{path}: not the hashes of the records")
            whole = (functools.reduce(lambda e, i: push(e, i, hashes[at + i]), range(256), []) for at in range(0, len(hashes) - 255, 256))
            hashes = [edge[0] for edge in whole]
def tile_name(index):
    groups = re.findall("...", str(index).zfill(-(-len(str(index)) // 3) * 3))
    return "/".join(["x" + group for group in groups[:-1]] + groups[-1:])

if __name__ == "__main__":
    store = Store(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None)
    counts = {name: store.count[name] for name in ("segments", "logs", "records", "proven", "outside", "checkpoints", "bodies")}
    print(json.dumps({"good": not store.wrong, **counts, "keys": len(store.chain), "wrong": store.wrong, "said": store.said}))
    sys.exit(1 if store.wrong else 0)
