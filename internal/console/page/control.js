// The control plane's REST calls, with the token that it may ask for.

const patience = 5000; // milliseconds that a call may take
const kept = "control-token";

// Refusal is what the control plane says against a call.
export class Refusal extends Error {
  constructor(status, { message, details = [] }) {
    super(message);
    this.status = status;
    const info = details.find((d) => d["@type"].endsWith("google.rpc.ErrorInfo"));
    this.reason = info?.reason ?? "";
    this.scope = info?.metadata?.scope ?? "";
    // What is wrong with each field, by its name.
    this.fields = Object.fromEntries(
      details.flatMap((d) => d.fieldViolations ?? []).map(({ field, description }) => [field, description]),
    );
  }
}

// Unreachable is a call that got no answer, or one that is not the daemon's.
export class Unreachable extends Error {}

async function refusal(reply) {
  try {
    return new Refusal(reply.status, await reply.json());
  } catch {
    return new Unreachable(`what answers here says ${reply.status} ${reply.statusText}`);
  }
}

// Control dispatches "unauthorized", with the Refusal, when a call lacks a
// token that is good.
export class Control extends EventTarget {
  get token() {
    return sessionStorage.getItem(kept) ?? "";
  }

  set token(token) {
    if (token) sessionStorage.setItem(kept, token);
    else sessionStorage.removeItem(kept);
  }

  get(path, query = {}) {
    return this.#call("GET", path, query);
  }

  post(path, body) {
    return this.#call("POST", path, {}, body);
  }

  // ready says whether the daemon takes streams.
  async ready() {
    try {
      return (await fetch("/readyz", { cache: "no-store", signal: AbortSignal.timeout(patience) })).ok;
    } catch {
      throw new Unreachable("the daemon does not answer");
    }
  }

  // lines calls onto with each message of a stream, and onto's own errors end
  // it. It returns when the daemon ends it well.
  async lines(path, query, onto, signal) {
    const reply = await this.#fetch("GET", path, query, undefined, signal);
    const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    try {
      for (;;) {
        const { value, done } = await reader.read().catch((error) => {
          throw signal.aborted ? error : new Unreachable("the connection broke");
        });
        if (done) return;
        const lines = (rest + value).split("\n");
        rest = lines.pop();
        for (const line of lines) {
          if (line === "") continue;
          const { result, error } = JSON.parse(line);
          if (error) throw new Refusal(200, error);
          onto(result);
        }
      }
    } finally {
      reader.cancel().catch(() => {});
    }
  }

  async #call(method, path, query, body) {
    const reply = await this.#fetch(method, path, query, body, AbortSignal.timeout(patience));
    try {
      return await reply.json();
    } catch {
      throw new Unreachable("what answers here is not the daemon");
    }
  }

  async #fetch(method, path, query, body, signal) {
    const headers = this.token ? { Authorization: `Bearer ${this.token}` } : {};
    const search = new URLSearchParams(query).toString();
    let reply;
    try {
      reply = await fetch(path + (search && `?${search}`), { method, headers, signal, body: body && JSON.stringify(body), cache: "no-store", credentials: "omit" });
    } catch (error) {
      if (signal.aborted && signal.reason?.name !== "TimeoutError") throw error;
      throw new Unreachable("the daemon does not answer");
    }
    if (reply.ok) return reply;
    const refused = await refusal(reply);
    if (refused.status === 401) this.dispatchEvent(new CustomEvent("unauthorized", { detail: refused }));
    throw refused;
  }
}
