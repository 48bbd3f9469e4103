# httpx, synchronous, one client.
import sys
import httpx

with httpx.Client(timeout=20) as client:
    answer = client.get(sys.argv[1] + "/bytes/1000")
    print(answer.status_code, len(answer.content))
    with client.stream("GET", sys.argv[1] + "/sse?n=3&ms=10") as stream:
        events = [line for line in stream.iter_lines() if line.startswith("data:")]
    print(stream.status_code, len(events))
