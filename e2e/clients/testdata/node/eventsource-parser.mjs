import { createParser } from "eventsource-parser";
import { run } from "./driver.mjs";

// docs: eventsource-parser
async function listen(url, show, ended, lastEventId = "") {
  for (let retry = 3000; ; await new Promise((resolve) => setTimeout(resolve, retry))) {
    const headers = { Accept: "text/event-stream", ...(lastEventId && { "Last-Event-ID": lastEventId }) };
    try {
      const response = await fetch(url, { headers });
      if (response.status === 204 || (response.status >= 400 && response.status < 500)) return ended(response.status);
      if (response.status !== 200) continue;
      const parser = createParser({
        onRetry: (milliseconds) => { retry = milliseconds; },
        onEvent: (event) => {
          if (event.id) lastEventId = event.id;
          if (event.event !== "peald.mark") show(event); // on peald.reset, fetch the state again
        },
      });
      const text = new TextDecoder();
      for await (const chunk of response.body) parser.feed(text.decode(chunk, { stream: true }));
    } catch {
      // connection refused or broken
    }
  }
}
// docs: end

run({ listen });
