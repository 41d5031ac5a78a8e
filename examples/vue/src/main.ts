import { createApp, defineComponent, ref } from "vue";
import { usePeald } from "./usePeald.js";

const Events = defineComponent({
  props: { topics: { type: Array<string>, required: true } },
  setup(props) {
    const lines = ref<string[]>([]);
    const show = (line: string) => lines.value.unshift(line);

    const state = usePeald("http://127.0.0.1:8080/events", {
      topics: () => props.topics,
      onEvent: ({ topic, data }) => topic && show(`${topic}: ${data}`),
      onReset: ({ reason }) => show(`Events are missing: ${reason}`),
      onClose: ({ message }) => show(message),
    });
    return { lines, state };
  },
  template: "#events",
});

createApp({
  components: { Events },
  setup: () => ({ topics: ref(["prices.*"]), live: ref(true) }),
}).mount("#app");
