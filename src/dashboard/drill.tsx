// A drill: the emergency stop's own path, with hands that only list. It is an operator's, and touches nothing.
import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import { ask } from './api.ts';
import { StopEntries } from './stop-entries.tsx';
import type { DrillAnswer } from './wire.ts';

type State =
  | { readonly kind: 'none' }
  | { readonly kind: 'asking' }
  | { readonly kind: 'done'; readonly answer: DrillAnswer }
  | { readonly kind: 'failed'; readonly why: string };

export function Drill({ hasToken, onAskToken }: { readonly hasToken: boolean; onAskToken(): void }): JSX.Element {
  const [state, setState] = useState<State>({ kind: 'none' });
  const run = async (): Promise<void> => {
    setState({ kind: 'asking' });
    const answer = await ask<DrillAnswer>('POST', '/estop', { body: { drill: true } });
    setState(answer.ok ? { kind: 'done', answer: answer.body } : { kind: 'failed', why: answer.why });
  };
  return (
    <section class="panel" aria-labelledby="drill-title">
      <h2 id="drill-title">Drill</h2>
      <p class="quiet">Lists what an emergency stop would stop now. Touches nothing and latches nothing.</p>
      {hasToken ? (
        <button type="button" disabled={state.kind === 'asking'} onClick={() => void run()}>
          {state.kind === 'asking' ? 'Looking …' : 'Run a drill'}
        </button>
      ) : (
        <button type="button" onClick={onAskToken}>
          Enter an operator’s token
        </button>
      )}
      <div role="status">
        {state.kind === 'failed' && <p class="refusal">{state.why}</p>}
        {state.kind === 'done' && (
          <>
            <p>
              <b>{state.answer.entries.length}</b> would be stopped.
            </p>
            <StopEntries entries={state.answer.entries} empty="Nothing runs that it could stop." />
          </>
        )}
      </div>
    </section>
  );
}
