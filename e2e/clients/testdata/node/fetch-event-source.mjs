import { run } from "./driver.mjs";

// What it needs of a page.
globalThis.window = globalThis;
globalThis.document = { hidden: false, addEventListener() {}, removeEventListener() {} };
const { fetchEventSource } = await import("@microsoft/fetch-event-source");

function plain(url, show, ended) {
  fetchEventSource(url, { onmessage: (event) => { if (event.event !== "peald.mark") show(event); } })
    .then(() => ended("resolved"), ended);
}

// docs: fetch-event-source
function listen(url, show, ended) {
  class Final extends Error {}
  fetchEventSource(url, {
    openWhenHidden: true,
    async onopen({ status }) {
      if (status === 204 || (status >= 400 && status < 500)) throw new Final(status); // it would try for ever
      if (status !== 200) throw new Error(status);
    },
    onmessage(event) {
      if (event.event !== "peald.mark") show(event); // peald.reset: fetch the state anew
    },
    onclose() { throw new Error("closed"); }, // else it takes the stream for finished
    onerror(error) { if (error instanceof Final) throw error; }, // else it reconnects
  }).catch((error) => ended(error.message));
}
// docs: end

run({ plain, listen });
