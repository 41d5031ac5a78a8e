/** Splits an id into its epoch and its sequence; undefined if it doesn't have that form. */
function parse(id: string): [epoch: string, sequence: number] | undefined {
  const match = /^(.+)-(\d+)$/.exec(id);
  return match ? [match[1]!, Number(match[2])] : undefined;
}

/**
 * Reports whether the event with this id comes after a position. An id of another event log, or of another form, does:
 * it can't have been received before.
 */
export function isAfter(id: string, position: string): boolean {
  const [a, b] = [parse(id), parse(position)];
  return a && b && a[0] === b[0] ? a[1] > b[1] : id !== position;
}

/** Reports whether both positions belong to the same event log, so that {@link isAfter} orders them. */
export function comparable(a: string, b: string): boolean {
  const [x, y] = [parse(a), parse(b)];
  return x !== undefined && y !== undefined && x[0] === y[0];
}
