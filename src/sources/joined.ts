// At most one at a time: what every source promises of its looks, and local-machine.ts of each of its parts.

/** `work`, with a call during a run joining that run, whatever it was called with. */
export function joined<Args extends readonly unknown[], T>(
  work: (...args: Args) => Promise<T>,
): (...args: Args) => Promise<T> {
  let running: Promise<T> | undefined;
  return (...args) => {
    running ??= work(...args).finally(() => {
      running = undefined;
    });
    return running;
  };
}
