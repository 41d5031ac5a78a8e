// The page's EventSource, and the cookie that says whose it is.

// EventSource hands over only the types that somebody listens to. Greetings are
// what the examples send to one user.
const types = ["broadcast", "individual", "message", "greeting"];
const ofOne = new Set(["individual", "greeting"]);
const patience = 3000; // milliseconds, before it tries again what failed

const later = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

// exclusively runs one tab's work after another's, since all share the cookie.
// Browsers have locks on secure origins only, loopback among them.
const exclusively = (work) => (navigator.locks ? navigator.locks.request("peald-demo", work) : work());

// Refusal is what the daemon said against a name.
class Refusal extends Error {}

async function takeName(user) {
  const reply = await fetch("/demo/token", { method: "POST", body: new URLSearchParams({ user }) });
  if (reply.ok) return;
  const reason = (await reply.text()).trim();
  throw reply.status < 500 ? new Refusal(reason) : new Error(reason);
}

// Stream dispatches "state", "event", and "named" when the daemon has taken the
// name: until then the stream before goes on. It leaves reconnecting to
// EventSource wherever that does it by itself.
export class Stream extends EventTarget {
  user = "";
  state = "closed";
  #path;
  #source = null;
  #position = ""; // id of the last event or position mark of this user
  #attempt = 0; // the latest; earlier ones give up when they see it
  #cookieIsForeign = false; // another tab put another name into the cookie
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

  async connect(user) {
    const attempt = ++this.#attempt;
    if (!this.#source) this.#become("connecting");
    while (attempt === this.#attempt) {
      try {
        await exclusively(() => this.#open(attempt, user));
        return;
      } catch (error) {
        if (attempt !== this.#attempt) return;
        if (error instanceof Refusal) {
          this.#become(this.#source ? this.state : "closed", error.message);
          return;
        }
        this.#source?.close();
        this.#source = null;
        this.#become("reconnecting");
        await later(patience * (0.5 + Math.random()));
      }
    }
  }

  // #open settles once the daemon has read the cookie, or can't be reached.
  async #open(attempt, user) {
    if (attempt !== this.#attempt) return;
    await takeName(user);
    if (attempt !== this.#attempt) return;
    this.#source?.close();
    if (user !== this.user) this.#position = "";
    this.user = user;
    this.dispatchEvent(new Event("named"));
    this.#become("connecting");
    this.#cookieIsForeign = false;
    this.#tabs.postMessage(user);
    // A stream after one that EventSource gave up goes on where that one was.
    const source = new EventSource(this.#path + (this.#position && `?last_event_id=${encodeURIComponent(this.#position)}`));
    this.#source = source;
    source.addEventListener("peald.mark", ({ lastEventId }) => (this.#position = lastEventId));
    for (const type of types) {
      source.addEventListener(type, (event) => {
        this.#position = event.lastEventId;
        this.dispatchEvent(new CustomEvent("event", { detail: { type, forOne: ofOne.has(type), id: event.lastEventId, data: event.data, at: new Date() } }));
      });
    }
    const answered = new Promise((resolve) => {
      source.addEventListener("open", resolve, { once: true });
      source.addEventListener("error", resolve, { once: true });
    });
    source.addEventListener("open", () => this.#become("open"));
    source.addEventListener("error", () => this.#failed(source));
    await Promise.race([answered, later(patience)]);
  }

  async #failed(source) {
    if (source !== this.#source) return;
    this.#become("reconnecting");
    if (source.readyState !== EventSource.CLOSED && !this.#cookieIsForeign) return;
    // EventSource gave up, or would come back under another tab's name.
    source.close();
    const attempt = this.#attempt;
    await later(patience * (0.5 + Math.random()));
    if (attempt === this.#attempt && source === this.#source) this.connect(this.user);
  }

  #become(state, problem = "") {
    this.state = state;
    this.dispatchEvent(new CustomEvent("state", { detail: { state, problem } }));
  }
}
