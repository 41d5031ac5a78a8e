import { StrictMode, useState } from "react";
import { createRoot } from "react-dom/client";
import { usePeald } from "./usePeald.js";

const all = { "prices.*": "Prices", "stock.*": "Stock" };

function Events({ topics }: { topics: string[] }) {
  const [lines, setLines] = useState<string[]>([]);
  const show = (line: string) => setLines((before) => [line, ...before]);

  const state = usePeald("http://127.0.0.1:8080/events", {
    topics,
    onEvent: ({ topic, data }) => topic && show(`${topic}: ${data}`),
    onReset: ({ reason }) => show(`Events are missing: ${reason}`),
    onClose: ({ message }) => show(message),
  });

  return (
    <>
      <output id="state">{state}</output>
      <ul>{lines.map((line, i) => <li key={lines.length - i}>{line}</li>)}</ul>
    </>
  );
}

function App() {
  const [topics, setTopics] = useState(["prices.*"]);
  const [live, setLive] = useState(true);
  const toggle = (topic: string) =>
    setTopics((before) => (before.includes(topic) ? before.filter((other) => other !== topic) : [...before, topic]));

  return (
    <>
      <h1>Bell shop</h1>
      {Object.entries(all).map(([topic, name]) => (
        <label key={topic}><input type="checkbox" value={topic} checked={topics.includes(topic)} onChange={() => toggle(topic)} /> {name}</label>
      ))}
      <button type="button" id="stop" onClick={() => setLive(!live)}>{live ? "Stop" : "Start"}</button>
      {live && <Events topics={topics} />}
    </>
  );
}

createRoot(document.getElementById("app")!).render(<StrictMode><App /></StrictMode>);
