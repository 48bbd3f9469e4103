# A server that answers once more than it is asked: behind the answer to the first request on a connection stands another, which
# nobody asked for, with the credential that came.
#   python3 splitter.py ADDRESS PORT KEY CERT
import socket, ssl, sys, threading

address, port, key, cert = sys.argv[1:]
context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
context.load_cert_chain(cert, key)


def whole(body):
    return b'HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s' % (len(body), body)


def serve(plain):
    with context.wrap_socket(plain, server_side=True) as io:
        first, head = True, b''
        while True:
            while b'\r\n\r\n' not in head:
                more = io.recv(65536)
                if not more:
                    return
                head += more
            one, _, head = head.partition(b'\r\n\r\n')
            keys = b','.join(line for line in one.split(b'\r\n') if line.lower().startswith(b'authorization:'))
            split = b'/split' in one.split(b'\r\n')[0]
            # One write: both are there when the first is read.
            io.sendall(whole(b'answer\n') + (whole(b'not asked for: ' + keys) if first and split else b''))
            first = False


def quietly(plain):
    try:
        serve(plain)
    except OSError:
        pass


listener = socket.create_server((address, int(port)))
print('ready', flush=True)
while True:
    threading.Thread(target=quietly, args=(listener.accept()[0],), daemon=True).start()
