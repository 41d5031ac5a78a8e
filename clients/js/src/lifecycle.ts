import type { Environment } from "./env.js";
import type { Link } from "./link.js";

/** How often the clock is read, and by how much it must be late for a sleep, in milliseconds. */
const tick = 5000, asleep = 15_000;

/**
 * Informs a link of what happens to the page: the back/forward cache, freezing, sleep, the network. It returns a
 * function that ends this.
 */
export function follow(env: Environment, link: Link): () => void {
  const stops: (() => void)[] = [];
  const on = (target: EventTarget | undefined, type: string, handler: () => void) => {
    target?.addEventListener(type, handler);
    stops.push(() => target?.removeEventListener(type, handler));
  };
  const { window, document } = env;
  // An open connection would keep the page from being cached, and a frozen page can't read it.
  on(window, "pagehide", () => link.suspend());
  on(window, "pageshow", () => link.resume());
  on(document, "freeze", () => link.suspend());
  on(document, "resume", () => link.resume());
  on(window, "online", () => link.check(true));
  on(document, "visibilitychange", () => {
    if (document?.visibilityState !== "hidden") {
      last = env.now();
      link.check(false);
    }
  });

  // After the computer has slept, the connection is dead, but there is no sign of it. The timers of hidden pages are late for
  // other reasons.
  let last = env.now(), timer: unknown;
  const next = () => {
    const now = env.now();
    if (document?.visibilityState !== "hidden" && now - last > tick + asleep) link.check(true);
    last = now;
    timer = env.setTimeout(next, tick);
  };
  timer = env.setTimeout(next, tick);
  stops.push(() => env.clearTimeout(timer));
  return () => stops.splice(0).forEach((stop) => stop());
}
