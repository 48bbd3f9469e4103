"""A stream of events as a Python job reads it: how long each was on its way, by the clock it shares with its sender.

URL COUNT GAP_MS; prints one JSON object with the delays in microseconds."""

import http.client
import json
import ssl
import sys
import time
from urllib.parse import urlsplit

url = urlsplit(sys.argv[1])
count, gap = int(sys.argv[2]), int(sys.argv[3])
connection = http.client.HTTPSConnection(url.hostname, url.port, context=ssl.create_default_context())
connection.request("GET", f"/sse?n={count}&ms={gap}")
answer = connection.getresponse()
delays = []
while len(delays) < count:
    line = answer.readline()
    now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    if not line:
        sys.exit("the stream ended early")
    _, found, stamp = line.partition(b"at=")
    if found:
        delays.append((now - int(stamp.split()[0])) / 1e3)
print(json.dumps({"delays_us": delays}))
