# urllib, as every script on a plain Debian has it.
import sys
import urllib.request

with urllib.request.urlopen(sys.argv[1], timeout=20) as answer:
    print(answer.status, len(answer.read()))
