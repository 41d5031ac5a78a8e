import asyncio

import aiohttp
from aiohttp_sse_client.client import EventSource


async def plain(url, show):
    async with EventSource(url) as events:
        async for event in events:
            if event.type != "peald.mark":
                show(event.type, event.data, event.last_event_id)
    return "the stream ended"


# docs: aiohttp-sse-client
async def listen(url, show):
    last_id = ""
    # No limit on the whole stream; three heartbeats of silence; lines of 1 MiB.
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=45)
    async with aiohttp.ClientSession(timeout=timeout, read_bufsize=2**21) as session:
        while True:
            headers = {"Last-Event-ID": last_id} if last_id else {}
            try:
                async with EventSource(url, session=session, headers=headers) as events:
                    async for event in events:
                        last_id = event.last_event_id
                        if event.type != "peald.mark":
                            show(event.type, event.data, last_id)  # on peald.reset, fetch the state again
            except aiohttp.ClientError:
                pass  # connection refused or broken
            except ConnectionError as error:  # a status other than 200
                if "status: 204" in str(error) or " failed: 4" in str(error):
                    return error
            await asyncio.sleep(3)
# docs: end
