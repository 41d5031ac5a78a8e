import { run } from "./driver.mjs";

// The globals of a page that the library needs.
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
      if (status === 204 || (status >= 400 && status < 500)) throw new Final(status); // it would retry forever
      if (status !== 200) throw new Error(status);
    },
    onmessage(event) {
      if (event.event !== "peald.mark") show(event); // on peald.reset, fetch the state again
    },
    onclose() { throw new Error("closed"); }, // otherwise it treats the stream as complete
    onerror(error) { if (error instanceof Final) throw error; }, // otherwise it reconnects
  }).catch((error) => ended(error.message));
}
// docs: end

run({ plain, listen });
