import type { Channel, Environment } from "./env.js";
import type { Content, Message } from "./leader.js";

/** What a room needs of the platform. */
export type Platform = Environment & { locks: LockManager; channel: (name: string) => Channel };

/** What a {@link Room} calls. */
export interface Occupant {
  /** Is called once the room can be used. */
  entered(): void;
  /** Gets every message, including the member's own. */
  receive(message: Message): void;
  /** Is called when the member gets the lock of the leader. */
  lead(): void;
  /** Is called when another member has taken that lock. */
  deposed(): void;
}

/** A member's presence in its group: the channel, and the locks that show who is alive and who leads. */
export class Room {
  readonly id: string;

  #channel: Channel | undefined;
  #release: (() => void)[] = []; // give up the locks
  #waiting: AbortController | undefined; // for the lock of the leader

  constructor(
    private env: Platform,
    private group: string,
    private occupant: Occupant,
  ) {
    this.id = `${env.now()}-${env.random()}`;
    this.#channel = env.channel(group);
    this.#channel.onmessage = ({ data }: MessageEvent) => occupant.receive(data as Message);
    void this.#hold(this.#lockOf(this.id), () => {
      occupant.entered();
      this.lead(false);
      return true;
    });
  }

  /** Sends a message to all members, including this one. */
  post(content: Content): void {
    const message = { ...content, from: this.id } as Message;
    this.#channel?.postMessage(message);
    queueMicrotask(() => { if (this.#channel) this.occupant.receive(message); });
  }

  /** Waits for the lock of the leader, or takes it from a leader that doesn't react. */
  lead(steal: boolean): void {
    this.#waiting?.abort();
    const { signal } = this.#waiting = new AbortController();
    let leading = false;
    const granted = () => {
      if (signal.aborted) return false; // the lock was granted just before this member took it
      leading = true;
      this.occupant.lead();
      return true;
    };
    void this.#hold(`${this.group} leader`, granted, steal ? { steal } : { signal }).then(() => {
      if (!this.#channel || !leading) return;
      this.occupant.deposed();
      this.lead(false);
    });
  }

  /** Waits until a member has left, or its tab has ended. */
  async whenGone(id: string, signal: AbortSignal): Promise<void> {
    await this.env.locks.request(this.#lockOf(id), { signal }, () => {});
  }

  /** Leaves the group. */
  leave(): void {
    const channel = this.#channel!;
    this.#channel = undefined;
    this.#waiting?.abort();
    channel.onmessage = null;
    channel.close();
    for (const release of this.#release) release();
  }

  #lockOf(id: string): string {
    return `${this.group} ${id}`;
  }

  /** Requests a lock and holds it until the member leaves, unless it isn't wanted any more when it is granted. */
  async #hold(name: string, granted: () => boolean, options: LockOptions = {}): Promise<void> {
    try {
      await this.env.locks.request(name, options, () => new Promise<void>((resolve) => {
        if (!this.#channel || !granted()) return resolve();
        this.#release.push(resolve);
      }));
    } catch {
      // It was stolen, or is no longer wanted.
    }
  }
}
