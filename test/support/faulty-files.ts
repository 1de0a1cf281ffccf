// The real disk with faults in front of it.
import { type DurableFiles, diskFiles } from '../../src/durable-files.ts';

/** An error as Node throws it. */
export const failure = (code: string): Error => Object.assign(new Error(`${code}: made up by the test`), { code });

/** The real disk with a fault in front of it: `fault` may throw, wait, or let the operation through. */
export function faulty(fault: (operation: keyof DurableFiles) => Promise<void> | void): DurableFiles {
  const names = Object.keys(diskFiles) as (keyof DurableFiles)[];
  const wrapped = names.map((name) => {
    const operation = diskFiles[name] as (...args: unknown[]) => unknown;
    const later = async (...args: unknown[]): Promise<unknown> => {
      await fault(name);
      return operation(...args);
    };
    const now = (...args: unknown[]): unknown => {
      void fault(name);
      return operation(...args);
    };
    return [name, name === 'writeNow' ? now : later];
  });
  return Object.fromEntries(wrapped) as DurableFiles;
}

/** A disk whose datasync hangs until told to go on. */
export function hangingDisk(): {
  files: DurableFiles;
  hang: () => void;
  goOn: () => void;
  count: Record<string, number>;
} {
  const count: Record<string, number> = {};
  let gate = Promise.resolve();
  let goOn = (): void => undefined;
  const files = faulty((operation) => {
    count[operation] = (count[operation] ?? 0) + 1;
    return operation === 'datasync' ? gate : undefined;
  });
  const hang = (): void => {
    gate = new Promise((resolve) => {
      goOn = resolve;
    });
  };
  return { files, hang, goOn: () => goOn(), count };
}
