# docs: httpx
import asyncio

import httpx


async def listen(url, show):
    last_id, retry = "", 3.0
    # 10 s to connect, and at most three heartbeats of silence.
    async with httpx.AsyncClient(timeout=httpx.Timeout(10, read=45)) as client:
        while True:
            headers = {"Accept": "text/event-stream"}
            if last_id:
                headers["Last-Event-ID"] = last_id
            try:
                async with client.stream("GET", url, headers=headers) as response:
                    if response.status_code == 204 or 400 <= response.status_code < 500:
                        return response.status_code
                    if response.status_code == 200:
                        rest, event, data, event_id = b"", "message", [], ""
                        async for chunk in response.aiter_bytes():
                            *lines, rest = (rest + chunk).split(b"\n")
                            for line in map(bytes.decode, lines):
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
            except httpx.HTTPError:
                pass  # connection refused or broken
            await asyncio.sleep(retry)
# docs: end
