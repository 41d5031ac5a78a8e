# docs: sseclient-py
import time

import requests
import sseclient


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
                    # Its default chunks of 128 bytes make large events take seconds.
                    for event in sseclient.SSEClient(response.iter_content(8192)).events():
                        last_id = event.id or last_id
                        if event.retry:
                            retry = int(event.retry) / 1000
                        if event.event != "peald.mark":
                            show(event.event, event.data, last_id)  # on peald.reset, fetch the state again
        except requests.RequestException:
            pass  # connection refused or broken
        time.sleep(retry)
# docs: end
