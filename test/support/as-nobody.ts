// File permissions apply to everybody but root, and tests often run as root.
import { chmod } from 'node:fs/promises';

const NOBODY = 65534;

/**
 * Runs `work` without root's rights, so that a file of mode 0400 that root owns gives a real EACCES. Whoever is not root
 * already is left alone. `folder`, which mkdtemp keeps to its owner, is opened to others first.
 */
export async function asNobody<T>(folder: string, work: () => Promise<T>): Promise<T> {
  const { geteuid, seteuid } = process;
  if (!geteuid || !seteuid || geteuid() !== 0) return work();
  await chmod(folder, 0o755);
  seteuid(NOBODY);
  try {
    return await work();
  } finally {
    seteuid(0);
  }
}
