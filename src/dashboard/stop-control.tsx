// The emergency stop of the page: the button, and what became of it. A stop that does not get through is tried again and
// again, and says so as loudly as it can; nobody may walk away from it thinking that it worked.
import type { JSX } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import { requestStop } from './api.ts';
import { after } from './clock.ts';
import { HoldButton } from './hold-button.tsx';

const AGAIN_MS = 1_000;
const EARLY_SHOWN_MS = 4_000;
const DONE_SHOWN_MS = 12_000;

type State =
  | { readonly kind: 'ready' }
  | { readonly kind: 'early' }
  | { readonly kind: 'sending'; readonly tries: number; readonly why: string | null }
  | { readonly kind: 'latched'; readonly tripId: string };

interface Props {
  /** `null`: everything. */
  readonly nodes: readonly string[] | null;
  readonly class?: string;
  readonly title: string;
  readonly subtitle: string;
  onStopped(): void;
}

export function StopControl({ nodes, class: name = '', title, subtitle, onStopped }: Props): JSX.Element {
  const [state, setState] = useState<State>({ kind: 'ready' });
  const cancel = useRef<() => void>(() => undefined);
  const isGone = useRef(false);
  const run = useRef(0);
  useEffect(
    () => () => {
      isGone.current = true;
      cancel.current();
    },
    [],
  );

  const settle = (next: State, shownMs: number): void => {
    cancel.current();
    setState(next);
    cancel.current = after(shownMs, () => setState({ kind: 'ready' }));
  };
  const send = async (tries: number, why: string | null, mine: number): Promise<void> => {
    cancel.current();
    setState({ kind: 'sending', tries, why });
    const answer = await requestStop(nodes);
    if (isGone.current || mine !== run.current) return;
    onStopped();
    if (answer.ok) settle({ kind: 'latched', tripId: answer.body.tripId }, DONE_SHOWN_MS);
    else {
      setState({ kind: 'sending', tries, why: answer.why });
      cancel.current = after(AGAIN_MS, () => void send(tries + 1, answer.why, mine));
    }
  };
  const giveUp = (): void => {
    run.current += 1;
    cancel.current();
    setState({ kind: 'ready' });
  };

  return (
    <div class={`stop-control ${name}`}>
      <HoldButton
        how="Hold the mouse button, a finger, the space bar or Enter for one second; letting go earlier does nothing."
        onHeld={() => {
          run.current += 1;
          void send(1, null, run.current);
        }}
        onEarly={() => {
          if (state.kind !== 'sending') settle({ kind: 'early' }, EARLY_SHOWN_MS);
        }}
      >
        <strong>{title}</strong>
        <small>{subtitle}</small>
      </HoldButton>
      <div class={`stop-note ${state.kind}`} role="alert">
        {state.kind === 'early' && <p>Not stopped: let go too early. Hold it for one second.</p>}
        {state.kind === 'sending' && state.why === null && <p>Sending the stop …</p>}
        {state.kind === 'sending' && state.why !== null && (
          <>
            <p>
              <strong>NOT STOPPED YET.</strong> The stop does not get through: {state.why}. Try {state.tries}, trying
              on. Use the machine’s power switch or “vsf-safety estop”.
            </p>
            <button type="button" onClick={giveUp}>
              Stop trying
            </button>
          </>
        )}
        {state.kind === 'latched' && <p>Stop latched. What was stopped is listed below, as it is confirmed.</p>}
      </div>
    </div>
  );
}
