import { createEventSource } from "eventsource-client";
import { run } from "./driver.mjs";

function plain(url, show, ended) {
  const events = createEventSource({ url, onMessage: (event) => { if (event.event !== "peald.mark") show(event); } });
  const watch = setInterval(() => { // it doesn't report the end
    if (events.readyState === "closed") ended("closed");
  }, 100);
}

// docs: eventsource-client
function listen(url, show, ended) {
  const events = createEventSource({
    url,
    fetch: async (input, init) => {
      const response = await fetch(input, init);
      if (response.status === 204 || (response.status >= 400 && response.status < 500)) {
        events.close(); // it would retry forever
        ended(response.status);
      }
      return response;
    },
    onMessage: (event) => {
      if (event.event !== "peald.mark") show(event); // on peald.reset, fetch the state again
    },
  });
}
// docs: end

run({ plain, listen });
