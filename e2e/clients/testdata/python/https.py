"""Prints a stream over HTTPS: https.py http.client|httpx CERTIFICATE ADDRESS."""

import http.client
import ssl
import sys
import zlib

library, certificate, address = sys.argv[1:]


def with_http_client():
    context = ssl.create_default_context(cafile=certificate)
    connection = http.client.HTTPSConnection(address, context=context)
    connection.request("GET", "/events", headers={"Accept-Encoding": "gzip"})
    response = connection.getresponse()
    print("content-encoding:", response.getheader("Content-Encoding"))
    decoder = zlib.decompressobj(31)
    while part := response.read1():
        sys.stdout.write(decoder.decompress(part).decode())
        sys.stdout.flush()
    assert decoder.eof, "the gzip body is truncated"


def with_httpx():
    import httpx

    with httpx.Client(verify=certificate, timeout=None) as client:
        with client.stream("GET", f"https://{address}/events") as response:
            print("content-encoding:", response.headers["Content-Encoding"])
            for line in response.iter_lines():
                print(line.rstrip("\n"), flush=True)


with_httpx() if library == "httpx" else with_http_client()
