/** A message channel between tabs, as {@link BroadcastChannel} is one. */
export interface Channel {
  onmessage: ((event: MessageEvent) => unknown) | null;
  postMessage(message: unknown): void;
  close(): void;
}

/** What the client needs of the platform. Tests replace it. */
export interface Environment {
  fetch: typeof globalThis.fetch;
  /** Returns the time in milliseconds. */
  now(): number;
  /** Returns a random number from 0 up to, but not including, 1. */
  random(): number;
  setTimeout(callback: () => void, ms: number): unknown;
  clearTimeout(timer: unknown): void;
  /** Web Locks, if the platform has them. */
  locks: LockManager | undefined;
  /** Opens a channel; undefined if the platform has none. */
  channel: ((name: string) => Channel) | undefined;
  /** Gets pagehide, pageshow and online; undefined if the platform has no such events. */
  window: EventTarget | undefined;
  /** Gets visibilitychange, freeze and resume; undefined outside a window. */
  document: (EventTarget & { readonly visibilityState: string }) | undefined;
  warn(message: string): void;
  /** Reports an error that a handler has thrown. */
  report(err: unknown): void;
}

/** Returns the environment of the platform. */
export function platform(fetch?: typeof globalThis.fetch): Environment {
  const scope: Partial<typeof globalThis> = globalThis;
  return {
    fetch: fetch ?? ((input, init) => globalThis.fetch(input, init)),
    now: () => Date.now(),
    random: () => Math.random(),
    setTimeout: (callback, ms) => globalThis.setTimeout(callback, ms),
    clearTimeout: (timer) => globalThis.clearTimeout(timer as number),
    locks: scope.navigator?.locks,
    channel: scope.BroadcastChannel && ((name) => new BroadcastChannel(name)),
    window: typeof scope.addEventListener === "function" ? (scope as unknown as EventTarget) : undefined,
    document: scope.document,
    warn: (message) => console.warn(message),
    report: (err) => {
      if (scope.reportError) scope.reportError(err);
      else queueMicrotask(() => { throw err; });
    },
  };
}
