"""Counts the packets that go to the server outside and do not come from the agent: what the server itself never hears of
too. Says so in /tmp/strays when it is ended; the lines before tell of the first ones."""

import signal
import socket
import sys

THROUGH, OUTSIDE = (socket.inet_aton(address) for address in ("203.0.113.254", "203.0.113.10"))
packets = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
packets.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 20)
seen = strays = 0


def end(*_):
    # PACKET_STATISTICS: packets, drops.
    lost = int.from_bytes(packets.getsockopt(263, 6, 8)[4:], sys.byteorder)
    with open("/tmp/strays", "a") as file:
        file.write(f"strays={strays}\nseen={seen}\nlost={lost}\n")
    sys.exit(0)


signal.signal(signal.SIGTERM, end)
open("/tmp/strays", "w").close()
while True:
    packet, _ = packets.recvfrom(65536)
    source, target = packet[12:16], packet[16:20]
    if target == OUTSIDE:
        seen += 1
        # What the server sends to itself is its answer to whoever dialled from its own address: a stray's, counted there.
        if source != THROUGH:
            strays += 1
            if strays <= 10:
                with open("/tmp/strays", "a") as file:
                    file.write(f"{socket.inet_ntoa(source)} {packet[:48].hex()}\n")
