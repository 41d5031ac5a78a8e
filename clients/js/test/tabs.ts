import type { Channel, Environment } from "../src/env.js";
import type { PealdOptions } from "../src/types.js";
import { environmentOf } from "./clock.js";
import type { TestEnvironment, Timing } from "./clock.js";
import { Page } from "./page.js";

/** The shortest time that a timer of a hidden page takes, in milliseconds, as in Chromium. */
const throttled = 1000;

interface Waiting {
  tab: Tab;
  run: () => void;
}

interface Held {
  tab: Tab;
  stolen: () => void;
}

/** What tabs connect to. */
interface Server {
  fetch: typeof globalThis.fetch;
}

/** A browser: tabs of one origin, with Web Locks and channels between them. */
export class Browser {
  tabs: Tab[] = [];
  locks = new Map<string, { held: Held | undefined; queue: Waiting[] }>();
  channels = new Map<string, Set<{ tab: Tab; deliver: (data: unknown) => void }>>();

  #randomState = 1;

  constructor(readonly clock: Timing, readonly server: Server) {}

  /** Returns random numbers that differ, since tabs have random ids, but are the same in each run: a linear congruential generator. */
  random = (): number => {
    this.#randomState = (this.#randomState * 1_664_525 + 1_013_904_223) % 2 ** 32;
    return this.#randomState / 2 ** 32;
  };

  open(options: PealdOptions): Tab {
    const tab = new Tab(this, options);
    this.tabs.push(tab);
    return tab;
  }

  /** The tab that holds the lock of a group's leader. */
  get leader(): Tab | undefined {
    for (const [name, { held }] of this.locks) if (name.endsWith(" leader")) return held?.tab;
    return undefined;
  }

  /** Gives a lock to the next tab that waits for it. */
  grant(name: string): void {
    const lock = this.locks.get(name)!;
    if (lock.held) return;
    const next = lock.queue.shift();
    if (next) next.run();
  }
}

/** A tab, which can be frozen, crash, or be closed. */
export class Tab {
  page: Page;
  env: TestEnvironment;
  window = new EventTarget();
  document = Object.assign(new EventTarget(), { visibilityState: "visible" });

  #frozen: (() => void)[] | undefined;
  #dead = false;
  #cleared = new Set<number>(); // timers that were stopped after they were due
  #requests = new Set<AbortController>();

  constructor(private browser: Browser, options: PealdOptions) {
    const { clock, server } = browser;
    this.env = environmentOf(clock, (input, init) => this.#fetch(server, input, init), {
      random: browser.random,
      setTimeout: (callback, ms) => {
        const timer: number = clock.setTimeout(() => this.run(() => {
          if (!this.#cleared.delete(timer)) callback();
        }), this.document.visibilityState === "hidden" ? Math.max(ms, throttled) : ms);
        return timer;
      },
      clearTimeout: (timer) => {
        clock.clearTimeout(timer);
        if (this.#frozen && timer !== undefined) this.#cleared.add(timer as number);
      },
      locks: { request: this.#lock, query: () => Promise.reject(new Error("not in tests")) } as unknown as LockManager,
      channel: (name) => this.#channel(name),
      window: this.window,
      document: this.document,
    } satisfies Partial<Environment>);
    this.page = new Page(this.env, { shared: true, ...options });
  }

  /** Runs a task in the tab, once it isn't frozen. */
  run(task: () => void): void {
    if (this.#dead) return;
    if (this.#frozen) this.#frozen.push(task);
    else task();
  }

  /** Stops all tasks, without a warning, as a debugger or SIGSTOP does. */
  freeze(): void {
    this.#frozen ??= [];
  }

  thaw(): void {
    const tasks = this.#frozen ?? [];
    for (const task of tasks) if (!this.#dead) task();
    this.#frozen = undefined;
  }

  /** Ends the tab without a warning. */
  crash(): void {
    this.#dead = true;
    for (const request of this.#requests) request.abort();
    for (const channel of this.browser.channels.values()) {
      for (const port of channel) if (port.tab === this) channel.delete(port);
    }
    for (const [name, lock] of this.browser.locks) {
      lock.queue = lock.queue.filter(({ tab }) => tab !== this);
      if (lock.held?.tab === this) {
        lock.held = undefined;
        this.browser.grant(name);
      }
    }
    this.browser.tabs.splice(this.browser.tabs.indexOf(this), 1);
  }

  /** Closes the tab. The page gets pagehide, but nothing after that. */
  close(): void {
    this.notify("pagehide");
    this.crash();
  }

  /** Fires an event at the window. */
  notify(type: string): void {
    this.run(() => this.window.dispatchEvent(new Event(type)));
  }

  async #fetch(server: Server, input: RequestInfo | URL, init: RequestInit = {}): Promise<Response> {
    init.signal?.throwIfAborted();
    const controller = new AbortController();
    this.#requests.add(controller);
    init.signal?.addEventListener("abort", () => {
      controller.abort(init.signal?.reason);
      this.#requests.delete(controller);
    });
    const response = await server.fetch(input, { ...init, signal: controller.signal });
    await new Promise<void>((resolve) => this.run(resolve));
    if (!response.body) return response;
    const body = response.body.pipeThrough(new TransformStream<Uint8Array, Uint8Array>({
      transform: async (chunk, output) => {
        await new Promise<void>((resolve) => this.run(resolve));
        output.enqueue(chunk);
      },
    }));
    return new Response(body, response);
  }

  #lock = (name: string, options: LockOptions, callback: () => Promise<unknown> | undefined): Promise<unknown> => {
    const { browser } = this;
    const lock = browser.locks.get(name) ?? { held: undefined, queue: [] };
    browser.locks.set(name, lock);
    return new Promise((resolve, reject) => {
      const waiting: Waiting = {
        tab: this,
        run: () => {
          const held: Held = { tab: this, stolen: () => this.run(() => reject(new DOMException("stolen", "AbortError"))) };
          lock.held = held;
          this.run(() => {
            Promise.resolve(callback()).then((value) => {
              if (lock.held === held) {
                lock.held = undefined;
                browser.grant(name);
              }
              resolve(value);
            }, reject);
          });
        },
      };
      options.signal?.addEventListener("abort", () => {
        lock.queue = lock.queue.filter((other) => other !== waiting);
        reject(new DOMException("aborted", "AbortError"));
      });
      if (options.steal) {
        lock.held?.stolen();
        lock.held = undefined;
        lock.queue.unshift(waiting);
      } else {
        lock.queue.push(waiting);
      }
      queueMicrotask(() => browser.grant(name));
    });
  };

  #channel(name: string): Channel {
    const ports = this.browser.channels.get(name) ?? new Set();
    this.browser.channels.set(name, ports);
    const channel: Channel = {
      onmessage: null,
      postMessage: (data) => {
        if (this.#dead) return;
        const copy: unknown = structuredClone(data);
        for (const other of ports) if (other !== port) queueMicrotask(() => other.deliver(copy));
      },
      close: () => { ports.delete(port); },
    };
    const port = {
      tab: this as Tab,
      deliver: (data: unknown) => this.run(() => { channel.onmessage?.({ data } as MessageEvent); }),
    };
    ports.add(port);
    return channel;
  }
}
