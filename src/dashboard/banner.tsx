// What one second must tell: safe or not, why not, how close, and what to press.
import type { JSX } from 'preact';
import { ToneIcon } from './icons.tsx';
import type { Seen } from './live.ts';
import type { Liveness } from './liveness.ts';
import { Meter } from './meter.tsx';
import { readable } from './names.ts';
import { levelOf, nameOf, nearestReading } from './readings.ts';
import { ageText, countText } from './text.ts';
import type { Verdict } from './verdict.ts';
import type { SafetyResult } from './wire.ts';

interface Props {
  readonly verdict: Verdict;
  readonly liveness: Liveness;
  readonly result: SafetyResult | null;
  readonly seen: Seen;
  onRetry(): void;
}

export function Banner({ verdict, liveness, result, seen, onRetry }: Props): JSX.Element {
  const isLive = liveness.kind === 'live';
  return (
    <section class={`banner tone-${verdict.tone}`} aria-labelledby="verdict">
      <div class="banner-word">
        <ToneIcon tone={verdict.tone} size={92} />
        <div>
          <h1 id="verdict">{verdict.word}</h1>
          <p class="meaning">{verdict.meaning}</p>
        </div>
      </div>
      <div class="banner-why">
        <Alarm liveness={liveness} onRetry={onRetry} />
        {result && (
          <p class="reason">
            <span class="field">{isLive ? 'Why' : 'Last known'}</span>
            <span>
              <code class="action">{result.action}</code> {readable(result.reason, seen.status?.nodes ?? [])}
            </span>
          </p>
        )}
        <Nearest seen={seen} isLive={isLive} />
        <p class="todo">
          <span class="field">What to do</span>
          <span>{verdict.todo}</span>
        </p>
        {result && <Facts result={result} seen={seen} liveness={liveness} />}
      </div>
    </section>
  );
}

/** Why this is not the present, as far as it is not. */
function Alarm({ liveness, onRetry }: Pick<Props, 'liveness' | 'onRetry'>): JSX.Element | null {
  if (liveness.kind === 'old') return <p class="alarm">What is shown below is old: {liveness.why}.</p>;
  if (liveness.kind === 'locked') return <p class="alarm">{liveness.why}.</p>;
  if (liveness.kind !== 'lost') return null;
  const { seconds, retrySeconds } = liveness;
  const next = retrySeconds === null || retrySeconds < 0.5 ? 'trying now' : `next try in ${Math.ceil(retrySeconds)} s`;
  return (
    <p class="alarm">
      Connection lost {ageText(seconds)} ago, {next}. Everything below is how it was then.{' '}
      <button type="button" onClick={onRetry}>
        Try now
      </button>
    </p>
  );
}

/** The one reading that is nearest to its limit. */
function Nearest({ seen, isLive }: { readonly seen: Seen; readonly isLive: boolean }): JSX.Element | null {
  const { status } = seen;
  const found = status && nearestReading(status.nodes, seen.evaluation?.worstMargins ?? []);
  if (!found) return null;
  const { node, reading } = found;
  const where = (status?.nodes.length ?? 0) > 1 ? `${node.node}: ` : '';
  return (
    <div class="nearest">
      <span class="field">{isLive ? 'How close' : 'Was close'}</span>
      <div class="nearest-meter">
        <Meter reading={reading} label={`${where}${nameOf(reading, node.gpus)}`} isWide level={levelOf(reading)} />
      </div>
    </div>
  );
}

function Facts({
  result,
  seen,
  liveness,
}: Pick<Props, 'result' | 'seen' | 'liveness'> & { result: SafetyResult }): JSX.Element {
  const { status } = seen;
  const { interlock, unprotected } = result;
  const cooling = Object.values(interlock.nodes).filter((state) => state === 'cooling').length;
  const leases = status?.leases.length ?? 0;
  return (
    <ul class="facts">
      <li>
        Interlock <b>{interlock.state}</b>
        {cooling > 0 && interlock.state !== 'clear' ? ` (${countText(cooling, 'node')} cooling)` : ''}
      </li>
      {result.waitSeconds !== undefined && (
        <li>
          Wait <b>{ageText(result.waitSeconds)}</b>
        </li>
      )}
      {result.action === 'REDUCE_INTENSITY' && result.intensityFactor !== undefined && (
        <li>
          Intensity <b>× {result.intensityFactor}</b>
        </li>
      )}
      {liveness.kind === 'live' && (
        <li>
          Judged <b>{ageText(liveness.ageSeconds)} ago</b>
        </li>
      )}
      <li>
        <a href="#nodes">{countText(status?.nodes.length ?? 0, 'node')}</a>, limits <b>{result.profile}</b>
      </li>
      <li>
        <a href="#leases">{countText(leases, 'lease')}</a>
      </li>
      <li class={unprotected.length > 0 ? 'warn' : ''}>
        <a href="#unprotected">
          {unprotected.length === 0 ? 'nothing unprotected' : `${unprotected.length} unprotected`}
        </a>
      </li>
    </ul>
  );
}
