"""The ledger numbers the lines that it is sent, one a datagram."""

import os
import socket

ledger = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
ledger.bind((os.environ.get("HOST", "0.0.0.0"), int(os.environ.get("PORT", "9000"))))
number = 0
while True:
    line, customer = ledger.recvfrom(512)
    number += 1
    print(number, line.decode(errors="replace"))
    ledger.sendto(f"receipt {number}".encode(), customer)
