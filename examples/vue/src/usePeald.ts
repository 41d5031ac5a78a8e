import { onMounted, readonly, shallowRef, toValue, watch } from "vue";
import type { MaybeRefOrGetter, Ref } from "vue";
import { Peald } from "@peald/client";
import type { PealdClose, PealdEvent, PealdOptions, PealdReset, PealdState } from "@peald/client";

export interface UsePealdOptions extends Omit<PealdOptions, "topics"> {
  topics?: MaybeRefOrGetter<readonly string[]>;
  onEvent?: (event: PealdEvent) => void;
  onReset?: (reset: PealdReset) => void;
  onClose?: (close: PealdClose) => void;
}

/** Subscribes a component to events while it is mounted, and returns the state. */
export function usePeald(url: MaybeRefOrGetter<string>, { topics = [], onEvent, onReset, onClose, ...options }: UsePealdOptions): Readonly<Ref<PealdState>> {
  const state = shallowRef<PealdState>("connecting");

  onMounted(() => {
    let peald: Peald;
    watch(() => toValue(url), (address, _, onCleanup) => {
      const client = (peald = new Peald(address, { ...options, topics: toValue(topics) }));
      state.value = client.state;
      client.on("peald.state", (changed) => { state.value = changed; });
      client.on("peald.event", (event) => onEvent?.(event));
      client.on("peald.reset", (reset) => onReset?.(reset));
      client.on("peald.close", (close) => close.reason !== "closed" && onClose?.(close));
      onCleanup(() => client.close());
    }, { immediate: true });

    watch(() => [...toValue(topics)], (wanted) => {
      void peald.subscribe(...wanted);
      void peald.unsubscribe(...peald.topics.filter((topic) => !wanted.includes(topic)));
    });
  });

  return readonly(state);
}
