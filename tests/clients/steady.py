# Steady load: four threads ask one request after another, each with a path of its own, and say how each went.
# Ends when the file argv[2] is there, after two minutes at the latest. A new connection each time.
import http.client
import os
import ssl
import sys
import threading
import time

host, stop = sys.argv[1:3]
end = time.monotonic() + 120
context = ssl.create_default_context()
lock = threading.Lock()


def say(*words):
    with lock:
        print(*words, flush=True)


def work(thread):
    n = 0
    while time.monotonic() < end and not os.path.exists(stop):
        n += 1
        path = f"/bytes/100?n={thread}-{n}"
        try:
            connection = http.client.HTTPSConnection(host, context=context, timeout=30)
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read()
            connection.close()
            if answer.status == 200 and len(body) == 100:
                say("ok", path)
            else:
                say("refused", path, answer.status)
        except OSError as error:
            say("error", path, type(error).__name__, error)
            time.sleep(0.01)  # a refused connect() returns at once: do not spin
        except http.client.HTTPException as error:
            say("error", path, type(error).__name__, error)


threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
