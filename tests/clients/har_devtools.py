"""Has the developer tools of a headless Chromium import an HTTP archive: prints what they make of each entry as JSON:
[URL, method, status, media type, number of WebSocket frames]."""

import json
import re
import subprocess
import sys
import tempfile
import time
import urllib.request

from websockets.sync.client import connect

PAGE = "devtools://devtools/bundled/devtools_app.html"
IMPORT = """(async () => {
    const har = await import('devtools://devtools/bundled/models/har/har.js');
    const log = new har.HARFormat.HARRoot(JSON.parse(%s)).log;
    const requests = har.Importer.Importer.requestsFromHARLog(log);
    return JSON.stringify(requests.map(r => [r.url(), r.requestMethod, r.statusCode, r.mimeType ?? '', r.frames().length]));
})()"""


def main(archive):
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        chromium = subprocess.Popen(
            ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage",
             "--remote-debugging-port=0", "--remote-allow-origins=*", "--user-data-dir=" + profile, "about:blank"],
            stderr=subprocess.PIPE, text=True)
        try:
            port = next(found.group(1) for line in chromium.stderr
                        if (found := re.search(r"ws://127\.0\.0\.1:(\d+)/", line)))
            print(imported(port, archive))
        finally:
            chromium.kill()
            chromium.wait()


def imported(port, archive):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    end = time.monotonic() + 30
    page = None
    while page is None and time.monotonic() < end:
        all_of_it = json.load(opener.open(f"http://127.0.0.1:{port}/json/list", timeout=10))
        page = next((one for one in all_of_it if one["type"] == "page"), None)
    with connect(page["webSocketDebuggerUrl"], max_size=None, proxy=None) as socket:
        number = 0

        def call(method, **parameters):
            nonlocal number
            number += 1
            socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
            while True:
                said = json.loads(socket.recv(timeout=30))
                if said.get("id") == number:
                    return said

        call("Page.navigate", url=PAGE)
        last = None
        while time.monotonic() < end:
            # While the page changes there is nobody to ask, and the tools' modules are not there yet.
            last = call("Runtime.evaluate", expression=IMPORT % json.dumps(archive), awaitPromise=True, returnByValue=True)
            value = last.get("result", {}).get("result", {}).get("value")
            if isinstance(value, str):
                return value
        sys.exit(f"not imported: {last}")


main(open(sys.argv[1], encoding="utf-8").read())
