// The door's answers that refuse a request, as problems: for what it names, who asks, or what still stands against it. A
// start that is refused is none of them; it carries its result.
import type { Answer } from '../domain/events.ts';
import { InvariantBroken } from '../domain/invariant.ts';
import { Problem, shown } from './problem.ts';

/** Bounds of what is told in a message, and in a list of its own. */
const MOST_TOLD = 5;
const MOST_LISTED = 100;
const RETRY_SECONDS = 10;
/** The next try goes to another process of the cluster, or finds this one informed. */
const ELSEWHERE_RETRY_SECONDS = 1;

/** The problem for an answer; `deed` completes "Cannot …". Throws for an answer that refuses nothing. */
export function refusal(answer: Answer, deed: string): Problem {
  const problem = problemOf(answer, (why) => `Cannot ${deed}: ${why}`);
  if (!problem) throw new InvariantBroken(`Cannot refuse to ${deed} by the answer "${answer.kind}"`);
  return problem;
}

function problemOf(answer: Answer, detail: (why: string) => string): Problem | null {
  switch (answer.kind) {
    case 'unknown-nodes': {
      const nodes = answer.nodes.slice(0, MOST_LISTED);
      return new Problem('unknown-node', detail(`no node is called ${listOf(nodes.map(shown))}`), { nodes });
    }
    case 'gpu-unknown': {
      const known = answer.known.slice(0, MOST_LISTED);
      const asked = listOf(answer.asked.slice(0, MOST_LISTED).map(shown));
      return new Problem('unknown-gpu', detail(`no GPU is called ${asked}, only ${listOf(known)}`), { known });
    }
    case 'lease-forbidden':
      return new Problem('lease-forbidden', detail('it belongs to another identity'));
    case 'lease-unknown':
      return new Problem('lease-unknown', detail('nobody knows it, so it may have lapsed'));
    case 'lease-elsewhere':
      return new Problem(answer.code, detail(answer.why), {}, ELSEWHERE_RETRY_SECONDS);
    case 'lease-ended': {
      const { outcome, reason } = answer.ended;
      return new Problem('lease-ended', detail(`it was ${outcome}: ${reason}`), { outcome, reason });
    }
    case 'lease-limit':
      return new Problem(
        'lease-limit',
        detail(`${answer.limit} leases are live, the most there can be`),
        {},
        RETRY_SECONDS,
      );
    case 'evaluation-too-old': {
      const { ageSeconds } = answer;
      const why =
        ageSeconds === null
          ? 'there has been no evaluation yet'
          : `the last evaluation is ${ageSeconds} s old, at most 30 s are allowed`;
      return new Problem('evaluation-too-old', detail(why), {}, RETRY_SECONDS);
    }
    case 'reset-refused': {
      const { still } = answer;
      return new Problem('reset-refused', detail(listOf(still, '; ')), { still });
    }
    case 'trip-unknown': {
      const { active } = answer;
      return new Problem('trip-unknown', detail(`active are ${listOf(active)}`), { active });
    }
    case 'forget-refused':
      return new Problem('forget-refused', detail(answer.why));
    case 'none':
    case 'judged':
    case 'granted':
    case 'renewed':
    case 'released':
    case 'stopping':
    case 'drilling':
    case 'reset-done':
    case 'reset-allowed':
    case 'forgotten':
      return null;
  }
}

/** The first few of a list, for a message. */
function listOf(items: readonly string[], separator = ', '): string {
  const more = items.length > MOST_TOLD ? `${separator}and ${items.length - MOST_TOLD} more` : '';
  return items.length === 0 ? 'none' : items.slice(0, MOST_TOLD).join(separator) + more;
}
