// The page's EventSource, and the cookie that carries its user.

// EventSource dispatches only the types that have a listener. Each type maps to
// the audience that it represents on this page. The project's examples send
// greetings to one user.
const audiences = { broadcast: "broadcast", individual: "individual", topic: "topic", message: "broadcast", greeting: "individual" };
const retryAfter = 3000; // milliseconds

const later = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

// exclusively runs work in one tab at a time, since all tabs share the cookie.
// Browsers offer locks only on secure origins, which include loopback.
const exclusively = (work) => (navigator.locks ? navigator.locks.request("peald-demo", work) : work());

// Rejection is the daemon's reason for rejecting a name.
class Rejection extends Error {}

async function takeName(user) {
  const reply = await fetch("/demo/token", { method: "POST", body: new URLSearchParams({ user }) });
  if (reply.ok) return;
  const reason = (await reply.text()).trim();
  throw reply.status < 500 ? new Rejection(reason) : new Error(reason);
}

// Stream dispatches "state", "event", and "named" once the daemon has accepted
// the name; until then the previous stream stays open. It leaves reconnecting to
// EventSource whenever EventSource reconnects by itself.
export class Stream extends EventTarget {
  user = "";
  topics = [];
  state = "closed";
  #path;
  #source = null;
  #position = ""; // ID of the last event or position mark of this user
  #attempt = 0; // number of the latest attempt, which replaces earlier ones
  #cookieIsForeign = false; // another tab has stored another name in the cookie
  #tabs = new BroadcastChannel("peald-demo");

  constructor(path) {
    super();
    this.#path = path;
    this.#tabs.addEventListener("message", ({ data }) => {
      this.#cookieIsForeign = data !== this.user;
    });
  }

  disconnect() {
    this.#attempt++;
    this.#source?.close();
    this.#source = null;
    this.#become("closed");
  }

  async connect(user, topics = this.topics) {
    const attempt = ++this.#attempt;
    if (!this.#source) this.#become("connecting");
    while (attempt === this.#attempt) {
      try {
        await exclusively(() => this.#open(attempt, user, topics));
        return;
      } catch (error) {
        if (attempt !== this.#attempt) return;
        if (error instanceof Rejection) {
          this.#become(this.#source ? this.state : "closed", error.message);
          return;
        }
        this.#source?.close();
        this.#source = null;
        this.#become("reconnecting");
        await later(retryAfter * (0.5 + Math.random()));
      }
    }
  }

  // #open settles once the daemon has read the cookie or is unreachable.
  async #open(attempt, user, topics) {
    if (attempt !== this.#attempt) return;
    await takeName(user);
    if (attempt !== this.#attempt) return;
    this.#source?.close();
    if (user !== this.user) this.#position = "";
    this.user = user;
    this.topics = topics;
    this.dispatchEvent(new Event("named"));
    this.#become("connecting");
    this.#cookieIsForeign = false;
    this.#tabs.postMessage(user);
    // A new EventSource must explicitly resume from the previous one's position.
    const query = new URLSearchParams(topics.map((topic) => ["topic", topic]));
    if (this.#position) query.set("last_event_id", this.#position);
    const source = new EventSource(query.size > 0 ? `${this.#path}?${query}` : this.#path);
    this.#source = source;
    source.addEventListener("peald.mark", ({ lastEventId }) => (this.#position = lastEventId));
    for (const [type, audience] of Object.entries(audiences)) {
      source.addEventListener(type, (event) => {
        this.#position = event.lastEventId;
        this.dispatchEvent(new CustomEvent("event", { detail: { type, audience, id: event.lastEventId, data: event.data, at: new Date() } }));
      });
    }
    const answered = new Promise((resolve) => {
      source.addEventListener("open", resolve, { once: true });
      source.addEventListener("error", resolve, { once: true });
    });
    source.addEventListener("open", () => this.#become("open"));
    source.addEventListener("error", () => this.#failed(source));
    await Promise.race([answered, later(retryAfter)]);
  }

  async #failed(source) {
    if (source !== this.#source) return;
    this.#become("reconnecting");
    if (source.readyState !== EventSource.CLOSED && !this.#cookieIsForeign) return;
    // EventSource gave up, or would reconnect with another tab's name.
    source.close();
    const attempt = this.#attempt;
    await later(retryAfter * (0.5 + Math.random()));
    if (attempt === this.#attempt && source === this.#source) this.connect(this.user, this.topics);
  }

  #become(state, problem = "") {
    this.state = state;
    this.dispatchEvent(new CustomEvent("state", { detail: { state, problem } }));
  }
}
