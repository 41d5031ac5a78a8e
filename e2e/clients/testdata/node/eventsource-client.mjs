import { createEventSource } from "eventsource-client";
import { run } from "./driver.mjs";

function plain(url, show, ended) {
  const events = createEventSource({ url, onMessage: (event) => { if (event.event !== "peald.mark") show(event); } });
  const watch = setInterval(() => { // it reports no end
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
        events.close(); // it would try for ever
        ended(response.status);
      }
      return response;
    },
    onMessage: (event) => {
      if (event.event !== "peald.mark") show(event); // peald.reset: fetch the state anew
    },
  });
}
// docs: end

run({ plain, listen });
