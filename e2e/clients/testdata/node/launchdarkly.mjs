import { EventSource } from "launchdarkly-eventsource";
import { run } from "./driver.mjs";

function plain(url, show, ended) {
  // By default it treats 5 s of silence as a broken connection, which the scenario
  // "idle" shows. On a busy machine, other scenarios would show it too.
  const options = url.includes("-idle") ? {} : { readTimeoutMillis: 120_000 };
  const events = new EventSource(url, options);
  for (const type of ["individual", "broadcast", "topic", "peald.reset"]) events.addEventListener(type, show);
  events.addEventListener("closed", () => ended("closed"));
  events.onerror = () => {}; // otherwise it throws
}

// docs: launchdarkly-eventsource
function listen(url, show, ended) {
  const events = new EventSource(url, {
    initialRetryDelayMillis: 3000, // the default is 1 s; peald's retry replaces it
    readTimeoutMillis: 45_000, // three heartbeats
    errorFilter: ({ status }) => !(status === 204 || (status >= 400 && status < 500)),
  });
  for (const type of ["peald.reset", "broadcast", "individual", "topic"]) events.addEventListener(type, show);
  events.addEventListener("error", ({ status, message }) => { if (events.readyState === EventSource.CLOSED) ended(status ?? message); });
  events.addEventListener("closed", () => ended("closed"));
}
// docs: end

run({ plain, listen });
