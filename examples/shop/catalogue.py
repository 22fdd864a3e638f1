"""The catalogue knows prices: GET /price/ITEM."""

import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PRICES = {"tea": 3, "coffee": 4, "cake": 5}


class Catalogue(BaseHTTPRequestHandler):
    def do_GET(self):
        price = PRICES.get(self.path.removeprefix("/price/"))
        body = f"{price}\n" if price else "no such item\n"
        self.send_response(200 if price else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())


address = os.environ.get("HOST", "0.0.0.0"), int(os.environ.get("PORT", "8080"))
ThreadingHTTPServer(address, Catalogue).serve_forever()
