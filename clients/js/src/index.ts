export { Peald } from "./client.js";
export { PealdError } from "./errors.js";
export type {
  PealdClose,
  PealdCloseReason,
  PealdEnd,
  PealdEvent,
  PealdHandlers,
  PealdOptions,
  PealdReset,
  PealdState,
  PealdTokenSource,
} from "./types.js";
