// Clients with the interface of browsers: node eventsource.mjs MODULE NAME=URL...
import { run } from "./driver.mjs";

const [module] = process.argv.splice(2, 1);
const imported = module === "node" ? globalThis : await import(module);
const EventSource = imported.EventSource ?? imported.default;

function plain(url, show, ended) {
  const events = new EventSource(url);
  for (const type of ["individual", "broadcast", "topic", "peald.reset"]) events.addEventListener(type, show);
  events.onerror = () => setTimeout(() => { // eventsource 2 closes after reporting the error
    if (events.readyState === EventSource.CLOSED) ended("closed");
  });
}

// docs: eventsource
function listen(url, show, ended, lastEventId = "", failures = 0) {
  const from = new URL(url);
  if (lastEventId) from.searchParams.set("last_event_id", lastEventId);
  const events = new EventSource(from.href);
  for (const type of ["peald.mark", "peald.reset", "broadcast", "individual", "topic"]) {
    events.addEventListener(type, (event) => {
      lastEventId = event.lastEventId;
      failures = 0;
      if (type !== "peald.mark") show(event); // on peald.reset, fetch the state again
    });
  }
  events.onerror = async ({ code, status = code }) => { // npm eventsource reports the status
    const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
    await pause(0); // eventsource 2 and Node close the stream after this event
    if (events.readyState !== EventSource.CLOSED || events.onerror === null) return; // it reconnects itself
    events.onerror = null; // Node fires twice
    await pause(Math.min(500 * 2 ** failures, 60_000));
    status ??= await fetch(from, { method: "HEAD" }).then((response) => response.status, () => 0);
    if (status === 204 || (status >= 400 && status < 500)) return ended(status); // 401: get a new token
    listen(url, show, ended, lastEventId, failures + 1);
  };
}
// docs: end

run({ plain, listen });
