import { failureOf } from "./errors.js";
import type { Failure } from "./errors.js";
import type { SourceContext } from "./stream.js";
import type { Timers } from "./timers.js";

/** Asks for a new token before the current one expires. */
export class Renewal {
  /**
   * @param renewed - is called when there is a new token
   * @param failed - is called when there will be none
   */
  constructor(
    private context: SourceContext,
    private timers: Timers,
    private renewed: () => void,
    private failed: (failure: Failure) => void,
  ) {}

  /** Schedules the next renewal. */
  schedule(): void {
    const { env, requester: { tokens } } = this.context;
    this.timers.set("renew", tokens.renews - env.now(), () => void this.#renew());
  }

  /** Schedules no renewal. */
  stop(): void {
    this.timers.set("renew");
  }

  async #renew(): Promise<void> {
    const { pacer, requester: { tokens } } = this.context;
    try {
      if (await tokens.renew()) this.renewed();
      else this.schedule();
    } catch (err) {
      const failure = failureOf(err);
      if (failure.kind === "permanent") this.failed(failure);
      else this.timers.set("renew", pacer.delay(), () => void this.#renew());
    }
  }
}
