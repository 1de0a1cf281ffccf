// The thread that waits for the disk. One request after another; each is answered once, whatever happened to it. A
// damaged file is replaced here and told of; a disk that does not want is answered with what it said, and tried again
// with the next request.
import { parentPort, workerData } from 'node:worker_threads';
import { answerOf } from './answer.ts';
import { isCorrupt } from './database.ts';
import type { Layout, Reply, Request, StoreBounds } from './records.ts';
import { Store } from './store.ts';

const { path, bounds } = workerData as { readonly path: string; readonly bounds: StoreBounds };
const layouts = new Map<number, Layout>();
/** A connection that has failed so often in a row is opened anew: what it remembers of the disk may be wrong. */
const MOST_FAILURES = 3;
let store: Store | null = null;
let failures = 0;

parentPort?.on('message', (request: Request) => {
  parentPort?.postMessage(reply(request));
  if (request.kind === 'close') parentPort?.close();
});

function reply(request: Request): Reply {
  if (request.kind === 'close') {
    store?.close();
    return { kind: 'closed', id: request.id };
  }
  try {
    const made = attempt(request);
    failures = 0;
    return made;
  } catch (error) {
    if (!isCorrupt(error) || !store) return failed(request.id, error);
    try {
      store.beginAnew();
      return attempt(request);
    } catch (again) {
      failures = MOST_FAILURES;
      return failed(request.id, again);
    }
  }
}

function attempt(request: Exclude<Request, { kind: 'close' }>): Reply {
  const { id } = request;
  store ??= new Store(path, bounds, layouts);
  if (request.kind === 'write') {
    const figures = store.write(request.batch);
    return { kind: 'written', id, store: figures, begunAnew: store.takeBegunAnew() };
  }
  const answer = answerOf(store, request.query);
  const begunAnew = store.takeBegunAnew();
  if (answer === null) return { kind: 'unknown-node', id, begunAnew };
  return { kind: 'answered', id, text: JSON.stringify(answer), begunAnew };
}

function failed(id: number, error: unknown): Reply {
  const detail = error instanceof Error ? error.message : String(error);
  const begunAnew = store?.takeBegunAnew() ?? null;
  failures += 1;
  if (failures >= MOST_FAILURES) {
    store?.close();
    store = null;
  }
  return { kind: 'failed', id, detail, begunAnew };
}
