// Names for visitors who haven't chosen one.

const first = ["brass", "bright", "calm", "clear", "deep", "gentle", "merry", "quiet", "silver", "swift"];
const second = ["bell", "chime", "finch", "gong", "heron", "lark", "otter", "robin", "wren", "yak"];

const pick = (list) => list[Math.floor(Math.random() * list.length)];

// suggestName returns a name such as "quiet-otter-42".
export const suggestName = () => `${pick(first)}-${pick(second)}-${10 + Math.floor(Math.random() * 90)}`;
