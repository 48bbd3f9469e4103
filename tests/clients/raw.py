# A client that misbehaves: raw.py MODE ADDRESS PORT NAME. Prints what came back, one line, and how it ended.
import socket
import ssl
import sys

mode, address, port, name = sys.argv[1:5]
PATIENCE = 40


def connect():
    return socket.create_connection((address, int(port)), timeout=PATIENCE)


def client_hello(server_name):
    """The bytes of a ClientHello; the name is put in afterwards, so that it may be none."""
    placeholder = "a" * (len(server_name) - 5) + ".test"
    out = ssl.MemoryBIO()
    tls = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), out, server_hostname=placeholder)
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        pass
    hello = out.read()
    assert hello.count(placeholder.encode()) == 1
    return hello.replace(placeholder.encode(), server_name.encode("latin-1"))


def until_end(io, limit=1 << 20):
    """Reads until the other side closes, at most `limit` bytes; prints what the end was."""
    got = b""
    try:
        while len(got) < limit:
            block = io.recv(65536)
            if not block:
                print("closed after", len(got), got[:40])
                return
            got += block
        print("still open after", len(got))
    except ConnectionResetError:
        print("reset after", len(got), got[:40])
    except TimeoutError:
        print("timeout after", len(got), got[:40])


def tls():
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context.wrap_socket(connect(), server_hostname=name)


if mode == "garbage":
    io = connect()
    io.sendall(bytes(range(128, 256)) * 8)
    until_end(io)
elif mode == "silent":
    until_end(connect())
elif mode == "half-hello":
    io = connect()
    io.sendall(client_hello(name)[:100])
    until_end(io)
elif mode == "half-hello-close":
    io = connect()
    io.sendall(client_hello(name)[:100])
    io.close()
    print("closed by us")
elif mode == "bad-name":
    for bad in ["exa mple.test", "-.example.test", "a..example.test", "nul\0.example.test", "203.0.113.10", "b\xfccher.test"]:
        io = connect()
        io.sendall(client_hello(bad))
        until_end(io)
elif mode == "slow-hello":
    io = connect()
    hello = client_hello(name)
    for at in range(0, len(hello)):
        io.sendall(hello[at:at + 1])
    print(io.recv(5)[:3])
    io.close()
elif mode == "smuggle":
    head = f"POST /echo HTTP/1.1\r\nHost: {name}\r\n"
    for payload in [
        head + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n",
        head + "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        head + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        head + "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        f"GET /a HTTP/1.1\nHost: {name}\n\nGET /smuggled HTTP/1.1\nHost: {name}\n\n",
        "GET / HTTP/1.1\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: {name}\r\nHost: other.example.test\r\n\r\n",
        f"GET / HTTP/1.1\r\n Host: {name}\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost : {name}\r\n\r\n",
        f"GET http://other.example.test/ HTTP/1.1\r\nHost: {name}\r\n\r\n",
        head + "Content-Length: +5\r\n\r\nhello",
    ]:
        io = tls()
        io.sendall(payload.encode())
        io.settimeout(10)
        try:
            first = io.recv(65536)
            print(first.split(b"\r\n")[0].decode() or "closed")
        except (ConnectionResetError, TimeoutError, ssl.SSLError) as error:
            print(type(error).__name__)
        io.close()
elif mode == "slow-request":
    io = tls()
    for byte in f"GET /bytes/3 HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n":
        io.sendall(byte.encode())
    got = b""
    while block := io.recv(65536):
        got += block
    print(got.split(b"\r\n")[0].decode(), got[-3:])
elif mode == "slow-reader":
    # Asks for a great deal and reads no more than the beginning, until its standard input ends.
    io = tls()
    io.sendall(f"GET /bytes/{1 << 30} HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
    print(io.recv(12), flush=True)
    sys.stdin.read()
    io.close()
    print("closed by us")
elif mode == "greeted":
    # The server speaks first.
    io = connect()
    print(io.recv(100))
    io.sendall(b"HELO there\r\n")
    print(io.recv(100))
    io.close()
else:
    sys.exit("no such mode")
