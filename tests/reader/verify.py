#!/usr/bin/env python3
"""Verifies a store of Sluice by docs/store.md alone: python3 verify.py DIR [KEY]. Prints one JSON object, exits 0 for good.
A second opinion on `sluice audit verify`, written without its code. It says nothing of clocks and silence."""
import collections, fcntl, functools, json, os, pathlib, re, struct, sys

from notes import *

class Store:
    def __init__(self, path, first):
        self.dir, self.first, self.wrong, self.said, self.count = pathlib.Path(path), first, [], [], collections.Counter()
        self.chain, self.marks, self.claims, self.logs, self.holes, self.tails = [], collections.defaultdict(list), [], {}, [], []
        self.deleted, self.erased, self.missing, self.diverted, self.recovered, self.given_up, self.doubts = [], [], {}, {}, {}, [], []
        self.log = self.next = self.last = self.newest = None
        try:  # Somebody holds a lock on it: it is being written (F_OFD_GETLK).
            with open(self.dir / "lock", "rb", opener=lambda n, f: os.open(n, f | os.O_NONBLOCK)) as lock: self.written = fcntl.fcntl(lock, 36, struct.pack("hhqqi4x", 1, 0, 0, 0, 0))[0] != 2
        except OSError: self.written = False
        for work in self.keys, self.checkpoints, self.segments, self.end: work()
    def mark(self, log, *mark):
        self.marks[log].append(mark) if mark[0] <= LARGEST else self.wrong.append(f"log {log} has no {mark[0]} records")
    def keys(self):
        path = self.dir / "keys"
        for text, torn in split(read(path) if path.exists() else b""):
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
        self.chain.append({"store": match[1], "key": key, "pins": pins, "text": parsed[0], "time": moment(match[4])})
        for log, tree in pins.items(): self.mark(log, *tree, "pin", max(len(self.chain) - 2, 0))
    def strays(self, keys, time):
        return time < self.chain[keys[0]]["time"] - MINUTE or any(time > c["time"] + MINUTE for c in self.chain[keys[1] + 1:keys[1] + 2])
    def checkpoints(self):
        for path in sorted(self.dir.glob("logs/*")):
            best, all_, one = (0, 0), path / "checkpoints", path / "checkpoint"
            for file in filter(pathlib.Path.exists, (all_, one)):
                for text, torn in split(read(file) + (b"\n" if file == one else b"")):
                    try:
                        if torn and file == all_:
                            self.said.append(f"{file}: cut short")
                            continue
                        number, size, root = self.checkpoint(text, path.name)
                        if file == all_ and (size < best[0] or number < best[1]): raise Bad("smaller than the one before")
                        if file == all_ or size > best[0]: self.mark(path.name, size, root, "checkpoint", number)
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
        if self.strays((number, number), time := moment(match[5])): raise Bad("of another time than its key")
        self.last = max(self.last or time, time)
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
            try: data, head = (read(path), None) if int(path.stem) <= LARGEST else None
            except (OSError, ValueError, TypeError):
                self.wrong.append(f"{path}: no segment")
                continue
            frame = self.frame_at(data, 8, len(data)) if data.startswith(b"SLUICE1\n") else None
            try: head = json.loads(frame[2]) if frame and frame[0] == 1 else None
            except ValueError: pass
            found.append((int(path.stem), data, frame, head if isinstance(head, dict) and "store" in head and "segment" in head else None))
        for head in (f[3] for f in found if f[3]):
            for end in ((head.get("log") or {}).get("begins") or {}).get("previous", []): self.claim(end, (head["log"]["id"], 0))
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
        apart, front = head.get("apart"), None if self.next else 2000 if head.get("apart") else 1
        gone = range(0) if apart and not front else gone
        if gone or sequence > first and not (apart and not front and sequence - first <= 2 << 32): self.holes.append((first, max(first, sequence), gone, front))
        self.next = max(self.next or 0, sequence)
        if not log or not re.fullmatch(ULID, log["id"]):
            if self.log: self.wrong.append(f"segment {number} is of no log")
            self.log = None
            return
        if log["id"] != (self.log and self.log.name) and log["id"] in self.logs: self.wrong.append(f"log {log['id']} goes on")
        if log["id"] not in self.logs:
            if self.logs and not (log.get("begins") or {}).get("previous"): self.wrong.append(f"log {log['id']} names none before it")
            signed_by = [m[3] for m in self.marks[log["id"]] if m[2] != "log" and m[0]]
            self.logs[log["id"]] = new = Log(log["id"], log["first"], self.dir)
            new.keys, new.promised = signed_by and (min(signed_by), max(signed_by)), max((m[0] for m in self.marks[new.name] if m[2] != "log"), default=0)
        self.log = self.logs[log["id"]]
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
            else: self.doubts.append((f"segment {number}: the bytes from {at} on are no record", self.next or 0))
        if end is not None and len(data) < end: self.doubts.append((f"segment {number} ends before byte {end}", self.next or 0))
        if end is not None and data[end:].rstrip(b"\0"): self.tails.append((number, end, len(data[end:].rstrip(b"\0")), False))
    def claim(self, end, by):
        try: log, size, root, ended = end["log"], end["size"], b64(end["root"]), end["ended"]
        except (KeyError, ValueError, TypeError): return self.wrong.append("a log is named in no known form")
        self.claims.append((log, size, ended))
        self.mark(log, size, root, "log", by)
    def frame(self, segment, kind, sequence, payload):
        if sequence < (self.next or 0) or sequence > LARGEST: return self.wrong.append(f"record {sequence} is twice or out of order")
        hole = self.holes and self.holes[-1][1] == sequence
        if self.next is not None and sequence > self.next and not hole: self.holes.append((self.next, sequence, range(0), None))
        elif self.log and self.log.first + len(self.log.leaves) < sequence and not hole: self.wrong.append(f"record {sequence}: log without its beginning")
        self.next, self.count["records"] = sequence + 1, self.count["records"] + 1
        leaf = self.log and (self.log.name, sequence - self.log.first)
        if not self.log: self.count["outside"] += 1
        elif leaf[1] < len(self.log.leaves): return self.wrong.append(f"record {sequence} is not the next of its log")
        else: self.log.put(sequence, sha(bytes([0, kind]) + payload), segment, kind == 3)
        try:
            if kind not in (35, 37, 38) and (time := TIMED.search(payload)):
                self.newest = max(self.newest or moment(time[1].decode()), time := moment(time[1].decode()))
                if leaf and leaf[1] < self.log.promised and self.strays(self.log.keys, time) and self.strays(self.log.keys, moment(json.loads(payload)["time"])):
                    self.wrong.append(f"record {sequence} is of another time than the keys of its log")
            if kind in (1, 4, 5, 6, 7, 8, 9, 10, 12): self.told(kind, json.loads(payload), leaf)
            elif kind in (37, 38): self.body(kind, sequence, payload)
        except (ValueError, KeyError, TypeError, struct.error): self.wrong.append(f"record {sequence} is not in the form of its kind")
    def told(self, kind, said, leaf):
        at = (said["at"]["segment"], said["at"]["offset"]) if kind in (4, 5) else None
        if kind == 4: self.recovered[at] = said["bytes"]
        if kind == 5: self.given_up.append((at, said.get("unproven"), leaf))
        if kind == 6: self.deleted.append((said["segment"], leaf))
        if kind == 7: self.claim(said, leaf)
        if kind == 8 and note(said["certificate"])[0] not in [c["text"] for c in self.chain]: self.wrong.append("a certificate is not in keys")
        if kind == 12: self.erased += [(n, leaf) for v in said.values() for n in (v if isinstance(v, list) else [v]) if isinstance(n, int)]
        if kind == 10:
            if not (path := self.dir / f"{said['number']:012}.key").exists(): self.missing[path.name] = said["number"], True
            elif sha(read(path)).hex() != said["file_sha256"]: self.wrong.append(f"{path.name} is another key")
    def body(self, kind, sequence, payload):
        if kind == 38: return self.diverted.update({struct.unpack_from("<QQ", payload): sha(payload[16:])})
        stored, file, place = struct.unpack_from("<IQQ", payload, 36)
        path, found = self.dir / f"{file:012}.bodies", self.diverted.pop((file, place), None)
        if not found and not path.exists(): self.missing[path.name] = file, False
        elif (found or sha(read(path, 1 << 36)[place:place + stored])) == payload[56:88] and len(payload) in (88, 96): self.count["bodies"] += 1
        else: self.doubts.append((f"{path.name}, byte {place}: not what record {sequence} refers to", sequence))
    def holds(self, leaf):
        """Whether a signature covers a record, or the log of one that it covers."""
        return bool(leaf) and leaf[0] in self.logs and leaf[1] < self.logs[leaf[0]].bound
    def end(self):
        names, promised = list(self.logs), {name: log.promised for name, log in self.logs.items()}
        for name, log in self.logs.items():
            if len(log.leaves) < promised[name]:
                self.holes.append((log.first + len(log.leaves), log.first + promised[name], range(0), None))
                log.leaves += [None] * min(promised[name] - len(log.leaves), 1 << 24)
            log.judge(self.marks[name], self)
            if name != names[-1] and name not in [c[0] for c in self.claims]: self.wrong.append(f"no later log names log {name}")
        for log in reversed(self.logs.values()):
            log.bound = max([log.signed] + [size for by, _, size in log.late if self.holds(by)])
        fresh = bool(self.newest and self.last) and self.newest - self.last <= MINUTE
        counts = lambda leaf: self.holds(leaf) or self.written and fresh and bool(leaf) and leaf[0] == names[-1]
        deleted, erased = ({n for n, leaf in words if counts(leaf)} for words in (self.deleted, self.erased))
        was_deleted = lambda gone, front: bool(gone and front) and any(gone.stop - front <= n < gone.stop for n in deleted)
        def lost(first, end):  # The disk failed before they were signed, and a record says so.
            bound = lambda name: max([promised[name]] + [size for log, size, _ in self.claims if log == name])
            return any(u and u[0] <= first < end <= u[1] + 1 and counts(leaf) for _, u, leaf in self.given_up) and not any(
                bound(name) and first < log.first + bound(name) and log.first < end for name, log in self.logs.items())
        for text, record in self.doubts: (self.said if lost(record, record + 1) else self.wrong).append(text)
        for first, end, gone, front in self.holes:
            (self.said if was_deleted(gone, front) or lost(first, end) and not gone else self.wrong).append(f"records {first} to {end - 1} are not there")
        for name, size, ended in self.claims:
            if (log := self.logs.get(name)) and (len(log.leaves) < size or ended and len(log.leaves) > size and not lost(log.first + size, log.first + len(log.leaves))):
                self.wrong.append(f"log {name} is not as long as another says")
        age = lambda name: (min((m[3] for m in self.marks[name] if m[0] and m[2] != "log"), default=-1), name)
        older = lambda name: bool(names) and age(names[0])[0] >= 0 and (age(name) < age(names[0]) if age(name)[0] >= 0 else name < names[0])
        for name in (n for n in set(self.marks) - set(self.logs) if any(m[0] for m in self.marks[n])):
            (self.said if older(name) and any(was_deleted(*h[2:]) for h in self.holes) else self.wrong).append(f"log {name} is not there")
        for number, at, size, open_ in self.tails:
            known = open_ or self.recovered.get((number, at)) == size or any(given[0] == (number, at) for given in self.given_up)
            (self.said if known else self.wrong).append(f"segment {number}, byte {at}: {size} bytes are no record")
        there = sorted(int(path.stem) for path in self.dir.glob("*.sluice"))[1:]
        for name, (number, is_key) in self.missing.items():
            (self.said if number in deleted and number not in there or is_key and number in erased else self.wrong).append(f"{name} is not there")
        if self.first and not self.chain: self.wrong.append("no chain of keys begins with the one given")
        self.count["unproven"] = self.count["outside"]
        for name, log in self.logs.items():
            claimed = max((size for log_, size, _ in self.claims if log_ == name), default=None)
            if claimed is not None and lost(log.first + claimed, log.first + len(log.leaves)): continue
            unsigned = log.rest + sum(count for by, count, _ in log.late if not self.holds(by))
            last = name == names[-1] or self.written and log.signed and not log.stopped
            if not (last and fresh and (self.written or unsigned * 20 < self.count["records"])): self.count["unproven"] += unsigned

