import asyncio

import httpx
from httpx_sse import aconnect_sse


async def plain(url, show):
    """The loop from the library's documentation."""
    last_id, retry = "", 0
    async with httpx.AsyncClient(timeout=httpx.Timeout(10, read=45)) as client:
        while True:
            headers = {"Last-Event-ID": last_id} if last_id else {}
            try:
                async with aconnect_sse(client, "GET", url, headers=headers) as source:
                    async for sse in source.aiter_sse():
                        last_id = sse.id
                        if sse.retry is not None:
                            retry = sse.retry / 1000
                        if sse.event not in ("", "peald.mark"):
                            show(sse.event, sse.data, last_id)
                    return "the stream ended"
            except httpx.ReadError:
                await asyncio.sleep(retry)


# docs: httpx-sse
async def listen(url, show):
    last_id, retry = "", 3.0
    # 10 s to connect, and at most three heartbeats of silence.
    async with httpx.AsyncClient(timeout=httpx.Timeout(10, read=45)) as client:
        while True:
            headers = {"Last-Event-ID": last_id} if last_id else {}
            try:
                async with aconnect_sse(client, "GET", url, headers=headers) as source:
                    status = source.response.status_code
                    if status == 204 or 400 <= status < 500:
                        return status
                    if status == 200:
                        async for sse in source.aiter_sse():
                            last_id = sse.id or last_id
                            if sse.retry is not None:
                                retry = sse.retry / 1000
                            if sse.event not in ("", "peald.mark"):  # "": a block without data
                                show(sse.event, sse.data, last_id)  # on peald.reset, fetch the state again
            except httpx.HTTPError:
                pass  # connection refused or broken
            await asyncio.sleep(retry)
# docs: end
