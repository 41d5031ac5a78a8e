# docs: aiohttp
import asyncio

import aiohttp


async def listen(url, show):
    last_id, retry = "", 3.0
    # No limit on the whole stream; at most three heartbeats of silence.
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=45)
    # A line may hold 1 MiB of data; the default of read_bufsize allows 128 KiB.
    async with aiohttp.ClientSession(timeout=timeout, read_bufsize=2**21) as session:
        while True:
            headers = {"Accept": "text/event-stream"}
            if last_id:
                headers["Last-Event-ID"] = last_id
            try:
                async with session.get(url, headers=headers) as response:
                    if response.status == 204 or 400 <= response.status < 500:
                        return response.status
                    if response.status == 200:
                        event, data, event_id = "message", [], ""
                        async for raw in response.content:
                            line = raw.decode().rstrip("\n")
                            field, _, value = line.partition(":")
                            value = value.removeprefix(" ")
                            if field == "event":
                                event = value
                            elif field == "data":
                                data.append(value)
                            elif field == "id":
                                event_id = value
                            elif field == "retry":
                                retry = int(value) / 1000
                            elif line == "":
                                last_id = event_id or last_id
                                if data and event != "peald.mark":
                                    show(event, "\n".join(data), last_id)  # on peald.reset, fetch the state again
                                event, data, event_id = "message", [], ""
            except (aiohttp.ClientError, asyncio.TimeoutError):
                pass  # connection refused or broken
            await asyncio.sleep(retry)
# docs: end
