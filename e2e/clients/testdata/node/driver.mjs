// Runs a client for the tests: node CLIENT.mjs NAME=URL... It opens each URL with
// the client's plain use or, if NAME ends in "+", with the code in docs/clients.md,
// and prints a line of JSON for each event and for the end of each stream.
import { createHash } from "node:crypto";

const print = (line) => process.stdout.write(JSON.stringify(line) + "\n");

export function run({ plain, listen }) {
  for (const argument of process.argv.slice(2)) {
    const [, stream, url] = /^([^=]+)=(.*)$/s.exec(argument);
    const show = ({ type, event, data, lastEventId, id }) => {
      const md5 = createHash("md5").update(data).digest("hex");
      print({ stream, type: type ?? event, id: lastEventId ?? id, bytes: Buffer.byteLength(data), md5 });
    };
    const ended = (why) => print({ stream, ended: String(why) });
    (stream.endsWith("+") ? listen : plain ?? listen)(url, show, ended);
  }
  // A client that has given up must not end the program.
  setInterval(() => {}, 60_000);
}
