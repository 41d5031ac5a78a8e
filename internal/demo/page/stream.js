// The page's stream, for an anonymous visitor or for a name.

import { Peald } from "/peald.js";

// Rejection is the daemon's reason for rejecting a name.
class Rejection extends Error {}

async function takeName(user) {
  const reply = await fetch("/demo/token", { method: "POST", body: new URLSearchParams({ user }) });
  const text = (await reply.text()).trim();
  if (reply.ok) return text;
  throw reply.status < 500 ? new Rejection(text) : new Error(text);
}

// Stream dispatches "state", "event", "reset", and "named" once the daemon has
// accepted the name; until then the previous stream stays open.
export class Stream extends EventTarget {
  user = "";
  state = "closed";
  #path;
  #peald = null; // the latest client; another name needs another one
  #attempt = 0; // number of the latest call to connect, which replaces earlier ones

  constructor(path) {
    super();
    this.#path = path;
  }

  async connect(user, topics) {
    const attempt = ++this.#attempt;
    if (this.state === "closed") this.#become("connecting");
    let token = "";
    try {
      if (user) token = await takeName(user);
    } catch (error) {
      if (attempt !== this.#attempt) return;
      if (error instanceof Rejection) {
        this.#become(this.#peald?.state ?? "closed", error.message);
        return;
      }
      // The daemon may be restarting: the client asks again for as long as it takes.
    }
    if (attempt !== this.#attempt) return;
    const previous = this.#peald;
    const nextToken = () => {
      const taken = token;
      token = "";
      return taken || takeName(user);
    };
    this.#peald = new Peald(this.#path, {
      topics,
      position: user === this.user ? previous?.position : null,
      credentials: "omit",
      token: user ? nextToken : undefined,
    });
    previous?.close();
    this.user = user;
    this.dispatchEvent(new Event("named"));
    this.#follow(this.#peald);
  }

  disconnect() {
    this.#attempt++;
    this.#peald?.close();
    this.#become("closed");
  }

  // setTopics returns the topics that the stream has afterwards.
  async setTopics(topics) {
    const peald = this.#peald;
    const added = topics.filter((topic) => !peald.topics.includes(topic));
    const removed = peald.topics.filter((topic) => !topics.includes(topic));
    try {
      await Promise.all([peald.subscribe(...added), peald.unsubscribe(...removed)]);
    } catch (error) {
      if (peald === this.#peald && error.reason !== "closed") this.#become(this.state, error.message);
    }
    return peald.topics;
  }

  #follow(peald) {
    const on = (type, handler) => peald.on(type, (value) => peald === this.#peald && handler(value));
    let opened = false;
    this.#become("connecting");
    on("peald.state", (state) => {
      opened ||= state === "open" || state === "polling";
      // Each attempt to reconnect takes only a moment.
      this.#become(opened && state === "connecting" ? "waiting" : state);
    });
    on("peald.close", ({ reason, message }) => reason !== "closed" && this.#become("closed", message));
    on("peald.event", (event) => this.#dispatch("event", event));
    on("peald.reset", (reset) => this.#dispatch("reset", reset));
  }

  #become(state, problem = "") {
    this.state = state;
    this.#dispatch("state", { state, problem });
  }

  #dispatch(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
