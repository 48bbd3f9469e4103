"""Requests one after another on four threads, each on a connection of its own: a line per answer in /tmp/load.ok, one
with the reason per failure in /tmp/load.failed. An answer that is not whole is a failure. With /tmp/streams also two
threads that read an answer which lasts as long as the server likes. In the end /tmp/load.times says in milliseconds for how long nobody got
through while somebody was refused (refused), and how long an answer took at most (waited; streams do not count)."""

import os
import signal
import sys
import threading
import time
import urllib.request

ended = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: ended.set())
lock = threading.Lock()
ok = open("/tmp/load.ok", "a", buffering=1)
failed = open("/tmp/load.failed", "a", buffering=1)
tries = []


def greetings(body):
    return body == b"hello\n" * (len(body) // 6) and len(body) >= 30 * 6


def ask(thread, path, is_whole):
    count = 0
    while not ended.is_set():
        count += 1
        began = time.monotonic()
        try:
            with urllib.request.urlopen(f"https://outside.example/{path}/{thread}/{count}", timeout=30) as answer:
                whole = answer.status == 200 and is_whole(answer.read())
            line, file = f"{thread}/{count}", ok if whole else failed
        except Exception as error:
            line, file = f"{thread}/{count} {error!r}", failed
            # Refused at once: do not turn the outage into a busy loop.
            ended.wait(0.02)
        with lock:
            file.write(line + "\n")
            tries.append((began, time.monotonic(), file is ok, path))


threads = [threading.Thread(target=ask, args=(n, "load", b"hello\n".__eq__)) for n in range(4)]
if os.path.exists("/tmp/streams"):
    threads += [threading.Thread(target=ask, args=(n, "stream", greetings)) for n in range(4, 6)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
answers = sorted(end for _, end, good, _ in tries if good)
refused = waited = 0
for began, end, good, path in tries:
    if good and path == "load":
        waited = max(waited, end - began)
    elif not good:
        before = max((at for at in answers if at <= end), default=began)
        after = min((at for at in answers if at > end), default=end)
        refused = max(refused, after - before)
with open("/tmp/load.times", "w") as file:
    file.write(f"refused={refused * 1000:.0f}\nwaited={waited * 1000:.0f}\n")
sys.exit(0)
