// Calls to the control plane's REST API, with the control token if one is set.

const timeout = 5000; // milliseconds per call
const storageKey = "control-token";

// Rejection is an error that the control plane returned.
export class Rejection extends Error {
  constructor(status, { message, details = [] }) {
    super(message);
    this.status = status;
    const info = details.find((d) => d["@type"].endsWith("google.rpc.ErrorInfo"));
    this.reason = info?.reason ?? "";
    this.scope = info?.metadata?.scope ?? "";
    // What is wrong with each invalid field, by name.
    this.fields = Object.fromEntries(
      details.flatMap((d) => d.fieldViolations ?? []).map(({ field, description }) => [field, description]),
    );
  }
}

// Unreachable is the error for a call without a valid reply from the daemon.
export class Unreachable extends Error {}

async function rejection(reply) {
  try {
    return new Rejection(reply.status, await reply.json());
  } catch {
    return new Unreachable(`unexpected reply: ${reply.status} ${reply.statusText}`);
  }
}

// Control dispatches "unauthorized", with the Rejection, when a call lacks a
// valid token.
export class Control extends EventTarget {
  get token() {
    return sessionStorage.getItem(storageKey) ?? "";
  }

  set token(token) {
    if (token) sessionStorage.setItem(storageKey, token);
    else sessionStorage.removeItem(storageKey);
  }

  get(path, query = {}) {
    return this.#call("GET", path, query);
  }

  post(path, body) {
    return this.#call("POST", path, {}, body);
  }

  delete(path, query = {}) {
    return this.#call("DELETE", path, query);
  }

  // ready reports whether the daemon accepts streams.
  async ready() {
    try {
      return (await fetch("/readyz", { cache: "no-store", signal: AbortSignal.timeout(timeout) })).ok;
    } catch {
      throw new Unreachable("the daemon doesn't respond");
    }
  }

  // lines calls receive for each message of a streaming call. It returns once the
  // daemon completes the call, and stops if receive throws an error.
  async lines(path, query, receive, signal) {
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
          if (error) throw new Rejection(200, error);
          receive(result);
        }
      }
    } finally {
      reader.cancel().catch(() => {});
    }
  }

  async #call(method, path, query, body) {
    const reply = await this.#fetch(method, path, query, body, AbortSignal.timeout(timeout));
    try {
      return await reply.json();
    } catch {
      throw new Unreachable("unexpected reply: not JSON");
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
      throw new Unreachable("the daemon doesn't respond");
    }
    if (reply.ok) return reply;
    const rejected = await rejection(reply);
    if (rejected.status === 401) this.dispatchEvent(new CustomEvent("unauthorized", { detail: rejected }));
    throw rejected;
  }
}
