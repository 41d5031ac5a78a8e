import { useEffect, useEffectEvent, useRef, useState } from "react";
import { Peald } from "@peald/client";
import type { PealdClose, PealdEvent, PealdOptions, PealdReset, PealdState } from "@peald/client";

export interface UsePealdOptions extends PealdOptions {
  onEvent?: (event: PealdEvent) => void;
  onReset?: (reset: PealdReset) => void;
  onClose?: (close: PealdClose) => void;
}

/** Subscribes a component to events while it is mounted, and returns the state. */
export function usePeald(url: string, { topics = [], onEvent, onReset, onClose, ...options }: UsePealdOptions): PealdState {
  const [state, setState] = useState<PealdState>("connecting");
  const client = useRef<Peald>(null);
  const connect = useEffectEvent(() => new Peald(url, { ...options, topics }));
  const handleEvent = useEffectEvent((event: PealdEvent) => onEvent?.(event));
  const handleReset = useEffectEvent((reset: PealdReset) => onReset?.(reset));
  const handleClose = useEffectEvent((close: PealdClose) => close.reason !== "closed" && onClose?.(close));

  useEffect(() => {
    const peald = (client.current = connect());
    setState(peald.state);
    peald.on("peald.state", setState);
    peald.on("peald.event", handleEvent);
    peald.on("peald.reset", handleReset);
    peald.on("peald.close", handleClose);
    return () => peald.close();
  }, [url]);

  const subscribe = useEffectEvent((peald: Peald) => {
    void peald.subscribe(...topics);
    void peald.unsubscribe(...peald.topics.filter((topic) => !topics.includes(topic)));
  });
  useEffect(() => subscribe(client.current!), [JSON.stringify(topics)]);

  return state;
}
