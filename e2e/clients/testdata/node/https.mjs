// Streams over HTTPS: node https.mjs http2|fetch|MODULE,... URL. It prints the events'
// lines, for MODULEs those that all of them have received, and exits after the end.
import http2 from "node:http2";
import tls from "node:tls";
import { readFileSync } from "node:fs";

const [what, url] = process.argv.slice(2);

function overHTTP2() {
  const ca = url.startsWith("https:") ? [...tls.rootCertificates, readFileSync(process.env.NODE_EXTRA_CA_CERTS)] : undefined;
  const session = http2.connect(new URL(url).origin, { ca });
  const stream = session.request({ ":path": new URL(url).pathname });
  stream.on("response", (headers) => console.log("status: " + headers[":status"]));
  stream.pipe(process.stdout);
  stream.on("close", () => {
    process.exitCode = stream.rstCode;
    session.close();
  });
}

async function withFetch() {
  const response = await fetch(url);
  console.log("status: " + response.status);
  console.log("content-encoding: " + response.headers.get("content-encoding"));
  for await (const text of response.body.pipeThrough(new TextDecoderStream())) process.stdout.write(text);
}

async function withEventSource(modules) {
  const received = new Map();
  const once = (text, prefix) => {
    received.set(text, (received.get(text) ?? 0) + 1);
    if (received.get(text) === modules.length) console.log(prefix + text);
  };
  for (const module of modules) {
    const imported = await import(module);
    const events = new (imported.EventSource ?? imported.default)(url);
    events.addEventListener("peald.mark", ({ lastEventId }) => once(lastEventId, "id: "));
    events.addEventListener("broadcast", ({ data }) => once(data, "data: "));
    events.onerror = () => {
      events.close();
      once("closed", "");
    };
  }
}

if (what === "http2") overHTTP2();
else if (what === "fetch") await withFetch();
else await withEventSource(what.split(","));
