// A button that cannot be pressed by accident: it acts once it has been held for a second, by mouse, finger or key, and
// shows how far the hold has come. Letting go, moving away or losing the focus before that does nothing.
import type { ComponentChildren, JSX, TargetedKeyboardEvent, TargetedPointerEvent } from 'preact';
import { useEffect, useId, useRef, useState } from 'preact/hooks';
import { after } from './clock.ts';

/** Long enough that no click, bump or stuck key-press is one; short enough for somebody in fear. */
export const HOLD_MS = 1_000;

export interface HoldButtonProps {
  readonly class?: string;
  /** How it is pressed, for those who do not see that it fills. */
  readonly how: string;
  readonly children: ComponentChildren;
  onHeld(): void;
  /** Let go too early: say so, since a click that seemed to stop something is the worst of all. */
  onEarly(): void;
}

const isHoldKey = (key: string): boolean => key === ' ' || key === 'Enter';

export function HoldButton({ class: name = '', how, children, onHeld, onEarly }: HoldButtonProps): JSX.Element {
  const howId = useId();
  const [isHolding, setHolding] = useState(false);
  const cancel = useRef<(() => void) | null>(null);

  const begin = (): void => {
    if (cancel.current) return;
    setHolding(true);
    cancel.current = after(HOLD_MS, () => {
      cancel.current = null;
      setHolding(false);
      onHeld();
    });
  };
  const letGo = (): void => {
    if (!cancel.current) return;
    cancel.current();
    cancel.current = null;
    setHolding(false);
    onEarly();
  };
  const latest = useRef(letGo);
  latest.current = letGo;
  useEffect(() => {
    const onHidden = (): void => latest.current();
    document.addEventListener('visibilitychange', onHidden);
    window.addEventListener('blur', onHidden);
    return () => {
      document.removeEventListener('visibilitychange', onHidden);
      window.removeEventListener('blur', onHidden);
      latest.current();
    };
  }, []);

  const onPointerDown = (event: TargetedPointerEvent<HTMLButtonElement>): void => {
    if (event.button !== 0 || !event.isPrimary) return;
    // Touch captures the pointer by itself, and would never tell that the finger left.
    if (event.currentTarget.hasPointerCapture(event.pointerId)) {
      event.currentTarget.releasePointerCapture(event.pointerId);
    }
    begin();
  };
  const onKeyDown = (event: TargetedKeyboardEvent<HTMLButtonElement>): void => {
    if (!isHoldKey(event.key) || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    // A key that was down already when the focus came here is no hold of this button.
    if (!event.repeat) begin();
  };

  return (
    <>
      <button
        type="button"
        class={`hold ${name} ${isHolding ? 'holding' : ''}`}
        aria-describedby={howId}
        onPointerDown={onPointerDown}
        onPointerUp={letGo}
        onPointerLeave={letGo}
        onPointerCancel={letGo}
        onContextMenu={(event) => event.preventDefault()}
        onKeyDown={onKeyDown}
        onKeyUp={(event) => isHoldKey(event.key) && letGo()}
        onBlur={letGo}
        onClick={(event) => {
          // What a screen reader or a script sends: no hold, so no stop.
          if (event.detail === 0) onEarly();
        }}
      >
        <span class="hold-fill" aria-hidden="true" />
        <span class="hold-text">{children}</span>
      </button>
      <span id={howId} class="sr-only">
        {how}
      </span>
    </>
  );
}
