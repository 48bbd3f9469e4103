# requests: two requests over one session, the second a POST.
import sys
import requests

with requests.Session() as session:
    first = session.get(sys.argv[1] + "/bytes/1000", timeout=20)
    print(first.status_code, len(first.content))
    second = session.post(sys.argv[1] + "/echo", json={"a": 1}, timeout=20)
    print(second.status_code, second.json())
