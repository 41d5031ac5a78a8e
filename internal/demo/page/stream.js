// The page's EventSource, and the cookie that says whose it is.

const types = ["broadcast", "individual", "message"];
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

// Stream dispatches "state" and "event". It leaves reconnecting to EventSource
// wherever that does it by itself.
export class Stream extends EventTarget {
  user = "";
  state = "closed";
  #path;
  #source = null;
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
    this.#source?.close();
    this.user = user;
    this.#become("connecting");
    while (attempt === this.#attempt) {
      try {
        await exclusively(() => this.#open(attempt));
        return;
      } catch (error) {
        if (attempt !== this.#attempt) return;
        if (error instanceof Refusal) {
          this.#become("closed", error.message);
          return;
        }
        this.#become("reconnecting");
        await later(patience * (0.5 + Math.random()));
      }
    }
  }

  // #open settles once the daemon has read the cookie, or can't be reached.
  async #open(attempt) {
    if (attempt !== this.#attempt) return;
    await takeName(this.user);
    if (attempt !== this.#attempt) return;
    this.#cookieIsForeign = false;
    this.#tabs.postMessage(this.user);
    const source = new EventSource(this.#path);
    this.#source = source;
    for (const type of types) {
      source.addEventListener(type, (event) => {
        this.dispatchEvent(new CustomEvent("event", { detail: { type, id: event.lastEventId, data: event.data, at: new Date() } }));
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
    if (attempt === this.#attempt) this.connect(this.user);
  }

  #become(state, problem = "") {
    this.state = state;
    this.dispatchEvent(new CustomEvent("state", { detail: { state, problem } }));
  }
}
