import type { Environment } from "../src/env.js";
import { environment, Peald } from "../src/client.js";
import type { PealdClose, PealdEvent, PealdOptions, PealdReset, PealdState } from "../src/types.js";
import { Clock, environmentOf, settle } from "./clock.js";
import type { TestEnvironment } from "./clock.js";
import { Server } from "./server.js";

/** A client and what it has delivered. */
export class Page {
  events: PealdEvent[] = [];
  resets: PealdReset[] = [];
  ends: string[] = [];
  states: PealdState[] = [];
  closed: PealdClose | undefined;
  /** Everything in order, such as `a`, `reset unknown` or `end t`. */
  log: string[] = [];
  peald: Peald;

  constructor(readonly env: TestEnvironment, options: PealdOptions = {}, { handleResets = true } = {}) {
    this.peald = new Peald("http://peald.test/events", { ...options, [environment]: env } as PealdOptions & { [environment]: Environment });
    this.peald.on("peald.event", (event) => {
      this.events.push(event);
      this.log.push(event.data);
    });
    if (handleResets) {
      this.peald.on("peald.reset", (reset) => {
        this.resets.push(reset);
        this.log.push(`reset ${reset.reason}`);
      });
    }
    this.peald.on("peald.end", ({ topic }) => {
      this.ends.push(topic);
      this.log.push(`end ${topic}`);
    });
    this.peald.on("peald.state", (state) => this.states.push(state));
    this.peald.on("peald.close", (close) => { this.closed = close; });
  }
}

/** A clock, a server, and a page that has connected. */
export async function connected(options: PealdOptions = {}, more: Partial<Environment> = {}, prepare: (server: Server) => void = () => {}) {
  const clock = new Clock(), server = new Server(clock);
  prepare(server);
  const env = environmentOf(clock, server.fetch, more), page = new Page(env, options);
  await settle();
  return { clock, server, env, page, peald: page.peald };
}
