"""Runs a client for the tests: driver.py MODULE NAME=URL..."""

import asyncio
import hashlib
import importlib
import inspect
import json
import sys
import threading

printing = threading.Lock()


def put(**line):
    with printing:
        print(json.dumps(line), flush=True)


def shower(stream):
    def show(event, data, event_id):
        raw = data.encode()
        put(stream=stream, type=event, id=event_id, bytes=len(raw), md5=hashlib.md5(raw).hexdigest())

    return show


def hold(listen, stream, url):
    try:
        why = listen(url, shower(stream))
    except Exception as error:
        why = repr(error)
    put(stream=stream, ended=str(why))


async def hold_async(listen, stream, url):
    try:
        why = await listen(url, shower(stream))
    except Exception as error:
        why = repr(error)
    put(stream=stream, ended=str(why))


async def hold_all(streams):
    await asyncio.gather(*(hold_async(*stream) for stream in streams))


def main(module, *arguments):
    client = importlib.import_module(module)
    streams = []
    for argument in arguments:
        stream, url = argument.split("=", 1)
        # Plain use, or the code in docs/clients.md.
        listen = client.listen if stream.endswith("+") else getattr(client, "plain", client.listen)
        streams.append((listen, stream, url))
    if inspect.iscoroutinefunction(client.listen):
        asyncio.run(hold_all(streams))
    else:
        for stream in streams:
            threading.Thread(target=hold, args=stream).start()
    threading.Event().wait()


main(*sys.argv[1:])
