// What is tripped, how far the stop has come, object by object, and the way out: an operator's reset. A refused one shows
// everything that is still wrong, not the first thing.
import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import { ask } from './api.ts';
import { ToneIcon } from './icons.tsx';
import { readable } from './names.ts';
import { StopEntries } from './stop-entries.tsx';
import { clockText } from './text.ts';
import type { Estop, NodeStatus, Trip } from './wire.ts';

interface Props {
  readonly estop: Estop;
  readonly nodes: readonly NodeStatus[];
  readonly hasToken: boolean;
  onAskToken(): void;
  onChanged(): void;
}

export function TripPanel({ estop, nodes, hasToken, onAskToken, onChanged }: Props): JSX.Element | null {
  const { trips } = estop;
  if (trips.length === 0) return null;
  return (
    <section id="trips" class="panel trips" aria-labelledby="trips-title">
      <h2 id="trips-title">
        <ToneIcon tone="stop" /> {trips.length === 1 ? 'Tripped' : `${trips.length} trips`}
      </h2>
      {trips.map((trip) => (
        <OneTrip
          key={trip.tripId}
          trip={trip}
          nodes={nodes}
          hasToken={hasToken}
          onAskToken={onAskToken}
          onChanged={onChanged}
        />
      ))}
    </section>
  );
}

const CAUSES: Readonly<Record<string, string>> = {
  'hard-stop': 'a hard stop was reached',
  blind: 'blind under load for too long',
  manual: 'somebody pressed stop',
  alert: 'an alert',
  'corrupt-state': 'the record of the last state cannot be read',
  'broken-invariant': 'a fault inside the service',
};
const REPORT_WORDS = {
  stopping: 'Stopping: not everything is seen to be stopped yet',
  verified: 'Verified: everything in scope is seen to be stopped',
  unverified: 'NOT VERIFIED: nobody has seen that everything is stopped',
} as const;

function OneTrip({ trip, nodes, ...rest }: Omit<Props, 'estop'> & { readonly trip: Trip }): JSX.Element {
  const { tripId, scope, cause, reason, by, since, report, simulated } = trip;
  const entries = Object.values(report.actuators).flatMap((actuator) => actuator.entries);
  return (
    <div class="trip">
      <div>
        <p class="trip-reason">{readable(reason, nodes)}</p>
        <dl class="pairs">
          <dt>Scope</dt>
          <dd>{scope.kind === 'all' ? 'everything' : scope.nodes.join(', ')}</dd>
          <dt>Since</dt>
          <dd>
            <time dateTime={since}>{clockText(since)}</time>, by {by}
            {simulated ? ' (simulated)' : ''}
          </dd>
          <dt>Cause</dt>
          <dd>{CAUSES[cause] ?? cause}</dd>
          <dt>Trip id</dt>
          <dd>
            <code>{tripId}</code>
          </dd>
          <dt>Stop</dt>
          <dd class={`report-${report.state}`}>
            <ToneIcon
              tone={report.state === 'verified' ? 'safe' : report.state === 'unverified' ? 'unknown' : 'wait'}
              size={16}
            />{' '}
            {REPORT_WORDS[report.state]}
          </dd>
        </dl>
        {report.stillLoaded.length > 0 && (
          <ul class="findings">
            {report.stillLoaded.map(({ node, gpu, atTripW, nowW }) => (
              <li key={`${node}/${gpu}`}>
                {readable(gpu, nodes)} on {node} still draws{' '}
                {nowW === null ? 'nobody knows how much' : `${Math.round(nowW)} W`}, {Math.round(atTripW)} W at the trip
              </li>
            ))}
          </ul>
        )}
        <StopEntries entries={entries} empty="Nothing was found running." />
      </div>
      <ResetForm trip={trip} nodes={nodes} {...rest} />
    </div>
  );
}

type Outcome =
  | { readonly kind: 'none' }
  | { readonly kind: 'asking' }
  | { readonly kind: 'refused'; readonly why: string; readonly still: readonly string[] };

function ResetForm({
  trip,
  nodes,
  hasToken,
  onAskToken,
  onChanged,
}: Omit<Props, 'estop'> & { readonly trip: Trip }): JSX.Element {
  const { tripId, report } = trip;
  const [reason, setReason] = useState('');
  const [isAcknowledged, setAcknowledged] = useState(false);
  const [outcome, setOutcome] = useState<Outcome>({ kind: 'none' });
  const isUnverified = report.state !== 'verified';

  const reset = async (): Promise<void> => {
    setOutcome({ kind: 'asking' });
    const body = {
      tripId,
      reason: reason.trim(),
      ...(isUnverified && isAcknowledged && { acknowledgeUnverified: true }),
    };
    const answer = await ask('POST', '/estop/reset', { body });
    if (answer.ok) setOutcome({ kind: 'none' });
    else setOutcome({ kind: 'refused', why: answer.why, still: answer.problem?.still ?? [] });
    onChanged();
  };
  return (
    <form
      class="reset"
      onSubmit={(event) => {
        event.preventDefault();
        void reset();
      }}
    >
      <h3>Reset</h3>
      <p class="quiet">Permits a new start and starts nothing. Refused while anything is still wrong.</p>
      {!hasToken && (
        <p>
          An operator’s token is needed.{' '}
          <button type="button" onClick={onAskToken}>
            Enter token
          </button>
        </p>
      )}
      <label>
        Why is it safe again?
        <input
          type="text"
          required
          maxLength={500}
          value={reason}
          placeholder="fan of GPU 2 replaced"
          onInput={(event) => setReason(event.currentTarget.value)}
        />
      </label>
      {isUnverified && (
        <details>
          <summary>The stop is not verified</summary>
          <label class="check">
            <input
              type="checkbox"
              checked={isAcknowledged}
              onChange={(event) => setAcknowledged(event.currentTarget.checked)}
            />
            I have looked at the machine myself: nothing runs. Reset although the service has not seen it.
          </label>
        </details>
      )}
      <button type="submit" class="primary" disabled={!hasToken || outcome.kind === 'asking' || reason.trim() === ''}>
        {outcome.kind === 'asking' ? 'Resetting …' : 'Reset this trip'}
      </button>
      <div role="alert">
        {outcome.kind === 'refused' && (
          <div class="refusal">
            <p>
              <strong>Not reset.</strong> {outcome.still.length === 0 ? outcome.why : 'Still wrong:'}
            </p>
            <ul>
              {outcome.still.map((one) => (
                <li key={one}>{readable(one, nodes)}</li>
              ))}
            </ul>
          </div>
        )}
      </div>
    </form>
  );
}