class Log:
    def __init__(self, name, first, store):
        self.name, self.first, self.dir, self.leaves, self.segment, self.stopped = name, first, store / "logs" / name / "tile", [], 0, False
        self.late, self.rest, self.signed, self.bound = [], 0, 0, 0
    def put(self, sequence, leaf, segment, stopped):
        self.leaves += [None] * min(sequence - self.first - len(self.leaves), 1 << 24) + [leaf]
        self.segment, self.stopped = segment, stopped
    def on_disk(self, index):
        for file in [path := self.dir / "0" / tile_name(index // 256)] + sorted(path.parent.glob(path.name + ".p/*"), key=lambda path: -int(path.name)):
            data, at = read(file, 8192) if file.is_file() else b"", index % 256 * 32
            if len(data) >= at + 32: return data[at:at + 32]
    def judge(self, marks, store):
        marks, edge, good, here = sorted((m for m in marks if m[0]), key=lambda m: (m[0], m[2] == "log")), [], (0, []), 0
        hashes = [leaf or self.on_disk(i) for i, leaf in enumerate(self.leaves)]
        if None in hashes and hashes.index(None) < self.promised: return store.wrong.append(f"log {self.name}: its tiles lack hashes of records that are not there")
        hashes = hashes[:hashes.index(None)] if None in hashes else hashes
        beyond = sum(leaf is not None for leaf in self.leaves[len(hashes):])
        for size, leaf in enumerate(hashes, 1):
            edge, here = push(edge, size - 1, leaf), here + (self.leaves[size - 1] is not None)
            while marks and marks[0][0] == size:
                _, root, by, whose = marks.pop(0)
                if root_of(edge) != root:
                    if good[0] == size and not store.wrong.append(f"log {self.name}: another tree of {size} leaves"): continue
                    edge = good[1]
                    for i in range(good[0], size): hashes[i] = self.on_disk(i) or hashes[i]
                    for i in range(good[0], size): edge = push(edge, i, hashes[i])
                    changed = [i for i in range(good[0], size) if self.leaves[i] not in (None, hashes[i])]
                    if root_of(edge) != root: return store.wrong.append(f"log {self.name}: a record before {self.first + size} was changed")
                    store.wrong += [f"record {self.first + i} was changed" for i in changed]
                    here -= len(changed)
                if by == "log": self.late.append((whose, here, size))
                else: store.count["proven"], self.late, self.signed = store.count["proven"] + here + sum(late[1] for late in self.late), [], size
                here, good = 0, (size, edge)
                store.count["checkpoints"] += by == "checkpoint"
        self.rest = here + beyond
        for level in range(8):
            for index in range((len(hashes) + 255) // 256):
                own, path = b"".join(hashes[index * 256:index * 256 + 256]), self.dir / str(level) / tile_name(index)
                if len(own) < 8192: path = path.with_name(f"{path.name}.p") / str(len(own) // 32)
                if path.exists() and read(path) != own: store.wrong.append(f"{path}: not the hashes of the records")
            whole = (functools.reduce(lambda e, i: push(e, i, hashes[at + i]), range(256), []) for at in range(0, len(hashes) - 255, 256))
            hashes = [edge[0] for edge in whole]
def tile_name(index):
    groups = re.findall("...", str(index).zfill(-(-len(str(index)) // 3) * 3))
    return "/".join(["x" + group for group in groups[:-1]] + groups[-1:])

if __name__ == "__main__":
    store = Store(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None)
    counts = {name: store.count[name] for name in ("segments", "logs", "records", "proven", "unproven", "outside", "checkpoints", "bodies")}
    good = not store.wrong and not store.count["unproven"] and store.count["proven"] > 0
    print(json.dumps({"good": good, **counts, "keys": len(store.chain), "wrong": store.wrong, "said": store.said}))
    sys.exit(0 if good else 1)
