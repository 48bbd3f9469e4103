# A WebSocket conversation: text, binary beyond one frame's short length, ping, close.
import sys
from websockets.sync.client import connect

with connect(sys.argv[1], open_timeout=20, compression=None) as socket:
    socket.send("hello websocket")
    print(socket.recv(timeout=20))
    socket.send(b"x" * 70000)
    print(len(socket.recv(timeout=20)))
    print(socket.ping().wait(timeout=20))
print("closed", socket.close_code)
