// A service of the SDK that answers as a test says, on a manual clock. Every answer is one that the real service gives;
// the end-to-end tests see to it that those are these.
import type { SafetyService, ServiceAnswer, ServiceRequest } from '../../src/sdk/safety-service.ts';
import { ManualClock } from '../support/manual-clock.ts';

export const LEASE_ID = '0b0e7a52-8f0e-4f8e-9d7c-2b1f5f3f9a01';

type Reply = ServiceAnswer | 'never' | Promise<ServiceAnswer>;

export const answered = (status: number, body: object, retryAfterSeconds: number | null = null): ServiceAnswer => ({
  kind: 'answered',
  status,
  body: body as Record<string, unknown>,
  retryAfterSeconds,
});
export const UNREACHABLE: ServiceAnswer = { kind: 'unreachable', detail: 'Cannot reach it: connection refused' };

export const result = (action: string, more: object = {}): object => ({
  safe: action === 'PROCEED',
  action,
  reason: `it is ${action}`,
  findings: [],
  unprotected: [],
  ...more,
});
export const live = (action = 'PROCEED', intensityCap = 0.8, ttlSeconds = 30, id = LEASE_ID): object => ({
  lease: { id, ttlSeconds, intensityCap },
  result: result(action),
});
export const problem = (code: string, status: number, more: object = {}): ServiceAnswer =>
  answered(status, { code, detail: `Cannot: ${code}`, ...more });

export class PretendService implements SafetyService {
  readonly place = 'http://pretended';
  readonly hasToken = false;
  readonly clock = new ManualClock();
  readonly asked: (ServiceRequest & { readonly atMs: number })[] = [];
  reply: (request: ServiceRequest) => Reply = () => answered(200, live());
  readonly #startMs = this.clock.now().elapsedMs;
  readonly #listeners = new Set<() => void>();

  /** Since the test began. */
  get nowMs(): number {
    return this.clock.now().elapsedMs - this.#startMs;
  }

  asks(method: string): { readonly atMs: number; readonly path: string; readonly body?: unknown }[] {
    return this.asked.filter((request) => request.method === method);
  }

  async ask(request: ServiceRequest): Promise<ServiceAnswer> {
    this.asked.push({ ...request, atMs: this.nowMs });
    const reply = this.reply(request);
    if (reply !== 'never') return reply;
    await this.clock.sleep(request.timeoutMs);
    return { kind: 'unreachable', detail: `Cannot reach it: no answer within ${request.timeoutMs / 1000} s` };
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  hint(): void {
    for (const listener of [...this.#listeners]) listener();
  }

  get listeners(): number {
    return this.#listeners.size;
  }

  async close(): Promise<void> {}
}
