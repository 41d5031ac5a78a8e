# docs: requests
import time

import requests


def listen(url, show):
    last_id, retry = "", 3.0
    while True:
        headers = {"Accept": "text/event-stream"}
        if last_id:
            headers["Last-Event-ID"] = last_id
        try:
            # 10 s to connect, and at most three heartbeats of silence.
            with requests.get(url, headers=headers, stream=True, timeout=(10, 45)) as response:
                if response.status_code == 204 or 400 <= response.status_code < 500:
                    return response.status_code
                if response.status_code == 200:
                    event, data, event_id = "message", [], ""
                    for line in response.iter_lines():
                        line = line.decode()
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
        except requests.RequestException:
            pass  # connection refused or broken
        time.sleep(retry)
# docs: end
