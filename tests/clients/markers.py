# A tagged job that never gives up: tries to get a marker out in every plain way, over and over, for as long as its
# standard input is open. argv: marker, a file to which it adds one byte for each answered request, a name of the world
# with an HTTP server, an IPv6 address, an address where nobody listens.
import http.client
import os
import socket
import sys
import threading

marker, answered, host, six, nobody = sys.argv[1:6]
over = threading.Event()
out = os.open(answered, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)


def forever(pause):
    def again(work):
        def loop():
            while not over.wait(pause):
                try:
                    work()
                except (OSError, http.client.HTTPException):
                    pass

        threading.Thread(target=loop).start()
        return work

    return again


def ask(path, patience):
    connection = http.client.HTTPConnection(host, 80, timeout=patience)
    try:
        connection.request("GET", path, headers={"x-marker": marker})
        answer = connection.getresponse()
        if answer.status == 200 and answer.read():
            os.write(out, b".")
    finally:
        connection.close()


@forever(0.003)
def short():
    ask(f"/bytes/100?{marker}", 5)


@forever(0.003)
def short_too():
    ask(f"/bytes/10?{marker}", 5)


@forever(0.01)
def long():
    ask(f"/sse?n=40&ms=25&{marker}", 10)


@forever(0.005)
def plain_six():
    with socket.create_connection((six, 443), timeout=1) as s:
        s.sendall(marker.encode())
        s.recv(1)


@forever(0.02)
def to_nobody():
    with socket.create_connection((nobody, 7), timeout=1) as s:
        s.sendall(marker.encode())


@forever(0.01)
def datagrams():
    for family, address in ((socket.AF_INET, nobody), (socket.AF_INET6, six)):
        for port in (53, 443, 7777):
            with socket.socket(family, socket.SOCK_DGRAM) as s:
                try:
                    s.sendto(marker.encode(), (address, port))
                except OSError:
                    pass


print("started", flush=True)
sys.stdin.read()
over.set()
