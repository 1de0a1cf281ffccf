// The two assertions of the house. They stay on in production: a broken invariant must stop workloads, not be skipped.

/** Thrown when something that must always hold does not. Never caught on the way to the supervisor. */
export class InvariantBroken extends Error {
  override readonly name = 'InvariantBroken';
}

/** Throws {@link InvariantBroken} with `message` unless `condition` holds. */
export function invariant(condition: unknown, message: string): asserts condition {
  if (!condition) throw new InvariantBroken(message);
}

/** The end of every `switch` on a kind: a new kind that nobody handled does not compile. */
export function unreachable(value: never): never {
  throw new InvariantBroken(`Unhandled kind: ${JSON.stringify(value)}`);
}
