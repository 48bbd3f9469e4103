"""Requests one after another on four threads, each on a connection of its own: a line per answer in /tmp/load.ok, one
with the reason per failure in /tmp/load.failed. An answer that is not whole is a failure."""

import signal
import sys
import threading
import urllib.request

ended = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: ended.set())
lock = threading.Lock()
ok = open("/tmp/load.ok", "a", buffering=1)
failed = open("/tmp/load.failed", "a", buffering=1)


def ask(thread):
    count = 0
    while not ended.is_set():
        count += 1
        try:
            with urllib.request.urlopen(f"https://outside.example/load/{thread}/{count}", timeout=30) as answer:
                whole = answer.status == 200 and answer.read() == b"hello\n"
            line, file = f"{thread}/{count}", ok if whole else failed
        except Exception as error:
            line, file = f"{thread}/{count} {error!r}", failed
            # Refused at once: do not turn the outage into a busy loop.
            ended.wait(0.02)
        with lock:
            file.write(line + "\n")


threads = [threading.Thread(target=ask, args=(n,)) for n in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
sys.exit(0)
